"""Runs one study from its lease to its last trial, and closes everything in every case.

    with the lease taken, MLflow's projection started and the study rebuilt from the ledger,
    the engine asks, trains and tells until nothing is left, something stops it, or a signal does.

Knows the order of things, and no engine, no network and no sampler by itself.
"""

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
from orchestrator.terminal import Terminal
from orchestrator.tracking import Tracker, start_projector
from orchestrator.trial import Trial

DRAIN_S = 60.0
"""How long the end of a search waits for MLflow to show all of it."""
DRAIN_INTERRUPTED_S = 5.0
"""The same after a signal, when the user is waiting to leave."""
LEDGER_PATIENCE_S = 120.0
"""How long a ledger's server that goes away in mid-search is waited for."""
TIMEOUT_S = 2.0
"""How long the end of a search may take without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a search ended."""

    code: ExitCode
    state: str
    """`finished`, `interrupted` or `broken`, as the ledger has it."""
    reason: str
    """Why it ended before its limits; empty where it did not."""
    trials: tuple[Trial, ...]
    """All that the study has now."""
    shown: bool = True
    """Whether MLflow shows all of it already."""
    not_shown: str = ""
    """Why it does not, as far as that is known."""


def run_study(parts: StudyInputs, home: Home, terminal: Terminal) -> RunOutcome:
    """Searches until the study is finished or stopped.

    Args:
        parts: What is searched, opened before anything is written.
        home: Where it is recorded.
        terminal: Where its progress is shown.

    Raises:
        LeaseHeldError: Another driver runs the study.
        StudyConflictError: It exists and was started from something else.
        LedgerError: The ledger cannot be written; what it acknowledged stands.
        OSError: A disk is full.
    """
    home.create()
    with (
        Ledger.open(home.ledger_url, max_outage_s=LEDGER_PATIENCE_S, tell=terminal.error) as ledger,
        _leased(ledger, parts, home, terminal) as (opened, record, lease),
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
        ending = _Ending(code=ExitCode.INTERRUPTED, state="interrupted", reason="")
        try:
            ending = _search(opened, home, terminal, (ledger, record, lease))
        finally:
            with suppress(LedgerError):
                ledger.set_study_state(lease, ending.state)
            shown = _show_the_rest(projector, terminal, ending)
            not_shown = "" if shown else projector.reason
            projector.close()
        return RunOutcome(
            code=ending.code,
            state=ending.state,
            reason=ending.reason,
            trials=tuple(ledger.trials(record.id)),
            shown=shown,
            not_shown=not_shown,
        )


@contextmanager
def _leased(
    ledger: Ledger, parts: StudyInputs, home: Home, terminal: Terminal
) -> Iterator[tuple[StudyInputs, StudyRow, Lease]]:
    """The parts with the GPUs of a trial decided, the study's row and lease.

    The lease is given back at the end, unless somebody took it over.
    """
    config = recorded = with_gpu_decided(parts.config)
    if stored := ledger.study(config.name):
        with suppress(ValidationError):  # another release's, which opening refuses
            recorded = as_stored(config, StudyConfig.from_json(stored.config_json))
    record, lease = ledger.open_study(
        name=config.name,
        config_json=config_json_to_open(ledger, recorded, home),
        space_name=parts.space.name,
        space_version=parts.space.version,
        teacher_sha256=parts.teacher_sha256,
        data_digest=parts.dataset.digest,
        code_digest=parts.code_digest,
        metadata={**parts.metadata, "home": str(home.folder)},
        holder=Holder.of_this_process(),
    )
    try:
        config = config.model_copy(update={"data": recorded.data})
        gpu = config.resources.gpu  # still open where a cluster is to be asked
        if gpu is not None and config.resources != recorded.resources:
            ledger.set_study_config(lease, config.canonical_json())
            if change := gpu_change(recorded.resources.gpu, gpu):
                terminal.info(change)
        yield replace(parts, config=config), record, lease
    finally:
        with suppress(LedgerError):
            ledger.release(lease)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    code: ExitCode
    state: str
    reason: str


def _search(
    parts: StudyInputs, home: Home, terminal: Terminal, recorded: tuple[Ledger, StudyRow, Lease]
) -> _Ending:
    """Lets the engine work on the study; says how it ended."""
    ledger, record, lease = recorded
    config = parts.config

    def stop() -> None:
        ledger.cancel_wait()  # or a server that is away would be waited for, the study locked
        study.request_stop("signal")

    with (
        StudyDriver(
            record=record,
            config=config,
            ledger=ledger,
            lease=lease,
            space=parts.space,
            task=parts.task,
            checkpoints_dir=home.checkpoints,
            logs_dir=home.logs,
            teacher=None
            if parts.teacher is None
            else parts.teacher.stage(home.checkpoints / record.name),
        ) as study,
        stop_on_signals(
            stop,
            terminal,
            f"stopping; continue later with: {home.program} resume {record.name}",
        ),
        closing(make_engine(parts, home, terminal)) as engine,
        ProgressDisplay(study, terminal),
    ):
        engine.run(study, parts.dataset)
    return _ending(study)


def _warning(terminal: Terminal) -> Callable[[str], None]:
    """What tells the user, once for each reason, that MLflow takes nothing."""
    said: set[str] = set()

    def warn(reason: str) -> None:
        if reason not in said:
            said.add(reason)
            terminal.error(
                f"MLflow does not take what is recorded: {reason}\n"
                "The search continues and MLflow is tried again; its end says what is missing."
            )

    return warn


def _show_the_rest(projector: Tracker, terminal: Terminal, ending: _Ending) -> bool:
    """Waits until MLflow shows the whole study; a signal ends the waiting, nothing else."""
    began = time.monotonic()
    said: list[int] = []

    def tell(left: int) -> None:
        if not said and time.monotonic() - began > TIMEOUT_S:
            said.append(left)
            terminal.info(f"waiting for MLflow to show the last {left:,} events")

    limit = DRAIN_S if ending.code is ExitCode.DONE else DRAIN_INTERRUPTED_S
    with stop_on_signals(projector.cancel_wait, terminal, "leaving MLflow behind; nothing is lost"):
        return projector.drain(limit, tell)


def _ending(study: StudyDriver) -> _Ending:
    """What the study's own words mean for its state and the exit status."""
    reason = study.stop_reason or ""
    if study.lease_lost is not None:
        text = "another driver took the study over"
        return _Ending(code=ExitCode.REFUSED, state="interrupted", reason=text)
    if reason == "signal":
        return _Ending(code=ExitCode.INTERRUPTED, state="interrupted", reason=reason)
    if study.block_reason is not None:
        return _Ending(code=ExitCode.INTERRUPTED, state="interrupted", reason=study.block_reason)
    if study.abort_reason is not None:
        return _Ending(code=ExitCode.ABORTED, state="broken", reason=study.abort_reason)
    if not study.finished:
        text = "something was asked for as it ended"
        return _Ending(code=ExitCode.INTERRUPTED, state="interrupted", reason=text)
    return _Ending(code=ExitCode.DONE, state="finished", reason=reason)


def make_engine(parts: StudyInputs, home: Home, terminal: Terminal) -> Engine:
    """The engine that the config names."""
    config = with_gpu_decided(parts.config)
    if config.engine.name == "in_process":
        from orchestrator.engines.in_process import InProcessEngine  # noqa: PLC0415 - loads torch

        return InProcessEngine(code=parts.code)
    from orchestrator.engines.ray_tune import RayTuneEngine  # noqa: PLC0415 - loads ray

    return RayTuneEngine(
        config.engine.address,
        cpu=config.resources.cpu,
        gpu=config.resources.gpu,
        code=parts.code,
        checkpoints=home.checkpoints,
        silence_s=config.resources.silence_s,
        tell=terminal.info,
    )


@contextmanager
def stop_on_signals(stop: Callable[[], None], terminal: Terminal, words: str) -> Iterator[None]:
    """Lets the first SIGINT or SIGTERM say the words and stop, and the second end all at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread alone
        return
    seen: list[int] = []

    def stop_in_order() -> None:
        terminal.error(f"{words} (again to leave at once)")
        stop()

    def received(number: int, _frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            exit_now()
        # A thread: the handler may interrupt code that holds the very lock or buffer it would need.
        threading.Thread(target=stop_in_order, daemon=True).start()

    before = {number: signal.signal(number, received) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_now() -> None:
    """Ends this process and all that it started, at once; what the ledger acknowledged stands."""
    import psutil  # noqa: PLC0415 - only needed here

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(ExitCode.INTERRUPTED)
