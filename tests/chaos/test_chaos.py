"""A few kills of the chaos harness, and its controls, in every run of the tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_KILLS, _STEERED_KILLS, _RAY_KILLS = 17, 4, 3


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the results of all runs."""
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def half(output: Path) -> Any:
    """Report of the first of two runs, without Ray."""
    return _played(output, "--shard", "1/2")


@pytest.fixture(scope="module")
def report(half: Any, output: Path) -> Any:
    """Report of the second run, which continues with the rest."""
    return _played(output)


def _played(output: Path, *more: str) -> Any:
    """Run the harness in another process, without threads that a fork would lose."""
    command = [sys.executable, str(_HERE / "chaos.py"), "--kills", str(_KILLS), "--json"]
    command += ["--steered-kills", str(_STEERED_KILLS), "--ray-kills", str(_RAY_KILLS), *more]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ARCHSCOUT_")
    }
    paths = [str(_HERE.parents[1]), str(_HERE.parent)]
    done = subprocess.run(
        [*command, "--controls", "--races", "1", "--seed", "3", "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=560,
        env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def test_every_point_of_the_code_is_in_the_plan() -> None:
    root = _HERE.parents[1]
    found = set()
    for path in [*root.glob("orchestrator/**/*.py"), *root.glob("workers/**/*.py")]:
        text = path.read_text()
        found |= set(re.findall(r'\bfault\("([\w.]+)"\)', text))
        for name in re.findall(r'self\._write\(\s*"(\w+)"', text):
            found |= {f"{name}.uncommitted", f"{name}.committed"}
    planned = set()
    for name in ("rounds", "ray_rounds", "champions"):
        for block in re.findall(r"POINTS = \((.*?)\)", (_HERE / f"{name}.py").read_text(), re.S):
            planned |= set(re.findall(r'"([\w.]+)"', block))
    assert len(found) > 35
    assert found == planned


@pytest.mark.slow
@pytest.mark.mlflow
@pytest.mark.ray
@pytest.mark.timeout(1200)
class TestChaos:
    def test_kills_violate_nothing(self, report: Any) -> None:
        assert report["violations"] == []
        assert report["kills"] >= _KILLS - 4  # some processes end before their moment comes
        assert len(report["kills_at_points"]) >= 6

    def test_kills_while_a_user_steers_violate_nothing(self, report: Any) -> None:
        assert sum(report["steered"]["kills"].values()) >= _STEERED_KILLS
        assert report["steered"]["requests"]["enqueue"] > 0

    def test_kills_through_ray_violate_nothing(self, report: Any) -> None:
        kills = report["ray"]["kills"]
        assert sum(kills.values()) >= _RAY_KILLS
        assert any(name.startswith("worker") for name in kills)
        assert any(name.startswith("driver") for name in kills)

    def test_a_run_goes_on_with_what_another_has_left(
        self, half: Any, report: Any, output: Path
    ) -> None:
        left, rounds = half["left_to_play"], half["rounds"]
        assert left == {"rounds": 2, "steered": 1, "controls": 1, "races": 1, "ray": 1}
        assert not any(report["left_to_play"].values())
        assert report["rounds"] == rounds + left["rounds"]
        firsts = sorted(output.glob("rounds-*.json"), key=lambda path: path.stat().st_mtime)
        assert [int(path.stem[-4:]) % 2 for path in firsts] == [1] * rounds + [0] * left["rounds"]

    @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
    @pytest.mark.parametrize("fault", ["F2", "F9", "F10", "F11", "F14", "F31"])
    def test_each_guard_is_what_prevents_the_violation(
        self, report: Any, fault: str, database: str
    ) -> None:
        played = report["controls"][database][fault]
        assert played["guarded"] == []
        assert played["unguarded"] != []

    @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
    def test_of_two_drivers_exactly_one_wins(self, report: Any, database: str) -> None:
        races = report["races"][database]
        assert races == {"started": 1, "exactly_one_won": 1, "both_won": 0}
