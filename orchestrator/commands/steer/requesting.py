"""Request something of a study and wait for the answer of its driver.

Without a driver, the command answers the open requests itself under a short lease.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.commands import hints
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Holder, LeaseHeldError, Ledger, StudyRow
from orchestrator.study.limits import final_stop_reason
from orchestrator.study.requests.answering import answer_requests

_TIMEOUT_S = 15.0
"""Longest wait for a driver, which queries its requests every second."""
_POLL_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of a request."""

    request: int
    answer: Mapping[str, Any] | None
    """None while it is open: its driver is busy, or the next driver will answer it."""
    running: bool
    """True if a driver runs the study."""


def submit(ledger: Ledger, row: StudyRow, kind: str, payload: Mapping[str, Any]) -> Reply:
    """Add a request to a study, and wait until it is answered, by this process if no driver runs.

    Killed at any point, it leaves the request open or answered, never half carried out.

    Args:
        ledger: The study's ledger.
        row: The study's row.
        kind: Kind of the request.
        payload: Plain data; an equal open request is not added again.

    Raises:
        CommandError: The request is refused.
    """
    request = ledger.add_request(row.id, kind, payload)
    until = time.monotonic() + _TIMEOUT_S
    running = True
    while ledger.read_answer(request) is None:
        running = not _answer_without_driver(ledger, row.name)
        if not running or time.monotonic() >= until:
            break
        time.sleep(_POLL_INTERVAL_S)
    answer = ledger.read_answer(request)
    require_accepted(row, answer or {})
    return Reply(request=request, answer=answer, running=running)


def still_open(name: str) -> str:
    """Return the message on a request that a busy driver has not answered yet."""
    return f"Requested; the driver of '{name}' is busy and will answer later."


def require_accepted(row: StudyRow, answer: Mapping[str, Any]) -> None:
    """Raise the reason of a refused request.

    Raises:
        CommandError: The request is refused.
    """
    if "refused" in answer:
        raise CommandError(f"study '{row.name}': {answer['refused']}", ExitCode.INPUT)


def require_time(ledger: Ledger, row: StudyRow, config: StudyConfig, home: Home) -> None:
    """Refuse trials that would never start.

    Raises:
        CommandError: The study's time limit or target is reached.
    """
    trials = ledger.trials(row.id)
    reason = final_stop_reason(config, row.spent_s, trials)
    if reason is None:
        return
    if extend := hints.extend_command(config, row.spent_s, trials, home):
        fix = f"Extend it first: {extend}"
    else:
        search = hints.search_command(config, [known.name for known in ledger.studies()], home)
        fix = "Start another study: "
        fix += search + hints.options_beyond_limits(config, row.spent_s, trials)
    raise CommandError(
        f"study '{row.name}' starts no more trials ({reason}). {fix}", ExitCode.INPUT
    )


def _answer_without_driver(ledger: Ledger, name: str) -> bool:
    """Answer the open requests under a short lease; return False if a driver runs the study."""
    try:
        _, lease = ledger.open_study(name=name, config_json=None, holder=Holder.of_this_process())
    except LeaseHeldError:
        return False
    try:
        for _ in answer_requests(ledger, lease, name):
            pass
    finally:
        ledger.release(lease)
    return True
