"""Hints: the command that helps next, as far as a study's state allows one.

A hint must lead somewhere: nothing complete is never offered for promotion, and what is over is
never offered to `resume`.
"""

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from orchestrator.config.schema import StudyConfig
from orchestrator.formatting import format_fields
from orchestrator.home import Home
from orchestrator.objective import best, even_weights, reaches_target
from orchestrator.trial import REUSED, Trial, TrialState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow
    from orchestrator.study.leaderboard import Leaderboard

_SHARED = ("train", "data", "objectives", "budget", "teacher")
"""What two studies have in common where one starts from the other's results."""


def final_stop_reason(config: StudyConfig, spent_s: float, trials: Sequence[Trial]) -> str | None:
    """Return why no trial of a study starts any more, not even a retry, if so."""
    if _time_is_up(config, spent_s):
        return f"its {config.stop.hours:g} h are used up"
    return "its target is reached" if _reaches_target(config, trials) else None


def exhausted_reason(config: StudyConfig, spent_s: float, trials: Sequence[Trial]) -> str | None:
    """Return why no trial of a study starts any more, however often it is resumed, if so."""
    if why := final_stop_reason(config, spent_s, trials):
        return why
    if any(trial.state in {TrialState.WAITING, TrialState.RUNNING} for trial in trials):
        return None
    counted = sum(trial.kind == "search" and trial.attempts > 0 for trial in trials)
    if config.stop.trials is not None and counted >= config.stop.trials:
        return f"its {config.stop.trials} trials have ended"
    return None


def _time_is_up(config: StudyConfig, spent_s: float) -> bool:
    return config.stop.hours is not None and spent_s >= config.stop.hours * 3600


def _reaches_target(config: StudyConfig, trials: Sequence[Trial]) -> bool:
    objectives = config.objectives
    winner = best(trials, objectives)
    return winner is not None and reaches_target(winner, objectives[0], config.stop.target)


def options_beyond_limits(
    stored: StudyConfig,
    spent_s: float,
    trials: Sequence[Trial],
    config: StudyConfig | None = None,
) -> str:
    """Return the options without which another study would end where the stored one has.

    Args:
        stored: The config of the study that is over.
        spent_s: Search time that it has used.
        trials: Its trials.
        config: What is asked for now; the same by default.
    """
    stop, options = (config or stored).stop, ""
    if _time_is_up(stored, spent_s) and stop.hours == stored.stop.hours:
        options += f" --hours {max(1.0, 2 * (stop.hours or 0.0)):g}"
    if _reaches_target(stored, trials) and stop.target == stored.stop.target:
        options += " --set stop.target=null"
    return options


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
    words: Sequence[str] = ("CONFIG",),
    warm: bool = True,
) -> str:
    """Return the command that searches under another name.

    Args:
        stored: The config of the study whose name is taken.
        taken: Names of all studies.
        home: Where they are.
        config: What is asked for now; the same by default.
        words: The file or preset, and the options, except the name.
        warm: Start from the results of the stored study, if they hold for `config`.
    """
    config = config or stored
    command = [home.program, "search", *map(shlex.quote, words)]
    command += ["--name", next_free_name(stored.name, taken)]
    if warm and all(getattr(stored, key) == getattr(config, key) for key in _SHARED):
        names = dict.fromkeys((*config.warm_start, stored.name))
        command += ["--set", shlex.quote(f"warm_start=[{', '.join(names)}]")]
    return " ".join(command)


def retry_commands(name: str, trials: Sequence[Trial], home: Home) -> dict[str, str]:
    """Return the command for each class of failure that can be retried, and what it does."""
    from orchestrator.study.retries import retryable_reasons, retryable_trials  # noqa: PLC0415 - loads optuna

    found = Counter(
        {reason: len(retryable_trials(trials, reason)) for reason in retryable_reasons()}
    )
    return {
        f"{home.program} retry {name} --class {reason}": f"{count} trials that ended so once more"
        for reason, count in found.items()
        if count
    }


def is_running(ledger: "Ledger", row: "StudyRow") -> bool:
    """Whether a driver has the study now."""
    from orchestrator.ledger import LeaseHeldError  # noqa: PLC0415 - loads sqlalchemy

    try:
        ledger.require_free(row)
    except LeaseHeldError:
        return True
    return False


def how_to_complete(ledger: "Ledger", row: "StudyRow", home: Home) -> str:
    """Return what may bring a study that has no complete trial to one."""
    config, trials = StudyConfig.from_json(row.config_json), ledger.trials(row.id)
    if is_running(ledger, row):
        return f"It is running: {home.program} status {row.name}"
    over = exhausted_reason(config, row.spent_s, trials)
    if over is None and row.state != "finished":
        return f"Continue with: {home.program} resume {row.name}"
    ways = " or ".join(_without(ledger, row, home))
    return f"It is over ({over or row.state}). What helps: {ways}"


def next_steps(ledger: "Ledger", row: "StudyRow", home: Home, board: "Leaderboard") -> str:
    """Return the commands that a user of a finished study is likely to want next."""
    steps = _with_a_result(ledger, row, home, board) if board.rows else _without(ledger, row, home)
    archscout = home.program
    steps |= {
        f"{archscout} ui": "the trials in MLflow, to browse and compare",
        f"{archscout} search --help": "what else a search can be told",
    }
    return "\nNext:\n" + format_fields({f"  {step}": what for step, what in steps.items()})


def _without(ledger: "Ledger", row: "StudyRow", home: Home) -> dict[str, str]:
    """What helps where no trial is complete, and the study is over."""
    config, trials = StudyConfig.from_json(row.config_json), ledger.trials(row.id)
    again = search_command(config, [known.name for known in ledger.studies()], home)
    if more := options_beyond_limits(config, row.spent_s, trials):
        steps = {f"{again}{more}": "with more time: a study's limits cannot be raised"}
    else:
        steps = retry_commands(row.name, trials, home) | {
            again: "under another name, changed as needed"
        }
    if trials:
        furthest = max(trials, key=lambda trial: trial.reached).number
        steps[f"{home.program} status {row.name} --trial {furthest}"] = (
            "the trial that got furthest"
        )
    return steps


def _with_a_result(
    ledger: "Ledger", row: "StudyRow", home: Home, board: "Leaderboard"
) -> dict[str, str]:
    config = StudyConfig.from_json(row.config_json)
    name, archscout = config.name, home.program
    steps = {}
    if sum(row.on_front for row in board.rows) > 1 and len(board.objectives) > 1:
        steps[f"{archscout} leaderboard {name} --prefer {even_weights(board.objectives)}"] = (
            "which to take, by what counts how much"
        )
    elif config.train is None and config.data.source != "surrogate":
        best_one = _promotable(ledger, row, board.rows[0].trial)
        steps[f"{archscout} promote {best_one} --model {name}"] = (
            "the best model, proved and registered"
        )
    return steps | {
        f"{archscout} leaderboard {name}": "this table again",
        f"{archscout} status {name} --trial {board.rows[0].trial}": "the best trial in detail",
    }


def _promotable(ledger: "Ledger", row: "StudyRow", number: int) -> str:
    """Return the arguments that promote a study's best trial, from the study that trained it."""
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
