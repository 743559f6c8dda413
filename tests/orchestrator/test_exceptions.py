"""Every exception class of archscout derives from ArchscoutError, which carries the exit code."""

import importlib
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.commands.error_report import describe
from orchestrator.errors import ArchscoutError, CommandError, ExitCode
from orchestrator.home import Home

ROOT = Path(__file__).parents[2]
_EXCEPTION = re.compile(r"^class \w+\(.*(?:Error|Exception)\b", re.MULTILINE)


def exceptions() -> Iterator[type[Exception]]:
    for package in ("search_spaces", "workers", "orchestrator"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if _EXCEPTION.search(file.read_text()):
                name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                members = inspect.getmembers(importlib.import_module(name), inspect.isclass)
                own = [kind for _, kind in members if kind.__module__ == name]
                yield from (kind for kind in own if issubclass(kind, Exception))


EXCEPTIONS = list(exceptions())


def test_every_exception_has_the_base_class_a_name_of_an_error_and_an_exit_code() -> None:
    assert len(EXCEPTIONS) > 40
    assert [kind for kind in EXCEPTIONS if not issubclass(kind, ArchscoutError)] == []
    assert [kind for kind in EXCEPTIONS if not kind.__name__.endswith("Error")] == []
    assert [kind for kind in EXCEPTIONS if not isinstance(kind.exit_code, ExitCode)] == []  # type: ignore[attr-defined]
    assert len({kind.__name__ for kind in EXCEPTIONS}) == len(EXCEPTIONS)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in EXCEPTIONS if not kind.__module__.startswith("orchestrator.")],
    ids=lambda kind: kind.__name__,
)
def test_the_exceptions_of_workers_cross_processes(kind: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(kind("data: empty")))
    assert type(copy) is kind
    assert str(copy) == "data: empty"


def test_an_exception_says_its_own_exit_code(tmp_path: Path) -> None:
    home = Home.find(str(tmp_path), {})
    refused = CommandError("the lease is held", ExitCode.REFUSED)
    assert describe(refused, home) == ("the lease is held", ExitCode.REFUSED)
    message, code = describe(ArchscoutError("surprise"), home)
    assert code is ExitCode.INTERNAL
    assert message.startswith("internal error: ArchscoutError: surprise")
