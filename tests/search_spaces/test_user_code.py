"""A user's source is read once, with its imports, and runs in the same form on every machine."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces.plugins import UserFileError, load_user_object
from search_spaces.user_code import UserCode

FILES = {
    "mine.py": "import json\nfrom nearby_parts import size\n\n"
    "def train():\n    import lazily_nearby\n    return size + lazily_nearby.more\n",
    "nearby_parts/__init__.py": "from .inner import size\n",
    "nearby_parts/inner.py": "from .deep import data\nsize = data.VALUE\n",
    "nearby_parts/deep/__init__.py": "",
    "nearby_parts/deep/data.py": "from ..base import VALUE\n",
    "nearby_parts/base.py": "VALUE = 40\n",
    "nearby_parts/unused.py": "raise AssertionError\n",
    "lazily_nearby.py": "more = 2\n",
    "json.py": "raise AssertionError('the installed one goes first')\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project; what is imported of it is forgotten afterwards."""
    modules, path = set(sys.modules), list(sys.path)
    for name, text in FILES.items():
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    yield tmp_path / "project"
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    importlib.invalidate_caches()


def read(folder: Path) -> UserCode:
    return UserCode.read([f"{folder / 'mine.py'}:train"])


def test_all_that_import_statements_reach_is_carried_and_nothing_else(folder: Path) -> None:
    carried = {str(Path(path).relative_to(folder)) for path in read(folder).files}
    assert carried == FILES.keys() - {"nearby_parts/unused.py"}


@pytest.mark.parametrize("change", ["gone", "edited"])
def test_what_was_read_runs_though_the_folder_is_gone_or_edited(folder: Path, change: str) -> None:
    code = read(folder)
    if change == "gone":
        shutil.rmtree(folder)
    else:
        for name in FILES:
            (folder / name).write_text("raise AssertionError('edited')\n")
    with code.installed():
        assert load_user_object(f"{folder / 'mine.py'}:train", "/").value() == 42
    with pytest.raises(UserFileError):  # the disk counts again
        load_user_object(f"{folder / 'mine.py'}:train", "/")


def test_the_digest_is_of_contents_not_of_places(folder: Path, tmp_path: Path) -> None:
    before = read(folder).digest
    moved = folder.rename(tmp_path / "elsewhere")
    assert read(moved).digest == before
    (moved / "nearby_parts" / "unused.py").write_text("")
    assert read(moved).digest == before
    (moved / "nearby_parts" / "base.py").write_text("VALUE = 41\n")
    assert read(moved).digest != before


def test_a_linked_file_finds_the_neighbours_of_the_real_one(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(folder / "mine.py")
    code = UserCode.read([f"{link}:train"])
    shutil.rmtree(folder)
    link.unlink()
    with code.installed():
        assert load_user_object(f"{link}:train", "/").value() == 42


def test_more_than_any_program_needs_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_spaces.user_code.MAX_BYTES", 100)
    with pytest.raises(UserFileError, match="keep data in files of other kinds"):
        read(folder)


def test_a_traceback_shows_lines_of_a_file_that_is_not_there(folder: Path) -> None:
    import traceback

    (folder / "lazily_nearby.py").write_text("more = 1 / 0\n")
    code = read(folder)
    shutil.rmtree(folder)
    with code.installed():
        try:
            load_user_object(f"{folder / 'mine.py'}:train", "/").value()
        except ZeroDivisionError as error:
            shown = "".join(traceback.format_exception(error))
    assert "more = 1 / 0" in shown
