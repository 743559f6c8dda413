"""`archscout retry`: failed trials of one class get another chance, as new trials."""

import argparse
import time
from typing import TYPE_CHECKING

from orchestrator.commands import hints, studies
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.home import Home
from orchestrator.terminal import Terminal
from search_spaces.plugins import did_you_mean

if TYPE_CHECKING:
    from orchestrator.config.schema import StudyConfig
    from orchestrator.ledger import Ledger, StudyRow

_TIMEOUT_S = 15.0
"""How long a driver may take to answer; it looks every 10 s."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Asks for the new trials; a driver that runs the study trains them, otherwise `resume` does.

    Raises:
        CommandError: There is no such study, or no such class.
    """
    from orchestrator.study import retries  # noqa: PLC0415 - loads sqlalchemy

    known = retries.retryable_reasons()
    if options.failure not in known:
        raise CommandError(
            f"--class: nothing is retried by '{sanitize(options.failure)}'. "
            f"Classes: {', '.join(known)}.{did_you_mean(options.failure, known)}",
            ExitCode.INPUT,
        )
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        _require_time(row, config, ledger, home)
        asked = ledger.ask(row.id, retries.RETRY, {"class": options.failure})
        driven = _answered(ledger, row, config, asked, options.failure)
        added = (ledger.answer_to(asked) or {}).get("added")
        trials = {trial.uid: trial for trial in ledger.trials(row.id)}
    terminal.document |= {
        "study": row.name,
        "class": options.failure,
        "answered": added is not None,
    }
    if added is None:
        terminal.print(f"Asked for. The driver of '{row.name}' is busy and answers later.")
        return ExitCode.DONE
    pairs = [(trials[uid].number, trials[str(trials[uid].parent)].number) for uid in added]
    terminal.document["retries"] = [{"number": new, "parent": old} for new, old in pairs]
    for new, old in pairs:
        terminal.print(f"trial {new} tries trial {old} again")
    if not pairs:
        terminal.print(f"No trial of '{row.name}' ended as {options.failure} without a retry.")
    elif driven:
        terminal.info(f"\n'{row.name}' is running, and takes them next.")
    else:
        terminal.info(f"\nNext: {home.program} resume {row.name}")
    return ExitCode.DONE


def _require_time(row: "StudyRow", config: "StudyConfig", ledger: "Ledger", home: Home) -> None:
    """Refuse what no driver would ever start.

    Raises:
        CommandError: The study's time is used up, or its target is reached.
    """
    trials = ledger.trials(row.id)
    over = hints.final_stop_reason(config, row.spent_s, trials)
    if over is not None:
        again = hints.search_command(config, [known.name for known in ledger.studies()], home)
        again += hints.options_beyond_limits(config, row.spent_s, trials)
        raise CommandError(
            f"study '{row.name}' starts no trial any more: {over}, and its limits cannot be "
            f"raised. Search on under another name: {again}",
            ExitCode.INPUT,
        )


def _answered(
    ledger: "Ledger", row: "StudyRow", config: "StudyConfig", asked: int, reason: str
) -> bool:
    """Waits for the driver's answer, or answers where nobody drives; whether somebody does."""
    from orchestrator.ledger import Holder, LeaseHeldError  # noqa: PLC0415 - loads sqlalchemy
    from orchestrator.study import retries  # noqa: PLC0415 - loads sqlalchemy

    until = time.monotonic() + _TIMEOUT_S
    while ledger.answer_to(asked) is None and time.monotonic() < until:
        try:
            _, lease = ledger.open_study(
                name=row.name, config_json=None, holder=Holder.of_this_process()
            )
        except LeaseHeldError:
            time.sleep(0.25)
            continue
        try:
            if retries.retryable_trials(ledger.trials(row.id), reason):
                # A finished study would not be gone on with.
                ledger.set_study_state(lease, "interrupted")
            for each in ledger.requests(row.id):
                retries.answer_request(ledger, lease, each, ledger.trials(row.id), seed=config.seed)
        finally:
            ledger.release(lease)
        return False
    return True
