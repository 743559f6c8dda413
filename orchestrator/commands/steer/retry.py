"""`archscout retry`: run failed trials of one class again, as new trials."""

import argparse

from orchestrator.commands import studies
from orchestrator.commands.steer import requesting
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.home import Home
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
        requesting.require_time(ledger, row, config, home)
        reply = requesting.submit(ledger, row, RETRY, {"class": options.failure})
        added = None if reply.answer is None else reply.answer["added"]
        trials = {trial.uid: trial for trial in ledger.trials(row.id)}
    answered = added is not None
    terminal.document |= {"study": row.name, "class": options.failure, "answered": answered}
    if added is None:
        terminal.print(requesting.still_open(row.name))
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
