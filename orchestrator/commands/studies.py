"""What the reading commands share: the ledger opened only if there is one, studies by name."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.config import StudyConfig
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.preference import even_weights
from orchestrator.problems import clean, nearest, place
from orchestrator.terminal import Terminal, pairs
from workers.folders import beneath

if TYPE_CHECKING:
    from orchestrator.leaderboard import Leaderboard
    from orchestrator.ledger import Ledger, StudyRow

_PATIENCE_S = 15.0
"""How long the projection of a driver that has just ended or died may take to end."""
_SHOWN_EVENTS = {"trial_added", "measurement", "trial_finished", "study_state"}
"""Kinds of events that change what MLflow shows."""
_EVENTS = 100
"""How many of the next events are looked at; between those that are shown there are few others."""
NOTHING_YET = "Nothing here yet ({}). Start with: archscout search digits"


@contextmanager
def reading(home: Home) -> Iterator["Ledger | None"]:
    """The ledger; None, and nothing is created, where there is none yet."""
    if not home.has_ledger:
        yield None
        return
    from orchestrator.ledger import Ledger  # noqa: PLC0415 - loads sqlalchemy

    with Ledger.open(home.ledger_url) as ledger:
        yield ledger


@contextmanager
def unshown(home: Home, name: str) -> Iterator[None]:
    """While nobody shows a study in MLflow; a projection that is about to end is waited for.

    Raises:
        CommandError: Somebody does.
    """
    from orchestrator.tracking.projector import only_one  # noqa: PLC0415 - few commands need it

    until = time.monotonic() + _PATIENCE_S

    def give_up(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() > until

    locks = home.folder / "locks"
    with only_one(beneath(locks / f"{name}.projector", locks), give_up) as held:
        if not held:
            raise CommandError(
                f"study '{name}' is still being shown in MLflow; try again in a minute",
                ExitCode.REFUSED,
            )
        yield


def unknown(name: str, home: Home) -> CommandError:
    """Return the error of a study that is looked for where there is no ledger."""
    text = f"there is no study '{clean(name)}'. {NOTHING_YET.format(place(home.folder))}"
    return CommandError(text, ExitCode.INPUT)


def found(ledger: "Ledger | None", name: str, home: Home) -> "tuple[Ledger, StudyRow]":
    """The ledger and the study of this name.

    Raises:
        CommandError: There is none.
    """
    if ledger is None:
        raise unknown(name, home)
    row = ledger.study(name)
    if row is None:
        names = [known.name for known in ledger.studies()]
        listed = ", ".join(names[-20:]) or "none"
        raise CommandError(
            f"there is no study '{clean(name)}'. Studies: {listed}.{nearest(name, names)}",
            ExitCode.INPUT,
        )
    return ledger, row


def config_of(row: "StudyRow") -> StudyConfig | None:
    """The config that a study was started from; None where another release wrote it."""
    try:
        return StudyConfig.from_json(row.config_json)
    except ValidationError:
        return None


def readable_config(row: "StudyRow") -> StudyConfig:
    """The config that a study was started from.

    Raises:
        CommandError: Another release wrote it.
    """
    config = config_of(row)
    if config is None:
        raise CommandError(
            f"study '{row.name}' was written by another release of archscout; use that one",
            ExitCode.INPUT,
        )
    return config


def show(
    ledger: "Ledger", row: "StudyRow", home: Home, terminal: Terminal, top: int = 10
) -> ExitCode:
    """Shows a study's leaderboard and what one may do next."""
    from orchestrator.leaderboard import leaderboard  # noqa: PLC0415 - not for `list`

    board = leaderboard(readable_config(row), row.state, ledger.trials(row.id))
    terminal.answer |= board.to_dict(top)
    terminal.tell(board.text(top))
    terminal.remark(next_steps(readable_config(row), home, board))
    return ExitCode.DONE


def show_finished(ledger: "Ledger", row: "StudyRow", home: Home, terminal: Terminal) -> ExitCode:
    """Show a study that nothing can be added to, and whether MLflow lacks a part of it."""
    terminal.remark(f"Study '{row.name}' is finished.")
    kinds = {event.kind for event in ledger.events(row.id, ledger.cursor(row.id), _EVENTS)}
    if kinds & _SHOWN_EVENTS:
        terminal.remark(
            f"MLflow does not show all of it yet. Show the rest: archscout sync {row.name}"
        )
    return show(ledger, row, home, terminal)


def next_steps(config: StudyConfig, home: Home, board: "Leaderboard") -> str:
    """The commands that a user is likely to want next."""
    name = config.name
    program = "archscout" if home.is_default else f"archscout --home {home.folder}"
    best = board.rows[0].trial if board.rows else 0
    steps = {}
    if sum(row.on_front for row in board.rows) > 1 and len(board.objectives) > 1:
        steps[f"leaderboard {name} --prefer {even_weights(board.objectives)}"] = (
            "which to take, by what counts how much"
        )
    elif config.train is None and config.data.source != "surrogate":
        steps[f"promote {name} --model {name}"] = "the best model, proved and registered"
    steps |= {
        "ui": "the trials in MLflow, to browse and compare",
        f"leaderboard {name}": "this table again",
        f"status {name} --trial {best}": "the best trial in detail" if board.rows else "the first",
        "search --help": "what else a search can be told",
    }
    return "\nNext:\n" + pairs({f"  {program} {step}": what for step, what in steps.items()})
