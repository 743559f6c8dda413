"""Every piece trains, has gradients for all parameters, and keeps its golden outputs.

A new block, stem, fusion or head fails here until it has an entry in `PIECES`; the golden values to
add to `golden_pieces.json` are in the failure's message. More entries of one kind are welcome where
its options lead to other code.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_autocast import CudaAutocast, cast
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks import (
    Attention,
    Chain,
    Classify,
    Concatenate,
    ConformerConvolution,
    ConvNeXt,
    ConvolutionStem,
    CrossAttentionFusion,
    FeedForward,
    Gate,
    Gated,
    MBConv,
    MultiTaskHead,
    Parallel,
    PatchStem,
    ProjectionHead,
    RawStem,
    Recurrent,
    Regress,
    Residual,
    SegmentMemory,
    SeriesStem,
    SpectrogramStem,
    TemporalConvolution,
    TokenStem,
    TwoTower,
    VectorStem,
)
from search_spaces.blocks.block import BLOCKS, FUSIONS, HEADS, STEMS
from search_spaces.blocks.initialisation import initialize
from search_spaces.model_output import ModelOutput
from search_spaces.plugins import Registry
from search_spaces.task import Shape, Task
from workers.training.ema import WeightEMA

MAP, STEPS, IMAGE = (16, 4, 4), (12, 16), (1, 8, 8)
STREAMS = {"map": (32, 4, 4), "steps": (6, 32)}
EMBEDDING = (64,)
TASK = Task(inputs={}, num_classes=4, num_values=0)
NUMBERS = Task(inputs={}, num_classes=0, num_values=2)
BOTH = Task(inputs={}, num_classes=4, num_values=2)
NOTHING_ASKED = Task(inputs={}, num_classes=0)
VOCABULARY = 20
"""Of the sequences (length,) of tokens that stems read."""
TEXTURE, LAYOUT = Residual(), Attention(heads=2, mlp_ratio=1.0)
WINDOW = Attention(scope="window", window=2, positions="relative")
GRID = Attention(scope="grid", window=2, positions="relative")
CONVOLVED = Attention(form="convolution", positions="none", stride=2)


@dataclass(frozen=True, kw_only=True)
class Downsample:
    """A piece, and what goes into it."""

    piece: Any
    shape: Any
    """A shape, or for a fusion the shapes by stream."""
    task: Task = TASK
    """What a head is built for."""
    starved: frozenset[str] = frozenset()
    """Parameters that the loss does not depend on, for a reason given with each."""


def of(shape: Any, **pieces: Any) -> dict[str, Downsample]:
    return {name: Downsample(piece=piece, shape=shape) for name, piece in pieces.items()}


PIECES: dict[str, Downsample] = {
    **of(
        MAP,
        residual=Residual(),
        residual_silu=Residual(kernel=5, normalisation="group", activation="silu"),
        mbconv=MBConv(expansion=2),
        mbconv_squeeze=MBConv(kernel=5, squeeze=True, normalisation="layer"),
        convnext=ConvNeXt(kernel=3),
        convnext_scaled=ConvNeXt(layer_scale=1e-2, normalisation="rms"),
        attention=Attention(),
        attention_nowhere=Attention(positions="none"),
        attention_relative=Attention(positions="relative", normalisation="rms"),
        attention_rotary=Attention(positions="rotary", layer_scale=0.1),
        attention_window=Attention(positions="relative", scope="window", window=3),
        attention_shifted=Attention(positions="rotary", scope="shifted", window=3),
        attention_shifted_nowhere=Attention(positions="none", scope="shifted", window=2),
        attention_grid=Attention(positions="relative", scope="grid", window=3),
        attention_linear=Attention(form="linear"),
        chain=Chain(blocks=(MBConv(squeeze=True), WINDOW, GRID)),
        parallel_sum=Parallel(first=TEXTURE, second=LAYOUT, mix="sum"),
        parallel_concatenate=Parallel(first=TEXTURE, second=LAYOUT, mix="concatenate"),
        parallel_cross_attention=Parallel(first=TEXTURE, second=LAYOUT, mix="cross_attention"),
        gate=Gate(convolution=TEXTURE, attention=LAYOUT),
        gate_scalar=Gate(convolution=TEXTURE, attention=LAYOUT, detail="scalar"),
        gate_token=Gate(convolution=TEXTURE, attention=LAYOUT, detail="token"),
        gate_hard=Gate(convolution=TEXTURE, attention=LAYOUT, hard=True),
        gate_hard_token=Gate(convolution=TEXTURE, attention=LAYOUT, detail="token", hard=True),
        feed_forward=FeedForward(),
        conformer_convolution_map=ConformerConvolution(kernel=3, normalisation="group"),
    ),
    # Softmax does not change where all scores of a query grow alike: keys need no shift.
    "attention_convolved": Downsample(
        piece=CONVOLVED,
        shape=MAP,
        starved=frozenset({"attention.project.1.bias", "attention.key.1.bias"}),
    ),
    **of(
        STEPS,
        attention_steps=Attention(heads=2),
        lstm=Recurrent(),
        gru=Recurrent(cell="gru"),
        temporal=TemporalConvolution(kernel=3, dilation=2),
        segment_memory=SegmentMemory(segment=4, heads=2, mlp_ratio=1.0),
        segment_memory_uneven=SegmentMemory(segment=5, heads=2, mlp_ratio=1.0),
        gate_steps=Gate(convolution=TemporalConvolution(), attention=LAYOUT),
        attention_sinusoidal=Attention(heads=2, positions="sinusoidal", mlp_ratio=0.0),
        segment_memory_sinusoidal=SegmentMemory(segment=5, heads=2, positions="sinusoidal"),
        feed_forward_steps=FeedForward(share=0.5, activation="silu", normalisation="rms"),
        conformer_convolution=ConformerConvolution(kernel=5),
    ),
    **of(
        IMAGE,
        stem=ConvolutionStem(width=16),
        stem_stride=ConvolutionStem(width=16, kernel=5, reduction="stride", normalisation="layer"),
        stem_pool=ConvolutionStem(width=16, reduction="pool", activation="gelu"),
        patches=PatchStem(width=16, patch=2),
        patches_overlapping=PatchStem(width=16, patch=2, overlap=1, positions=True),
        stem_deep=ConvolutionStem(width=8, reduction="stride", normalisation="none", depth=2),
        spectrogram=SpectrogramStem(width=16),
        raw=RawStem(),
    ),
    "series": Downsample(piece=SeriesStem(width=8), shape=(12, 6)),
    "tokens": Downsample(piece=TokenStem(vocabulary=VOCABULARY, width=8), shape=(12,)),
    **of(
        # As many numbers as examples: neither stem bends what goes in.
        (40,),
        vector=VectorStem(width=40),
        vector_tokens=VectorStem(width=4, tokens=True),
        raw_vector=RawStem(),
    ),
    **of(
        STREAMS,
        concatenate=Concatenate(),
        concatenate_normalised=Concatenate(pooling="maximum", normalisation="layer"),
        concatenate_whole=Concatenate(pooling="flatten"),
        gated=Gated(width=32),
        gated_scalar=Gated(width=32, detail="scalar", pooling="maximum"),
        cross_attention=CrossAttentionFusion(asking="steps", width=32),
        cross_attention_whole=CrossAttentionFusion(
            asking="map", width=16, heads=2, pooling="flatten"
        ),
        two_tower=TwoTower(width=32),
    ),
    **of(EMBEDDING, classify=Classify(), classify_hidden=Classify(hidden=32)),
    "regress": Downsample(piece=Regress(), shape=EMBEDDING, task=NUMBERS),
    "both": Downsample(piece=MultiTaskHead(hidden=32), shape=EMBEDDING, task=BOTH),
    "both_towers": Downsample(piece=MultiTaskHead(), shape=(2, 32), task=BOTH),
    "embed": Downsample(piece=ProjectionHead(width=32), shape=EMBEDDING, task=NOTHING_ASKED),
    "embed_towers": Downsample(piece=ProjectionHead(width=16), shape=(2, 32), task=NOTHING_ASKED),
}
NAMES = list(PIECES)
AUTOCASTS: tuple[tuple[torch.dtype, Callable[[], AbstractContextManager[Any]]], ...] = (
    (torch.bfloat16, lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    (torch.bfloat16, lambda: CudaAutocast(torch.bfloat16)),
    (torch.float16, lambda: CudaAutocast(torch.float16)),
)
"""Number formats, and what casts to them."""
GOLDEN = Path(__file__).with_name("golden_pieces.json")


def inputs_of(entry: Downsample, batch: int) -> Any:
    """Random inputs of the entry's shape; tokens where a stem looks them up."""
    if isinstance(entry.shape, Mapping):
        return {name: torch.randn(batch, *shape) for name, shape in entry.shape.items()}
    if entry.piece.kind == "tokens":
        return torch.randint(VOCABULARY, (batch, *entry.shape))
    return torch.randn(batch, *entry.shape)


def built(entry: Downsample) -> nn.Module:
    module: nn.Module
    if entry.piece.kind in HEADS:
        module = entry.piece.build(entry.shape, entry.task)
    else:
        module = entry.piece.build(entry.shape)
    initialize(module, "he")
    return module


def parts_of(output: Any) -> list[Tensor]:
    """What comes out as tensors, empty ones aside."""
    if isinstance(output, ModelOutput):
        output = (output.logits_BK, output.values_BV, output.embedding_BD, *output.towers)
    parts = [output] if isinstance(output, Tensor) else list(output)
    return [part for part in parts if part.numel()]


class ByHeart(nn.Module):
    """A piece under a linear layer that reads four classes off all that comes out.

    A head that gives scores or numbers is read as it is: the layer must not do its work.
    """

    def __init__(self, entry: Downsample) -> None:
        super().__init__()
        self.piece = built(entry)
        widths = [part[0].numel() for part in parts_of(self.piece(inputs_of(entry, 2)))]
        self.read = nn.Linear(sum(widths), 4)

    def loss(self, x: Any, targets_B: Tensor) -> Tensor:
        output = self.piece(x)
        losses = []
        if isinstance(output, ModelOutput):
            if output.logits_BK.numel():
                losses.append(functional.cross_entropy(output.logits_BK, targets_B))
            if output.values_BV.numel():
                wanted_BV = (targets_B[:, None] - 1.5).expand_as(output.values_BV)
                losses.append(functional.mse_loss(output.values_BV, wanted_BV))
        if not losses:
            features = torch.cat([part.flatten(1) for part in parts_of(output)], dim=1)
            losses.append(functional.cross_entropy(self.read(features), targets_B))
        return torch.stack(losses).sum()


@pytest.mark.parametrize("registry", [BLOCKS, STEMS, FUSIONS, HEADS], ids=lambda one: one.kind)
def test_every_piece_of_ours_has_an_entry(registry: Registry[type]) -> None:
    ours = {name for name in registry if registry[name].__module__.startswith("search_spaces.")}
    entries = {
        entry.piece.kind for entry in PIECES.values() if type(entry.piece) in types(registry)
    }
    assert entries == ours, "add an entry to PIECES"


def types(registry: Registry[type]) -> list[type]:
    return [registry[name] for name in registry]


@pytest.mark.parametrize("name", NAMES)
def test_a_piece_learns_thirty_two_examples_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = ByHeart(PIECES[name])
    x, targets_B = inputs_of(PIECES[name], 32), torch.randint(4, (32,))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(300):
        loss = network.loss(x, targets_B)
        if loss.item() < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_and_what_goes_in(name: str) -> None:
    torch.manual_seed(0)
    entry = PIECES[name]
    module, x = built(entry), inputs_of(entry, 8)
    gone_in = x if isinstance(x, dict) else {"x": x}
    sources = {**dict(module.named_parameters()), **gone_in}
    leaves = {name: one for name, one in sources.items() if one.is_floating_point()}
    for leaf in leaves.values():
        leaf.requires_grad_()
    # Squared, since the plain sum of what a normalisation gives does not depend on its input; and
    # weighted, since neither does the sum of its squares.
    parts = parts_of(module(x))
    torch.stack([(part.square() * torch.randn_like(part)).sum() for part in parts]).sum().backward()
    reached = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    largest = max(gradient.abs().max() for gradient in reached.values())
    starved = {
        name
        for name in leaves
        if name not in reached or not reached[name].abs().max() > 1e-6 * largest
    }
    assert starved == entry.starved


@pytest.mark.parametrize("name", NAMES)
def test_a_piece_learns_in_low_precision_whatever_it_reads(name: str) -> None:
    torch.manual_seed(0)
    entry = PIECES[name]
    module, x = built(entry), inputs_of(entry, 2)
    for (low, autocast), lowered in itertools.product(AUTOCASTS, (False, True)):
        given = differentiable(cast(x, low if lowered else torch.float32))
        with autocast():
            parts = [part.float() for part in parts_of(module(given))]
        module.zero_grad()
        torch.stack([part.square().sum() for part in parts]).sum().backward()
        leaves = [*module.parameters(), *(given.values() if isinstance(given, dict) else [given])]
        found = [*parts, *(leaf.grad for leaf in leaves if leaf.grad is not None)]
        assert len(found) > len(parts)
        assert all(one.isfinite().all() for one in found)


def differentiable(x: Any) -> Any:
    """Copies of a piece's inputs to be differentiated by; tokens cannot be."""
    if isinstance(x, dict):
        return {name: differentiable(values) for name, values in x.items()}
    return x.clone().requires_grad_(x.is_floating_point())


@pytest.mark.parametrize("name", NAMES)
def test_the_average_of_weights_that_stay_is_the_piece_bit_by_bit(name: str) -> None:
    module = built(PIECES[name])
    ema = WeightEMA(module, 0.99)
    for _ in range(15):
        ema.update()
    evaluated = ema.evaluated
    kept = dict(itertools.chain(evaluated.named_parameters(), evaluated.named_buffers()))
    for key, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        assert torch.equal(kept[key], value), key
        assert kept[key] is not value


def waved(shape: Shape, start: float) -> Tensor:
    """Numbers of no pattern that are the same wherever they are made."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(numbers * 0.7 + start).reshape(shape).float()


def golden_values(entry: Downsample) -> list[float]:
    """Six of the numbers that come out where weights and inputs follow a sine.

    Weights are set here, not sampled: how they start may change, what the piece does with them not.
    """
    module = built(entry).eval()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(waved(tuple(parameter.shape), index) * 0.4)
        if isinstance(entry.shape, Mapping):
            x: Any = {name: waved((2, *shape), 1.0) for name, shape in entry.shape.items()}
        else:
            x = waved((2, *entry.shape), 1.0)
            if entry.piece.kind == "tokens":
                x = ((x + 1) * VOCABULARY / 2.01).long()
        given = torch.cat([part.flatten() for part in parts_of(module(x))])
    places = torch.linspace(0, len(given) - 1, 6).long()
    return [round(value, 6) for value in given[places].tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_a_piece_gives_what_it_ever_gave(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    values = golden_values(PIECES[name])
    assert name in golden, f'add to {GOLDEN.name}: "{name}": {values}'
    assert values == pytest.approx(golden[name], abs=2e-5)


def test_no_golden_value_is_left_without_its_piece() -> None:
    assert list(json.loads(GOLDEN.read_text())) == NAMES
