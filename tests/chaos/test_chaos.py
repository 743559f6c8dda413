"""A few kills of the chaos harness, and its controls, in every run of the tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_KILLS = 17


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In a process of its own, which has no threads that a fork would lose."""
    output = tmp_path_factory.mktemp("chaos")
    command = [sys.executable, str(_HERE / "chaos.py"), "--kills", str(_KILLS), "--json"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ARCHSCOUT_")
    }
    paths = [str(_HERE.parents[1]), str(_HERE.parent / "doubles")]
    done = subprocess.run(
        [*command, "--controls", "--races", "1", "--seed", "3", "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.mlflow
class TestChaos:
    def test_kills_violate_nothing(self, report: Any) -> None:
        assert report["violations"] == []
        assert report["kills"] >= _KILLS - 4  # some processes end before their moment comes
        assert len(report["kills_at_points"]) >= 6

    @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
    @pytest.mark.parametrize("fault", ["F2", "F9", "F10", "F11", "F14"])
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
