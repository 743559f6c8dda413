"""Printing never fails, for any name and any encoding of the terminal."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from orchestrator.cli import main
from orchestrator.formatting import format_fields, format_table
from orchestrator.progress import running_table
from orchestrator.snapshot import RunningTrial, Snapshot
from orchestrator.terminal import Terminal, escape_unencodable

ENCODINGS = ("ascii", "latin-1", "cp1252", "cp932", "euc_jp", "utf-8")
names = st.text(st.characters(exclude_categories=()))
"""Any text, with the surrogates of file names that are not valid text."""


@contextmanager
def printed(encoding: str) -> Iterator[list[str]]:
    """Capture standard output and error of a terminal with this encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
    before, said = (sys.stdout, sys.stderr), ["", ""]
    sys.stdout, sys.stderr = streams
    try:
        yield said
    finally:
        sys.stdout, sys.stderr = before
        for index, stream in enumerate(streams):
            stream.flush()
            said[index] = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@given(name=names, encoding=st.sampled_from(ENCODINGS))
def test_any_name_is_printed_in_any_encoding(name: str, encoding: str) -> None:
    with printed(encoding) as said:
        escape_unencodable()
        terminal = Terminal()
        terminal.print(format_table(["class", "examples"], [[name, "7"]]))
        terminal.info(format_fields({name: "kept"}))
        terminal.error(f"class {name}: refused")
    assert "kept" in said[0]
    assert said[1].startswith("class ")
    assert said[1].endswith(": refused\n")


@given(name=names, encoding=st.sampled_from(ENCODINGS))
def test_json_is_whole_in_any_encoding(name: str, encoding: str) -> None:
    with printed(encoding) as said:
        escape_unencodable()
        terminal = Terminal(json=True)
        with terminal.json_output():
            terminal.document |= {"class": name, name: 1}
    assert json.loads(said[0]) == {"class": name} | {name: 1}


@given(name=names, encoding=st.sampled_from(ENCODINGS))
@example(name="0" * 85, encoding="ascii")
def test_the_live_display_shows_any_name_in_any_encoding(name: str, encoding: str) -> None:
    running = RunningTrial(number=3, describe=name, epoch=1, rung=3, metric=0.5, elapsed_s=1.0)
    now = Snapshot(
        counts={}, infeasible=0, counted=1, trials=9, hours=None, spent_s=1.0, running=(running,),
        judged_metric=name, best_number=None, best_values=None, best_describe=None, epochs=1,
        stop_reason=None,
    )  # fmt: skip
    with printed(encoding) as said:
        escape_unencodable()
        for width in (80, 200):
            Console(file=sys.stdout, width=width).print(running_table(now))
    assert said[0].count("trial") >= 2
    assert said[0].count("0.5000") >= 2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_command_answers_where_its_terminal_lacks_the_characters(
    tmp_path: Path, encoding: str
) -> None:
    home = tmp_path / "研究"
    with printed(encoding) as said:
        assert main(["--home", str(home), "list"]) == 0
        assert main(["--home", str(home), "status", "猫"]) == 2
    assert said[0].startswith("There are no studies in ")
    assert "there is no study" in said[1]
    assert "internal error" not in said[1]


def test_a_long_wait_is_printed_once_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[threading.Timer] = []

    class Held(threading.Timer):
        def start(self) -> None:
            started.append(self)

    monkeypatch.setattr(threading, "Timer", Held)
    for slow in (True, False):
        with Terminal().waiting_for("the data"):
            assert started[-1].daemon
            if slow:
                started[-1].function(*started[-1].args)
        assert started[-1].finished.is_set()
    assert capsys.readouterr().out == "waiting for the data\n"
