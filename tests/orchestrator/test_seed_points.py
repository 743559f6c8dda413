"""Seed points by the name of a known network, and duplicates by what the network is."""

from pathlib import Path
from typing import Any

import pytest
from support.studies import config, opened

from orchestrator.sampling.duplicates import digest_of
from orchestrator.sampling.seed_points import SeedPointError, first_points
from orchestrator.trial import TrialState
from search_spaces.architecture import Architecture
from search_spaces.catalog import load
from search_spaces.catalog.known import known, plain_cnn
from search_spaces.domains import Const, FloatRange, OneOf, Record
from search_spaces.losses import loss_domain
from search_spaces.recipe import Recipe
from search_spaces.space import DefineByRunSpace, SearchSpace
from search_spaces.task import Task

TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=4)


def space(**architectures: Architecture) -> SearchSpace:
    """Networks by label, and one decision of the recipe."""
    recipe = Record(Recipe, {"learning_rate": FloatRange(0.1, 0.2, initial=0.1)})
    return SearchSpace.of(
        name="few",
        version="1",
        architecture=OneOf({label: Const(value) for label, value in architectures.items()}),
        recipe=recipe,
        losses=loss_domain(main=("cross_entropy",), side=()),
    )


DEFAULT = load("tiny").default().architecture
FEW = space(small=DEFAULT, reference=plain_cnn())


def test_a_known_network_comes_under_the_default_recipe() -> None:
    default, named = first_points(FEW, ["plain_cnn"], 0)
    assert default == {**named, "architecture": "small"}
    assert (named["architecture"], named["recipe.learning_rate"]) == ("reference", 0.1)


def test_names_and_parameters_stand_side_by_side_each_network_once() -> None:
    by_path = {"architecture": "reference", "recipe.learning_rate": 0.1}
    points = first_points(FEW, [by_path, "plain_cnn", {"recipe.learning_rate": 0.15}], 0)
    assert [point["recipe.learning_rate"] for point in points] == [0.1, 0.1, 0.15]


@pytest.mark.parametrize(
    ("searched", "name", "reason"),
    [
        (FEW, "plain_cn", r"seed_points\[0\]: unknown network 'plain_cn'.*'plain_cnn'"),
        (load("hybrid"), "vit_tiny", "'vit_tiny' is outside space 'hybrid'; search a space"),
        (
            DefineByRunSpace(name="mine", version="1", function=lambda trial: None),
            "vit_tiny",
            "space 'mine' contains no networks; give parameters",
        ),
    ],
)
def test_a_network_that_the_space_does_not_hold_is_refused(
    searched: Any, name: str, reason: str
) -> None:
    with pytest.raises(SeedPointError, match=reason):
        first_points(searched, [name], 0)


def test_two_spellings_of_one_network_are_one_trial(tmp_path: Path) -> None:
    plain = known("vit_tiny")
    data = plain.to_dict()
    data["streams"]["image"]["stem"]["patch"] = 8  # no image of 8 by 8 has larger patches
    twice = space(one=plain, other=Architecture.from_dict(data))
    points = ({"architecture": "other", "recipe.learning_rate": 0.1},)
    assert len(first_points(twice, points, 0)) == 2
    assert len(first_points(twice, points, 0, TASK)) == 1
    asked = config(space="few.py:space", train=None, stop={"trials": 3})
    with opened(tmp_path, asked, space=twice, task=TASK) as study:
        job = study.ask()
        assert job is not None
        assert study.trials[0].candidate["architecture"] == plain.to_dict()
        assert study.trials[0].state is TrialState.RUNNING
        assert study.trials[0].digest == digest_of(twice.default(), TASK)


def test_a_network_that_does_not_fit_the_task_is_told_by_its_spelling() -> None:
    reads_text = space(lstm=known("lstm")).default()
    assert digest_of(reads_text, TASK) == reads_text.digest
