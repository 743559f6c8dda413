"""Known networks have the size that was published, and are points of the grammar like any other."""

import json

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture
from search_spaces.blocks import (
    Attention,
    Concatenate,
    PatchStem,
    Residual,
    Stage,
    UnbuildableError,
)
from search_spaces.catalog.known import KNOWN, known
from search_spaces.cost import cost
from search_spaces.diagram import diagram
from search_spaces.plugins import UnknownNameError
from search_spaces.task import Task

IMAGENET = Task(inputs={"image": (3, 224, 224)}, num_classes=1000)
# Millions of parameters and billions of multiply-adds for 224 by 224: from timm's table of ImageNet
# results; for CvT, from table 2 of its paper.
PUBLISHED = {
    "vit_tiny": (5.72, 1.26),
    "vit_small": (22.05, 4.61),
    "vit_base": (86.57, 17.58),
    "convnext_atto": (3.70, 0.55),
    "convnext_femto": (5.22, 0.79),
    "convnext_pico": (9.05, 1.37),
    "convnext_nano": (15.59, 2.46),
    "convnext_tiny": (28.59, 4.47),
    "convnext_small": (50.22, 8.71),
    "swin_tiny": (28.29, 4.51),
    "swin_small": (49.61, 8.77),
    "cvt_13": (19.98, 4.53),
    "cvt_21": (31.54, 7.13),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_network_has_the_published_size(name: str) -> None:
    counted = cost(known(name), IMAGENET)
    millions, multiply_adds = PUBLISHED[name]
    assert counted.parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert counted.flops / 2e9 == pytest.approx(multiply_adds, rel=0.03)


@pytest.mark.parametrize(("name", "multiply_adds"), [("cvt_13", 16.3), ("cvt_21", 24.9)])
def test_a_convolutional_transformer_grows_with_the_image_as_published(
    name: str, multiply_adds: float
) -> None:
    # Table 3 of its paper. Without an embedding of places the parameters stay.
    large = Task(inputs={"image": (3, 384, 384)}, num_classes=1000)
    counted = cost(known(name), large)
    assert counted.flops / 2e9 == pytest.approx(multiply_adds, rel=0.01)
    assert counted.parameters == cost(known(name), IMAGENET).parameters


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_network_survives_the_round_trip_through_plain_data(name: str) -> None:
    data = json.loads(json.dumps(known(name).to_dict()))
    assert Architecture.from_dict(data) == known(name)


def test_the_plain_convolution_network_is_the_one_that_textbooks_build() -> None:
    torch.manual_seed(0)
    ours = known("plain_cnn").build(Task(inputs={"image": (1, 28, 28)}, num_classes=10)).eval()
    theirs = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.MaxPool2d(2)),
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2)),
        *(nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    ).eval()
    pairs = zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict({name: value for (name, _), value in pairs})
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(ours({"image": x}).logits_BK, theirs(x))


def test_the_lstm_is_the_one_that_textbooks_build() -> None:
    torch.manual_seed(0)
    ours = known("lstm").build(Task(inputs={"text": (7,)}, num_classes=2)).eval()
    embedding, cell, linear = nn.Embedding(10_000, 128), nn.LSTM(128, 128), nn.Linear(128, 2)
    values = iter(ours.state_dict().values())
    for module in (embedding, cell, linear):
        module.load_state_dict({name: next(values) for name in module.state_dict()})
    tokens = torch.randint(10_000, (3, 7))
    states, _ = cell(embedding(tokens.T))
    torch.testing.assert_close(ours({"text": tokens}).logits_BK, linear(states[-1]))


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'convnext_tiny'"):
        known("convnext_tny")


@pytest.mark.parametrize("reduction", ["tokens", "patch"])
@pytest.mark.parametrize(("side", "expected"), [(8, 4), (7, 4), (4, 4), (1, 1)])
def test_networks_of_tokens_halve_maps_and_sequences_as_others_do(
    reduction: str, side: int, expected: int
) -> None:
    stage = Stage(width=8, depth=1, reduction=reduction, block=Attention(heads=2))
    for shape, promised in (
        ((4, side, side), (8, expected, expected)),
        ((side, 4), (expected, 8)),
    ):
        assert stage.out_shape(shape) == promised
        y = stage.build(shape)(torch.randn(2, *shape))
        assert y.shape == (2, *promised)


def test_patches_are_merged_as_a_linear_map_of_four_neighbours() -> None:
    stage = Stage(width=3, depth=0, reduction="patch", normalisation="layer", block=Residual())
    norm, merge = stage.build((4, 6, 6))
    x = torch.randn(2, 4, 6, 6)
    corner = norm(x)[:, :, 2:4, 4:6].flatten(1)
    expected = corner @ merge.weight.flatten(1).T + merge.bias
    torch.testing.assert_close(merge(norm(x))[:, :, 1, 2], expected)


@pytest.mark.parametrize("side", [28, 30, 31, 8])
def test_overlapping_patches_are_as_many_as_patches(side: int) -> None:
    stem = PatchStem(width=8, patch=4, overlap=3, positions=True)
    shape = (1, side, side)
    assert stem.out_shape(shape) == PatchStem(width=8, patch=4).out_shape(shape)
    assert stem.build(shape)(torch.randn(2, *shape)).shape[1:] == stem.out_shape(shape)


def test_normalised_embeddings_have_mean_zero_and_variance_one() -> None:
    module = Concatenate(normalisation="layer").build({"a": (16, 3, 3), "b": (5, 16)})
    y = module({"a": torch.randn(2, 16, 3, 3) + 1, "b": torch.randn(2, 5, 16)})
    torch.testing.assert_close(y.mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2), atol=1e-2, rtol=0)


def test_a_negative_overlap_is_refused() -> None:
    with pytest.raises(UnbuildableError, match="overlap must not be negative"):
        PatchStem(overlap=-1).build((1, 8, 8))


def test_known_networks_can_be_drawn() -> None:
    for name in KNOWN:
        shape = (7,) if name == "lstm" else (3, 224, 224)
        stream = "text" if name == "lstm" else "image"
        drawing = diagram(known(name).to_dict(), Task(inputs={stream: shape}, num_classes=10))
        assert drawing.startswith("<svg")
