"""Architectures as plain data (streams, fusion and head), and the networks they describe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from search_spaces.blocks import Block, Stage, UnbuildableError
from search_spaces.blocks.block import (
    BLOCKS,
    FUSIONS,
    HEADS,
    STEMS,
    as_tokens,
    make,
    piece_from_dict,
    piece_to_dict,
)
from search_spaces.blocks.gate import pop_gate_values
from search_spaces.blocks.heads import AuxiliaryHead
from search_spaces.blocks.initialisation import initialize
from search_spaces.model_output import ModelOutput
from search_spaces.task import Shape, Task

# B batch, C channels, H height, W width, D embedding width, K classes


def _parts(value: Any) -> Iterator[Any]:
    """Yield a decided value and all decided values inside it."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _parts(inner)
    elif is_dataclass(value):
        yield value
        for field in fields(value):
            yield from _parts(getattr(value, field.name))


class Fusion(Protocol):
    """A piece that combines the streams' maps into one embedding."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape (D,) of the embedding, or (T, D) of separate towers."""
        ...

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """Return a module from maps by stream to an embedding, batch first."""
        ...


class Head(Protocol):
    """A piece that makes the task's predictions from an embedding."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """Return the output shape, such as (K,) for class scores."""
        ...

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """Return a module from an embedding to a `ModelOutput`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The path of one input, from the stem to the last map."""

    stem: Block
    """Makes the first map of the input."""
    stages: tuple[Stage, ...]
    """Stages, in order."""

    def pieces(self) -> Iterator[tuple[str, Block | Stage]]:
        """Yield stem and stages in order, each with its name within the stream."""
        yield "stem", self.stem
        for index, stage in enumerate(self.stages):
            yield f"stages.{index}", stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All decisions that define a network for a task."""

    streams: Mapping[str, Stream]
    """Streams by the name of the task's input."""
    fusion: Fusion
    """Combines the streams into one embedding."""
    head: Head
    """Makes the predictions from the embedding."""
    initialisation: str = "he"
    """Weight initialization: `he`, `xavier` or `truncated_normal`."""

    def walk(self, task: Task) -> dict[str, Shape]:
        """Return the output shape of each piece by its name, in order.

        The names are those of the modules in the network that `build` returns; the last two are
        `fusion` (the embedding) and `head` (the prediction).

        Raises:
            UnbuildableError: The decisions do not fit together, or not the task.
        """
        if set(self.streams) != set(task.inputs):
            raise UnbuildableError(
                f"architecture.streams: the network reads {sorted(self.streams)}, "
                f"the data gives {sorted(task.inputs)}"
            )
        shapes: dict[str, Shape] = {}
        last: dict[str, Shape] = {}
        for name, stream in self.streams.items():
            shape = task.inputs[name]
            for part, piece in stream.pieces():
                where = f"streams.{name}.{part}"
                with _Located(where):
                    shape = piece.out_shape(shape)
                shapes[where] = shape
            last[name] = shape
        with _Located("fusion"):
            shapes["fusion"] = self.fusion.out_shape(last)
        with _Located("head"):
            shapes["head"] = self.head.out_shape(shapes["fusion"], task)
        return shapes

    def build(self, task: Task, *, auxiliary: bool = False) -> "Network":
        """Return the network, its weights initialized by torch's generator.

        Args:
            task: Shapes and number of classes.
            auxiliary: Add to each stream class scores from the map before its last stage, in
                `ModelOutput.auxiliary`; only for tasks with classes.

        Raises:
            UnbuildableError: The decisions do not fit together, or not the task.
        """
        network = Network(self, task, auxiliary=auxiliary)
        with _Located("initialisation"):
            initialize(network, self.initialisation)
        return network

    def describe(self) -> str:
        """Return a short description, such as `C32-C64-T64x2 gate`.

        A stage is its block's letter, its width, and its depth if not 1: C residual, M MBConv, N
        ConvNeXt, T attention, P patches; two letters together are a gate.
        """
        streams = ["-".join(_symbols(stream)) for stream in self.streams.values()]
        gated = any(
            getattr(stage.block, "kind", "") == "gate"
            for stream in self.streams.values()
            for stage in stream.stages
        )
        joined = getattr(self.fusion, "kind", "")
        several = "" if len(streams) == 1 or joined == "concatenate" else f" {joined}"
        return " + ".join(streams) + several + (" gate" if gated else "")

    def parts(self) -> Iterator[Any]:
        """Yield all pieces, including blocks within blocks."""
        return _parts(self)

    @property
    def layers(self) -> int:
        """Number of layers: stems, blocks times their repetitions, and the head."""
        stages = [stage for stream in self.streams.values() for stage in stream.stages]
        blocks = sum(stage.depth * len(list(_parts(stage.block))) for stage in stages)
        return len(self.streams) + blocks + 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        return {
            "streams": {name: _stream_to_dict(stream) for name, stream in self.streams.items()},
            "fusion": piece_to_dict(self.fusion),
            "head": piece_to_dict(self.head),
            "initialisation": self.initialisation,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the architecture from the data of `to_dict`.

        Raises:
            ValueError: A kind or field is unknown, or a field is missing.
        """
        values = dict(data)
        if "streams" in values:
            values["streams"] = {
                name: _stream_from_dict(stream) for name, stream in values["streams"].items()
            }
        if "fusion" in values:
            values["fusion"] = piece_from_dict(FUSIONS, values["fusion"])
        if "head" in values:
            values["head"] = piece_from_dict(HEADS, values["head"])
        architecture: Self = make(cls, values, name="architecture")
        return architecture


class StreamNetwork(nn.Module):
    """One stream's stem and stages."""

    def __init__(self, stream: Stream, shape: Shape, name: str) -> None:
        super().__init__()
        self.auxiliary: AuxiliaryHead | None = None
        modules = []
        for part, piece in stream.pieces():
            with _Located(f"streams.{name}.{part}"):
                modules.append(piece.build(shape))
                shape = piece.out_shape(shape)
        self.stem, *stages = modules
        self.stages = nn.ModuleList(stages)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the last map, and the auxiliary head's scores if there is one."""
        # Measured on a CPU: 0.6 times the time for convolutions, pooling and attention.
        if x_BCHW.dim() == 4:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        x_BCHW = self.stem(x_BCHW)
        logits_BK = None
        last = len(self.stages) - 1
        for index, stage in enumerate(self.stages):
            if index == last and self.auxiliary is not None:
                logits_BK = self.auxiliary(x_BCHW)
            x_BCHW = stage(x_BCHW)
        return x_BCHW, logits_BK


class Network(nn.Module):
    """The module that an architecture describes."""

    def __init__(self, architecture: Architecture, task: Task, *, auxiliary: bool) -> None:
        super().__init__()
        shapes = architecture.walk(task)
        self.streams = nn.ModuleDict()
        last = {}
        for name, stream in architecture.streams.items():
            network = StreamNetwork(stream, task.inputs[name], name)
            before, last[name] = _last_two(shapes, name)
            if auxiliary and stream.stages:
                with _Located(f"streams.{name}"):
                    channels = as_tokens(before, name)[0]
                    network.auxiliary = AuxiliaryHead(channels, task.num_classes)
            self.streams[name] = network
        self.fusion = architecture.fusion.build(last)
        self.head = architecture.head.build(shapes["fusion"], task)

    def forward(self, inputs: Mapping[str, Tensor]) -> ModelOutput:
        """Return predictions, embedding, auxiliary scores, towers and gates of a batch.

        Args:
            inputs: By stream, a float tensor with the batch first.
        """
        maps = {}
        auxiliary = []
        for name, stream in self.streams.items():
            maps[name], logits_BK = stream(inputs[name])
            if logits_BK is not None:
                auxiliary.append(logits_BK)
        embedding = self.fusion(maps)
        output: ModelOutput = self.head(embedding)
        towers = output.towers or (embedding.unbind(1) if embedding.dim() == 3 else ())
        return output._replace(
            auxiliary=tuple(auxiliary), towers=towers, gates=pop_gate_values(self.streams)
        )


class _Located:
    """Prepends the location to the message of an UnbuildableError."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnbuildableError):
            raise UnbuildableError(f"architecture.{self.where}: {error}") from error


def _last_two(shapes: Mapping[str, Shape], stream: str) -> tuple[Shape, Shape]:
    mine = [shape for name, shape in shapes.items() if name.startswith(f"streams.{stream}.")]
    return mine[-2] if len(mine) > 1 else mine[-1], mine[-1]


def _symbols(stream: Stream) -> Iterator[str]:
    yield f"{_symbol(stream.stem)}{getattr(stream.stem, 'width', '')}"
    for stage in stream.stages:
        repeated = f"x{stage.depth}" if stage.depth != 1 else ""
        yield f"{_symbol(stage.block)}{stage.width}{repeated}"


def _symbol(piece: Block) -> str:
    return str(getattr(piece, "symbol", piece.kind))


def _stream_to_dict(stream: Stream) -> dict[str, Any]:
    return {
        "stem": piece_to_dict(stream.stem),
        "stages": [_stage_to_dict(stage) for stage in stream.stages],
    }


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    return {
        "width": stage.width,
        "depth": stage.depth,
        "reduction": stage.reduction,
        "kernel": stage.kernel,
        "normalisation": stage.normalisation,
        "block": piece_to_dict(stage.block),
    }


def _stream_from_dict(data: Mapping[str, Any]) -> Stream:
    values = dict(data)
    if "stem" in values:
        values["stem"] = piece_from_dict(STEMS, values["stem"])
    if "stages" in values:
        values["stages"] = tuple(_stage_from_dict(stage) for stage in values["stages"])
    stream: Stream = make(Stream, values, name="stream")
    return stream


def _stage_from_dict(data: Mapping[str, Any]) -> Stage:
    values = dict(data)
    if "block" in values:
        values["block"] = piece_from_dict(BLOCKS, values["block"])
    stage: Stage = make(Stage, values, name="stage")
    return stage
