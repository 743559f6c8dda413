"""`archscout retry`: run failed trials of one class again, as new trials."""

import argparse
import time

from orchestrator.commands import hints, studies
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.home import Home
from orchestrator.ledger import Holder, LeaseHeldError, Ledger, StudyRow
from orchestrator.study import retries
from orchestrator.terminal import Terminal
from search_spaces.plugins import did_you_mean

_TIMEOUT_S = 15.0
"""Longest wait for the driver, which reads requests every 10 s."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Request the new trials; the driver that runs the study trains them, or `resume` does.

    Raises:
        CommandError: There is no such study, or no such class.
    """
    known = retries.retryable_reasons()
    if options.failure not in known:
        raise CommandError(
            f"--class: '{sanitize(options.failure)}' is no class of failures. "
            f"Classes: {', '.join(known)}.{did_you_mean(options.failure, known)}",
            ExitCode.INPUT,
        )
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        _require_time(row, config, ledger, home)
        request = ledger.add_request(row.id, retries.RETRY, {"class": options.failure})
        running = _await_answer(ledger, row, config, request, options.failure)
        added = (ledger.read_answer(request) or {}).get("added")
        trials = {trial.uid: trial for trial in ledger.trials(row.id)}
    answered = added is not None
    terminal.document |= {"study": row.name, "class": options.failure, "answered": answered}
    if added is None:
        terminal.print(f"Requested; the driver of '{row.name}' is busy and will answer later.")
        return ExitCode.DONE
    pairs = [(trials[uid].number, trials[str(trials[uid].parent)].number) for uid in added]
    terminal.document["retries"] = [{"number": new, "parent": old} for new, old in pairs]
    for new, old in pairs:
        terminal.print(f"trial {new} retries trial {old}")
    if not pairs:
        terminal.print(f"No trial of '{row.name}' with {options.failure} is left to retry.")
    elif running:
        terminal.info(f"\n'{row.name}' is running and trains them next.")
    else:
        terminal.info(f"\nNext step: {home.program} resume {row.name}")
    return ExitCode.DONE


def _require_time(row: StudyRow, config: StudyConfig, ledger: Ledger, home: Home) -> None:
    """Refuse retries that would never start.

    Raises:
        CommandError: The study's time limit or target is reached.
    """
    trials = ledger.trials(row.id)
    reason = hints.final_stop_reason(config, row.spent_s, trials)
    if reason is not None:
        search = hints.search_command(config, [known.name for known in ledger.studies()], home)
        search += hints.options_beyond_limits(config, row.spent_s, trials)
        raise CommandError(
            f"study '{row.name}' starts no more trials ({reason}), and its limits cannot be "
            "changed. "
            f"Start another study: {search}",
            ExitCode.INPUT,
        )


def _await_answer(
    ledger: Ledger, row: StudyRow, config: StudyConfig, request: int, reason: str
) -> bool:
    """Wait until the driver answers the request, or answer it if no driver runs the study.

    Returns:
        True if a driver runs the study.
    """
    until = time.monotonic() + _TIMEOUT_S
    while ledger.read_answer(request) is None and time.monotonic() < until:
        try:
            _, lease = ledger.open_study(
                name=row.name, config_json=None, holder=Holder.of_this_process()
            )
        except LeaseHeldError:
            time.sleep(0.25)
            continue
        try:
            if retries.retryable_trials(ledger.trials(row.id), reason):
                # `resume` would not start a finished study.
                ledger.set_study_state(lease, "interrupted")
            for each in ledger.requests(row.id):
                retries.answer_request(ledger, lease, each, ledger.trials(row.id), seed=config.seed)
        finally:
            ledger.release(lease)
        return False
    return True
