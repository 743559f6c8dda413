"""Designs that a user gives become trials: completed, checked, counted, once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.studies import Dying, Killed, config, opened, run, story, train

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Ledger
from orchestrator.study.requests.enqueue import ENQUEUE, to_payload
from orchestrator.trial import REQUEST, TrialState
from search_spaces.designs import Design

SAMPLERS = ("auto", "tpe", "random", "nsga2", "gp")
STUDY = config(stop={"trials": 4}, sampler={"name": "random"}, pruner={"name": "none"})


def request(folder: Path, *params: dict[str, Any], base: Any = None, operation: str = "1") -> int:
    designs = [Design(params=given, base=base or {}) for given in params]
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.add_request(1, ENQUEUE, to_payload(designs, operation))


def answer(folder: Path, asked: int) -> Any:
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.read_answer(asked)


def stored(folder: Path, new: StudyConfig = STUDY) -> StudyConfig:
    """The study's config with all changes, as `resume` takes it; `new` before the study exists."""
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("small")
        return new if row is None else StudyConfig.from_json(row.config_json)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_completes_a_partial_design(tmp_path: Path, sampler: str) -> None:
    asked_for = config(stop={"trials": 4}, sampler={"name": sampler}, pruner={"name": "none"})
    with opened(tmp_path, asked_for) as study:
        train(study, 2)
        asked = request(tmp_path, {"kind": "steep", "depth": 7})
        study._answer_requests()
        assert answer(tmp_path, asked) == {"trials": [2]}
        new = study.trials[2]
        assert (new.kind, new.state) == ("search", TrialState.WAITING)
        assert dict(new.params) | {"rate": 0} == {"kind": "steep", "depth": 7, "rate": 0}
        assert new.sampler_attrs[REQUEST] == asked
        run(study)
        assert len(study.trials) == 5
        assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert stored(tmp_path).stop.trials == 5


def test_an_interrupted_study_trains_a_design_first(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY) as study:
        train(study, 2)
    asked = request(tmp_path, {"kind": "flat"})
    with opened(tmp_path, STUDY) as study:
        assert answer(tmp_path, asked) == {"trials": [2]}
        job = study.ask()
        assert job is not None
        assert job.trial_number == 2


def test_a_finished_study_trains_one_more_trial(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY) as study:
        run(study)
        assert study.finished
    request(tmp_path, {"kind": "flat"}, {"kind": "steep", "rate": 0.5})
    with opened(tmp_path, STUDY) as study:
        run(study)
        assert [trial.params["kind"] for trial in study.trials[4:]] == ["flat", "steep"]
        assert study.finished
        assert len(study.trials) == 6


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"kind": "flat", "rate": 0.5}, "the design equals trial 1"),
        ({"kind": "gentle"}, "kind: 'gentle' is none of 'flat', 'steep'."),
        ({"rat": 0.5}, "rat: space 'branching' has no such decision. Did you mean 'rate'?"),
        ({"rate": 7.0}, "rate: 7.0 is not a number from 0.0001 to 1.0"),
        ({"kind": "flat", "depth": 3}, "depth: does not apply with the other decisions; "),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(
    tmp_path: Path, params: dict[str, Any], reason: str
) -> None:
    with opened(tmp_path, STUDY) as study:
        train(study, 1)
        request(tmp_path, {"kind": "flat", "rate": 0.5}, operation="0")
        study._answer_requests()
        asked = request(tmp_path, {"kind": "steep"}, params)
        study._answer_requests()
        assert answer(tmp_path, asked)["refused"].startswith(reason)
        assert len(study.trials) == 2
    assert stored(tmp_path).stop.trials == 5


def test_equal_designs_of_one_request_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY) as study:
        train(study, 1)
        asked = request(tmp_path, *[{"kind": "flat", "rate": 0.5}] * 2)
        study._answer_requests()
    assert answer(tmp_path, asked) == {"refused": "the design equals trial 1"}


def test_decisions_of_a_known_trial_are_taken_where_they_apply(tmp_path: Path) -> None:
    base = {"kind": "steep", "rate": 0.25, "depth": 3}
    with opened(tmp_path, STUDY) as study:
        train(study, 1)
        request(tmp_path, {"kind": "flat"}, base=base)
        study._answer_requests()
        assert dict(study.trials[1].params) == {"kind": "flat", "rate": 0.25}


def test_designs_delay_no_first_point_and_replace_an_equal_one(tmp_path: Path) -> None:
    points = [{"kind": "flat", "rate": rate} for rate in (0.1, 0.2, 0.3)]
    study_config = config(
        stop={"trials": 5}, sampler={"name": "random"}, pruner={"name": "none"}, seed_points=points
    )
    with opened(tmp_path, study_config) as study:
        train(study, 1)
        request(tmp_path, {"kind": "flat", "rate": 0.9}, {"kind": "flat", "rate": 0.2})
        study._answer_requests()
        run(study)
        rates = [trial.params["rate"] for trial in study.trials]
        assert rates[:3] == [0.1, 0.9, 0.2]
        assert rates[3] not in {0.1, 0.2, 0.3, 0.9}  # for the point that was anticipated
        assert rates[4] == 0.3
        assert len(rates) == 7


def test_a_study_tries_its_own_first_trial_before_any_design(tmp_path: Path) -> None:
    with opened(tmp_path, STUDY):
        pass
    asked = request(tmp_path, {"kind": "flat"})
    with opened(tmp_path, STUDY) as study:
        assert answer(tmp_path, asked) is None
        train(study, 1)
        study._answer_requests()
        assert answer(tmp_path, asked) == {"trials": [1]}
        assert REQUEST not in study.trials[0].sampler_attrs


def test_after_the_target_designs_are_refused(tmp_path: Path) -> None:
    reached = config(stop={"trials": 4, "target": 0.1}, pruner={"name": "none"})
    with opened(tmp_path, reached) as study:
        run(study)
        assert study.finished
    asked = request(tmp_path, {"kind": "flat"})
    with opened(tmp_path, reached) as study:
        run(study)
        assert len(study.trials) == 1
    refused = "it starts no more trials: the limit stop.target is reached"
    assert answer(tmp_path, asked) == {"refused": refused}


def played(folder: Path, sampler: str, through: Callable[[Ledger], Any] = lambda x: x) -> Any:
    """A sequential study with a design after its fourth trial; resumed if it was killed."""
    asked_for = config(stop={"trials": 9}, sampler={"name": sampler}, pruner={"name": "none"})
    while True:
        try:
            with opened(folder, stored(folder, asked_for), through=through) as study:
                train(study, 4 - sum(trial.state.is_terminal for trial in study.trials[:4]))
                with Ledger.open(folder / "ledger.db") as ledger:
                    requested = any(e.kind == "request_added" for e in ledger.events(1, 0, 10_000))
                if not requested:
                    request(folder, {"kind": "steep", "depth": 7})
                study._answer_requests()
                run(study)
                return story(study)
        except Killed:
            through = lambda ledger: ledger  # noqa: E731


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_a_study_with_a_design_that_is_killed_anywhere_continues_equally(
    tmp_path: Path, sampler: str
) -> None:
    (tmp_path / "whole").mkdir()
    whole = played(tmp_path / "whole", sampler)
    assert len(whole) == 10
    for acknowledged in (False, True):
        for after in (1, 5, 60):
            writes = {"add_trial", "start_attempt", "record", "finish", "carry_out"}
            dying = partial(Dying, after=after, acknowledged=acknowledged, writes=writes)
            folder = tmp_path / f"{after}-{acknowledged}"
            folder.mkdir()
            assert played(folder, sampler, dying) == whole


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_driver_killed_as_it_answers_adds_the_trial_once(
    tmp_path: Path, acknowledged: bool
) -> None:
    dying = partial(Dying, after=1, acknowledged=acknowledged, writes={"carry_out"})
    with opened(tmp_path, STUDY) as study:
        train(study, 1)
    request(tmp_path, {"kind": "steep", "depth": 7})
    with pytest.raises(Killed), opened(tmp_path, STUDY, through=dying):
        pass
    with opened(tmp_path, stored(tmp_path)) as study:
        run(study)
        assert [REQUEST in trial.sampler_attrs for trial in study.trials] == [
            False,
            True,
            False,
            False,
            False,
        ]
    assert stored(tmp_path).stop.trials == 5
