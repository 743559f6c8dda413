"""Names and user files: every mistake is reported with its place and the nearest match."""

import hashlib
import sys
from pathlib import Path

import pytest

from search_spaces.domains.suggester import RandomSuggester
from search_spaces.plugins import (
    DuplicateNameError,
    Registry,
    UnknownNameError,
    UserFileError,
    load_user_object,
    nearest,
)
from search_spaces.space import DefineByRunSpace, SpaceError


def test_the_nearest_name_is_found_and_far_ones_are_not() -> None:
    assert nearest("acuracy", ["loss", "accuracy"]) == "accuracy"
    assert nearest("zzz", ["loss", "accuracy"]) is None


def test_a_registry_gives_what_was_put_under_a_name() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("one", 1)
    assert registry["one"] == 1
    assert "one" in registry
    assert list(registry) == ["one"]


def test_an_unknown_name_is_reported_with_all_known_and_the_nearest() -> None:
    registry: Registry[int] = Registry("loss term")
    registry.register("focal", 1)
    registry.register("cross_entropy", 2)
    with pytest.raises(UnknownNameError) as caught:
        registry["crossentropy"]
    assert str(caught.value) == (
        "unknown loss term 'crossentropy'. Known: cross_entropy, focal. "
        "Did you mean 'cross_entropy'?"
    )


def test_a_name_cannot_be_taken_twice() -> None:
    registry: Registry[int] = Registry("block")
    registry.register("gate", 1)
    with pytest.raises(DuplicateNameError, match="block 'gate' exists already"):
        registry.register("gate", 2)
    assert registry["gate"] == 1


OPTIONS = "import argparse\nparser = argparse.ArgumentParser()\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_an_object_comes_from_its_file_with_the_files_digest(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", "ANSWER = 42\n")
    found = load_user_object("mine.py:ANSWER", tmp_path)
    assert (found.value, found.name, found.path) == (42, "ANSWER", path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_relative_import_is_reported_with_the_advice_to_import_by_name(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "from .helper import X\n")
    with pytest.raises(UserFileError, match=f"import modules in {tmp_path} by name, without dots"):
        load_user_object("mine.py:X", tmp_path)


def test_two_objects_of_one_file_share_one_run_of_it(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "class A: pass\ndef f(): return A\n")
    made = load_user_object("mine.py:f", tmp_path).value()
    assert made is load_user_object("mine.py:A", tmp_path).value


def test_an_edited_file_is_run_again(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "ANSWER = 1\n")
    before = load_user_object("mine.py:ANSWER", tmp_path)
    write(tmp_path, "mine.py", "ANSWER = 2\n")
    after = load_user_object("mine.py:ANSWER", tmp_path)
    assert (before.value, after.value) == (1, 2)
    assert before.sha256 != after.sha256


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path, "space.py", "WHERE = 'here'\n")
    write(tmp_path / "other", "space.py", "WHERE = 'there'\n")
    assert load_user_object("space.py:WHERE", tmp_path).value == "here"
    assert load_user_object("other/space.py:WHERE", tmp_path).value == "there"


def test_a_file_finds_its_neighbours_and_may_hold_slotted_dataclasses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "a_neighbour_of_mine.py", "WIDTH = 8\n")
    text = (
        "from dataclasses import dataclass\n"
        "from a_neighbour_of_mine import WIDTH\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Block:\n    width: int = WIDTH\n"
    )
    write(tmp_path, "mine.py", text)
    assert load_user_object("mine.py:Block", tmp_path).value().width == 8


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("mine", "write file.py:name"),
        ("mine.py", "write file.py:name"),
        ("mine.txt:space", "write file.py:name"),
        ("mine.py:not a name", "write file.py:name"),
        ("mime.py:space", "mime.py: cannot be read: No such file or directory. Did you mean 'mine"),
        ("mine.py:spaec", "mine.py: defines no 'spaec'. Did you mean 'space'?"),
        ("breaks.py:space", "breaks.py:2: cannot be run: NameError: name 'undefined'"),
        ("grammar.py:space", "grammar.py:1: cannot be run: SyntaxError"),
        ("quits.py:space", "quits.py:2 ends the program while it is loaded (SystemExit: no data)"),
        ("demands.py:space", "demands.py:4 ends the program while it is loaded (SystemExit: 2)"),
        ("imports.py:space", "imports.py:1: cannot be run: ModuleNotFoundError: No module named"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where_it_breaks(
    tmp_path: Path, reference: str, reason: str
) -> None:
    write(tmp_path, "mine.py", "space = 1\n")
    write(tmp_path, "breaks.py", "space = 1\nundefined\n")
    write(tmp_path, "grammar.py", "space = = 1\n")
    write(tmp_path, "quits.py", "import sys\nsys.exit('no data')\n")
    write(tmp_path, "demands.py", f"{OPTIONS}parser.add_argument('data')\nparser.parse_args()\n")
    write(tmp_path, "imports.py", "import no_such_package_here\n")
    with pytest.raises(UserFileError) as caught:
        load_user_object(reference, tmp_path)
    assert reason in str(caught.value)


def test_a_fixed_file_is_run_again(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "undefined\n")
    with pytest.raises(UserFileError):
        load_user_object("mine.py:space", tmp_path)
    with pytest.raises(UserFileError):
        load_user_object("mine.py:space", tmp_path)
    write(tmp_path, "mine.py", "space = 3\n")
    assert load_user_object("mine.py:space", tmp_path).value == 3


def test_a_file_that_parses_its_options_sees_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["archscout", "search", "study.yaml"])
    body = "import sys\nparser.add_argument('--width', default=3)\nargs = parser.parse_args()\n"
    path = write(tmp_path, "script.py", f"{OPTIONS}{body}argv = sys.argv\n")
    assert load_user_object("script.py:argv", tmp_path).value == [str(path)]
    assert load_user_object("script.py:args", tmp_path).value.width == 3
    assert sys.argv == ["archscout", "search", "study.yaml"]


def test_a_space_that_parses_its_options_or_ends_the_program_does_neither_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["archscout", "search", "study.yaml"])
    body = "def space(trial):\n    parser.parse_args()\n"
    body += "    raise SystemExit(trial.suggest_int('x', 1, 9))\n"
    write(tmp_path, "script.py", OPTIONS + body)
    function = load_user_object("script.py:space", tmp_path).value
    space = DefineByRunSpace(name="mine", version="1", function=function)
    with pytest.raises(SpaceError, match=r"mine: ends the program \(SystemExit: \d\)"):
        space.resolve(RandomSuggester(0))
