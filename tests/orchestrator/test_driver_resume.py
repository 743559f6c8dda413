"""A driver that dies anywhere and is resumed ends with the study that was never interrupted."""

import tempfile
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.studies import BRANCHING, Dying, Killed, config, curve, opened, run, story

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Ledger
from orchestrator.study.retry_policy import MAX_LOSSES
from orchestrator.trial import TrialState
from search_spaces.space import DefineByRunSpace


def coarse(trial: Any) -> dict[str, Any]:
    """Few candidates, so that proposals repeat."""
    return {
        "kind": trial.suggest_categorical("kind", ["flat", "steep"]),
        "rate": trial.suggest_float("rate", 0.01, 0.05, step=0.01),
        "depth": trial.suggest_int("depth", 1, 2),
    }


COARSE = DefineByRunSpace(name="coarse", version="1", function=coarse)


def asked(sampler: str, seed: int = 0) -> StudyConfig:
    """A study long enough for the sampler to have left its random beginnings."""
    name, *several = sampler.split(" of ")
    if several:
        objectives = [
            {"metric": "val_accuracy", "direction": "maximize"},
            {"metric": "seed", "direction": "minimize"},
        ]
        return config(
            sampler={"name": name},
            objectives=objectives,
            seed=seed,
            stop={"trials": 13},
            pruner={"name": "halving", "type": "stopping"},
        )
    if sampler == "nsga3":  # a generation is 20 complete trials
        parts: dict[str, Any] = {
            "stop": {"trials": 26},
            "pruner": {"name": "none"},
            "budget": {"maximum": 1},
        }
    elif sampler == "random":
        parts = {"stop": {"trials": 21}, "budget": {"minimum": "auto", "maximum": 9}}
    else:
        parts = {"stop": {"trials": 13}}
    return config(sampler={"name": sampler}, seed=seed, **parts)


def in_space(sampler: str) -> dict[str, Any]:
    return {"space": BRANCHING if sampler == "nsga3" else COARSE}


@cache
def uninterrupted(sampler: str) -> list[Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder), asked(sampler), **in_space(sampler)) as study,
    ):
        run(study)
        return story(study)


def run_until_killed(folder: Path, sampler: str, after: int, *, acknowledged: bool) -> None:
    def mortal(ledger: Ledger) -> Dying:
        return Dying(ledger, after=after, acknowledged=acknowledged)

    with (
        suppress(Killed),
        opened(folder, asked(sampler), through=mortal, **in_space(sampler)) as study,
    ):
        run(study)


@pytest.mark.parametrize("sampler", ["auto", "auto of two", "tpe", "tpe of two", "random", "nsga3"])
@given(
    # After its third life without a new epoch a trial fails: one of the later two comes to one.
    kills=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=3).filter(
        lambda kills: len(kills) < MAX_LOSSES or max(after for after, _ in kills[1:]) >= 3
    )
)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_resumed_is_the_same_study_as_uninterrupted(
    sampler: str, kills: list[tuple[int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for after, acknowledged in kills:
            run_until_killed(folder, sampler, after, acknowledged=acknowledged)
        with opened(folder, asked(sampler), **in_space(sampler)) as study:
            run(study)
            assert story(study) == uninterrupted(sampler)
            assert all(trial.state.is_terminal for trial in study.trials)


def test_the_comparison_would_see_another_seed() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        opened(Path(name), asked("tpe", seed=1), **in_space("tpe")) as study,
    ):
        run(study)
        assert story(study) != uninterrupted("tpe")


def test_generations_are_kept_with_the_trials() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        opened(Path(name), asked("nsga3"), **in_space("nsga3")) as study,
    ):
        run(study)
        kept = [t.sampler_attrs for t in study.trials]
        assert kept[0] == {"NSGAIIISampler:generation": 0}
        assert kept[-1]["NSGAIIISampler:generation"] == 1
        (parents,) = [attrs["parents"] for attrs in kept if "parents" in attrs]
        assert len(parents["NSGAIIISampler:parent:1"]) == 20


def test_a_rung_decided_before_the_death_stays_decided(tmp_path: Path) -> None:
    """Killed between the measurement and the pause it led to, the trial trains no further."""
    mortal = partial(Dying, after=1, acknowledged=False, writes={"requeue"})
    with suppress(Killed), opened(tmp_path, asked("tpe"), through=mortal, space=COARSE) as study:
        run(study)
    trained: list[int] = []

    def watched(job: Any, dataset: Any) -> Any:
        trained.append(job.trial_number)
        return curve(job, dataset)

    with opened(tmp_path, asked("tpe"), space=COARSE) as study:
        (waiting,) = [t for t in study.trials if t.state is TrialState.WAITING and not t.paused]
        run(study, watched)
        assert trained[0] != waiting.number
        assert story(study) == uninterrupted("tpe")


def test_a_driver_that_died_with_the_target_reached_leaves_nothing_to_search(
    tmp_path: Path,
) -> None:
    asked = config(stop={"trials": 50, "target": 0.2})
    with opened(tmp_path, asked) as study:
        run(study)
    with opened(tmp_path, asked) as study:
        assert study.stop_reason == "target"
        run(study)
        assert len(study.trials) == 1
