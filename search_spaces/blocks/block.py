"""What a piece of a network promises: fields that are decisions, a shape, and a module.

A piece is a frozen dataclass. Its fields are plain data or other pieces, so that a network is data
through and through; `kind` names it in JSON. A user's own block needs no more than this:

    @register_block
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Blur:
        kind: ClassVar[str] = "blur"
        size: int

        def out_shape(self, shape: Shape) -> Shape:
            return shape

        def build(self, shape: Shape) -> nn.Module:
            return nn.AvgPool2d(self.size, stride=1, padding=self.size // 2)
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import nn

from search_spaces.errors import ArchscoutError
from search_spaces.plugins import Registry, UnknownNameError, did_you_mean
from search_spaces.task import Shape


class UnbuildableError(ArchscoutError, ValueError):
    """No network can be made of these decisions; the message says where and why."""


@runtime_checkable
class Block(Protocol):
    """A piece that turns one feature map into another."""

    kind: ClassVar[str]
    """Its name in JSON."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape that comes out where (C, H, W) goes in.

        Raises:
            UnbuildableError: The block cannot take this shape.
        """
        ...

    def build(self, shape: Shape) -> nn.Module:
        """The module for inputs of this shape.

        Raises:
            UnbuildableError: The block cannot take this shape.
        """
        ...


@runtime_checkable
class DownsamplingBlock(Protocol):
    """A block that can change width and resolution by itself."""

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """A module from inputs of one shape to the block's results in the other.

        Raises:
            UnbuildableError: The block cannot take one of the shapes.
        """
        ...


PieceType = TypeVar("PieceType", bound=type)

BLOCKS: Registry[type] = Registry("block")
STEMS: Registry[type] = Registry("stem")
FUSIONS: Registry[type] = Registry("fusion")
HEADS: Registry[type] = Registry("head")
ADDED = "added"
"""Marks a field in its dataclass's metadata; see `added`."""


def register(registry: Registry[type], piece: PieceType) -> PieceType:
    """Make a piece known under its kind.

    Raises:
        TypeError: It is no dataclass with a kind.
        DuplicateNameError: The kind is taken.
    """
    kind = getattr(piece, "kind", None)
    if not is_dataclass(piece) or not isinstance(kind, str) or not kind.isidentifier():
        raise TypeError(
            f"{piece.__qualname__} must be a dataclass whose class variable `kind` is a Python name"
        )
    registry.register(kind, piece)
    return piece


def register_block(piece: PieceType) -> PieceType:
    """Class decorator: make a block known, so that candidates holding it can be read back.

    Raises:
        TypeError: It is no dataclass with a kind.
        DuplicateNameError: The kind is taken.
    """
    return register(BLOCKS, piece)


def added(default: Any) -> Any:
    """A field that a piece got after candidates with it had been written.

    It stays out of the plain data while it has its default, so that those candidates keep their
    digest and read as they were written.
    """
    return dataclasses.field(default=default, metadata={ADDED: True})


def piece_to_dict(piece: Any) -> dict[str, Any]:
    """A piece as plain data: its kind, then its fields."""
    return {"kind": piece.kind, **fields_to_dict(piece)}


def fields_to_dict(piece: Any) -> dict[str, Any]:
    """A dataclass's fields as plain data, without those `added` and left at their default."""
    values = ((f, getattr(piece, f.name)) for f in fields(piece))
    return {f.name: _plain(value) for f, value in values if not _unsaid(f, value)}


def piece_from_dict(registry: Registry[type], data: Mapping[str, Any]) -> Any:
    """The piece that `piece_to_dict` wrote; a piece within a piece is a block.

    Raises:
        ValueError: The kind or a field is unknown, or a field is missing.
    """
    kind = str(data.get("kind"))
    try:
        owner = registry[kind]
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
    values = {name: _value(value) for name, value in data.items() if name != "kind"}
    return make(owner, values, name=kind)


def make(owner: type, values: Mapping[str, Any], *, name: str) -> Any:
    """The dataclass `owner` with these values.

    Raises:
        ValueError: A field is unknown or missing; the message begins with `name`.
    """
    declared = {f.name: f for f in fields(owner)}
    for field in values:
        if field not in declared:
            raise ValueError(f"{name}: no field {field!r}.{did_you_mean(field, declared)}")
    for field, declaration in declared.items():
        has_default = (declaration.default, declaration.default_factory) != (MISSING, MISSING)
        if field not in values and not has_default:
            raise ValueError(f"{name}: the field {field!r} is missing")
    return owner(**values)


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is none of the known ones.

    Raises:
        UnbuildableError: With the nearest known name.
    """
    names = sorted(known)
    if name not in names:
        hint = did_you_mean(name, names)
        raise UnbuildableError(f"unknown {what} {name!r}. Known: {', '.join(names)}.{hint}")


def as_map(shape: Shape, name: str) -> tuple[int, int, int]:
    """The shape's channels, height and width.

    Raises:
        UnbuildableError: It is no feature map, or an empty one.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UnbuildableError(f"{name} needs a map (channels, height, width), not {shape}")
    channels, height, width = shape
    return channels, height, width


def as_tokens(shape: Shape, name: str) -> tuple[int, int, int]:
    """Channels, height and width of a map, or of a sequence (length, features) as one row.

    Raises:
        UnbuildableError: It is neither, or empty.
    """
    if len(shape) == 2 and min(shape) >= 1:
        return shape[1], 1, shape[0]
    if len(shape) != 3 or min(shape) < 1:
        raise UnbuildableError(
            f"{name} needs a map (channels, height, width) or a sequence (length, features), "
            f"not {shape}"
        )
    channels, height, width = shape
    return channels, height, width


def keeping(name: str, blocks: Iterable[Block], shape: Shape) -> Shape:
    """The shape, which every one of the blocks must keep.

    Raises:
        UnbuildableError: A block changes the shape or cannot take it.
    """
    for block in blocks:
        if (given := block.out_shape(shape)) != shape:
            raise UnbuildableError(
                f"{name}: the branch {block.kind!r} must keep {shape}, not make {given}"
            )
    return shape


def symbols(blocks: Iterable[Block]) -> str:
    """The blocks' letters side by side."""
    return "".join(str(getattr(block, "symbol", block.kind)) for block in blocks)


def _unsaid(declaration: Field[Any], value: Any) -> bool:
    return ADDED in declaration.metadata and bool(value == declaration.default)


def _plain(value: Any) -> Any:
    if hasattr(value, "kind"):
        return piece_to_dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _value(value: Any) -> Any:
    if isinstance(value, Mapping) and "kind" in value:
        return piece_from_dict(BLOCKS, value)
    if isinstance(value, list | tuple):
        return tuple(_value(item) for item in value)
    return value
