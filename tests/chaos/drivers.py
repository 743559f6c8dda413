"""Processes that the chaos tests kill: a driver and a projector.

They are forked rather than started, so that a kill costs milliseconds. Every write that the ledger
acknowledged to a driver is noted in a file at once, so that a loss can be proved.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from support.studies import BRANCHING, config, quality

from orchestrator.config.schema import StudyConfig
from orchestrator.engines import Engine
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Effect, Holder, Lease, Ledger, LedgerError, StudyRow
from orchestrator.study.driver import StudyDriver
from orchestrator.study.requests.enqueue import ENQUEUE, to_payload
from orchestrator.study.requests.extend import EXTEND
from orchestrator.study.requests.retry import RETRY
from orchestrator.tracking.client import open_client
from orchestrator.tracking.projection import Projection
from search_spaces.designs import Design
from workers import checkpoint, failpoints
from workers.job import TrainingJob
from workers.measurement import Measurement
from workers.storage import LocalFolder, storage_at

TRIALS, EPOCHS = 12, 9
FINISHED, FAILED, BY_THE_WORLD = 0, 1, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Addresses of one study."""

    home: Path
    url: str
    """Address of the ledger."""
    name: str
    seed: int
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Keys of its config other than name and seed."""

    @property
    def config(self) -> StudyConfig:
        keys: dict[str, Any] = {"stop": {"trials": TRIALS}, **self.asked}
        return config(name=self.name, seed=self.seed, **keys)

    @property
    def ledger(self) -> Any:
        """Return the ledger's address for the checker."""
        return self.url if self.url.startswith("postgresql") else self.home / "ledger.db"

    @property
    def notes(self) -> Path:
        """File of acknowledged writes, one JSON document a line."""
        return self.home / "acknowledged.jsonl"

    @property
    def work(self) -> Path:
        """File of trained epochs, one `uid epoch` a line for each time."""
        return self.home / "trained.txt"

    @property
    def struck(self) -> Path:
        """File of the injected faults."""
        return self.home / "struck.txt"


def note(path: Path, line: str) -> None:
    """Append a line by one write, which a kill cannot divide."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


class Noting:
    """A ledger whose acknowledgments are noted."""

    def __init__(self, ledger: Ledger, notes: Path) -> None:
        self._ledger, self._notes = ledger, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def _note(self, **said: Any) -> None:
        note(self._notes, json.dumps(said))

    def add_trial(self, lease: Any, new: Any) -> Any:
        trial = self._ledger.add_trial(lease, new)
        self._note(what="add_trial", uid=trial.uid)
        return trial

    def record(self, lease: Any, key: Any, seen: Measurement) -> bool:
        fresh = self._ledger.record(lease, key, seen)
        self._note(
            what="record",
            uid=key.trial_uid,
            epoch=seen.fidelity,
            metrics=dict(seen.metrics),
            fresh=fresh,
        )
        return fresh

    def finish(self, lease: Any, uid: str, **how: Any) -> Any:
        trial = self._ledger.finish(lease, uid, **how)
        self._note(what="finish", uid=uid, state=trial.state.value)
        return trial

    def carry_out(self, lease: Any, request_id: int, effect: Effect) -> bool:
        fresh = self._ledger.carry_out(lease, request_id, effect)
        for trial in effect.added if fresh else ():
            self._note(what="add_trial", uid=trial.uid)
        return fresh


def trained(work: Path) -> Callable[[TrainingJob, Any], Iterator[Measurement]]:
    """Return a worker that writes checkpoints and continues from the newest valid one."""

    def worker(job: TrainingJob, _dataset: Any) -> Iterator[Measurement]:
        found, _, _ = checkpoint.load_first_valid(job.resume_from)
        top = quality(dict(job.candidate["decisions"]))
        weights = torch.zeros(64) if found is None else found.tensors["weights"]
        for epoch in range(1 if found is None else found.epoch + 1, job.budget.maximum + 1):
            note(work, f"{job.key.trial_uid} {epoch}")
            weights = weights + 1
            assert float(weights[0]) == epoch, "not the weights of the epoch before"
            state = checkpoint.Checkpoint(epoch=epoch, tensors={"weights": weights}, state={})
            value = top * epoch / job.budget.maximum
            yield Measurement(
                fidelity=epoch,
                metrics={"val_accuracy": value, "val_loss": 1 - value, "seed": float(job.seed)},
                elapsed_s=float(epoch),
                checkpoint=checkpoint.save(storage_at(job.checkpoint_dir or ""), state),
            )

    return worker


def search(world: World) -> None:
    """Run the study to its end in this process."""
    drive(world, InProcessEngine(trained(world.work)), None)


def search_and_extend(world: World) -> None:
    """Run the study; it gets a design and trials amid its search, and trials after its end."""
    drive(world, Requesting(trained(world.work)), None)


class Requesting(InProcessEngine):
    """Requests the same of a study at the same states, however often its driver is killed."""

    def run(self, study: StudyDriver, dataset: Any) -> None:
        super().run(Amid(study, AMID), dataset)  # type: ignore[arg-type]
        request(study, AFTER)
        super().run(study, dataset)


class Amid:
    """A study that requests something as soon as four trials exist and none is interrupted."""

    def __init__(self, study: StudyDriver, given: "Requests") -> None:
        self._study, self._given = study, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def ask(self) -> TrainingJob | None:
        trials = self._study.trials
        if len(trials) >= 4 and all(trial.paused or trial.state.is_terminal for trial in trials):
            request(self._study, self._given)
        return self._study.ask()


def request(study: StudyDriver, given: "Requests") -> None:
    """Add those requests that the study never got, and answer all."""
    ledger, study_id = study._ledger, study._lease.study_id
    known = [each.payload for each in ledger.requests(study_id, only_open=False)]
    for kind, payload in given:
        if payload not in known:
            ledger.add_request(study_id, kind, payload)
    study._answer_requests()


Requests = Sequence[tuple[str, Mapping[str, Any]]]
"""Kind and payload of requests."""

_DESIGN = Design(params={"kind": "steep", "depth": 7}, base={})
AMID: Requests = (
    (EXTEND, {"trials": 2, "operation": "amid"}),
    (ENQUEUE, to_payload([_DESIGN], "design")),
)
AFTER: Requests = ((EXTEND, {"trials": 3, "operation": "after"}),)
FIRST_TRIALS = TRIALS - 6
"""Limit of trials of a study before these requests."""


def drive(world: World, engine: Engine, dataset: Any) -> None:
    """Run the study on an engine, as `run` does."""
    with Ledger.open(world.url) as ledger:
        row, lease = open_study(ledger, world)
        # As where the GPUs of a trial are settled; here they are settled to what they were.
        ledger.set_study_config(lease, row.config_json)
        with StudyDriver(
            record=row,
            config=StudyConfig.from_json(row.config_json),
            ledger=Noting(ledger, world.notes),  # type: ignore[arg-type]
            lease=lease,
            space=BRANCHING,
            task=None,
            checkpoints_dir=LocalFolder(world.home / "checkpoints"),
        ) as study:
            engine.run(study, dataset)
            while not study.seal():
                engine.run(study, dataset)
            assert study.abort_reason is None, study.abort_reason
        ledger.set_study_state(lease, "finished")
        ledger.release(lease)


def open_study(
    ledger: Ledger, world: World, holder: Holder | None = None
) -> tuple[StudyRow, Lease]:
    """Create the study, or resume it with its changes."""
    known = ledger.study(world.name)
    return ledger.open_study(
        name=world.name,
        config_json=world.config.canonical_json() if known is None else known.config_json,
        space_name="branching",
        space_version="1",
        data_digest="none",
        holder=holder or Holder.of_this_process(),
    )


def project(world: World) -> None:
    """Project all events, as the projector does."""
    with Ledger.open(world.url) as ledger:
        row = ledger.study(world.name)
        assert row is not None
        projection = Projection(
            ledger,
            row,
            lambda: open_client(f"sqlite:///{world.home / 'mlflow.db'}"),
            artifacts=world.home / "artifacts",
            logs=world.home / "logs",
        )
        while projection.step():
            pass
        projection.commit_cursor()


def ask(world: World) -> None:
    """Request retries of a failure class that no trial has."""
    with Ledger.open(world.url) as ledger:
        row = ledger.study(world.name)
        if row is not None:
            ledger.add_request(row.id, RETRY, {"class": "user_code"})


def rewind(world: World) -> None:
    """Restart the projection at the first event, as `archscout sync` does."""
    with Ledger.open(world.url) as ledger:
        row = ledger.study(world.name)
        assert row is not None
        ledger.rewind(row.id)


def forked(world: World, body: Callable[[World], None], fault: str | None, log: Path) -> int:
    """Run a function in a forked process.

    Args:
        world: Given to the body.
        body: What it does.
        fault: The fault that it meets, if any.
        log: Where an error's traceback goes.

    Returns:
        Its pid.
    """
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = FAILED
    try:
        failpoints._passed.clear()
        os.environ.pop(failpoints.VARIABLE, None)
        if fault is not None:
            os.environ |= {failpoints.VARIABLE: fault, failpoints.JOURNAL: str(world.struck)}
        body(world)
        code = FINISHED
    except BaseException as error:  # noqa: BLE001 - the code reports it, and the log
        note(log, traceback.format_exc())
        if isinstance(error, OSError | LedgerError):
            code = BY_THE_WORLD
    finally:
        os._exit(code)


def ended(pid: int, *, kill_after_s: float | None = None, timeout_s: float = 60.0) -> int:
    """Wait for a child, or kill it after some time; return its status, negative for a signal."""
    began = time.monotonic()
    limit = timeout_s if kill_after_s is None else kill_after_s
    while time.monotonic() - began < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
