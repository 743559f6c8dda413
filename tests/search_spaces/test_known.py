"""Known networks have the published size, and are candidates like any other."""

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.figures.architecture import diagram
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
from search_spaces.plugins import UnknownNameError
from search_spaces.task import Task

IMAGENET = Task(inputs={"image": (3, 224, 224)}, num_classes=1000)
# Millions of parameters and billions of multiply-adds for 224 by 224: from timm's table of ImageNet
# results; for CvT, from table 2 of its paper; for CoAtNet, from table
# 4 of its own (25 M, 4.2 B).
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
    "coatnet_0": (25.0, 4.2),
    "maxvit_tiny": (30.92, 5.60),
}
TASKS = {
    "conformer_small": Task(inputs={"sound": (1, 80, 400)}, num_classes=1000),
    "transformer_xl_12": Task(inputs={"text": (1024,)}, num_classes=204),
    "hybrid_cvt": Task(inputs={"image": (3, 256, 256)}, num_classes=2),
    "plain_cnn": Task(inputs={"image": (1, 28, 28)}, num_classes=10),
    "cnn_64": Task(inputs={"image": (3, 64, 64)}, num_classes=10),
    "cnn_28": Task(inputs={"image": (1, 28, 28)}, num_classes=10),
    "lstm": Task(inputs={"text": (7,)}, num_classes=2),
    "lstm_series": Task(inputs={"series": (20, 5)}, num_classes=0, num_values=1),
    "encoder": Task(inputs={"text": (32,)}, num_classes=4),
}
"""What networks are built for that are not for ImageNet."""


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


def flops_of(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Of one example, by torch's counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() // len(inputs[0])


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class ConformerReference(nn.Module):
    """The encoder of Gulati et al. 2020 written from its paper, of 80 frequencies."""

    def __init__(self, width: int, depth: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.heads = heads
        self.subsample = nn.Sequential(
            *(nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU())
        )
        self.enter = nn.Linear(20 * width, width)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            dense = [
                nn.Sequential(
                    nn.LayerNorm(width),
                    *(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)),
                )
                for _ in range(2)
            ]
            parts = {
                "first": dense[0],
                "norm": nn.LayerNorm(width),
                "query": nn.Linear(width, width),
                "key": nn.Linear(width, width),
                "value": nn.Linear(width, width),
                "place": nn.Linear(width, width, bias=False),
                "biases": nn.Linear(width, 2, bias=False),
                "out": nn.Linear(width, width),
                "convolution_norm": nn.LayerNorm(width),
                "convolution": nn.Sequential(
                    *(nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=1)),
                    nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width),
                    *(nn.BatchNorm1d(width), nn.SiLU(), nn.Conv1d(width, width, 1)),
                ),
                "second": dense[1],
                "last_norm": nn.LayerNorm(width),
            }
            self.layers.append(nn.ModuleDict(parts))
        self.score = nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(self.subsample(x).flatten(1, 2).transpose(1, 2))
        _, length, width = x.shape
        places = torch.zeros(2 * length - 1, width, device=x.device)
        for layer in self.layers:
            x = x + layer["first"](x) / 2
            normed = layer["norm"](x)
            query, key, value = (
                layer[name](normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            far = layer["place"](places).unflatten(1, (self.heads, -1)).permute(1, 2, 0)
            scores = query @ key.transpose(2, 3) + (query @ far)[..., :length]
            heard = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
            x = x + layer["out"](heard)
            x = x + layer["convolution"](layer["convolution_norm"](x).mT).mT
            x = layer["last_norm"](x + layer["second"](x) / 2)
        return self.score(x.mean(1))


def test_the_conformer_is_as_large_as_one_written_from_its_paper() -> None:
    counted = cost(known("conformer_small"), TASKS["conformer_small"])
    with torch.device("meta"):
        theirs = ConformerReference(144, 16, 4, 31)
        flops = flops_of(theirs, torch.empty(2, 1, 80, 400))
    assert counted.parameters == pytest.approx(size(theirs), rel=0.01)
    assert counted.flops == pytest.approx(flops, rel=0.03)


def test_transformer_xl_is_as_large_as_published_and_as_counted_by_hand() -> None:
    counted = cost(known("transformer_xl_12"), TASKS["transformer_xl_12"])
    # Dai et al. 2019, table 2: the 12-layer network on enwik8 has 41 million parameters.
    assert counted.parameters == pytest.approx(41e6, rel=0.01)
    length, segment, width, inside, layers = 1024, 512, 512, 2048, 12
    query_and_out, keys_and_values = 2 * width**2, 2 * 2 * width**2  # these also of the memory
    scores_and_mix = 2 * (2 * segment) * width
    distances = (2 * segment) * width
    dense = 2 * width * inside
    each = query_and_out + keys_and_values + scores_and_mix + distances + dense
    # The sinusoids are mapped once for a batch of two, and one step is answered.
    once = 2 * segment * width**2 // 2
    by_hand = 2 * (layers * (length * each + once) + width * 204)
    assert counted.flops == pytest.approx(by_hand, rel=0.001)


def test_the_encoder_is_torchs_own_with_places_learned_in_each_layer() -> None:
    counted = cost(known("encoder"), TASKS["encoder"])
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(512, 4, 2048, batch_first=True, norm_first=True)
        layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        flops = flops_of(layers, torch.empty(2, 32, 512))
    assert counted.parameters == size(layers) + 10_000 * 512 + 2 * 32 * 512 + (512 * 4 + 4)
    assert counted.flops == flops + 2 * 512 * 4


def test_the_hybrid_of_convolution_and_attention_is_as_large_as_one_of_torchs_parts() -> None:
    counted = cost(known("hybrid_cvt"), TASKS["hybrid_cvt"])
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True, norm_first=True)
        theirs = nn.Sequential(
            *(nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(2), nn.GELU()),
            *(nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(), nn.Conv2d(128, 256, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, 2, 1), nn.Flatten(2), nn.Unflatten(1, (1, 256))),
        )
        layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        flops = flops_of(theirs, torch.empty(2, 3, 256, 256)) + flops_of(
            layers, torch.empty(2, 256, 256)
        )
    assert counted.parameters == pytest.approx(size(theirs) + size(layers), rel=0.01)
    assert counted.flops == pytest.approx(flops, rel=0.03)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        (
            "cnn_64",
            [
                *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Flatten(), nn.Linear(32 * 32 * 32, 10)),
            ],
        ),
        (
            "cnn_28",
            [
                *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Flatten(), nn.Linear(64 * 7 * 7, 10)),
            ],
        ),
    ],
)
def test_the_dense_convolution_networks_are_those_of_textbooks(
    name: str, theirs: list[nn.Module]
) -> None:
    torch.manual_seed(0)
    ours, other = known(name).build(TASKS[name]), nn.Sequential(*theirs)
    pairs = zip(other.state_dict(), ours.state_dict().values(), strict=True)
    other.load_state_dict(dict(pairs))
    x = torch.randn(2, *TASKS[name].inputs["image"])
    torch.testing.assert_close(ours({"image": x}).logits_BK, other(x))


def test_the_lstm_of_series_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours = known("lstm_series").build(TASKS["lstm_series"])
    cell, linear = nn.LSTM(5, 64, batch_first=True), nn.Linear(64, 1)
    values = iter(ours.state_dict().values())
    for module in (cell, linear):
        module.load_state_dict({name: next(values) for name in module.state_dict()})
    x = torch.randn(3, 20, 5)
    torch.testing.assert_close(ours({"series": x}).values_BV, linear(cell(x)[0][:, -1]))


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


def test_known_networks_have_a_diagram() -> None:
    for name in KNOWN:
        drawing = diagram(known(name).to_dict(), task=TASKS.get(name, IMAGENET))
        assert drawing.startswith("<svg")
