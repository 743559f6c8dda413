"""The layout and the language of the project keep to their bounds, and the measures are right.

`python benchmarks/layout.py --offenders` lists what breaks a bound, with file and line.
"""

import re
import textwrap
import tomllib
from pathlib import Path

import layout
import prose
import pytest
import sources

FOREIGN = prose.Vocabulary(use={"beckon": "call"}, ignored=re.compile("to beckon the sea"))


def checkout(root: Path, **files: str) -> sources.Layout:
    """Return the layout of a package `zoo` with these files and a package `zoo.birds`."""
    packages = {"__init__": "", "birds/__init__": ""}
    for name, source in {**packages, **files}.items():
        path = root / "zoo" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    return sources.Layout.read(root, ["zoo"])


@pytest.mark.parametrize(
    "hidden",
    [
        "import zoo.b",
        "from zoo import b",
        "from . import b",
        "from .b import B",
        "def late():\n    from zoo.b import B",
        "def late(name):\n    import_module('zoo.b')",
        "def late(name):\n    importlib.import_module(f'zoo.{name}')",
        "PARENT = 'zoo.b'\nlate = lambda name: import_module(PARENT)",
        "class A:\n    def late(self):\n        if self:\n            import zoo.b",
        "try:\n    import zoo.b\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import zoo.b",
    ],
)
def test_a_cycle_is_found_however_its_import_is_hidden(tmp_path: Path, hidden: str) -> None:
    measured = checkout(tmp_path, a=hidden, b="def late():\n    import zoo.c", c="import zoo.a")

    assert sources.cycles(measured.arrows()) == [["zoo.a", "zoo.b", "zoo.c"]]
    assert {found.path.stem for found in layout.cycle_imports(measured)} == {"a", "b", "c"}


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_type_checking_closes_no_cycle(tmp_path: Path, guard: str) -> None:
    measured = checkout(tmp_path, a=f"if {guard}:\n    from zoo.b import B", b="import zoo.a")

    assert sources.cycles(measured.arrows()) == []
    assert [(i.importer, i.imported, i.kind) for i in measured.imports] == [
        ("zoo.a", "zoo.b", "typing"),
        ("zoo.b", "zoo.a", "module"),
    ]


def test_a_module_that_both_halves_of_a_chain_import_closes_no_cycle(tmp_path: Path) -> None:
    measured = checkout(tmp_path, a="import zoo.b\nimport zoo.c", b="import zoo.c", c="import json")

    assert sources.cycles(measured.arrows()) == []


def test_the_name_of_the_module_itself_begins_what_it_imports(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path,
        **{
            "birds/__init__": "def load(name):\n    return import_module(f'{__name__}.{name}')",
            "birds/owl": "from zoo.birds import load",
        },
    )

    assert sources.cycles(measured.arrows()) == [["zoo.birds", "zoo.birds.owl"]]


def test_arrows_between_folders_and_between_children_are_counted_once(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path,
        a="import zoo.birds.owl\nimport zoo.birds.hen",
        b="",
        **{"birds/owl": "from zoo import b", "birds/hen": "import zoo.birds.owl"},
    )

    assert measured.folder_arrows() == {("zoo", "zoo.birds"), ("zoo.birds", "zoo")}
    assert measured.child_arrows("zoo") == {("a", "birds"), ("birds", "b")}
    assert measured.folders() == {"zoo": 3, "zoo.birds": 3}


def test_an_import_inside_a_function_counts_with_its_reason(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path,
        a="""\
        import json

        def load():
            import torch  # noqa: PLC0415 - takes a second
            from os import (  # noqa: PLC0415 - a reason on the first line
                path,
            )
            def inner():
                import ray  # noqa: PLC0415
        """,
    )

    inside = layout.function_imports(measured)

    assert [found.line for found in inside] == [4, 5, 9]
    assert [found.line for found in layout.without_reason(inside)] == [9]


def test_docstrings_are_asked_of_what_is_public_alone(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path,
        a='''\
        """A module."""

        class Owl:
            """An owl."""

            def __init__(self): ...
            def _hide(self): ...
            def hunt(self): ...
            @hunted.setter
            def hunted(self, prey): ...

        def feed():
            """Feed."""
            def inner(): ...
        ''',
        _private="def public(): ...",
    )

    assert [found.text for found in layout.undocumented(measured)] == [
        "zoo",
        "Owl.hunt",
        "zoo.birds",
    ]
    assert layout.docstring_coverage(measured) == pytest.approx(3 / 6)


def test_long_files_long_functions_and_equal_class_names_are_found(tmp_path: Path) -> None:
    body = "\n".join("    x = 1" for _ in range(40))
    measured = checkout(
        tmp_path,
        a=f"def fits():\n{body[10:]}\ndef long():\n{body}\nclass Owl: ...",
        b="class Nest:\n    class Owl: ...\n" + "\n" * 399,
    )

    assert [found.text for found in layout.long_functions(measured)] == ["long: 41 lines"]
    assert [found.text for found in layout.long_files(measured)] == ["401 lines"]
    assert [found.path.stem for found in layout.duplicate_classes(measured)] == ["a", "b"]


def test_prose_is_found_by_kind_and_place(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path,
        a='''\
        """What beckons, and
        how to beckon the sea: beckon."""

        LIMIT = 3  # beckon less
        """Beckon at most so often."""

        def fail(sea):
            raise ValueError(
                f"{sea} cannot "
                "beckon anything"
            )

        KEY = "beckon"
        ''',
    )
    (tmp_path / "README.md").write_text("# Sea\n\nWhy we\nbeckon.\n")

    found = layout.prose_of(measured)

    assert sorted((text.kind, text.line) for text in found) == [
        ("comment", 4),
        ("docstring", 1),
        ("docstring", 5),
        ("message", 9),
        ("page", 1),
        ("page", 3),
    ]
    places = [(use.path.name, use.line) for use in layout.dialect(found, FOREIGN)]
    assert sorted(places) == [("README.md", 4), ("a.py", 2), ("a.py", 4), ("a.py", 5), ("a.py", 10)]
    assert layout.dialect_rate(found, FOREIGN) == pytest.approx(1000 * 5 / 19)
    assert [use.line for use in layout.question_openings(found)] == [1, 3]
    assert layout.question_rate(layout.judged(found)) == pytest.approx(2 / 5)


def test_lines_of_code_are_those_without_comments_and_docstrings(tmp_path: Path) -> None:
    measured = checkout(
        tmp_path, a='"""Doc\nstring."""\n\n# comment\nx = """two\nlines"""\n"""Doc."""\ny = (\n)\n'
    )

    assert layout.code_lines(measured.modules["zoo.a"]) == 4


@pytest.fixture(scope="module")
def project() -> sources.Layout:
    """Return this checkout, parsed."""
    return sources.Layout.read(layout.ROOT)


@pytest.fixture(scope="module")
def measured() -> sources.Layout:
    """Return this checkout with its benchmarks, parsed."""
    return sources.Layout.read(layout.ROOT, [*sources.PACKAGES, "benchmarks"])


@pytest.fixture(scope="module")
def written(project: sources.Layout) -> list[prose.Text]:
    """Return the project's docstrings, messages and pages."""
    return layout.judged(layout.prose_of(project))


def places(project: sources.Layout, found: list[layout.Finding]) -> list[str]:
    """Return findings as a failing test shows them."""
    return [f"{project.where(each.path, each.line)} {each.text}" for each in found]


def test_no_module_imports_itself_through_others(measured: sources.Layout) -> None:
    assert places(measured, layout.cycle_imports(measured)) == []


def test_imports_inside_functions_are_few_and_give_their_reason(
    project: sources.Layout, measured: sources.Layout
) -> None:
    inside = layout.function_imports(project)

    assert places(measured, layout.without_reason(layout.function_imports(measured))) == []
    assert len(inside) <= 50


def test_no_folder_has_more_than_22_files(measured: sources.Layout) -> None:
    assert {folder: files for folder, files in measured.folders().items() if files > 22} == {}


def test_no_two_classes_share_a_name(measured: sources.Layout) -> None:
    assert places(measured, layout.duplicate_classes(measured)) == []


def test_files_and_functions_are_short(measured: sources.Layout) -> None:
    assert places(measured, layout.long_files(measured)) == []
    assert places(measured, layout.long_functions(measured)) == []


def test_prose_keeps_to_the_words_of_the_field(
    project: sources.Layout, written: list[prose.Text]
) -> None:
    words = prose.vocabulary()

    assert layout.dialect_rate(written, words) < 1, places(project, layout.dialect(written, words))


def test_prose_does_not_open_with_question_words(
    project: sources.Layout, written: list[prose.Text]
) -> None:
    documentation = [text for text in written if text.kind == "docstring"]

    for texts in (written, documentation):
        found = layout.question_openings(texts)
        assert len(found) < 0.02 * len(texts), places(project, found)


def test_what_is_public_is_documented(project: sources.Layout) -> None:
    assert layout.docstring_coverage(project) >= 0.95, places(project, layout.undocumented(project))


def test_no_contract_of_the_import_linter_allows_what_nothing_does() -> None:
    contracts = tomllib.loads((layout.ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

    alerting = [each.get("unmatched_ignore_imports_alerting") for each in contracts["contracts"]]
    assert set(alerting) <= {None, "error"}  # None is "error"
