"""Studies on a scratch ledger, with a space of plain decisions and a closed-form worker."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config.resources import as_stored
from orchestrator.config.schema import StudyConfig
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Holder, Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial, TrialState
from search_spaces.space import DefineByRunSpace
from workers.job import TrainingJob
from workers.measurement import Measurement
from workers.storage import LocalFolder

NO_DATA: Any = None
UNUSED_PID = 2**22 - 1
"""A pid that no process has."""


def branching(trial: Any) -> dict[str, Any]:
    """A small conditional space."""
    kind = trial.suggest_categorical("kind", ["flat", "steep"])
    rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
    depth = trial.suggest_int("depth", 1, 8) if kind == "steep" else 0
    return {"kind": kind, "rate": rate, "depth": depth}


BRANCHING = DefineByRunSpace(name="branching", version="1", function=branching)


def quality(decisions: dict[str, Any]) -> float:
    """The value at the full budget, in (0, 1)."""
    away = abs(math.log10(decisions["rate"]) + 2) / 4
    return 0.9 - 0.4 * away + 0.01 * decisions["depth"]


def curve(job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
    """A curve that rises to the candidate's quality; goes on after what was measured before."""
    top = quality(dict(job.candidate["decisions"]))
    for epoch in range(1, job.budget.maximum + 1):
        value = top * epoch / job.budget.maximum
        yield Measurement(
            fidelity=epoch,
            metrics={"val_accuracy": value, "val_loss": 1 - value, "seed": float(job.seed)},
            elapsed_s=float(epoch),
        )


def a_trial(number: int, **changed: Any) -> Trial:
    """A trial of the search, as the ledger would give it."""
    given: dict[str, Any] = {
        "number": number,
        "uid": f"{number:032x}",
        "params": {},
        "distributions": {},
        "candidate": {"schema": 1, "decisions": {}},
        "digest": f"{number:064x}",
        "state": TrialState.RUNNING,
        "seed": number,
        "attempts": 1,
    }
    return Trial(**{**given, **changed})


def config(**changed: Any) -> StudyConfig:
    """A small study's config."""
    return StudyConfig.model_validate(
        {
            "name": "small",
            "space": "branching.py:branching",
            "train": "branching.py:train",
            "budget": {"minimum": 1, "maximum": 9, "reduction_factor": 3},
            "stop": {"trials": 15},
            "engine": {"name": "in_process"},
            **changed,
        }
    )


def recorded(ledger: Ledger, asked: StudyConfig) -> StudyConfig:
    """The config as the ledger has it, where an earlier start has settled the GPUs of a trial."""
    stored = ledger.study(asked.name)
    return as_stored(asked, StudyConfig.from_json(stored.config_json)) if stored else asked


@contextmanager
def opened(
    tmp_path: Path,
    asked: StudyConfig | None = None,
    *,
    through: Callable[[Ledger], Any] = lambda ledger: ledger,
    space: Any = BRANCHING,
    version: str = "1",
    data: str = "none",
    alive: bool = False,
    **parts: Any,
) -> Iterator[StudyDriver]:
    """The study on a scratch ledger, as `run` opens it; opened again it is resumed.

    Its lease is held by a process that is gone: the next driver need not wait. An `alive` one is
    given back at the end.
    """
    asked = asked or config()
    holder = Holder.of_this_process()
    if not alive:
        holder = replace(holder, pid=UNUSED_PID, process_started="never")
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        row, lease = ledger.open_study(
            name=asked.name,
            config_json=recorded(ledger, asked).canonical_json(),
            space_name="branching",
            space_version=version,
            data_digest=data,
            holder=holder,
        )
        with StudyDriver(
            record=row,
            config=asked,
            ledger=through(ledger),
            lease=lease,
            space=space,
            **{"task": None, "checkpoints_dir": LocalFolder(tmp_path / "checkpoints"), **parts},
        ) as study:
            yield study
        if alive:
            ledger.release(lease)


def run(study: StudyDriver, worker: Any = curve) -> None:
    """Runs a study to its end in this process."""
    InProcessEngine(worker).run(study, NO_DATA)


def train(study: StudyDriver, count: int) -> None:
    """Runs some trials of a study that is then left."""
    for _ in range(count):
        job = study.ask()
        assert job is not None
        for seen in curve(job, None):
            study.report(job.key, seen)
        study.tell(job.key)


class Killed(BaseException):
    """The driver's death."""


WRITES = frozenset({"add_trial", "start_attempt", "record", "finish", "requeue"})
"""Writes of a driver."""
COMMAND_WRITES = frozenset({"add_request", "open_study", "carry_out", "release"})
"""Writes of a command that requests something where no driver runs."""


class Dying:
    """A ledger whose driver dies at its n-th write, before or after it is on disk."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        after: int,
        acknowledged: bool,
        writes: Collection[str] = WRITES,
    ) -> None:
        self._ledger = ledger
        self._left = after
        self._acknowledged = acknowledged
        self.dead = False
        self.writes = frozenset(writes)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ledger, name)
        return self._mortal(name, method) if callable(method) else method

    def _mortal(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Killed
            self._left -= name in self.writes
            self.dead = name in self.writes and self._left <= 0
            if self.dead and not self._acknowledged:
                raise Killed
            answer = method(*args, **kwargs)
            if self.dead:
                raise Killed
            return answer

        return call


def story(study: StudyDriver) -> list[Any]:
    """What a study has come to, without what may differ: uids, times, attempts."""
    return [
        (
            t.number,
            dict(t.params),
            t.state,
            t.reason,
            t.values,
            t.seed,
            dict(t.violations),
            [(m.fidelity, dict(m.metrics)) for m in t.measurements],
        )
        for t in study.trials
    ]
