"""First designs: feasible kinds of networks after the default and the seed points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.studies import config, opened

from orchestrator.sampling import auto_sampler
from orchestrator.sampling.first_designs import FirstDesigns
from orchestrator.sampling.seed_points import first_points
from search_spaces.blocks import ConvolutionStem, Residual, Stage
from search_spaces.catalog import load, parts
from search_spaces.catalog.known import plain_cnn
from search_spaces.domains import Const, IntRange, Record, Repeat, choice
from search_spaces.domains.suggester import ReplaySuggester
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task

IMAGE = Task(inputs={"image": (1, 28, 28)}, num_classes=10)
ALL = FirstDesigns(maximum=100)


def described(space: SearchSpace, points: Sequence[Any]) -> list[str]:
    return [space.resolve(ReplaySuggester(params)).describe() for params in points]


def designs(name: str, task: Task = IMAGE, rule: FirstDesigns = ALL) -> list[str]:
    space = load(name)
    return described(space, rule.choose(space, [space.default_params()], task))


@pytest.mark.parametrize(("trials", "maximum"), [(7, 0), (8, 2), (20, 5), (40, 10), (None, 5)])
def test_they_take_at_most_a_quarter_of_the_trials(trials: int | None, maximum: int) -> None:
    assert FirstDesigns.for_limit(trials, ()).maximum == maximum


def test_each_kind_of_block_is_tried_and_the_most_different_first() -> None:
    found = designs("hybrid")
    kinds = {"C24-C48-C96", "C24-M48-M96", "C24-N48-N96", "C24-T48-T96", "C24-CT48-CT96 gate"}
    assert set(found) == kinds
    # The default has a residual stage and a gated one, so these share the most with it.
    assert set(found[-2:]) == {"C24-C48-C96", "C24-CT48-CT96 gate"}
    assert designs("hybrid", rule=FirstDesigns(maximum=2)) == found[:2]


def test_no_network_of_the_first_points_comes_twice() -> None:
    space = load("hybrid")
    mbconv = space.kinds()[1]
    points = first_points(space, [mbconv], 0, IMAGE)
    assert points == (space.default_params(), mbconv)
    found = ALL.choose(space, points, IMAGE)
    assert len(found) == 4
    assert not [design for design in found if design in points]
    assert found == ALL.choose(space, points, IMAGE)


def test_infeasible_kinds_are_left_out() -> None:
    flops = load("hybrid").default().cost(IMAGE)["flops"]
    rule = FirstDesigns(maximum=9, constraints=(Constraint(metric="flops", at_most=float(flops)),))
    assert "C24-CT48-CT96 gate" not in designs("hybrid", rule=rule)
    assert "C24-C48-C96" in designs("hybrid", rule=rule)


def test_networks_far_dearer_than_the_default_are_left_out_unless_all_are_cheap() -> None:
    def vectors(width: int) -> Task:
        return Task(inputs={"vector": (width,)}, num_classes=3)

    assert designs("vector", vectors(4)) == ["V64-F64", "V64-T64"]
    assert designs("vector", vectors(400)) == []


def test_known_networks_that_the_space_contains_are_tried() -> None:
    stage = Record(
        Stage,
        {
            "width": IntRange(8, 64, step=8),
            "depth": IntRange(0, 2),
            "reduction": Const("pool"),
            "block": Const(Residual()),
        },
    )
    stem = Record(ConvolutionStem, {"width": choice(16, 32), "reduction": Const("pool")})
    space = SearchSpace.of(
        name="plain",
        version="1",
        architecture=parts.plain_classifier(stem, Repeat(stage, 1, 2)),
    )
    found = ALL.choose(space, [space.default_params()], None)
    assert found == [space.encode_network(plain_cnn())]


def test_a_study_that_is_past_its_designs_screens_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []

    def choose(*given: object) -> list[Any]:
        chosen.append(given)
        return original(*given)

    original = FirstDesigns.choose
    monkeypatch.setattr(FirstDesigns, "choose", choose)
    task = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
    asked = config(space="tiny", train=None, stop={"trials": 8}, sampler={"name": "auto"})
    starts = []
    for proposed in (1, 2, 1, 1):
        with opened(tmp_path, asked, space=load("tiny"), task=task) as study:
            known = len(study.trials)
            while len(study.trials) < known + proposed:
                study.ask()
            starts.append(len(chosen))
    assert starts == [0, 1, 1, 1]  # trials 0; 1 and 2, the designs; 3; 4


@pytest.mark.parametrize(("bound", "tried"), [(2.0, 0), (5.0, 1), (10.0, 2)])
def test_a_study_gives_no_number_to_designs_that_violate_its_constraints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: float, tried: int
) -> None:
    monkeypatch.setattr(auto_sampler, "NUM_COUNTED", 4)  # costs a second otherwise
    space, task = load("vector"), Task(inputs={"vector": (4,)}, num_classes=3)
    # The designs have 7.9 and 3.9 times the FLOPs of the default; all train in milliseconds.
    at_most = bound * space.default().cost(task)["flops"]
    asked = config(
        space="vector",
        train=None,
        stop={"trials": 8},
        sampler={"name": "auto"},
        constraints=[{"metric": "flops", "at_most": at_most}],
    )
    with opened(tmp_path, asked, space=space, task=task) as study:
        while len(study.trials) < 3:
            study.ask()
        found = [trial.params for trial in study.trials]
    assert sum(kind in found for kind in space.kinds()) == tried


@pytest.mark.parametrize(
    ("sampler", "kinds"), [("auto", ["C8-C8", "C8-T8", "C8-CT8 gate"]), ("random", ["C8-C8"])]
)
def test_a_study_with_sampler_auto_tries_them_and_resumes_with_the_same(
    tmp_path: Path, sampler: str, kinds: list[str]
) -> None:
    task = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
    asked = config(space="tiny", train=None, stop={"trials": 8}, sampler={"name": sampler})
    for number in range(4):  # resumed after each trial, whose attempt is dropped
        with opened(tmp_path, asked, space=load("tiny"), task=task) as study:
            jobs = [study.ask() for _ in range(number + 1)]
            found = [trial.describe for trial in study.trials]
            assert None not in jobs
    assert found[: len(kinds)] == kinds
    assert len(found) == 4
