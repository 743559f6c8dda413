"""`archscout retry`: failed trials of one class get another chance, as new trials."""

import argparse

from orchestrator.commands import studies
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.problems import clean, nearest
from orchestrator.terminal import Terminal


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Adds the new trials; `resume` trains them.

    Raises:
        CommandError: There is no such study, or no such class.
        LeaseHeld: A driver runs it.
    """
    from orchestrator import retrying  # noqa: PLC0415 - loads optuna
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy

    known = retrying.classes()
    if options.failure not in known:
        raise CommandError(
            f"--class: nothing is retried by '{clean(options.failure)}'. "
            f"Classes: {', '.join(known)}.{nearest(options.failure, known)}",
            ExitCode.INPUT,
        )
    with studies.reading(home) as opened:
        ledger, row = studies.found(opened, options.name, home)
        config = studies.readable_config(row)
        _, lease = ledger.open_study(
            name=row.name, config_json=None, holder=Holder.of_this_process()
        )
        try:
            trials = ledger.trials(row.id)
            added = retrying.add_retries(ledger, lease, trials, options.failure, seed=config.seed)
            if added:  # a finished study would not be gone on with
                ledger.set_study_state(lease, "interrupted")
        finally:
            ledger.release(lease)
    numbers = {trial.uid: trial.number for trial in trials}
    terminal.answer |= {
        "study": row.name,
        "class": options.failure,
        "retries": [
            {"number": trial.number, "parent": numbers[str(trial.parent)]} for trial in added
        ],
    }
    for trial in added:
        terminal.tell(f"trial {trial.number} tries trial {numbers[str(trial.parent)]} again")
    if not added:
        terminal.tell(f"No trial of '{row.name}' ended as {options.failure} without a retry.")
    else:
        terminal.remark(f"\nNext: archscout resume {row.name}")
    return ExitCode.DONE
