"""A failing trial is classified, and does not change other trials.

`benchmarks/faults.py` runs every fault through Ray; here are two, and those one process survives.
"""

from contextlib import closing
from pathlib import Path

import pytest
from support.faulty import ENDS, measured, run, wrong

from orchestrator.engines.in_process import InProcessEngine
from orchestrator.engines.ray_tune import RayTuneEngine


def test_in_one_process_a_fault_ends_as_its_class_and_changes_no_other(tmp_path: Path) -> None:
    faults = {1: "nan", 3: "exception", 5: "out of memory"}
    assert wrong(tmp_path, InProcessEngine(), faults, 7) == []


@pytest.mark.ray
@pytest.mark.slow
def test_through_ray_a_crash_in_c_and_a_lack_of_memory_change_no_other(tmp_path: Path) -> None:
    with closing(RayTuneEngine(ray_options={"num_cpus": 2})) as engine:
        assert wrong(tmp_path, engine, {1: "segfault", 2: "out of memory"}, 5) == []


def test_the_comparison_sees_a_neighbour_that_changed(tmp_path: Path) -> None:
    """The control: what is called bit-equal must be able to differ."""
    first = measured(run(tmp_path / "a", InProcessEngine(), {}, 3))
    second = measured(run(tmp_path / "b", InProcessEngine(), {1: "exception"}, 3))
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert ENDS["exception"][1] == "user_code"
