"""A study that is extended ends as one that had the larger limits from the start."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.studies import WRITES, Dying, Killed, config, curve, opened, run, story

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, Ledger
from orchestrator.snapshot import Verdict
from orchestrator.study.driver import StudyDriver
from orchestrator.study.requests.extend import EXTEND, absolute_payload, extends
from orchestrator.trial import TrialState
from workers.job import TrainingJob
from workers.measurement import Measurement

SMALL = config(stop={"trials": 6})
LARGE = config(stop={"trials": 12})


def asking(study: StudyDriver, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the driver's answer to a request."""
    asked = study._ledger.add_request(study._lease.study_id, kind, payload)
    study._answer_requests()
    answer = study._ledger.read_answer(asked)
    assert answer is not None
    return answer


def stored(folder: Path) -> StudyConfig:
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study("small")
        assert row is not None
        return StudyConfig.from_json(row.config_json)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with opened(tmp_path_factory.mktemp("large"), LARGE) as study:
        run(study)
        return story(study)


class Extending:
    """A worker that has the study extended as it begins trial 3, once."""

    def __init__(self, study: StudyDriver) -> None:
        self._study = study

    def __call__(self, job: TrainingJob, dataset: Any) -> Iterator[Measurement]:
        if job.trial_number == 3 and len(self._study.trials) < 6:
            ledger, study_id = self._study._ledger, self._study._lease.study_id
            if not any(e.kind == "request_added" for e in ledger.events(study_id, 0, 1000)):
                ledger.add_request(study_id, EXTEND, {"trials": 6, "operation": "a"})
            self._study._answer_requests()
        yield from curve(job, dataset)


def test_extended_while_it_runs_it_ends_as_if_it_had_been_larger(
    tmp_path: Path, uninterrupted: list[Any]
) -> None:
    with opened(tmp_path, SMALL) as study:
        run(study, Extending(study))
        assert study.config.stop.trials == 12
        assert story(study) == uninterrupted
    assert stored(tmp_path) == LARGE


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("after", range(1, 80, 9))
def test_killed_at_any_write_and_resumed_it_ends_alike(
    tmp_path: Path, after: int, acknowledged: bool, uninterrupted: list[Any]
) -> None:
    writes = WRITES | {"carry_out", "add_request"}
    dying = partial(Dying, after=after, acknowledged=acknowledged, writes=writes)
    with pytest.raises(Killed), opened(tmp_path, SMALL, through=dying) as study:
        run(study, Extending(study))
    asked = stored(tmp_path)
    with opened(tmp_path, asked) as study:
        run(study, Extending(study))
        assert story(study) == uninterrupted


def test_extensions_add_up_whatever_came_between(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        run(study)
        study._ledger.set_study_state(study._lease, "finished")
        assert asking(study, EXTEND, {"trials": 2}) == {"stop": {"trials": 8}}
        assert asking(study, EXTEND, {"trials": 3}) == {"stop": {"trials": 11}}
    with opened(tmp_path, stored(tmp_path)) as study:
        run(study)
        assert study.snapshot().counted == 11
        assert study.finished


def test_hours_are_added_to_the_limit_or_to_what_was_spent(tmp_path: Path) -> None:
    timed = config(stop={"hours": 0.001, "trials": 40})
    with opened(tmp_path, timed) as study:
        study._ledger.add_spent(study._lease, 7200.0)
    with opened(tmp_path, timed) as study:
        assert study.stop_reason == "hours"
        assert study.ask() is None
        assert "time limit" in asking(study, EXTEND, {"trials": 2})["refused"]
        answer = asking(study, EXTEND, {"hours": 1.0})
        assert answer["stop"]["hours"] == pytest.approx(3.0, abs=0.01)
        assert study.stop_reason is None
        assert study.ask() is not None


@pytest.mark.parametrize(
    ("stop", "payload", "reason"),
    [
        ({"trials": 2}, {"hours": 1.0}, "no limit of hours"),
        ({"hours": 1.0}, {"trials": 1}, "no limit of trials"),
        ({"trials": 2, "target": 0.01}, {"trials": 1}, "target is reached"),
        ({"trials": 2, "hours": 9.0}, {"hours": 1.0}, "2 trials have ended"),
    ],
)
def test_an_extension_that_would_start_nothing_is_refused(
    tmp_path: Path, stop: dict[str, Any], payload: dict[str, Any], reason: str
) -> None:
    with opened(tmp_path, config(stop=stop, pruner={"name": "none"})) as study:
        if "trials" in stop:
            run(study)
        before = stored(tmp_path)
        assert reason in asking(study, EXTEND, payload)["refused"]
    assert stored(tmp_path) == before


def test_a_driver_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        study.request_stop("signal")
        asking(study, EXTEND, {"trials": 2})
        assert study.stop_reason == "signal"
        assert study.ask() is None
    assert stored(tmp_path).stop.trials == 8


def test_a_target_that_was_reached_and_is_raised_lets_the_search_continue(tmp_path: Path) -> None:
    near = config(stop={"trials": 6, "target": 0.01})
    with opened(tmp_path, near) as study:
        run(study)
        assert study.stop_reason == "target"
        asking(study, EXTEND, absolute_payload(config(stop={"trials": 6})))
        assert study.stop_reason is None
        run(study)
        assert study.snapshot().counted == 6


@pytest.mark.parametrize(
    ("before", "after", "larger"),
    [
        ({"trials": 4}, {"trials": 5}, True),
        ({"trials": 4}, {"trials": 4}, False),
        ({"trials": 4}, {"trials": 3}, False),
        ({"trials": 4}, {"hours": 1.0}, False),
        ({"trials": 4, "hours": 1.0}, {"trials": 4}, True),
        ({"trials": 4, "target": 0.5}, {"trials": 4, "target": 0.6}, True),
        ({"trials": 4, "target": 0.5}, {"trials": 9, "target": 0.4}, False),
        ({"trials": 4, "target": 0.5}, {"trials": 4}, True),
        ({"trials": 4}, {"trials": 5, "target": 0.5}, False),
    ],
)
def test_more_search_is_larger_limits_and_a_harder_target(
    before: dict[str, Any], after: dict[str, Any], larger: bool
) -> None:
    assert extends(config(stop=before), config(stop=after)) is larger
    losses = {"objectives": [{"metric": "val_loss", "direction": "minimize"}]}
    if "target" in before and "target" in after:
        assert extends(config(stop=before, **losses), config(stop=after, **losses)) is not larger


def test_other_resources_are_an_extension_and_other_keys_are_not() -> None:
    assert extends(SMALL, config(stop={"trials": 6}, resources={"cpu": 2}))
    assert not extends(SMALL, config(stop={"trials": 9}, seed=1))


def with_maximum(study: StudyDriver, maximum: int) -> None:
    """Change the maximum budget, as a request would."""
    budget = {"minimum": 1, "maximum": maximum, "reduction_factor": 3}
    changed = config(stop={"trials": 6}, budget=budget)
    ledger, lease = study._ledger, study._lease
    effect = Effect(answer={}, changes={"config_json": changed.canonical_json()})
    assert ledger.carry_out(lease, ledger.add_request(lease.study_id, "edit", {}), effect)
    study._follow(effect)


def test_a_running_attempt_continues_with_the_new_budget(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        job = study.ask()
        assert job is not None
        seen = list(curve(job, None))
        assert study.report(job.key, seen[0]) is Verdict.CONTINUE
        with_maximum(study, 27)
        assert study.report(job.key, seen[1]) is Verdict.PAUSE
        study.requeue(job.key)
        again = study.ask()
        assert again is not None
        assert (again.trial_number, again.budget.maximum) == (job.trial_number, 27)
        for each in list(curve(again, None))[2:]:
            assert study.report(again.key, each) is Verdict.CONTINUE
        study.tell(again.key)
        assert study.trials[0].state is TrialState.COMPLETE
        assert study.trials[0].reached == 27


def test_an_attempt_that_ended_at_its_former_maximum_continues(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        job = study.ask()
        assert job is not None
        for seen in curve(job, None):
            study.report(job.key, seen)
        with_maximum(study, 27)
        study.tell(job.key)
        assert study.trials[0].state is TrialState.WAITING
        assert study.trials[0].failure is None


def test_an_attempt_beyond_a_lowered_maximum_is_complete(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        job = study.ask()
        assert job is not None
        seen = list(curve(job, None))
        study.report(job.key, seen[0])
        with_maximum(study, 2)
        assert study.report(job.key, seen[1]) is Verdict.STOP
        study.tell(job.key)
        assert study.trials[0].state is TrialState.COMPLETE
        assert study.trials[0].values == (seen[1].metrics["val_accuracy"],)
