"""Small studies on spaces of the tests' own, for the preflight checks."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.config.schema import StudyConfig
from orchestrator.study.prepare import StudyInputs
from search_spaces.blocks import Attention, ConvolutionStem, Residual, Stage
from search_spaces.catalog import parts
from search_spaces.domains import (
    Const,
    Domain,
    Inline,
    IntRange,
    OneOf,
    Record,
    Repeat,
    choice,
)
from search_spaces.space import SearchSpace
from workers.data import load
from workers.data.spec import DataSpec


@pytest.fixture(scope="session")
def small_space() -> Callable[..., SearchSpace]:
    """Makes a finite space of architectures: residual or attention stages."""

    def make(
        heads: tuple[int, ...] = (2, 4),
        *,
        residual: bool = True,
        widest: int = 16,
        most_stages: int = 2,
        first_width: int | None = None,
    ) -> SearchSpace:
        attention: Domain[Any] = Record(Attention, {"heads": choice(*heads)})
        blocks: dict[str, Domain[Any]] = {"residual": Const(Residual())} if residual else {}
        block = Inline(OneOf({**blocks, "attention": attention}))
        width = IntRange(8, widest, step=8, initial=first_width)
        stage = Record(Stage, {"width": width, "depth": Const(1), "block": block})
        return SearchSpace.of(
            name="small",
            version="1",
            architecture=parts.plain_classifier(
                Const(ConvolutionStem(width=8)), Repeat(stage, 1, most_stages)
            ),
        )

    return make


@pytest.fixture
def study() -> Callable[..., StudyInputs]:
    """Makes an opened study whose trials train nothing; `source` changes that."""

    def make(space: SearchSpace, source: str = "surrogate", **changed: Any) -> StudyInputs:
        config = StudyConfig.model_validate(
            {"name": "mine", "space": "tiny", "data": {"source": source}, **changed}
        )
        return StudyInputs(
            config=config,
            space=space,
            base_space=space,
            dataset=load(DataSpec(source=source)),
            code=None,
        )

    return make
