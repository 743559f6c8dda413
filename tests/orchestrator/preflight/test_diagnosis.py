"""A study's faults are found and named before it starts, and in time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from orchestrator.config.load import Override, load
from orchestrator.preflight import diagnosis, feasibility, report, timing
from orchestrator.preflight.deadline import Deadline
from orchestrator.preflight.diagnosis import Diagnosis
from orchestrator.preflight.timing import Pace
from orchestrator.study.prepare import StudyInputs, prepare_study
from search_spaces.domains.suggester import Suggester
from search_spaces.space import Constraint, SearchSpace

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small numbers in place of short times, which would depend on the machine's load."""
    monkeypatch.setattr(diagnosis, "SAMPLED", 60)
    monkeypatch.setattr(diagnosis, "COUNTED", 6)
    monkeypatch.setattr(timing, "MAX_TIMED", 3)
    monkeypatch.setattr(feasibility, "MAX_STEPS", 30)


def looked_at(parts: StudyInputs, clock: Any = None) -> Diagnosis:
    assert isinstance(parts.space, SearchSpace)
    assert parts.task is not None
    return diagnosis.full_check(
        parts, parts.space, parts.task, Deadline.after(10, clock or Ticking())
    )


def glanced_at(parts: StudyInputs) -> Diagnosis:
    assert isinstance(parts.space, SearchSpace)
    assert parts.task is not None
    deadline = Deadline.after(10, Ticking())
    return diagnosis.quick_check(parts, parts.space, parts.task, deadline, extended=deadline)


def refused(found: Diagnosis, examples: int = 1000) -> list[str]:
    return [str(problem) for problem in report.refusals(found, examples)]


class Ticking:
    """A clock that only moves on request."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Slow:
    """A domain whose every candidate takes a second to resolve."""

    inner: Any
    clock: Ticking

    def resolve(self, suggester: Suggester, path: str) -> Any:
        self.clock.seconds += 1.0
        return self.inner.resolve(suggester, path)

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        return dict(self.inner.encode(value, path))

    def default(self) -> Any:
        return self.inner.default()

    def size(self) -> float:
        return float(self.inner.size())

    def __contains__(self, value: object) -> bool:
        return value in self.inner


def test_a_planted_broken_decision_is_named_with_its_share_and_reason(
    small_space: Make, study: Make
) -> None:
    found = looked_at(study(small_space(heads=(2, 3))))

    [cause] = found.failure_causes
    assert cause.decision == "architecture.streams.image.stages.*.attention.heads = 3"
    assert cause.broken == cause.sampled > 10
    assert "3" in cause.reason
    fits, sampled = found.fits
    assert fits == sampled - cause.broken
    assert refused(found) == []  # the others can be searched


def test_a_space_of_which_nothing_builds_is_refused_by_the_name_of_the_decision(
    small_space: Make, study: Make
) -> None:
    found = glanced_at(study(small_space(heads=(3, 5), residual=False)))

    [message] = refused(found)
    assert message.startswith("mine: space: none of ")
    assert "change what the space decides there" in message
    assert "heads" in message


def test_a_constraint_that_nobody_meets_is_refused_with_the_nearest(
    small_space: Make, study: Make
) -> None:
    parts = study(small_space(), constraints=[{"metric": "parameters", "at_most": 100}])

    found = glanced_at(parts)

    [met] = found.limits
    assert not met.possible
    assert met.nearest is not None
    assert met.nearest.cost is not None
    # One attention layer is the smallest network of the space.
    smallest = int(met.nearest.cost["parameters"])
    assert met.nearest.candidate.describe() == "C8-T8"
    assert refused(found) == [
        "mine: constraints[0].at_most: no candidate found has parameters of at most 100; the "
        f"nearest, C8-T8, has parameters {smallest:,}; raise it to {smallest:,} or more, or search "
        "a space of smaller networks"
    ]


def test_the_named_value_lets_the_search_start(small_space: Make, study: Make) -> None:
    first = glanced_at(study(small_space(), constraints=[{"metric": "flops", "at_most": 100}]))
    nearest = first.limits[0].nearest
    assert nearest is not None
    assert nearest.cost is not None
    value = nearest.cost["flops"]

    second = glanced_at(study(small_space(), constraints=[{"metric": "flops", "at_most": value}]))

    assert refused(second) == []


def test_constraints_that_exclude_each_other_are_refused_together(
    small_space: Make, study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = glanced_at(study(small_space(), constraints=[{"metric": "flops", "at_most": 1e9}]))
    [met] = found.limits
    assert met.nearest is not None
    bound = (Constraint(metric="flops", at_most=1.0), *met.limits)
    impossible = replace(met, limits=bound, num_feasible=0)

    [message] = refused(replace(found, together=impossible))

    assert message.startswith("mine: constraints: each constraint can be met, and no candidate")


def test_what_chance_misses_is_found_by_going_downhill(small_space: Make, study: Make) -> None:
    space = small_space(widest=512, most_stages=4, first_width=512)
    costs = [sample.cost["parameters"] for sample in looked_at(study(space)).counted if sample.cost]
    limit = {"metric": "parameters", "at_most": min(costs) / 4}

    found = looked_at(study(space, constraints=[limit]))

    [met] = found.limits
    assert (met.num_feasible, met.possible) == (0, True)
    assert refused(found) == []


def test_a_space_s_own_constraint_counts_like_the_study_s(small_space: Make, study: Make) -> None:
    own = replace(small_space(), constraints=(Constraint(metric="parameters", at_most=10),))

    [message] = refused(glanced_at(study(own)))

    assert message.startswith("mine: space: no candidate found has parameters of at most 10;")
    assert "loosen the space's own constraint" in message


def test_a_seed_point_that_meets_the_constraints_suffices(
    small_space: Make, study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasibility, "MAX_STEPS", 0)
    monkeypatch.setattr(feasibility, "SMALL_STARTS", 0)
    space = small_space(widest=512, most_stages=4, first_width=512)
    stages = "architecture.streams.image.stages"
    smallest = {f"{stages}.count": 1, f"{stages}.0.width": 8}
    limits = {"constraints": [{"metric": "parameters", "at_most": 3000}]}

    alone = looked_at(study(space, **limits))
    given = looked_at(study(space, seed_points=[smallest], **limits))

    assert len(refused(alone)) == 1
    assert refused(given) == []


def test_a_slow_space_is_told_about_within_the_box(small_space: Make, study: Make) -> None:
    clock = Ticking()
    space = replace(small_space(), candidates=Slow(small_space().candidates, clock))

    found = looked_at(study(space), clock=clock)

    assert clock.seconds <= 11  # a candidate under way is not cut off
    assert 1 <= len(found.sampled) <= 3
    assert f"of {len(found.sampled):,} (100.0%) fit" in report.text(found, 1000)


def test_hours_that_end_before_the_first_rung_are_refused(small_space: Make, study: Make) -> None:
    parts = study(small_space(), stop={"hours": 0.001}, budget={"minimum": 2, "maximum": 9})
    found = replace(glanced_at(parts), pace=Pace(weights=(1.0, 1.0, 1.0), timed=3, error=0.1))

    [message] = refused(found, examples=1000)

    assert message.startswith("mine: stop.hours: 4 s end before the fastest of ")
    assert "after 2 epochs or about" in message
    assert refused(found, examples=1) == []


def test_a_healthy_space_is_told_at_a_glance(small_space: Make, study: Make) -> None:
    found = glanced_at(study(small_space()))

    assert refused(found) == []
    assert len(found.counted) == 1  # one who can be trained is enough where nothing is timed
    assert found.forecast is None


def test_the_time_of_real_training_is_foretold_with_its_range(
    small_space: Make, study: Make
) -> None:
    engine = {"name": "in_process"}
    parts = study(small_space(), source="digits", engine=engine, stop={"trials": 5})

    found = looked_at(parts)

    assert found.pace is not None
    assert found.forecast is not None
    assert 0 < found.forecast.seconds.low <= found.forecast.seconds.median
    assert report.forecast_line(found).startswith("5 trials on 1 slot: about ")


def test_equal_seeds_find_equal_candidates(small_space: Make, study: Make) -> None:
    found = [looked_at(study(small_space(), seed=5)) for _ in range(2)]
    shortest = min(len(one.sampled) for one in found)

    first, second = ([sample.params for sample in one.sampled[:shortest]] for one in found)
    assert first == second


def test_a_quick_look_leaves_the_gpu_to_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("timed in the driver")

    monkeypatch.setattr(timing, "pace_of", never)
    monkeypatch.setattr(timing, "slots_of", lambda _: 1)
    given = [("resources.gpu", "1"), ("engine.name", "ray_tune")]
    config = load("tiny", [Override.parse(key, value, "--set") for key, value in given])
    assert glanced_at(prepare_study(config)).forecast is None
