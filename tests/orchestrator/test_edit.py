"""Edits of a study: what they change, what becomes of earlier trials, and that they happen once."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.studies import COMMAND_WRITES, UNUSED_PID, Dying, Killed

from orchestrator.commands.steer.edit import StudyEdit, edit
from orchestrator.config.load import Override, load
from orchestrator.config.schema import StudyConfig
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.errors import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Holder, Ledger, StudyRow
from orchestrator.objective import best, is_feasible
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.study.prepare import prepare_study
from orchestrator.terminal import Terminal
from orchestrator.trial import Trial, TrialState
from workers.storage import LocalFolder
from workers.surrogate import curve

BLOCK = "architecture.streams.image.stages.*"
RESIDUAL = Override.of(f"space.narrow.{BLOCK}", ["residual"], "--set")
LIMIT = Override.of("constraints", [{"metric": "parameters", "at_most": 2000.0}], "--set")
LONGER = Override.of("budget.maximum", 12, "--set")


def surrogate(**changed: Any) -> StudyConfig:
    given = {"name": "s", "engine.name": "in_process", "stop.trials": 8, **changed}
    return load("surrogate", [Override.of(key, value, "--set") for key, value in given.items()])


@contextmanager
def driving(folder: Path, *, alive: bool = False) -> Iterator[StudyDriver]:
    """The study as a driver opens it, with the config that the ledger has."""
    holder = Holder.of_this_process()
    if not alive:
        holder = replace(holder, pid=UNUSED_PID, process_started="never")
    with Ledger.open(folder / "ledger.db") as ledger:
        known = ledger.study("s")
        config = StudyConfig.from_json(known.config_json) if known else surrogate()
        inputs = prepare_study(config)
        row, lease = ledger.open_study(
            name="s",
            config_json=config.canonical_json(),
            space_name=inputs.space.name,
            space_version=inputs.space.version,
            data_digest=inputs.dataset.digest,
            code_digest=inputs.code_digest,
            metadata=inputs.metadata,
            holder=holder,
        )
        parts: Any = {"record": row, "config": config, "ledger": ledger, "lease": lease}
        places = {"checkpoints_dir": LocalFolder(folder / "checkpoints")}
        with StudyDriver(**parts, space=inputs.space, task=inputs.task, **places) as study:
            yield study
        if alive:
            ledger.release(lease)


def search(folder: Path) -> None:
    with driving(folder) as study:
        InProcessEngine(lambda job, _: curve(job)).run(study, None)  # type: ignore[arg-type]
        study._ledger.set_study_state(study._lease, "finished")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    search(folder)
    return folder / "ledger.db"


@pytest.fixture
def searched(template: Path, tmp_path: Path) -> Path:
    """A finished study of eight trials."""
    with sqlite3.connect(template) as source, sqlite3.connect(tmp_path / "ledger.db") as copy:
        source.backup(copy)
    return tmp_path


def edited(folder: Path, *overrides: Override, dry_run: bool = False) -> StudyEdit:
    home = Home.find(str(folder), {})
    return edit("s", overrides, home, Terminal(quiet=True), dry_run=dry_run)


def read(folder: Path) -> tuple[StudyRow, StudyConfig, list[Trial]]:
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("s")
        assert row is not None
        return row, StudyConfig.from_json(row.config_json), ledger.trials(row.id)


def events(folder: Path, kind: str) -> list[Any]:
    with Ledger.open(folder / "ledger.db") as ledger:
        return [event.payload for event in ledger.events(1, 0, 5000) if event.kind == kind]


def test_a_dry_run_shows_the_same_and_changes_nothing(searched: Path) -> None:
    before = read(searched)
    shown = edited(searched, RESIDUAL, dry_run=True)
    assert read(searched) == before
    assert events(searched, "request_added") == []
    assert shown == edited(searched, RESIDUAL)
    assert f"space.narrow.{BLOCK}: nothing -> ['residual']" in shown.differences
    numbers = shown.trials
    assert sorted(numbers.valid + numbers.outside) == list(range(8))
    assert numbers.outside


def test_a_narrower_space_is_searched_and_every_trial_says_which(searched: Path) -> None:
    found = edited(searched, RESIDUAL)
    row, config, _ = read(searched)
    assert row.space_version.startswith("1+")
    assert row.state == "interrupted"
    assert config.space_edits
    edited(searched, Override.of("stop.target", 2.0, "--set"))
    with Ledger.open(searched / "ledger.db") as ledger:
        asked = ledger.add_request(row.id, "extend", {"trials": 6, "operation": "a"})
    search(searched)
    with Ledger.open(searched / "ledger.db") as ledger:
        assert ledger.read_answer(asked) is not None
    _, _, trials = read(searched)
    assert [trial.space_version for trial in trials] == ["1"] * 8 + [row.space_version] * 6
    blocks = [{v for n, v in t.params.items() if n[:-1].endswith(".stages.")} for t in trials]
    assert all(chosen <= {"residual"} for chosen in blocks[8:])
    assert [n for n in range(8) if blocks[n] != {"residual"}] == list(found.trials.outside)


def test_the_same_edit_again_changes_nothing(searched: Path) -> None:
    edited(searched, RESIDUAL)
    before = read(searched)
    assert edited(searched, RESIDUAL).differences == ()
    assert read(searched) == before
    assert len(events(searched, "study_changed")) == 1


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_command_killed_at_any_write_and_given_again_takes_effect_once(
    searched: Path, after: int, acknowledged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ledger.leases.Holder.is_gone", lambda _: True)

    @contextmanager
    def dying(home: Home) -> Iterator[Any]:
        with Ledger.open(home.ledger_url) as ledger:
            yield Dying(ledger, after=after, acknowledged=acknowledged, writes=COMMAND_WRITES)

    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.commands.studies.open_ledger", dying)
        with pytest.raises(Killed):
            edited(searched, RESIDUAL, LIMIT)
    edited(searched, RESIDUAL, LIMIT)
    assert len(events(searched, "study_changed")) == 1
    assert len(events(searched, "request_added")) == 1
    row, config, _ = read(searched)
    assert row.space_version.startswith("1+")
    assert [limit.at_most for limit in config.constraints] == [2000.0]


def test_new_constraints_hold_for_earlier_trials_whose_rows_stay(searched: Path) -> None:
    _, config, before = read(searched)
    with sqlite3.connect(searched / "ledger.db") as connection:
        rows = connection.execute("SELECT * FROM trial ORDER BY number").fetchall()
        found = edited(searched, LIMIT)
        assert connection.execute("SELECT * FROM trial ORDER BY number").fetchall() == rows
    _, config, trials = read(searched)
    excluded = {trial.number for trial in trials if not is_feasible(trial)}
    assert excluded == {*found.trials.infeasible}
    assert excluded == {t.number for t in before if t.cost["parameters"] > 2000}
    winner = best(trials, config.objectives)
    assert winner is not None
    assert winner.cost["parameters"] <= 2000
    edited(searched, Override.of("constraints", [], "--set"))
    assert best(read(searched)[2], config.objectives) == best(before, config.objectives)


def test_a_running_driver_answers_and_searches_the_new_space(tmp_path: Path) -> None:
    with driving(tmp_path, alive=True) as study:
        for _ in range(3):
            job = study.ask()
            assert job is not None
            for measurement in curve(job):
                study.report(job.key, measurement)
            study.tell(job.key)
        running = study.ask()
        assert running is not None
        asking = threading.Thread(target=edited, args=(tmp_path, RESIDUAL, LONGER))
        asking.start()
        asking.join(60)
        assert not asking.is_alive()
        assert study.config.budget.maximum == 12
        first, *_ = curve(running)
        assert study.report(running.key, first) is Verdict.PAUSE
        study.requeue(running.key)
        again = study.ask()
        assert again is not None
        assert (again.trial_number, again.budget.maximum) == (3, 12)
        for measurement in curve(again):
            study.report(again.key, measurement)
        study.tell(again.key)
        assert study.trials[3].reached == 12
        assert study.ask() is not None
        assert (study.trials[4].kind, study.trials[4].space_version) == ("continue", "1")
        while study.trials[-1].kind != "search" and study.ask() is not None:
            pass
        assert study.trials[-1].space_version != "1"
        ranked = best(study.trials, study.config.objectives)
        assert ranked is not None
        assert ranked.number == 3  # the only result at the new maximum


def test_open_trials_that_become_infeasible_end(tmp_path: Path) -> None:
    with driving(tmp_path):
        pass
    with driving(tmp_path) as study:
        assert study.ask() is not None
        assert study.trials[0].cost["parameters"] > 1900
    limit = [{"metric": "parameters", "at_most": 1900.0}]
    edited(tmp_path, Override.of("constraints", limit, "--set"))
    _, _, trials = read(tmp_path)
    assert (trials[0].state, trials[0].reason) == (TrialState.PRUNED, "operator")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("seed", 3, "start another study"),
        ("objectives", [], "start another study"),
        ("data.source", "digits", "start another study"),
        ("sampler.name", "tpe", "start another study"),
        ("stop.trials", 90, "extend s --trials"),
        ("stop.hours", 9, "extend s --hours"),
        ("budget.minimum", 2, "budget.maximum"),
        ("budget.maximum", 5, "5 is below 10"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_the_reason(
    searched: Path, key: str, value: Any, reason: str
) -> None:
    before = read(searched)
    with pytest.raises(CommandError, match=reason) as refused:
        edited(searched, Override.of(key, value, "--set"))
    assert refused.value.exit_code is ExitCode.INPUT
    assert read(searched) == before


def test_a_change_in_between_is_not_overwritten(searched: Path) -> None:
    row, _, _ = read(searched)
    late = {"changes": {"stop.target": [0.5, 0.7]}, "space": ["tiny", "1"], "code_digest": None}
    with Ledger.open(searched / "ledger.db") as ledger:
        asked = ledger.add_request(row.id, "edit", late)
        edited(searched, Override.of("stop.target", 0.9, "--set"))
        assert "has changed to None meanwhile" in str(ledger.read_answer(asked))
    assert read(searched)[1].stop.target == 0.9
