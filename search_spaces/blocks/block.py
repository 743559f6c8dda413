"""Pieces of a network: frozen dataclasses that compute their output shape and build a module.

The fields of a piece are plain data or other pieces, so a network is plain data throughout; `kind`
names the piece in JSON. A block of your own:

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
    """The decisions describe no network; the message says where and why."""


@runtime_checkable
class Block(Protocol):
    """Maps one feature map to another."""

    kind: ClassVar[str]
    """Name in JSON."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an input of shape (C, H, W).

        Raises:
            UnbuildableError: The block cannot take this shape.
        """
        ...

    def build(self, shape: Shape) -> nn.Module:
        """Return the module for inputs of this shape.

        Raises:
            UnbuildableError: The block cannot take this shape.
        """
        ...


@runtime_checkable
class DownsamplingBlock(Protocol):
    """A block that can change width and resolution itself."""

    def downsample(self, shape: Shape, target: Shape) -> nn.Module:
        """Return the module that maps inputs of one shape to outputs of another.

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
"""Key in a field's metadata; see `added`."""


def register(registry: Registry[type], piece: PieceType) -> PieceType:
    """Register a piece under its kind.

    Raises:
        TypeError: It is not a dataclass with a kind.
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
    """Register a block class, so that candidates that contain it can be read back; a decorator.

    Raises:
        TypeError: It is not a dataclass with a kind, or defines a method under its former name.
        DuplicateNameError: The kind is taken.
    """
    if hasattr(piece, "enter") and not hasattr(piece, "downsample"):
        # Left out silently, it would make another network of a stored candidate.
        raise TypeError(f"{piece.__name__}: rename its method 'enter' to 'downsample'")
    return register(BLOCKS, piece)


def added(default: Any) -> Any:
    """Return a field that was added to a piece after candidates with the piece had been stored.

    The plain data omits it while it has its default, so those candidates keep their digest.
    """
    return dataclasses.field(default=default, metadata={ADDED: True})


def piece_to_dict(piece: Any) -> dict[str, Any]:
    """Return a piece as plain data: its kind, then its fields."""
    return {"kind": piece.kind, **fields_to_dict(piece)}


def fields_to_dict(piece: Any) -> dict[str, Any]:
    """Return a dataclass's fields as plain data, without those `added` that have their default."""
    values = ((f, getattr(piece, f.name)) for f in fields(piece))
    return {f.name: _plain(value) for f, value in values if not _unsaid(f, value)}


def piece_from_dict(registry: Registry[type], data: Mapping[str, Any]) -> Any:
    """Return the piece from the data of `piece_to_dict`; a piece within a piece is a block.

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
    """Return the dataclass `owner` with these values.

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
    """Reject an unknown name.

    Raises:
        UnbuildableError: The name is unknown; the message suggests the nearest one.
    """
    names = sorted(known)
    if name not in names:
        hint = did_you_mean(name, names)
        raise UnbuildableError(f"unknown {what} {name!r}. Known: {', '.join(names)}.{hint}")


def as_map(shape: Shape, name: str) -> tuple[int, int, int]:
    """Return the channels, height and width of a feature map.

    Raises:
        UnbuildableError: The shape is not that of a feature map, or has a zero.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UnbuildableError(f"{name} needs a map (channels, height, width), not {shape}")
    channels, height, width = shape
    return channels, height, width


def as_tokens(shape: Shape, name: str) -> tuple[int, int, int]:
    """Return channels, height and width of a map, or of a sequence (length, features) as one row.

    Raises:
        UnbuildableError: It is neither, or has a zero.
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
    """Return the shape, which every block must preserve.

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
    """Return the blocks' letters, concatenated."""
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
