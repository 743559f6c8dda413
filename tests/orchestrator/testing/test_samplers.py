"""Every sampler of study.yaml keeps the contract of samplers; a broken one does not."""

from typing import Any

import pytest

from orchestrator.objective import Objective
from orchestrator.sampling.auto_sampler import AutoSampler
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.testing import SamplerContract
from orchestrator.testing.samplers import SPACE, MakeSampler
from search_spaces.space import Constraint
from workers.budget import Budget


def maker(name: str) -> MakeSampler:
    return lambda seed, objectives: OptunaSampler(sampler=name, objectives=objectives, seed=seed)


@pytest.mark.parametrize("name", ["tpe", "random", "nsga2", "nsga3", "gp"])
class TestOptunasSamplers(SamplerContract):
    @pytest.fixture
    def make_sampler(self, name: str) -> MakeSampler:
        return maker(name)


class TestAutoSampler(SamplerContract):
    @pytest.fixture
    def make_sampler(self) -> MakeSampler:
        return lambda seed, objectives: AutoSampler(
            space=SPACE,
            objectives=objectives,
            constraints=(Constraint(metric="parameters", at_most=110),),
            budget=Budget(minimum=1, maximum=9),
            seed=seed,
        )


class Forgetful:
    """A sampler whose suggestions depend on how many it has made."""

    def __init__(self, seed: int, objectives: tuple[Objective, ...]) -> None:
        self._made = 0
        self._inner = OptunaSampler(sampler="random", objectives=objectives, seed=seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sample(self, number: int, resample: int, fixed: Any = None) -> Any:
        self._made += 1
        return self._inner.sample(number + self._made, resample, fixed)


def test_the_contract_catches_a_sampler_that_depends_on_discarded_suggestions() -> None:
    with pytest.raises(AssertionError):
        SamplerContract().test_equal_histories_and_seeds_sample_equally(Forgetful)
