"""Progress display, leaderboard, header and formatting."""

import os
import sys
import time
from dataclasses import replace
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.commands import run_search
from orchestrator.config.load import Override, load
from orchestrator.config.resources import (
    as_stored,
    check_resources,
    gpu_change,
    has_gpu,
    idle_gpu,
    with_gpu,
    with_gpu_decided,
    with_open_gpu,
)
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ProblemsError
from orchestrator.formatting import format_duration, format_number, format_table
from orchestrator.home import Home
from orchestrator.ledger import Ledger
from orchestrator.progress import (
    ProgressDisplay,
    fraction_done,
    running_table,
    seconds_left,
    summary,
)
from orchestrator.run import _leased
from orchestrator.snapshot import RunningTrial, Snapshot
from orchestrator.study.leaderboard import leaderboard
from orchestrator.study.prepare import prepare_study
from orchestrator.terminal import Terminal
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

OPEN_GPU = Override(path=("resources", "gpu"), value=None, option="o")
START = Snapshot(
    counts={},
    infeasible=0,
    counted=0,
    trials=10,
    hours=None,
    spent_s=0.0,
    running=(),
    judged_metric="val_accuracy",
    best_number=None,
    best_values=None,
    best_describe=None,
    epochs=0,
    stop_reason=None,
)
RUNNING = RunningTrial(
    number=4, describe="C32-T64 gate", epoch=2, rung=3, metric=0.91, elapsed_s=61.0
)
LATER = replace(
    START,
    counts={"COMPLETE": 2, "PRUNED": 2, "RUNNING": 1},
    counted=5,
    spent_s=40.0,
    running=(RUNNING,),
    best_number=1,
    best_values=(0.9725,),
    best_describe="C32-C64",
)


class Scripted:
    """A study with scripted snapshots."""

    def __init__(self, *said: Snapshot) -> None:
        self._said = list(said)

    def snapshot(self) -> Snapshot:
        return self._said.pop(0) if len(self._said) > 1 else self._said[0]


def test_a_line_shows_counts_and_the_best() -> None:
    assert summary(LATER) == (
        "5/10 trials · 2 complete, 2 pruned, 1 running · best 0.9725 (trial 1, C32-C64)"
    )
    screened = replace(LATER, counts={"COMPLETE": 2, "PRUNED": 9, "RUNNING": 1}, infeasible=7)
    assert "2 complete, 2 pruned, 7 infeasible, 1 running" in summary(screened)


def test_a_confirmation_is_shown_as_such_and_predicts_no_end() -> None:
    searched = replace(LATER, counts={"COMPLETE": 4, "PRUNED": 6}, counted=10, spent_s=100.0)
    assert "confirming: 0 trainings ended (1 running)" in summary(searched)
    assert fraction_done(searched) == 1.0
    assert seconds_left(START, searched) is None
    ended = summary(replace(searched, confirmations=12, running=()))
    assert "confirming: 12 trainings ended ·" in ended


def test_running_trials_show_architecture_epoch_rung_metric_and_time() -> None:
    console = Console(width=100)
    with console.capture() as shown:
        console.print(running_table(LATER))
    assert "C32-T64 gate" in shown.get()
    cells = shown.get().splitlines()[1].split()
    assert cells == ["4", "C32-T64", "gate", "2", "3", "0.9100", "1", "min", "01", "s"]


def test_the_time_left_follows_the_speed_of_this_run() -> None:
    assert seconds_left(START, START) is None
    assert seconds_left(START, LATER) == pytest.approx(60.0)  # 4 trials in 40 s, 6 to go


def test_a_time_limit_bounds_the_time_left() -> None:
    limited = replace(LATER, hours=50 / 3600)
    assert seconds_left(START, limited) == pytest.approx(10.0)
    assert fraction_done(limited) == pytest.approx(0.8)


def test_without_a_terminal_lines_appear_only_after_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, until = "", time.monotonic() + 60
    with ProgressDisplay(Scripted(START, LATER), Terminal(), line_every_s=0.02):
        while not out and time.monotonic() < until:
            time.sleep(0.02)
            out = capsys.readouterr().out
        time.sleep(0.1)
    lines = (out + capsys.readouterr().out).splitlines()
    assert lines == [f"[40 s] {summary(LATER)} · about 1 min 00 s left"]


def test_a_long_search_for_feasible_candidates_is_printed_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    looking = replace(LATER, rejected=1340, rejected_s=2.5)
    with ProgressDisplay(Scripted(START, looking), Terminal(), line_every_s=60.0):
        time.sleep(1.2)
    [line] = capsys.readouterr().out.splitlines()
    assert "1,340 candidates refused since the last feasible one" in line


def test_the_header_says_that_a_sampler_proposes_at_random(tmp_path: Path) -> None:
    parts = prepare_study(load("digits"))
    for sampler, words in (
        ("tpe", "sampler tpe, "),
        ("nsga2", "sampler nsga2 (random proposals), "),
    ):
        asked = load("digits", [Override(path=("sampler", "name"), value=sampler, option="o")])
        home = Home.find(str(tmp_path), {})
        assert words in run_search.header(replace(parts, config=asked), home, resumed=False)


def test_quiet_and_json_show_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (Terminal(quiet=True), Terminal(json=True)):
        with ProgressDisplay(Scripted(START, LATER), terminal, line_every_s=0.01):
            time.sleep(0.05)
    assert capsys.readouterr().out == ""


def test_on_a_terminal_the_display_is_live(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Terminal, "interactive", True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressDisplay(Scripted(START, LATER), Terminal()):
        time.sleep(0.1)
    assert "trials" in capsys.readouterr().out


def a_trial(place: int, state: TrialState, **changed: Any) -> Trial:
    done = (Measurement(fidelity=3, metrics={"val_accuracy": 0.5}, elapsed_s=9.0),)
    given: dict[str, Any] = {
        "number": place, "uid": f"{place:032x}", "kind": "search", "parent": None, "params": {},
        "distributions": {}, "candidate": {"schema": 1, "decisions": {"x": place}},
        "digest": f"{place:064x}", "state": state, "reason": None, "values": None,
        "violations": {}, "seed": place, "attempts": 1, "failure": None, "sampler_attrs": {},
        "created": 0.0, "started": None, "ended": None, "measurements": done,
        "cost": {"parameters": 1000.0 + place}, "describe": f"x={place}",
    }  # fmt: skip
    return Trial(**{**given, **changed})


def test_a_leaderboard_ranks_and_counts() -> None:
    trials = [
        a_trial(0, TrialState.COMPLETE, values=(0.9,)),
        a_trial(1, TrialState.COMPLETE, values=(0.95,)),
        a_trial(2, TrialState.PRUNED, reason="rung"),
        a_trial(3, TrialState.PRUNED, reason="infeasible", measurements=()),
        a_trial(4, TrialState.FAIL, reason="user_code"),
    ]
    board = leaderboard(load("tiny"), "finished", trials, program="archscout")
    assert board.text().splitlines() == [
        "rank  trial  val_accuracy  epochs  parameters  time  architecture",
        "   1      1        0.9500       3       1,001   9 s  x=1",
        "   2      0        0.9000       3       1,000   9 s  x=0",
        "2 complete, 1 pruned, 1 infeasible, 1 failed",
        "audit of rungs: 1 trial pruned, none of them audited",
        "",
        "not confirmed: the best value of a search is optimistic; run: archscout confirm tiny",
    ]
    assert "1 of 2 complete trials shown" in board.text(top=1)


def test_with_several_objectives_the_front_is_marked() -> None:
    trials = [
        a_trial(0, TrialState.COMPLETE, values=(0.9, 2000.0)),
        a_trial(1, TrialState.COMPLETE, values=(0.95, 3000.0)),
        a_trial(2, TrialState.COMPLETE, values=(0.8, 2500.0)),
    ]
    text = leaderboard(load("pareto"), "finished", trials).text()
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["*1", "*2", "3"]
    assert "no trial is better in every objective" in text


def test_an_empty_leaderboard_says_so() -> None:
    board = leaderboard(load("tiny"), "running", [a_trial(0, TrialState.RUNNING)])
    assert board.text() == "No trial of 'tiny' is complete yet (1 running)."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97213, "0.9721"),
        (18634.0, "18,634"),
        (1.2e-5, "1.2e-05"),
        (0.0, "0"),
        (2.5e6, "2,500,000"),
    ],
)
def test_numbers_have_a_readable_length(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_columns_are_aligned() -> None:
    assert (
        format_table(["a", "n"], [["xyz", "1"], ["", "10"]], right=["n"])
        == "a     n\nxyz   1\n     10"
    )


def gpu(config: StudyConfig) -> float | None:
    return with_gpu_decided(config).resources.gpu


def test_a_detected_gpu_is_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "nvidia-uvm").touch()
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu(tmp_path)


@pytest.mark.parametrize("hidden", [None, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
@pytest.mark.parametrize("rocm", [True, False])
def test_an_amd_gpu_is_used_if_torch_supports_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, *, rocm: bool, hidden: str | None
) -> None:
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").touch()
    hip = "'6.4.43482'" if rocm else "None"
    (torch / "version.py").write_text(f"cuda: Optional[str] = None\nhip: Optional[str] = {hip}\n")
    spec = spec_from_file_location("torch", torch / "__init__.py")
    monkeypatch.setattr("orchestrator.config.resources.find_spec", lambda name: spec)
    monkeypatch.setattr("shutil.which", lambda name: None)
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "kfd").touch()
    assert has_gpu(tmp_path) == rocm
    if hidden is not None:
        monkeypatch.setenv(hidden, "-1")
        assert not has_gpu(tmp_path)
    none = load("digits", [Override(path=("resources", "gpu"), value=0, option="o")])
    idle = idle_gpu(none, tmp_path)
    assert ("no build for ROCm" in idle) == (not rocm)
    assert ("stays idle, as resources.gpu is 0" in idle) == (rocm and hidden is None)


def test_the_gpu_of_a_mac_is_reported_as_unused(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("orchestrator.config.resources.has_gpu", lambda *_: False)
    assert idle_gpu(load("digits"), tmp_path) == ""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert idle_gpu(load("digits"), tmp_path) == (
        "Apple's GPU is not used: training needs CUDA or ROCm"
    )


@pytest.mark.parametrize(
    ("found", "given", "used"), [(True, None, 1), (False, None, 0), (True, 0, 0)]
)
def test_the_gpu_fraction_is_the_users_or_the_detected_one(
    found: bool, given: int | None, used: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.config.resources.has_gpu", lambda: found)
    assert (
        gpu(load("digits", [Override(path=("resources", "gpu"), value=given, option="o")])) == used
    )


def test_trials_larger_than_the_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.config.resources.has_gpu", lambda: False)
    monkeypatch.setattr("orchestrator.config.resources.usable_cores", lambda: 2)
    large = Override(path=("resources",), value={"cpu": 3, "gpu": 0.5}, option="o")
    with pytest.raises(ProblemsError) as refused:
        check_resources(load("digits", [large]))
    assert str(refused.value).splitlines() == [
        "digits: resources.cpu: a trial needs 3 cores, 2 can be used here",
        "digits: resources.gpu: no GPU that torch supports as cuda is found on this machine. "
        "To train on what is found, leave it out or search with --set resources.gpu=null; a study "
        "that exists then continues",
    ]
    elsewhere = Override(path=("engine", "address"), value="cluster:6379", option="o")
    check_resources(load("digits", [large, elsewhere]))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_closed_pipe_stops_no_search(monkeypatch: pytest.MonkeyPatch, *, as_json: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        terminal = Terminal(json=as_json)
        with terminal.json_output():
            terminal.print("the first line of many")
            terminal.print("and another")
        assert str(Path(f"/proc/self/fd/{output.fileno()}").readlink()) == os.devnull


@pytest.mark.parametrize("stored", [None, 0.0, 0.5])
@pytest.mark.parametrize("found", [True, False])
def test_other_gpus_do_not_make_another_study(stored: float | None, *, found: bool) -> None:
    settled = with_gpu(load("digits"), stored, found=found)
    assert as_stored(load("digits"), settled) == settled
    assert as_stored(with_gpu(settled, 1.0, found=False), settled) == settled


def test_detected_gpus_are_distinguished_from_requested_ones() -> None:
    found = with_gpu(load("digits"), 1.0, found=True)
    asked = with_gpu(load("digits"), 1.0, found=False)
    for config, opened in ((found, load("digits")), (asked, asked)):
        again = StudyConfig.from_json(config.canonical_json())
        assert again == config
        assert with_open_gpu(again) == opened
    assert "gpu_found" not in asked.canonical_json()
    assert "gpu_found" not in str(found.model_dump())


@pytest.mark.parametrize(("before", "now"), [(1.0, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_a_change_of_gpus_is_printed(before: float, now: float) -> None:
    assert f"{now:g} GPU, before it was {before:g}" in gpu_change(before, now)
    assert gpu_change(None, now) == gpu_change(now, now) == ""


def test_the_gpus_of_a_cluster_are_unknown_before_it_is_asked() -> None:
    elsewhere = load("digits").at_address("cluster:6379")
    assert with_gpu_decided(elsewhere).resources.gpu is None


def test_each_start_detects_gpus_again_if_the_config_sets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, parts = Home.find(str(tmp_path / "h"), {}), prepare_study(load("surrogate", [OPEN_GPU]))
    home.create()
    for gone in (False, True, False):
        monkeypatch.setattr("orchestrator.config.resources.has_gpu", lambda gone=gone: not gone)
        with (
            Ledger.open(home.ledger_url) as ledger,
            _leased(ledger, parts, home, Terminal()) as (opened, record, _),
        ):
            assert opened.config.resources.gpu == (not gone)
            row = ledger.study(record.name)
            assert row is not None
            assert row.config_json == opened.config.canonical_json()
    assert capsys.readouterr().out.splitlines() == [gpu_change(1, 0), gpu_change(0, 1)]
