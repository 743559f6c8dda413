"""Find a study's data, space and training code after its project was moved.

The ledger stores the old paths. Files that were below the folder of the home are looked up below
the home's new folder; digests of data and code show whether they are the same.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.home import Home

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow


def relocate(config: StudyConfig, ledger: "Ledger", row: "StudyRow", home: Home) -> StudyConfig:
    """Return a stored config with the present paths of its files.

    Args:
        config: The config as stored in the ledger.
        ledger: The study's ledger, which records the old home.
        row: The study's row.
        home: The present home.
    """
    was = ledger.metadata(row.id).get("home")
    if was is None or Path(was) == home.folder:
        return config
    folders = Path(was).parent, home.folder.parent
    changes: dict[str, Any] = {
        "train": config.train and _reference_at(config.train, *folders),
    }
    if config.data.path is not None:
        path = _at(config.data.path, *folders)
        changes["data"] = replace(config.data, path=path)
    base = _reference_at(config.space_base, *folders)
    return config.with_space_base(base).model_copy(update=changes)


def same_except_paths(one: StudyConfig, other: StudyConfig) -> bool:
    """Return whether two configs differ at most in the folders of their files.

    The contents are compared by digest when the study is opened.
    """
    return _without_folders(one) == _without_folders(other)


def config_json_to_open(ledger: "Ledger", config: StudyConfig, home: Home) -> str:
    """Return the stored config if only folders differ, else the present one, as JSON."""
    row = ledger.study(config.name)
    if row is not None:
        try:
            stored = StudyConfig.from_json(row.config_json)
        except ValidationError:  # another release's
            return config.canonical_json()
        if same_except_paths(relocate(stored, ledger, row, home), config):
            return row.config_json
    return config.canonical_json()


def _at(path: str, was: Path, now: Path) -> str:
    """Return the new path of a file that was below the old folder, if it exists."""
    if Path(path).is_relative_to(was):
        found = now / Path(path).relative_to(was)
        if found.exists():
            return str(found)
    return path


def _reference_at(reference: str, was: Path, now: Path) -> str:
    file = user_object(reference)
    return reference if file is None else f"{_at(file[0], was, now)}:{file[1]}"


def _without_folder(reference: str) -> str:
    return Path(reference).name if user_object(reference) else reference


def _without_folders(config: StudyConfig) -> StudyConfig:
    changes: dict[str, Any] = {"train": config.train and _without_folder(config.train)}
    if config.data.path is not None:
        path = Path(config.data.path).name
        changes["data"] = replace(config.data, path=path)
    base = _without_folder(config.space_base)
    return config.at_address(None).with_space_base(base).model_copy(update=changes)
