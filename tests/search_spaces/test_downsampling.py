"""A stage's first block may change width and resolution itself."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import (
    Attention,
    Block,
    Chain,
    Classify,
    Concatenate,
    ConvNeXt,
    ConvolutionStem,
    FeedForward,
    MBConv,
    RawStem,
    Recurrent,
    Residual,
    Stage,
    UnbuildableError,
)
from search_spaces.canonical import canonical
from search_spaces.task import Shape, Task

WINDOW = Attention(heads=2, scope="window", window=3, positions="relative")
ENTERING: list[tuple[Block, Shape, Shape]] = [
    (Residual(), (6, 9, 8), (16, 5, 4)),
    (MBConv(squeeze=True), (6, 9, 8), (16, 5, 4)),
    (MBConv(halving="first"), (6, 9, 8), (16, 5, 4)),
    (Attention(heads=2), (6, 9, 8), (16, 5, 4)),
    (WINDOW, (6, 9, 8), (16, 5, 4)),
    (FeedForward(), (6, 9, 8), (16, 5, 4)),
    (Chain(blocks=(MBConv(), WINDOW)), (6, 9, 8), (16, 5, 4)),
    (Residual(), (6, 4, 4), (16, 4, 4)),
    (MBConv(), (16, 9, 8), (16, 5, 4)),
    (Attention(heads=2), (6, 4, 9), (16, 4, 9)),
    (Recurrent(), (7, 5), (7, 16)),
    (Recurrent(cell="gru"), (7, 5), (7, 16)),
    (Attention(heads=2, positions="sinusoidal"), (7, 5), (7, 16)),
    (FeedForward(), (1, 5), (1, 16)),
]


@pytest.mark.parametrize(("block", "shape", "target"), ENTERING, ids=str)
def test_a_first_block_changes_width_and_resolution(
    block: Block, shape: Shape, target: Shape
) -> None:
    torch.manual_seed(0)
    stage = Stage(width=16, depth=2, reduction="block", block=block)
    assert stage.out_shape(shape) == target
    module = stage.build(shape)
    assert len(module) == 2
    y = module(torch.randn(4, *shape))
    assert y.shape == (4, *target)
    (y.square() * torch.randn_like(y)).sum().backward()
    starved = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert starved == []


def test_what_neither_widens_nor_halves_holds_its_blocks_alone() -> None:
    stage = Stage(width=8, depth=2, reduction="block", block=ConvNeXt())
    assert stage.out_shape((8, 4, 4)) == (8, 4, 4)
    assert len(stage.build((8, 4, 4))) == 2


@pytest.mark.parametrize(
    "stage",
    [
        Stage(width=8, depth=1, reduction="block", block=ConvNeXt()),
        Stage(width=8, depth=0, reduction="block", block=Residual()),
        Stage(width=8, depth=1, reduction="block", block=Chain(blocks=(ConvNeXt(), Residual()))),
        Stage(width=8, depth=1, reduction="block", block=Attention(form="linear")),
    ],
    ids=str,
)
def test_a_block_that_cannot_change_the_width_is_refused(stage: Stage) -> None:
    with pytest.raises(UnbuildableError, match=r"chang"):
        stage.build((6, 9, 8))


def test_attention_downsamples_by_pooling_in_its_branch_and_its_shortcut() -> None:
    torch.manual_seed(0)
    stage = Stage(
        width=8,
        depth=1,
        reduction="block",
        block=Attention(heads=1, mlp_ratio=0.0, positions="none"),
    )
    (module,) = stage.build((4, 6, 6))
    x = torch.randn(2, 4, 6, 6)
    normed = functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
    tokens, normed = (
        functional.avg_pool2d(one, 2).flatten(2).transpose(1, 2) for one in (x, normed)
    )
    query, key, value = module.attention.qkv(normed).split(8, dim=2)
    mixed = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1) @ value
    expected = module.entry.project(tokens) + module.attention.out(mixed)
    torch.testing.assert_close(module(x), expected.transpose(1, 2).reshape(2, 8, 3, 3))


def test_a_recurrent_cell_enters_as_torchs_own() -> None:
    torch.manual_seed(0)
    stage = Stage(width=6, depth=1, reduction="block", block=Recurrent())
    (module,) = stage.build((5, 3))
    theirs = nn.LSTM(3, 6, batch_first=True)
    theirs.load_state_dict(module.cell.state_dict())
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(module(x), theirs(x)[0])


def test_the_two_ways_of_entering_are_two_networks_and_needless_words_are_none() -> None:
    task = Task(inputs={"image": (4, 12, 12)}, num_classes=2)

    def network(reduction: str, kernel: int = 3) -> Architecture:
        stage = Stage(width=8, depth=1, reduction=reduction, kernel=kernel, block=Residual())
        return Architecture(
            streams={"image": Stream(stem=ConvolutionStem(width=4), stages=(stage,))},
            fusion=Concatenate(),
            head=Classify(),
        )

    assert canonical(network("block"), task) == canonical(network("block", 5), task)
    assert canonical(network("block"), task) != canonical(network("stride"), task)
    small = Task(inputs={"image": (4, 3, 3)}, num_classes=2)
    assert canonical(network("block"), small) != canonical(network("none"), small)


def test_the_raw_stem_gives_what_goes_in() -> None:
    for shape in ((3, 4, 5), (6, 2)):
        x = torch.randn(2, *shape)
        assert RawStem().build(shape)(x) is x
    vector = torch.randn(2, 7)
    assert torch.equal(RawStem().build((7,))(vector)[:, 0], vector)
    with pytest.raises(UnbuildableError, match="needs a map, a sequence or a vector"):
        RawStem().out_shape((2, 3, 4, 5))
