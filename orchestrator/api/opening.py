"""Create studies, open those of the ledger, and list them."""

import os
from typing import Any

from orchestrator.api.configuration import build_config
from orchestrator.api.study import Study
from orchestrator.commands import studies
from orchestrator.config.load import differences
from orchestrator.config.resources import as_stored, with_open_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.study.moved_files import relocate, same_except_paths
from orchestrator.study.requests.extend import extends


def create_study(
    config: str | os.PathLike[str] | StudyConfig | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    **keys: Any,
) -> Study:
    """Create a study, or open the one that exists with the same configuration.

    Checks the whole configuration; nothing is written before `Study.run`. A larger `stop` or other
    `resources` than those of an existing study extend it then.

    Args:
        config: Path of a study.yaml, name of a preset, or a StudyConfig; None if `keys` say all.
        home: Folder of the stores; by default `ARCHSCOUT_HOME` or `./mlruns`.
        keys: Keys of study.yaml, which replace those of `config`: `name="mine"`,
            `data={"source": "folder", "path": "photos"}`, `stop={"trials": 20}`. `space` and
            `train` may be functions defined in a file.

    Raises:
        ProblemsError: Every mistake in the configuration.
        CommandError: A study of this name exists with another configuration.
    """
    place = _home(home)
    made = build_config(config, keys)
    return Study(_as_existing(made, place), place)


def load_study(name: str, *, home: str | os.PathLike[str] | None = None) -> Study:
    """Open a study of the ledger.

    Args:
        name: Name of the study.
        home: Folder of the stores; by default `ARCHSCOUT_HOME` or `./mlruns`.

    Raises:
        CommandError: There is no such study.
    """
    place = _home(home)
    with studies.open_ledger(place) as opened:
        ledger, row = studies.find_study(opened, name, place)
        stored = relocate(studies.require_config(row), ledger, row, place)
    return Study(with_open_gpu(stored), place)


def list_studies(*, home: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of all studies, oldest first.

    Args:
        home: Folder of the stores; by default `ARCHSCOUT_HOME` or `./mlruns`.
    """
    with studies.open_ledger(_home(home)) as ledger:
        return [] if ledger is None else [row.name for row in ledger.studies()]


def _home(folder: str | os.PathLike[str] | None) -> Home:
    return Home.find(None if folder is None else os.fspath(folder), os.environ)


def _as_existing(config: StudyConfig, home: Home) -> StudyConfig:
    """Return the configuration, with what the study of this name already decided.

    Raises:
        CommandError: That study has another configuration.
    """
    with studies.open_ledger(home) as ledger:
        row = None if ledger is None else ledger.study(config.name)
        if ledger is None or row is None:
            return config
        stored = relocate(studies.require_config(row), ledger, row, home)
        config = studies.with_requested_changes(ledger, row, config, home)
    config = as_stored(config.at_address(None), stored).at_address(config.engine.address)
    if same_except_paths(stored, config.at_address(None)) or extends(stored, config):
        return config
    lines = "\n".join(f"  {line}" for line in differences(stored, config.at_address(None)))
    raise CommandError(
        f"study '{config.name}' exists with another configuration:\n{lines}\n"
        f"Open it with load_study('{config.name}'), or give this one another name",
        ExitCode.INPUT,
    )
