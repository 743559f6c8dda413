"""`archscout retry`: run failed trials of one class again, as new trials."""

import argparse

from orchestrator.commands import hints, studies
from orchestrator.commands.steer import requesting
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.study.limits import final_stop_reason
from orchestrator.study.requests.retry import RETRY, retryable_reasons
from orchestrator.terminal import Terminal
from search_spaces.plugins import did_you_mean


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Request the new trials; the driver that runs the study trains them, or `resume` does.

    Raises:
        CommandError: There is no such study, or no such class.
    """
    known = retryable_reasons()
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
        reply = requesting.submit(ledger, row, RETRY, {"class": options.failure})
        added = None if reply.answer is None else reply.answer["added"]
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
    elif reply.running:
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
