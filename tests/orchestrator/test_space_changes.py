"""A study whose space changes: earlier trials inform its sampler, and added choices are tried."""

from pathlib import Path
from typing import Any

import pytest
from support.studies import UNUSED_PID, config, curve, opened, story

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, Holder, Ledger
from orchestrator.sampling.space_versions.added_choices import AddedChoices
from orchestrator.sampling.space_versions.earlier_trials import EarlierTrials
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial
from search_spaces.space import DefineByRunSpace


def space(version: str, kinds: list[str], high: float = 1.0) -> DefineByRunSpace:
    def function(trial: Any) -> dict[str, Any]:
        kind = trial.suggest_categorical("kind", kinds)
        rate = trial.suggest_float("rate", 1e-4, high, log=True)
        depth = trial.suggest_int("depth", 1, 8) if kind == "steep" else 0
        return {"kind": kind, "rate": rate, "depth": depth}

    return DefineByRunSpace(name="branching", version=version, function=function)


FIRST, WIDER = space("1", ["flat", "steep"]), space("2", ["flat", "steep", "bent"])
NARROWER = space("3", ["flat"], high=0.1)
SAMPLERS = ["auto", "tpe", "random", "nsga2", "gp"]


def study_of(sampler: str) -> StudyConfig:
    return config(sampler={"name": sampler}, stop={"trials": 200}, pruner={"name": "none"})


def search(folder: Path, space: DefineByRunSpace, until: int, sampler: str) -> StudyDriver:
    """The study after a search in this space up to a number of trials."""
    with opened(folder, study_of(sampler), space=space, version=space.version) as study:
        while len(study.trials) < until and (job := study.ask()):
            for measurement in curve(job, None):
                study.report(job.key, measurement)
            study.tell(job.key)
    return study


def change(folder: Path, version: str) -> None:
    """Record another version of the study's space, as an edit does."""
    holder = Holder(host="here", pid=UNUSED_PID, process_started="never", boot_id="")
    with Ledger.open(folder / "ledger.db") as ledger:
        _, lease = ledger.open_study(name="small", config_json=None, holder=holder)
        request = ledger.add_request(lease.study_id, "edit", {"to": version})
        ledger.carry_out(lease, request, Effect(answer={}, changes={"space_version": version}))
        ledger.release(lease)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_added_choice_is_proposed_within_ten_proposals(tmp_path: Path, sampler: str) -> None:
    search(tmp_path, FIRST, 15, sampler)
    change(tmp_path, "2")
    study = search(tmp_path, WIDER, 25, sampler)
    assert [trial.space_version for trial in study.trials] == ["1"] * 15 + ["2"] * 10
    assert "bent" in [trial.params["kind"] for trial in study.trials[15:]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_removed_values_are_kept_and_not_proposed_again(tmp_path: Path, sampler: str) -> None:
    before = search(tmp_path, FIRST, 24, sampler)
    change(tmp_path, "3")
    after = search(tmp_path, NARROWER, 32, sampler)
    assert story(after)[:24] == story(before)
    assert any(trial.params["kind"] == "steep" for trial in before.trials)
    for trial in after.trials[24:]:
        assert trial.params["kind"] == "flat"
        assert trial.params["rate"] <= 0.1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_driver_that_stops_after_a_change_continues_as_if_it_had_not(
    tmp_path: Path, sampler: str
) -> None:
    folders = tmp_path / "once", tmp_path / "twice"
    for folder in folders:
        folder.mkdir()
        search(folder, FIRST, 12, sampler)
        change(folder, "2")
    search(folders[1], WIDER, 15, sampler)
    stories = [story(search(folder, WIDER, 20, sampler)) for folder in folders]
    assert stories[0] == stories[1]


def test_an_earlier_trial_has_the_questions_of_the_present_space(tmp_path: Path) -> None:
    search(tmp_path, FIRST, 12, "random")
    change(tmp_path, "2")
    search(tmp_path, WIDER, 18, "random")
    recorded = trials(tmp_path)
    wider = [EarlierTrials(WIDER, 9).translate(trial) for trial in recorded]
    assert len({trial.distributions["kind"] for trial in wider}) == 1
    assert len({trial.distributions["kind"] for trial in recorded}) == 2
    assert [trial.params for trial in wider] == [trial.params for trial in recorded]
    assert not any(trial.outside for trial in wider)
    narrow = [EarlierTrials(NARROWER, 9).translate(trial) for trial in recorded]
    for trial in narrow:
        inside = trial.params["kind"] == "flat" and trial.params["rate"] <= 0.1
        assert trial.outside != inside


def test_the_present_version_is_left_as_it_is_and_adds_nothing(tmp_path: Path) -> None:
    search(tmp_path, FIRST, 6, "random")
    for trial in trials(tmp_path):
        assert EarlierTrials(FIRST, 9).translate(trial) is trial
    added = AddedChoices(FIRST, EarlierTrials(FIRST, 9).select(trials(tmp_path)))
    assert added.next(trials(tmp_path)) is None


def trials(folder: Path) -> list[Trial]:
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.trials(1)
