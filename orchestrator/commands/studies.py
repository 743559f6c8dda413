"""What the reading commands share: the ledger opened only if there is one, studies by name."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout
from pydantic import ValidationError

from orchestrator.commands import hints
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, format_path, sanitize
from orchestrator.home import Home
from orchestrator.study.moved_files import relocate
from orchestrator.terminal import Terminal
from orchestrator.tracking.places import projection_lock
from search_spaces.plugins import did_you_mean

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow

_TIMEOUT_S = 15.0
"""How long the projection of a driver that has just ended or died may take to end."""
_POLL_INTERVAL_S = 0.25
_SHOWN_EVENTS = {"trial_added", "measurement", "trial_finished", "study_state"}
"""Kinds of events that change what MLflow shows."""
_EVENTS = 100
"""How many of the next events are looked at; between those that are shown there are few others."""


def no_studies(home: Home) -> str:
    """Return the message on a home without a study."""
    start = f"{home.program} search digits"
    return f"Nothing here yet ({format_path(home.folder)}). Start with: {start}"


@contextmanager
def open_ledger(home: Home) -> Iterator["Ledger | None"]:
    """The ledger; None, and nothing is created, where there is none yet."""
    if not home.has_ledger:
        yield None
        return
    from orchestrator.ledger import Ledger  # noqa: PLC0415 - loads sqlalchemy

    with Ledger.open(home.ledger_url) as ledger:
        yield ledger


@contextmanager
def hold_projection(home: Home, name: str) -> Iterator[None]:
    """While nobody shows a study in MLflow; a projection that is about to end is waited for.

    Raises:
        CommandError: Somebody does.
    """
    lock = projection_lock(home.folder, name)
    try:
        held = lock.acquire(timeout=_TIMEOUT_S, poll_interval=_POLL_INTERVAL_S)
    except Timeout:
        raise CommandError(
            f"study '{name}' is still being shown in MLflow; try again in a minute",
            ExitCode.REFUSED,
        ) from None
    with held:
        yield


def unknown_study(name: str, home: Home) -> CommandError:
    """Return the error of a study that is looked for where there is no ledger."""
    return CommandError(f"there is no study '{sanitize(name)}'. {no_studies(home)}", ExitCode.INPUT)


def find_study(ledger: "Ledger | None", name: str, home: Home) -> "tuple[Ledger, StudyRow]":
    """The ledger and the study of this name.

    Raises:
        CommandError: There is none.
    """
    if ledger is None:
        raise unknown_study(name, home)
    row = ledger.study(name)
    if row is None:
        names = [known.name for known in ledger.studies()]
        listed = ", ".join(names[-20:]) or "none"
        raise CommandError(
            f"there is no study '{sanitize(name)}'. Studies: {listed}.{did_you_mean(name, names)}",
            ExitCode.INPUT,
        )
    return ledger, row


def stored_config(row: "StudyRow") -> StudyConfig | None:
    """The config that a study was started from; None where another release wrote it."""
    try:
        return StudyConfig.from_json(row.config_json)
    except ValidationError:
        return None


def require_config(row: "StudyRow") -> StudyConfig:
    """The config that a study was started from.

    Raises:
        CommandError: Another release wrote it.
    """
    config = stored_config(row)
    if config is None:
        raise CommandError(
            f"study '{row.name}' was written by another release of archscout; use that one",
            ExitCode.INPUT,
        )
    return config


def locate_config(ledger: "Ledger", row: "StudyRow", home: Home) -> StudyConfig:
    """Return the config that a study was started from, with its files where they lie now.

    Raises:
        CommandError: Another release wrote it, or its data are not there.
    """
    config = relocate(require_config(row), ledger, row, home)
    if config.data.path is not None and not Path(config.data.path).exists():
        raise CommandError(
            f"study '{row.name}': its data {format_path(config.data.path)} are not there. "
            "Put them back "
            "(a link will do), or, if they were moved with the study.yaml, continue with: "
            f"{home.program} search study.yaml",
            ExitCode.INPUT,
        )
    return config


def show_finished(
    ledger: "Ledger", row: "StudyRow", home: Home, terminal: Terminal, top: int = 10
) -> ExitCode:
    """Show a study that nothing can be added to, and whether MLflow lacks a part of it.

    Raises:
        CommandError: Its data or code are not those that it was started with.
    """
    from orchestrator.study.leaderboard import leaderboard  # noqa: PLC0415 - not for `list`

    config = relocate(require_config(row), ledger, row, home)
    _require_unchanged(ledger, row, config, home, terminal)
    terminal.info(f"Study '{row.name}' is finished.")
    kinds = {event.kind for event in ledger.events(row.id, ledger.cursor(row.id), _EVENTS)}
    if kinds & _SHOWN_EVENTS:
        rest = f"{home.program} sync {row.name}"
        terminal.info(f"MLflow does not show all of it yet. Show the rest: {rest}")
    board = leaderboard(config, row.state, ledger.trials(row.id))
    terminal.document |= board.to_dict(top)
    terminal.print(board.text(top))
    terminal.info(hints.next_steps(ledger, row, home, board))
    return ExitCode.DONE


def _require_unchanged(
    ledger: "Ledger", row: "StudyRow", config: StudyConfig, home: Home, terminal: Terminal
) -> None:
    """Refuse a study whose data or code differ now; what cannot be read is only named."""
    from orchestrator.study.prepare import open_data, user_code  # noqa: PLC0415 - few commands open parts
    from search_spaces.plugins import UserFileError  # noqa: PLC0415 - as above
    from workers.data import DataError  # noqa: PLC0415 - as above

    try:
        code = user_code(config)
        with terminal.waiting_for("the data, which are compared with those it was started with"):
            dataset = open_data(config)
        found = {
            "data_digest": dataset.digest,
            "code_digest": None if code is None else code.digest,
        }
    except (DataError, UserFileError) as error:
        terminal.error(f"whether anything changed since cannot be told: {error}")
        return
    differing = [column for column, digest in found.items() if digest != getattr(row, column)]
    if differing:
        stays = f". What it found: {home.program} leaderboard {row.name}"
        text = describe_changes(config, differing, [known.name for known in ledger.studies()], home)
        raise CommandError(text + stays, ExitCode.INPUT)


def describe_changes(
    config: StudyConfig, differing: Sequence[str], taken: Collection[str], home: Home
) -> str:
    """Return the message on what is no longer as it was when a study started.

    Args:
        config: The study's.
        differing: The columns of its row that differ now.
        taken: Names of all studies.
        home: Where they are.
    """
    words = {
        "data_digest": "the data have",
        "code_digest": "your own Python files have",
        "space_name": "the search space has",
        "space_version": "the search space's version has",
        "teacher_sha256": "the teacher has",
        "config_json": "the config has",
    }
    what = " and ".join(words.get(column, column) for column in differing)
    again = hints.search_command(config, taken, home, warm=False)
    return (
        f"study '{config.name}': {what} changed since it was started. Restore what changed, or "
        f"start a new study: {again}"
    )
