"""The ablation of the search takes out what it says, and only while it measures."""

import pkgutil
from pathlib import Path

import pytest

from benchmarks.search.ablation import ABLATIONS, BASE, SAMPLING, run_without, table_of
from benchmarks.search.runs import Run
from benchmarks.search.storage import append
from benchmarks.search.suites import Suite
from benchmarks.search.tables import closed_form
from benchmarks.search.tables.table import Table


@pytest.fixture(scope="module")
def plateau() -> Table:
    return closed_form.plateau()


@pytest.fixture(scope="module")
def suite(plateau: Table) -> Suite:
    return Suite(
        name="plateau", tables=lambda: [plateau], workers=2, units=12, seeds=1, methods=(BASE,)
    )


@pytest.fixture(scope="module")
def whole(plateau: Table, suite: Suite) -> Run:
    return run_without(BASE, plateau, suite, 0)


@pytest.mark.parametrize("name", ABLATIONS)
def test_what_an_ablation_replaces_exists_and_differs(name: str) -> None:
    ablation = ABLATIONS[name]
    before = [pkgutil.resolve_name(f"{SAMPLING}.{target}") for target in ablation.patches]

    with ablation.applied():  # an unknown name is an error
        within = [pkgutil.resolve_name(f"{SAMPLING}.{target}") for target in ablation.patches]

    assert before != within or ablation.keys or ablation.first_rung


def test_an_ingredient_is_back_after_its_measurement(
    plateau: Table, suite: Suite, whole: Run
) -> None:
    without = run_without("no model", plateau, suite, 0)

    assert without.trials != whole.trials
    assert run_without(BASE, plateau, suite, 0).path == whole.path


def test_the_table_says_what_an_ingredient_is_worth(
    suite: Suite, whole: Run, tmp_path: Path
) -> None:
    slower = Run.from_dict({**whole.to_dict(), "method": "no model", "path": []})
    for run in (whole, slower):
        append(tmp_path, suite.name, run)

    lines = table_of(suite, tmp_path, ["no model"]).splitlines()

    assert lines[2].startswith("| no model | 1 |")
    assert f"| {BASE} | 1 | 1.00 (1.00-1.00) |" in lines[3]
