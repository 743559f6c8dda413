"""A network as plain data: streams, their fusion and a head; and the module that it describes.

Knows shapes and modules: no training, no sampler.
"""

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
from search_spaces.blocks.initialisation import initialise
from search_spaces.model_output import ModelOutput
from search_spaces.task import Shape, Task

# B batch, C channels, H height, W width, D embedding width, K classes


def _parts(value: Any) -> Iterator[Any]:
    """A decided value and all the decided values within."""
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
    """A piece that makes one embedding of the streams' maps."""

    def out_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The embedding's shape (D,), or (T, D) of streams that are kept apart."""
        ...

    def build(self, shapes: Mapping[str, Shape]) -> nn.Module:
        """A module from maps by stream to an embedding, batch first."""
        ...


class Head(Protocol):
    """A piece that reads off an embedding what the task asks for."""

    def out_shape(self, shape: Shape, task: Task) -> Shape:
        """The answer's shape, such as (K,) for class scores."""
        ...

    def build(self, shape: Shape, task: Task) -> nn.Module:
        """A module from an embedding to a `ModelOutput`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One modality's way from the input to its last map."""

    stem: Block
    """Makes the first map of the input."""
    stages: tuple[Stage, ...]
    """What the map passes, in order."""

    def pieces(self) -> Iterator[tuple[str, Block | Stage]]:
        """Stem and stages in order, each with its name beneath the stream."""
        yield "stem", self.stem
        for index, stage in enumerate(self.stages):
            yield f"stages.{index}", stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that must be decided to build a network for a task."""

    streams: Mapping[str, Stream]
    """By the name of the task's input."""
    fusion: Fusion
    """How the streams become one embedding."""
    head: Head
    """What is read off the embedding."""
    initialisation: str = "he"
    """How weights start: `he`, `xavier` or `truncated_normal`."""

    def walk(self, task: Task) -> dict[str, Shape]:
        """The shape that each piece promises to give, by the piece's name, in order.

        The names are also the modules' names in the network that `build` makes; the last two are
        `fusion` (the embedding) and `head` (the answer).

        Raises:
            UnbuildableError: The decisions do not fit together, or not to the task.
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
        """The network, its weights drawn from torch's generator.

        Args:
            task: Shapes and number of classes.
            auxiliary: Whether each stream also gets class scores off the map before its last
                stage, given in `ModelOutput.auxiliary`; a task without classes has none.

        Raises:
            UnbuildableError: The decisions do not fit together, or not to the task.
        """
        network = Network(self, task, auxiliary=auxiliary)
        with _Located("initialisation"):
            initialise(network, self.initialisation)
        return network

    def describe(self) -> str:
        """The network in a few letters, such as `C32-C64-T64x2 gate`.

        A stage is its block's letter, its width, and how often the block comes if not once;
        C residual, M MBConv, N ConvNeXt, T attention, P patches, two letters side by side a gate.
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
        """Everything that it is put together from, blocks within blocks too."""
        return _parts(self)

    @property
    def layers(self) -> int:
        """How many pieces compute: stems, the head, and blocks, each as often as it is repeated."""
        stages = [stage for stream in self.streams.values() for stage in stream.stages]
        blocks = sum(stage.depth * len(list(_parts(stage.block))) for stage in stages)
        return len(self.streams) + blocks + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` undoes it."""
        return {
            "streams": {name: _stream_to_dict(stream) for name, stream in self.streams.items()},
            "fusion": piece_to_dict(self.fusion),
            "head": piece_to_dict(self.head),
            "initialisation": self.initialisation,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The architecture that `to_dict` wrote.

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
        """The last map, and the auxiliary head's scores where there is one."""
        # Measured on a CPU: convolutions, pooling and attention take 0.6 times as long this way.
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
        """What the head reads off a batch, its embedding, auxiliary scores, towers and gates.

        Args:
            inputs: By stream, a float tensor whose first dimension is the batch.
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
    """Puts the place before the message of an UnbuildableError."""

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
