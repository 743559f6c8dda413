"""`pendulum`: a pendulum's next state and energy, with and without an energy term."""

from typing import get_args

from search_spaces.catalog import step_parts, vector
from search_spaces.loss_terms import BalancerName
from search_spaces.losses import loss_domain
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """Return the space of networks for the state (angle, velocity) of a pendulum."""
    return SearchSpace.of(
        name="pendulum",
        version="1",
        architecture=vector.architecture(),
        recipe=step_parts.recipe(),
        losses=loss_domain(
            main=("mse",), side=("pendulum_energy",), balancers=get_args(BalancerName)
        ),
    )
