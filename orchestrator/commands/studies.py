"""Open the ledger, find studies by name, and show finished ones: shared by the commands."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout
from pydantic import ValidationError

from orchestrator.commands import hints
from orchestrator.config.resources import as_stored
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, format_path, sanitize
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.study.leaderboard import leaderboard
from orchestrator.study.moved_files import relocate, same_except_paths
from orchestrator.terminal import Terminal
from orchestrator.tracking.paths import projection_lock
from search_spaces.plugins import UserFileError, did_you_mean
from workers.data import DataError

_TIMEOUT_S = 15.0
"""Longest wait for the projection of a driver that has just ended or died."""
_POLL_INTERVAL_S = 0.25
_SHOWN_EVENTS = {"trial_added", "measurement", "trial_finished", "study_state", "study_changed"}
"""Kinds of events that change what MLflow shows."""
_EVENTS = 100
"""Number of pending events that are read; few kinds of events are never shown."""


def no_studies(home: Home) -> str:
    """Return the message on a home without a study."""
    start = f"{home.program} search digits"
    return f"There are no studies in {format_path(home.folder)} yet. Start one: {start}"


@contextmanager
def open_ledger(home: Home) -> Iterator[Ledger | None]:
    """Open the ledger; give None, and create nothing, if there is none yet."""
    if not home.has_ledger:
        yield None
        return
    with Ledger.open(home.ledger_url) as ledger:
        yield ledger


def show_transfer(ledger: Ledger, row: StudyRow, terminal: Terminal) -> None:
    """Print how much a study uses earlier studies on other data."""
    if not StudyConfig.from_json(row.config_json).warm_start:
        return
    from orchestrator.sampling.transfer.report import transfer_report  # noqa: PLC0415 - loads optuna

    found = transfer_report(ledger, row)
    terminal.document["warm_start"] = [each.to_dict() for each in found]
    for each in found:
        terminal.print(f"warm start from {each.describe()}")


@contextmanager
def hold_projection(home: Home, name: str) -> Iterator[None]:
    """Keep other processes from projecting a study onto MLflow; wait for one that is about to exit.

    Raises:
        CommandError: The study is still being projected.
    """
    lock = projection_lock(home.folder, name)
    try:
        held = lock.acquire(timeout=_TIMEOUT_S, poll_interval=_POLL_INTERVAL_S)
    except Timeout:
        raise CommandError(
            f"study '{name}' is still being synced with MLflow; try again in a minute",
            ExitCode.REFUSED,
        ) from None
    with held:
        yield


def unknown_study(name: str, home: Home) -> CommandError:
    """Return the error for a study in a home without a ledger."""
    return CommandError(f"there is no study '{sanitize(name)}'. {no_studies(home)}", ExitCode.INPUT)


def find_study(ledger: Ledger | None, name: str, home: Home) -> tuple[Ledger, StudyRow]:
    """Return the ledger and the study of this name.

    Raises:
        CommandError: There is no such study.
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


def stored_config(row: StudyRow) -> StudyConfig | None:
    """Return the config that a study was started with; None if another release wrote it."""
    try:
        return StudyConfig.from_json(row.config_json)
    except ValidationError:
        return None


def require_config(row: StudyRow) -> StudyConfig:
    """Return the config that a study was started with.

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


def with_requested_changes(
    ledger: Ledger, row: StudyRow, config: StudyConfig, home: Home
) -> StudyConfig:
    """Return a config with what requests have changed in its study since it was created.

    So the command that started a study continues it, after `enqueue` or `extend` too. Another
    config than that of the start is returned as it is.
    """
    stored = stored_config(row)
    if stored is None:
        return config
    first = ledger.events(row.id, 0, 1)[0].payload["config_json"]
    created = relocate(as_stored(StudyConfig.from_json(first), stored), ledger, row, home)
    if not same_except_paths(as_stored(config.at_address(None), created), created):
        return config
    return config.with_changes(created, relocate(stored, ledger, row, home))


def locate_config(ledger: Ledger, row: StudyRow, home: Home) -> StudyConfig:
    """Return the config that a study was started with, with the current paths of its files.

    Raises:
        CommandError: Another release wrote it, or its data cannot be found.
    """
    config = relocate(require_config(row), ledger, row, home)
    if config.data.path is not None and not Path(config.data.path).exists():
        raise CommandError(
            f"study '{row.name}': there are no data at {format_path(config.data.path)}. Restore "
            "them (a link is enough) or, if they were moved with the study.yaml, continue with: "
            f"{home.program} search study.yaml",
            ExitCode.INPUT,
        )
    return config


def show_finished(
    ledger: Ledger, row: StudyRow, home: Home, terminal: Terminal, top: int = 10
) -> ExitCode:
    """Print the leaderboard of a finished study, and whether MLflow shows all of it.

    Raises:
        CommandError: The study's data or code have changed since it was started.
    """
    config = relocate(require_config(row), ledger, row, home)
    require_unchanged(ledger, row, config, home, terminal)
    terminal.info(f"Study '{row.name}' is finished.")
    kinds = {event.kind for event in ledger.events(row.id, ledger.cursor(row.id), _EVENTS)}
    if kinds & _SHOWN_EVENTS:
        terminal.info(incomplete_mlflow(row.name, home))
    board = leaderboard(config, row.state, ledger.trials(row.id), program=home.program)
    terminal.document |= board.to_dict(top)
    terminal.print(board.text(top))
    show_transfer(ledger, row, terminal)
    terminal.info(hints.next_steps(ledger, row, home, board))
    return ExitCode.DONE


def incomplete_mlflow(name: str, home: Home, reason: str = "") -> str:
    """Return the message on a study that MLflow does not show completely."""
    sync = f"{home.program} sync {name}"
    if not reason:
        return f"MLflow does not show all of the study yet. Show the rest: {sync}"
    return f"MLflow does not show all of the study yet: {reason}\nAfter fixing the cause: {sync}"


def require_unchanged(
    ledger: Ledger, row: StudyRow, config: StudyConfig, home: Home, terminal: Terminal
) -> None:
    """Refuse a study whose data or code have changed; only warn if they cannot be read."""
    from orchestrator.study.prepare import open_data, user_code  # noqa: PLC0415 - loads torch

    try:
        code = user_code(config)
        with terminal.waiting_for("the data, to compare them with those of the study's start"):
            dataset = open_data(config)
    except (DataError, UserFileError) as error:
        terminal.error(f"cannot check whether data and code have changed: {error}")
        return
    found = {"data_digest": dataset.digest, "code_digest": None if code is None else code.digest}
    differing = [column for column, digest in found.items() if digest != getattr(row, column)]
    if differing:
        results = f". Its results: {home.program} leaderboard {row.name}"
        text = describe_changes(config, differing, [s.name for s in ledger.studies()], home)
        raise CommandError(text + results, ExitCode.INPUT)


def describe_changes(
    config: StudyConfig, differing: Sequence[str], taken: Collection[str], home: Home
) -> str:
    """Return the message on inputs that have changed since a study was started.

    Args:
        config: Config of the study.
        differing: Columns of the ledger's table `study` that differ now.
        taken: Names of all studies.
        home: Home of the studies.
    """
    words = {
        "data_digest": "the data have",
        "code_digest": "your own Python files have",
        "space_name": "the search space has",
        "space_version": "the version of the search space has",
        "teacher_sha256": "the teacher has",
        "config_json": "the config has",
    }
    what = " and ".join(words.get(column, column) for column in differing)
    search = hints.search_command(config, taken, home, warm=False)
    return (
        f"study '{config.name}': {what} changed since it was started. Restore what changed, or "
        f"start another study: {search}"
    )
