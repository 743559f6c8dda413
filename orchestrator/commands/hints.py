"""Suggest the next command, as far as the state of a study allows one.

A suggestion always makes progress: no promotion without a complete trial, no `resume` of a study
in which no trial would start.
"""

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from orchestrator.config.schema import StudyConfig
from orchestrator.formatting import format_fields
from orchestrator.home import Home
from orchestrator.ledger import LeaseHeldError, Ledger, StudyRow
from orchestrator.objective import even_weights
from orchestrator.study.limits import (
    exhausted_reason,
    target_is_reached,
    time_is_up,
    trials_have_ended,
)
from orchestrator.study.requests.retry import retryable_reasons, retryable_trials
from orchestrator.trial import REUSED, Trial

if TYPE_CHECKING:
    from orchestrator.study.leaderboard import Leaderboard

_SHARED = ("train", "data", "objectives", "budget", "teacher")
"""Keys of the config that must be equal for a warm start from another study."""


def options_beyond_limits(
    stored: StudyConfig,
    spent_s: float,
    trials: Sequence[Trial],
    config: StudyConfig | None = None,
) -> str:
    """Return the options without which another study would stop for the same reason.

    Args:
        stored: Config of the finished study.
        spent_s: Search time of the finished study.
        trials: Trials of the finished study.
        config: Config of the other study; equal by default.
    """
    stop, options = (config or stored).stop, ""
    if time_is_up(stored, spent_s) and stop.hours == stored.stop.hours:
        options += f" --hours {max(1.0, 2 * (stop.hours or 0.0)):g}"
    if target_is_reached(stored, trials) and stop.target == stored.stop.target:
        options += " --set stop.target=null"
    return options


def extend_command(
    config: StudyConfig, spent_s: float, trials: Sequence[Trial], home: Home
) -> str | None:
    """Return the command that continues a finished study; None if no limit ended its search."""
    stop, options = config.stop, ""
    if target_is_reached(config, trials):
        return None
    if trials_have_ended(config, trials):
        options += f" --trials +{stop.trials}"
    if time_is_up(config, spent_s):
        options += f" --hours +{max(1.0, stop.hours or 0.0):g}"
    return f"{home.program} extend {config.name}{options}" if options else None


def next_free_name(name: str, taken: Collection[str]) -> str:
    """Return the first free name of `bars2`, `bars3`, ..."""
    number = 2
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def search_command(
    stored: StudyConfig,
    taken: Collection[str],
    home: Home,
    *,
    config: StudyConfig | None = None,
    arguments: Sequence[str] = ("CONFIG",),
    warm: bool = True,
) -> str:
    """Return the command that starts another study, under a free name.

    Args:
        stored: Config of the study whose name is taken.
        taken: Names of all studies.
        home: Home of the studies.
        config: Config of the other study; equal by default.
        arguments: File or preset, and the options without `--name`.
        warm: Warm-start from the stored study, if its trials hold for `config`.
    """
    config = config or stored
    command = [home.program, "search", *map(shlex.quote, arguments)]
    command += ["--name", next_free_name(stored.name, taken)]
    if warm and all(getattr(stored, key) == getattr(config, key) for key in _SHARED):
        names = dict.fromkeys((*config.warm_start, stored.name))
        command += ["--set", shlex.quote(f"warm_start=[{', '.join(names)}]")]
    return " ".join(command)


def retry_commands(name: str, trials: Sequence[Trial], home: Home) -> dict[str, str]:
    """Return the command that retries each class of failures, with an explanation."""
    found = Counter(
        {reason: len(retryable_trials(trials, reason)) for reason in retryable_reasons()}
    )
    return {
        f"{home.program} retry {name} --class {reason}": f"run {count} of its failed trials again"
        for reason, count in found.items()
        if count
    }


def is_running(ledger: Ledger, row: StudyRow) -> bool:
    """Return True if a driver runs the study now."""
    try:
        ledger.require_free(row)
    except LeaseHeldError:
        return True
    return False


def how_to_complete(ledger: Ledger, row: StudyRow, home: Home) -> str:
    """Return what may lead a study without a complete trial to one."""
    config, trials = StudyConfig.from_json(row.config_json), ledger.trials(row.id)
    if is_running(ledger, row):
        return f"The study is running: {home.program} status {row.name}"
    reason = exhausted_reason(config, row.spent_s, trials)
    if reason is None and row.state != "finished":
        return f"Resume it: {home.program} resume {row.name}"
    steps = " or ".join(_steps_without_result(ledger, row, home))
    return f"The study is finished ({reason or row.state}). Suggested: {steps}"


def next_steps(ledger: Ledger, row: StudyRow, home: Home, board: "Leaderboard") -> str:
    """Return the commands that are likely to follow a finished study."""
    if board.rows:
        steps = _steps_with_result(ledger, row, home, board)
    else:
        steps = _steps_without_result(ledger, row, home)
    archscout = home.program
    steps |= {
        f"{archscout} ui": "browse and compare the trials in MLflow",
        f"{archscout} search --help": "show all options of a search",
    }
    return "\nNext steps:\n" + format_fields({f"  {step}": what for step, what in steps.items()})


def _steps_without_result(ledger: Ledger, row: StudyRow, home: Home) -> dict[str, str]:
    """Return commands after a study that finished without a complete trial."""
    config, trials = StudyConfig.from_json(row.config_json), ledger.trials(row.id)
    steps: dict[str, str] = {}
    if not time_is_up(config, row.spent_s):
        steps |= retry_commands(row.name, trials, home)
    if extend := extend_command(config, row.spent_s, trials, home):
        steps[extend] = "search on"
    search = search_command(config, [known.name for known in ledger.studies()], home)
    search += options_beyond_limits(config, row.spent_s, trials)
    steps[search] = "start another study, changed as needed"
    if trials:
        furthest = max(trials, key=lambda trial: trial.reached).number
        steps[f"{home.program} status {row.name} --trial {furthest}"] = (
            "show the trial with the most epochs"
        )
    return steps


def _steps_with_result(
    ledger: Ledger, row: StudyRow, home: Home, board: "Leaderboard"
) -> dict[str, str]:
    config = StudyConfig.from_json(row.config_json)
    name, archscout = config.name, home.program
    steps = {}
    if not board.answer.decided and len(board.rows) > 1:
        steps[f"{archscout} confirm {name}"] = "find out whether the best trials beat the default"
    if sum(row.on_front for row in board.rows) > 1 and len(board.objectives) > 1:
        steps[f"{archscout} leaderboard {name} --prefer {even_weights(board.objectives)}"] = (
            "order the Pareto front by your preferences"
        )
    elif config.train is None and config.data.source != "surrogate":
        winner = board.answer.winner
        best_one = _promotable(ledger, row, board.rows[0].trial if winner is None else winner)
        steps[f"{archscout} promote {best_one} --model {name}"] = (
            "verify the best model and register it"
        )
    if extend := extend_command(config, row.spent_s, ledger.trials(row.id), home):
        steps[extend] = "search on"
    return steps | {
        f"{archscout} leaderboard {name}": "show this table again",
        f"{archscout} status {name} --trial {board.rows[0].trial}": "show the best trial in detail",
    }


def _promotable(ledger: Ledger, row: StudyRow, number: int) -> str:
    """Return the arguments that promote a trial, from the study that trained it."""
    trial, where = ledger.trial(row.id, number), row.name
    while trial.reason == REUSED:
        earlier = [ledger.study(name) for name in StudyConfig.from_json(row.config_json).warm_start]
        known = [(study, t) for study in earlier if study for t in ledger.trials(study.id)]
        found = next(((study, t) for study, t in known if t.uid == trial.parent), None)
        if found is None:
            break
        row, trial = found
        where = f"{row.name} --trial {trial.number}"
    return where
