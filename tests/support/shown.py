"""What is there to be looked at: studies in one home, and the browser that looks."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.browser import Pages
from support.stories import Seen, Story, project

MODEL = "digits-reader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is there to be looked at."""

    pages: Pages
    searched: Seen
    """A study of four trials on digits, its best one promoted."""
    story: Seen
    """A study with a trial in every state."""
    home: Path


def archscout(home: Path, *words: str) -> None:
    """A command in a process of its own, as a user gives it."""
    code = "import sys; from orchestrator.cli import main; sys.exit(main())"
    state = {"ARCHSCOUT_LEDGER", "MLFLOW_TRACKING_URI", "ARCHSCOUT_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", code, "--home", str(home), *words],
        env={name: value for name, value in os.environ.items() if name not in state},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tell(story: Story) -> None:
    """Trials in every state, one of them failed with a log."""
    story.whole(0.9, describe="C32-T64")
    pruned = story.add(describe="C16")
    story.start(pruned)
    story.measure(pruned, 1, val_accuracy=0.2, val_loss=2.0)
    story.finish(pruned, "PRUNED", reason="rung")
    failed = story.add(describe="T64x4")
    story.start(failed)
    failure = {"kind": "out_of_memory", "message": "no room", "traceback": "Traceback: no room"}
    story.finish(failed, "FAIL", reason="out_of_memory", failure=failure)
    story.start(story.add(describe="M48"))
    project(story)
    story.ledger.release(story.lease)
    story.ledger.close()
