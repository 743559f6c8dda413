"""A promotion killed by SIGKILL at each of its named points, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.promotions import a_promoter

from orchestrator.ledger import Ledger
from orchestrator.tracking.client import open_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mlflow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]

PROMOTE = """
import sys
from pathlib import Path
from support.promotions import a_promoter
a_promoter(Path(sys.argv[1]), sys.argv[2], trial=int(sys.argv[3])).promote()
"""


def alias(home: Path, model: str) -> int:
    client = open_client(f"sqlite:///{home / 'mlflow.db'}")
    return int(client.get_model_version_by_alias(model, "champion").version)


def num_versions(home: Path, model: str) -> int:
    client = open_client(f"sqlite:///{home / 'mlflow.db'}")
    return len(list(client.search_model_versions(f"name = '{model}'")))


def best_and_worst(home: Path) -> tuple[int, int]:
    with Ledger.open(home / "ledger.db") as ledger:
        trials = ledger.trials(ledger.studies()[0].id)
    ranked = sorted((trial for trial in trials if trial.values), key=lambda t: t.values or ())
    return ranked[-1].number, ranked[0].number


@pytest.mark.usefixtures("quick_build")
@pytest.mark.parametrize("point", ["version_made"])
def test_a_killed_promotion_leaves_a_valid_alias_and_resumes(point: str, home: Path) -> None:
    best, worst = best_and_worst(home)
    model = f"killed-{point.replace('_', '-')}"
    a_promoter(home, model, trial=worst).promote()
    here = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROMOTE, str(home), model, str(best)],
        env={
            **os.environ,
            "ARCHSCOUT_FAULT": f"promotion.{point}:1:kill",
            "PYTHONPATH": os.pathsep.join([str(here), str(here / "tests")]),
        },
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert alias(home, model) == (2 if point == "alias_moved" else 1)
    again = a_promoter(home, model, trial=best).promote()
    assert again.version == alias(home, model) == 2
    assert num_versions(home, model) == 2
