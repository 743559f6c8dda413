"""`archscout confirm`: train a study's best candidates and its default with more seeds."""

import argparse
from dataclasses import asdict

from orchestrator.commands import hints, run_search, studies
from orchestrator.config.resources import with_open_gpu
from orchestrator.confirmation.plan import KIND, ConfirmationPlan
from orchestrator.confirmation.results import has_default
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.run import RunOutcome
from orchestrator.study.confirming import plan_confirmation
from orchestrator.study.leaderboard import leaderboard
from orchestrator.terminal import Terminal
from orchestrator.trial import TrialState


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Confirm a study and print the answer.

    Raises:
        CommandError: There is no such study, it has nothing to compare, or the confirmation stopped
            before its end.
        LeaseHeldError: A driver runs the study.
    """
    plan = ConfirmationPlan(top=options.top, seeds=options.seeds)
    outcome = confirm(options.name, plan, home, terminal, address=options.address)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        board = leaderboard(config, row.state, ledger.trials(row.id), program=home.program)
    terminal.document |= board.to_dict()
    terminal.info()
    terminal.print(board.answer.text())
    if outcome is None:
        return ExitCode.DONE
    terminal.document["mlflow"] = {"complete": outcome.shown, "reason": outcome.not_shown}
    if not outcome.shown:
        terminal.info(studies.incomplete_mlflow(config.name, home, outcome.not_shown))
    if outcome.code is not ExitCode.DONE:
        raise CommandError(run_search.unfinished(config, home, outcome), outcome.code)
    return ExitCode.DONE


def confirm(
    name: str,
    plan: ConfirmationPlan,
    home: Home,
    terminal: Terminal,
    *,
    address: str | None = None,
) -> RunOutcome | None:
    """Run the confirmation of a study, or what is left of it.

    Args:
        name: The study's name.
        plan: Number of candidates and seeds.
        home: Stores of ledger, checkpoints and MLflow.
        terminal: Shows its progress.
        address: Address of a running Ray cluster; None starts a private one.

    Returns:
        The outcome of the run; None if the confirmation was decided before.

    Raises:
        CommandError: There is no such study, or it has nothing to compare.
        LeaseHeldError: A driver runs the study.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        config = studies.locate_config(ledger, row, home)
        ledger.require_free(row)
        trials = ledger.trials(row.id)
        found = plan_confirmation(trials, config, plan, has_default=has_default(trials))
        if found is None:
            raise _nothing_to_compare(ledger, row, home)
        if found.race.decided:
            return None
        ledger.add_request(row.id, KIND, asdict(plan))
    config = with_open_gpu(config).at_address(address)
    return run_search.launch(config, home, terminal, resumed=True, confirm_only=True)


def _nothing_to_compare(ledger: Ledger, row: StudyRow, home: Home) -> CommandError:
    """Return the error of a study without a complete trial besides the default."""
    if any(trial.state is TrialState.COMPLETE for trial in ledger.trials(row.id)):
        text = f"only the default of '{row.name}' is complete: no candidate can be compared with it"
    else:
        text = f"no trial of '{row.name}' is complete yet"
    return CommandError(f"{text}. {hints.how_to_complete(ledger, row, home)}", ExitCode.REFUSED)
