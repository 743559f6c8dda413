"""Run one study from its lease to its last trial, and close everything in every case.

Takes the lease, starts MLflow's projection and rebuilds the study from the ledger. Then the engine
runs trials until nothing is left, a limit is reached, or a signal arrives.
"""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

from pydantic import ValidationError

from orchestrator.config.resources import as_stored, gpu_change, with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.engines import Engine
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Holder, Lease, Ledger, LedgerError, StudyRow
from orchestrator.progress import ProgressDisplay
from orchestrator.study.driver import StudyDriver
from orchestrator.study.moved_files import config_json_to_open
from orchestrator.study.prepare import StudyInputs
from orchestrator.study.requests.pause import PAUSE
from orchestrator.terminal import Terminal
from orchestrator.tracking import Tracker, start_projector
from orchestrator.trial import Trial

DRAIN_S = 60.0
"""Seconds that the end of a run waits for MLflow to show everything."""
DRAIN_INTERRUPTED_S = 5.0
"""The same after a signal, when the user waits for the end."""
MAX_OUTAGE_S = 120.0
"""Seconds to wait for a ledger server that becomes unavailable during a run."""
QUIET_S = 2.0
"""Seconds that the end of a run may wait without a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """Outcome of a run."""

    code: ExitCode
    state: str
    """`finished`, `interrupted` or `broken`, as stored in the ledger."""
    reason: str
    """Reason why it ended before its limits; empty otherwise."""
    trials: tuple[Trial, ...] = ()
    """All trials of the study."""
    shown: bool = True
    """True if MLflow shows all of them."""
    not_shown: str = ""
    """Reason why it does not, if known."""


def run_study(inputs: StudyInputs, home: Home, terminal: Terminal) -> RunOutcome:
    """Run a study until it is finished or stopped.

    Args:
        inputs: The study's inputs, loaded before anything is written.
        home: Home that it is recorded in.
        terminal: Terminal that shows its progress.

    Raises:
        LeaseHeldError: Another driver runs the study.
        StudyConflictError: It exists with another config.
        LedgerError: The ledger cannot be written; acknowledged writes are kept.
        OSError: A disk is full.
    """
    home.create()
    with (
        Ledger.open(home.ledger_url, max_outage_s=MAX_OUTAGE_S, tell=terminal.error) as ledger,
        _leased(ledger, inputs, home, terminal) as (opened, record, lease),
    ):
        home.owners.claim(ledger.identity, record.name)
        ledger.set_study_state(lease, "running")
        projector = start_projector(
            ledger_url=home.ledger_url,
            study=record.name,
            home=home.folder,
            tracking_uri=home.tracking_uri,
            on_behind=_warning(terminal),
        )
        outcome = RunOutcome(code=ExitCode.INTERRUPTED, state="interrupted", reason="")
        try:
            outcome = _search(opened, home, terminal, (ledger, record, lease))
        finally:
            with suppress(LedgerError):
                ledger.set_study_state(lease, outcome.state)
            shown = _drain(projector, terminal, outcome)
            not_shown = "" if shown else projector.reason
            projector.close()
        trials = tuple(ledger.trials(record.id))
        return replace(outcome, trials=trials, shown=shown, not_shown=not_shown)


@contextmanager
def _leased(
    ledger: Ledger, inputs: StudyInputs, home: Home, terminal: Terminal
) -> Iterator[tuple[StudyInputs, StudyRow, Lease]]:
    """Yield the inputs with the GPUs of a trial decided, the study's row and its lease.

    The lease is released at the end, unless another driver took it over.
    """
    config = recorded = with_gpu_decided(inputs.config)
    if stored := ledger.study(config.name):
        with suppress(ValidationError):  # of another release; opening the study refuses it
            recorded = as_stored(config, StudyConfig.from_json(stored.config_json))
    record, lease = ledger.open_study(
        name=config.name,
        config_json=config_json_to_open(ledger, recorded, home),
        space_name=inputs.space.name,
        space_version=inputs.space.version,
        teacher_sha256=inputs.teacher_sha256,
        data_digest=inputs.dataset.digest,
        code_digest=inputs.code_digest,
        metadata={**inputs.metadata, "home": str(home.folder)},
        holder=Holder.of_this_process(),
    )
    try:
        config = config.model_copy(update={"data": recorded.data})
        gpu = config.resources.gpu  # None until the cluster is asked
        if gpu is not None and config.resources != recorded.resources:
            ledger.set_study_config(lease, config.canonical_json())
            if change := gpu_change(recorded.resources.gpu, gpu):
                terminal.info(change)
        yield replace(inputs, config=config), record, lease
    finally:
        with suppress(LedgerError):
            ledger.release(lease)


def _search(
    inputs: StudyInputs, home: Home, terminal: Terminal, recorded: tuple[Ledger, StudyRow, Lease]
) -> RunOutcome:
    """Let the engine run the study, and return its outcome."""
    ledger, record, lease = recorded
    config = inputs.config

    def stop() -> None:
        ledger.cancel_wait()  # else an unavailable server blocks it
        study.request_stop("signal")

    with (
        loaded_objects_frozen(),
        StudyDriver(
            record=record,
            config=config,
            ledger=ledger,
            lease=lease,
            space=inputs.space,
            task=inputs.task,
            checkpoints_dir=home.checkpoints,
            logs_dir=home.logs,
            teacher=None
            if inputs.teacher is None
            else inputs.teacher.stage(home.checkpoints / record.name),
            confirm_only=inputs.confirm_only,
        ) as study,
        stop_on_signals(
            stop,
            terminal,
            f"stopping; continue later with: {home.program} resume {record.name}",
        ),
        closing(make_engine(inputs, home, terminal)) as engine,
        ProgressDisplay(study, terminal),
    ):
        engine.run(study, inputs.dataset)
        while not study.seal():  # a request arrived as the last trial ended
            engine.run(study, inputs.dataset)
    return _outcome(study)


@contextmanager
def loaded_objects_frozen() -> Iterator[None]:
    """Keep objects that exist already, as those of libraries, out of garbage collections.

    A full collection would pause all threads for 0.1 s and more.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _warning(terminal: Terminal) -> Callable[[str], None]:
    """Return a function that warns once for each reason why MLflow is behind."""
    warned: set[str] = set()

    def warn(reason: str) -> None:
        if reason not in warned:
            warned.add(reason)
            terminal.error(
                f"MLflow does not accept the results: {reason}\n"
                "The search continues and MLflow is retried; its end reports what is missing."
            )

    return warn


def _drain(projector: Tracker, terminal: Terminal, outcome: RunOutcome) -> bool:
    """Wait until MLflow shows the whole study or a signal arrives; return whether it does."""
    began = time.monotonic()
    reported: list[int] = []

    def report(left: int) -> None:
        if not reported and time.monotonic() - began > QUIET_S:
            reported.append(left)
            terminal.info(f"waiting for MLflow to show the last {left:,} events")

    limit = DRAIN_S if outcome.code is ExitCode.DONE else DRAIN_INTERRUPTED_S
    with stop_on_signals(projector.cancel_wait, terminal, "leaving MLflow behind; nothing is lost"):
        return projector.drain(limit, report)


def _outcome(study: StudyDriver) -> RunOutcome:
    """Return the outcome of a study that has stopped."""
    reason = study.stop_reason or ""
    if study.lease_lost is not None:
        text = "another driver took the study over"
        return RunOutcome(code=ExitCode.REFUSED, state="interrupted", reason=text)
    if reason in {"signal", PAUSE}:
        return RunOutcome(code=ExitCode.INTERRUPTED, state="interrupted", reason=reason)
    if study.block_reason is not None:
        return RunOutcome(code=ExitCode.INTERRUPTED, state="interrupted", reason=study.block_reason)
    if study.abort_reason is not None:
        return RunOutcome(code=ExitCode.ABORTED, state="broken", reason=study.abort_reason)
    state = "finished" if study.search_finished else "interrupted"
    return RunOutcome(code=ExitCode.DONE, state=state, reason=study.end_reason or "")


def make_engine(inputs: StudyInputs, home: Home, terminal: Terminal) -> Engine:
    """Return the engine that the config names."""
    config = with_gpu_decided(inputs.config)
    if config.engine.name == "in_process":
        from orchestrator.engines.in_process import InProcessEngine  # noqa: PLC0415 - loads torch

        return InProcessEngine(code=inputs.code)
    from orchestrator.engines.ray_tune import RayTuneEngine  # noqa: PLC0415 - loads ray

    return RayTuneEngine(
        config.engine.address,
        cpu=config.resources.cpu,
        gpu=config.resources.gpu,
        code=inputs.code,
        checkpoints=home.checkpoints,
        silence_s=config.resources.silence_s,
        tell=terminal.info,
    )


@contextmanager
def stop_on_signals(stop: Callable[[], None], terminal: Terminal, message: str) -> Iterator[None]:
    """Stop at the first SIGINT or SIGTERM, with a message, and exit at once at the second.

    Args:
        stop: Function that requests the stop.
        terminal: Terminal for the message.
        message: Message of the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals only to the main thread
        return
    seen: list[int] = []

    def announce_and_stop() -> None:
        terminal.error(f"{message} (again to leave at once)")
        stop()

    def received(number: int, _frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            exit_now()
        # In a thread, because the handler may interrupt code that holds a lock or buffer it needs.
        threading.Thread(target=announce_and_stop, daemon=True).start()

    before = {number: signal.signal(number, received) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_now() -> None:
    """Exit this process and its children at once; the ledger keeps acknowledged writes."""
    import psutil  # noqa: PLC0415 - only needed here

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(ExitCode.INTERRUPTED)
