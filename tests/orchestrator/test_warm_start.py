"""A study that starts from earlier ones: answers without training, and a first history."""

from pathlib import Path
from typing import Any

import pytest
from support.studies import config, curve, opened, run, story, train

from orchestrator.sampling.warm_start import WarmStartError
from orchestrator.study.driver import StudyDriver
from orchestrator.study.leaderboard import leaderboard
from orchestrator.trial import REUSED, Trial, TrialState

WHOLE = {"pruner": {"name": "none"}, "sampler": {"name": "tpe"}}


def first(tmp_path: Path, **changed: Any) -> tuple[Trial, ...]:
    with opened(tmp_path, config(name="first", stop={"trials": 6}, **WHOLE, **changed)) as study:
        run(study)
        return study.trials


def second(**changed: Any) -> Any:
    given = {"name": "second", "warm_start": ["first"], "seed": 1, "stop": {"trials": 4}}
    return config(**{**given, **WHOLE, **changed})


def test_a_known_candidate_is_answered_without_training_and_not_counted(tmp_path: Path) -> None:
    known = first(tmp_path)[2]
    asked = second(seed_points=[dict(known.params)])

    def trains_no_known(job: Any, dataset: Any) -> Any:
        assert job.candidate != known.candidate
        return curve(job, dataset)

    with opened(tmp_path, asked) as study:
        run(study, trains_no_known)
        answered = study.trials[0]
        assert (answered.state, answered.reason) == (TrialState.COMPLETE, REUSED)
        assert (answered.values, answered.parent) == (known.values, known.uid)
        assert (answered.attempts, answered.measurements) == (0, ())
        assert study.snapshot().counted == 4
        board = leaderboard(asked, "finished", study.trials)
        assert answered.uid in {row.uid for row in board.rows}
        assert "1 known from earlier studies" in board.text()


def transferred(study: StudyDriver) -> list[Any]:
    return study._state._sampler._study.trials


def test_trials_of_the_same_space_are_the_samplers_first_history(tmp_path: Path) -> None:
    known = first(tmp_path)
    with opened(tmp_path, second()) as study:
        assert [t.values for t in transferred(study)] == [list(t.values or ()) for t in known]
        assert [t.params for t in transferred(study)] == [t.params for t in known]
    asked = second(name="third", seed_points=[dict(known[0].params)])
    for _ in ("first", "resumed"):
        with opened(tmp_path, asked) as study:
            study.ask()
            values = [t.values for t in transferred(study) if t.state.name == "COMPLETE"]
            assert len(values) == len(known), "an answer is not transferred twice"


def test_transferred_trials_are_known_to_the_sampler_auto(tmp_path: Path) -> None:
    known = first(tmp_path)
    with opened(tmp_path, second(sampler={"name": "auto"})) as study:
        assert study._state._sampler._history.params == [dict(t.params) for t in known]


def test_trials_of_another_space_answer_and_are_no_history(tmp_path: Path) -> None:
    known = first(tmp_path)[0]
    asked = second(seed_points=[dict(known.params)])
    with opened(tmp_path, asked, version="2") as study:
        assert transferred(study) == []
        study.ask()
        assert study.trials[0].reason == REUSED


def test_what_an_earlier_study_finds_later_does_not_count(tmp_path: Path) -> None:
    growing = config(name="first", stop={"trials": 6}, **WHOLE)
    with opened(tmp_path, growing) as study:
        train(study, 3)
    for left in (3, 0):
        with opened(tmp_path, second()) as study:
            assert len(transferred(study)) == 3
        with opened(tmp_path, growing) as study:
            train(study, left)


def test_a_resumed_study_is_the_uninterrupted_one(tmp_path: Path) -> None:
    points = [dict(first(tmp_path)[1].params)]
    whole, cut = (second(name=n, seed_points=points, stop={"trials": 5}) for n in ("whole", "cut"))
    with opened(tmp_path, whole) as study:
        run(study)
        uninterrupted = story(study)
    with opened(tmp_path, cut) as study:
        train(study, 2)
    with opened(tmp_path, cut) as study:
        run(study)
        assert story(study) == uninterrupted


def test_an_answer_that_reaches_the_target_ends_the_study(tmp_path: Path) -> None:
    known = max(first(tmp_path), key=lambda trial: trial.values or ())
    asked = second(
        seed_points=[dict(known.params)], stop={"trials": 4, "target": (known.values or (0,))[0]}
    )
    with opened(tmp_path, asked) as study:
        assert study.ask() is None
        assert study.finished
        assert len(study.trials) == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"warm_start": ["frist"]}, r"warm_start\[0\]: there is no study 'frist'. .*'first'"),
        ({"warm_start": ["second"]}, "cannot reuse its own results"),
        ({"budget": {"maximum": 3}}, "another budget"),
        (
            {"objectives": [{"metric": "val_loss", "direction": "minimize"}]},
            "another list of objectives",
        ),
    ],
)
def test_results_that_do_not_hold_are_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    first(tmp_path)
    with pytest.raises(WarmStartError, match=reason), opened(tmp_path, second(**changed)):
        pass
