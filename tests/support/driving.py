"""A study that is driven by hand: by asks, a space that blocks, and a bridge without Ray."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.engines.ray_tune.attempt import Watchdog
from orchestrator.engines.ray_tune.bridge import Bridge
from orchestrator.engines.ray_tune.messages import JobMessage
from orchestrator.ledger import Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial
from search_spaces.space import DefineByRunSpace
from support.studies import branching, curve
from workers.job import TrainingJob

LONG_S = 60.0
"""No test waits for so long unless it fails."""


class Gate:
    """A space that samples at once, or blocks in the middle of a draw while it is shut."""

    def __init__(self, space: Callable[[Any], dict[str, Any]] = branching) -> None:
        self._space = space
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.in_draw: Callable[[], None] = lambda: None
        self.space = DefineByRunSpace(name="branching", version="1", function=self._draw)

    def _draw(self, trial: Any) -> dict[str, Any]:
        if not self.open.is_set():
            self.reached.set()
            self.in_draw()
            assert self.open.wait(LONG_S)
            self.in_draw()
        return self._space(trial)

    @contextmanager
    def drawing(self, study: StudyDriver) -> Iterator["Future[TrainingJob | None]"]:
        """An `ask` that samples for as long as the body runs; its answer can be had afterwards."""
        with ThreadPoolExecutor(1) as thread:
            self.reached.clear()
            self.open.clear()
            try:
                asked = thread.submit(study.ask)
                assert self.reached.wait(LONG_S)
                yield asked
                assert not asked.done()
            finally:
                self.open.set()
            asked.result(LONG_S)


def recorded(folder: Path) -> list[Trial]:
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("small")
        return [] if row is None else ledger.trials(row.id)


def started(study: StudyDriver) -> TrainingJob:
    job = study.ask()
    assert job is not None
    return job


def train(study: StudyDriver, job: TrainingJob) -> None:
    for seen in curve(job, None):
        study.report(job.key, seen)
    study.tell(job.key)


def bridge_to(study: StudyDriver, watch: Watchdog, slots: int) -> Bridge:
    return Bridge(
        study,
        slots=lambda: slots,
        with_resources=lambda job: JobMessage(job=job, resources={}),
        watch=watch,
        max_attempts=1000,
    )
