"""Structural alternatives of a default, read from the domains of ready spaces and of users'."""

from typing import Any

import pytest

from search_spaces.blocks import Attention, Block, Residual, Stage
from search_spaces.catalog import catalog, load, parts
from search_spaces.catalog.known import plain_cnn
from search_spaces.domains import Const, IntRange, OneOf, Record, Repeat, choice
from search_spaces.domains.suggester import ReplaySuggester
from search_spaces.space import DefineByRunSpace, SearchSpace


def described(space: SearchSpace) -> list[str]:
    return [space.resolve(ReplaySuggester(params)).describe() for params in space.kinds()]


@pytest.mark.parametrize("name", catalog())
def test_a_kind_is_a_candidate_of_the_space_that_changes_the_network_only(name: str) -> None:
    space, default = load(name), load(name).default_params()
    for params in space.kinds():
        candidate = space.resolve(ReplaySuggester(params))
        assert space.encode(candidate) == params != default
        assert (candidate.recipe, candidate.losses) == (
            space.default().recipe,
            space.default().losses,
        )


def test_all_stages_of_the_default_get_the_kind_and_keep_their_widths() -> None:
    kinds = ["C24-C48-C96", "C24-M48-M96", "C24-N48-N96", "C24-T48-T96", "C24-CT48-CT96 gate"]
    assert described(load("hybrid")) == kinds
    attention = load("hybrid").kinds()[3]
    stages = "architecture.streams.image.stages"
    assert [attention[f"{stages}.{index}"] for index in (0, 1)] == ["attention", "attention"]
    assert attention[f"{stages}.0.attention.heads"] == 4


def test_a_stage_that_has_the_kind_already_keeps_its_options() -> None:
    block = Record(Residual, {"kernel": choice(3, 5)})
    blocks: dict[str, Any] = {"residual": block, "attention": Const(Attention())}
    stage = Record(
        Stage, {"width": IntRange(8, 16, step=8), "depth": Const(1), "block": OneOf(blocks)}
    )
    initial = (
        Stage(width=8, depth=1, block=Residual(kernel=5)),
        Stage(width=16, depth=1, block=Attention()),
    )
    stem = load("tiny").default().architecture.streams["image"].stem
    space = SearchSpace.of(
        name="mine",
        version="1",
        architecture=parts.plain_classifier(Const(stem), Repeat(stage, 1, 3, initial=initial)),
    )
    convolution, attention = space.kinds()
    stages = "architecture.streams.image.stages"
    kernels = [convolution[f"{stages}.{index}.block.residual.kernel"] for index in (0, 1)]
    assert kernels == [5, 3]
    assert [attention[f"{stages}.{index}.block"] for index in (0, 1)] == ["attention"] * 2


def test_each_stream_and_the_fusion_vary_by_themselves() -> None:
    kinds = described(load("image_text"))
    assert "C24-T48-T96 + E64-R64" in kinds
    assert "C24-C48-C96 + E64-T64" in kinds
    assert "C24-C48-C96 + E64-R64 two_tower" in kinds


def test_kinds_inside_another_stream_are_found() -> None:
    assert described(load("vector")) == ["V64-T64", "V64-F64"]


def test_whole_networks_by_name_are_kinds_and_functions_have_none() -> None:
    default = load("tiny").default().architecture
    networks: dict[str, Any] = {"small": Const(default), "reference": Const(plain_cnn())}
    space = SearchSpace.of(name="few", version="1", architecture=OneOf(networks))
    assert [params["architecture"] for params in space.kinds()] == ["reference"]
    function = DefineByRunSpace(name="mine", version="1", function=lambda trial: None)
    assert function.kinds() == []


def test_plain_choices_are_no_kinds() -> None:
    blocks: dict[str, Block] = {"residual": Residual()}
    network: Any = Record(dict, {"block": choice(*blocks), "width": IntRange(1, 3)})
    candidate = load("tiny").default()
    space = SearchSpace.of(
        name="plain",
        version="1",
        architecture=network,
        recipe=Const(candidate.recipe),
        losses=Const(candidate.losses),
    )
    assert space.kinds() == []
