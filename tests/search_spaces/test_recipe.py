"""Recipes: the domain's laws, plain data, and refusals."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.recipe import Recipe, recipe_domain
from search_spaces.space import Constraint


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_recipe_and_its_parameters_lead_to_each_other(seed: int) -> None:
    domain = recipe_domain(augmentations=("flip_shift", "none"), precisions=("auto", "bfloat16"))
    chance = RandomSuggester(seed)
    recipe = domain.resolve(chance, "recipe")
    assert domain.encode(recipe, "recipe") == chance.params
    assert domain.resolve(ReplaySuggester(chance.params), "recipe") == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_the_default_of_the_domain_is_the_recipe_of_all_defaults() -> None:
    assert recipe_domain().default() == Recipe()


def test_what_belongs_to_an_optimizer_is_named_beneath_it() -> None:
    recipe = Recipe(optimizer="adamw", learning_rate=3e-3)
    params = recipe_domain().encode(recipe, "recipe")
    assert params["recipe.optimizer"] == "adamw"
    assert params["recipe.optimizer.adamw.learning_rate"] == recipe.learning_rate
    assert "recipe.optimizer.adamw.momentum" not in params


def test_digits_are_never_mirrored_unless_a_space_says_so() -> None:
    assert Recipe(augmentation="flip_shift") not in recipe_domain()
    assert Recipe(augmentation="flip_shift") in recipe_domain(augmentations=("flip_shift",))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adam"),
        ("schedule", "steps"),
        ("augmentation", "mixup"),
        ("precision", "float16"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("warmup", 1.0),
        ("batch_size", 0),
        ("accumulation", 0),
        ("gradient_clip", 0.0),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"recipe\.{field}: "):
        Recipe(**{field: value})


def test_an_unknown_field_is_reported_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no field 'learning_rat'.* Did you mean 'learning_rate'"):
        Recipe.from_dict({"learning_rat": 0.1})


def test_a_violation_is_the_share_by_which_a_bound_is_exceeded() -> None:
    bound = Constraint(metric="parameters", at_most=2.0e6)
    assert bound.violation(3.0e6) == 0.5
    assert bound.violation(2.0e6) == 0
    assert bound.violation(1.0e6) == -0.5


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_without_scale_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="at_most"):
        Constraint(metric="parameters", at_most=bound)
