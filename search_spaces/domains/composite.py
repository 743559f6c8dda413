"""Composite domains: small domains build large ones; each can sample a value and encode it back.

Two laws hold for every domain. `encode` and `resolve` invert each other. One parameter name has one
domain, whatever else is decided: the label of a chosen branch is part of the names below it. Knows
names and values only: no network, no sampler.

    stage = Record(Stage, {"width": IntRange(16, 64, step=16), "norm": choice("batch", "group")})
    stages = Repeat(stage, 1, 4)
    stages.resolve(optuna_trial, "stages")   # asks stages.count, stages.0.width, stages.0.norm, ...
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import reduce
from itertools import accumulate
from typing import Any, Generic, TypeVar

from search_spaces.domains.census import ONE, Census, added, census_of, multiplied, total
from search_spaces.domains.naming import Inline, Shared
from search_spaces.domains.ranges import (
    Confidence,
    Const,
    Domain,
    DomainError,
    IntRange,
    SpaceError,
    check_confidence,
    encodes,
    join,
    same,
)
from search_spaces.domains.suggester import Suggester

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Label = str | int | float | bool | None
"""Label of a branch of OneOf: a possible value of a categorical parameter."""


@dataclass(frozen=True, slots=True)
class OneOf(Generic[T_co]):
    """One of several labeled domains; names of decisions inside contain the label.

    Examples:
        >>> OneOf({"none": Const(0.0), "some": FloatRange(0.1, 0.5)}).resolve(trial, "dropout")
    """

    branches: Mapping[Any, Domain[T_co]]
    """Domains by label (see `Label`). No value may be in two of them."""
    _: KW_ONLY
    initial: Label = None
    """Label of the default; None for the prior, else the first."""
    prior: Label = None
    """Label of the most likely branch; None for no prior."""
    confidence: Confidence = "medium"
    """Confidence in the prior."""

    def __post_init__(self) -> None:
        """Reject labels and branches that would break a law.

        Raises:
            SpaceError: There is no branch, labels look the same in a name, or branches share a
                value.
        """
        _check_labels(self.branches)
        check_confidence("OneOf", self.confidence)
        for label in (self.initial, self.prior):
            if label is not None and label not in self.branches:
                raise SpaceError(f"OneOf: no branch {label!r} in {list(self.branches)}")
        for label, branch in self.branches.items():
            others = (name for name in self.branches if name is not label)
            if same_value := [name for name in others if branch.default() in self.branches[name]]:
                raise SpaceError(f"OneOf: branches {label!r} and {same_value[0]!r} share a value")

    def resolve(self, suggester: Suggester, path: str) -> T_co:
        """Return the value of the branch whose label is the answer for `path`."""
        labels = list(self.branches)
        label = labels[0] if len(labels) == 1 else suggester.suggest_categorical(path, labels)
        return self.branches[label].resolve(suggester, join(path, label))

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the label of the branch that contains the value, and the answers inside.

        Raises:
            DomainError: No branch contains it.
            SpaceError: Two branches contain it.
        """
        found: dict[Label, dict[str, Any]] = {}
        reasons = []
        for label, branch in self.branches.items():
            try:
                found[label] = branch.encode(value, join(path, label))
            except DomainError as error:
                reasons.append(str(error))
        if not found:
            raise DomainError(f"{path}: {value!r} fits no branch: {'; '.join(reasons)}")
        if len(found) > 1:
            raise SpaceError(f"{path}: {value!r} is in several branches: {list(found)}")
        ((label, within),) = found.items()
        return within if len(self.branches) == 1 else {path: label, **within}

    def default(self) -> T_co:
        """Return the default of the declared branch, else of the most likely, else of the first."""
        declared = [label for label in (self.initial, self.prior) if label is not None]
        return self.branches[[*declared, *self.branches][0]].default()

    def size(self) -> float:
        """Return the sum of the branches' sizes."""
        return total(self)

    def census(self, shared: dict[str, float]) -> Census:
        """Return the sum over the branches."""
        return added(census_of(branch, shared) for branch in self.branches.values())

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


def choice(
    *values: Any, initial: Label = None, prior: Label = None, confidence: Confidence = "medium"
) -> OneOf[Any]:
    """Return a domain of several plain values, each its own label.

    Raises:
        SpaceError: Two values look the same, or are equal in Python: 1, 1.0 and True.
    """
    if min(len({str(value) for value in values}), len(set(values))) != len(values):
        raise SpaceError(f"choice: values must look different and be unequal, not {values}")
    branches = {value: Const(value) for value in values}
    return OneOf(branches, initial=initial, prior=prior, confidence=confidence)


@dataclass(frozen=True, slots=True)
class Repeat(Generic[T]):
    """A tuple of `low` to `high` values of one domain; its length is a decision named `count`.

    Examples:
        >>> Repeat(IntRange(16, 64), 1, 3).resolve(trial, "widths")
    """

    item: Domain[T]
    """Domain of each item."""
    low: int
    """Minimum length."""
    high: int
    """Maximum length."""
    _: KW_ONLY
    initial: tuple[T, ...] | None = None
    """The default; None for the likely number of items, else the minimum, each its default."""
    prior: int | None = None
    """The most likely length; None for no prior."""
    confidence: Confidence = "medium"
    """Confidence in the prior."""
    items: Mapping[int, Domain[T]] = field(default_factory=dict)
    """Domains of single items by index, where they differ from `item`."""

    def __post_init__(self) -> None:
        """Reject impossible lengths.

        Raises:
            SpaceError: Not 0 <= low <= high, or the default is outside.
        """
        for item in (self.item, *self.items.values()):
            _check_not_inline("Repeat", item)
        if not 0 <= self.low <= self.high:
            raise SpaceError(f"Repeat: needs 0 <= low <= high, not {self.low} and {self.high}")
        self.counts  # noqa: B018 - rejects a prior outside
        if self.initial is not None:
            try:
                self.encode(self.initial, "initial")
            except DomainError as error:
                raise SpaceError(f"Repeat: the initial value is outside: {error}") from error

    @property
    def counts(self) -> IntRange:
        """The domain of the length."""
        return IntRange(self.low, self.high, prior=self.prior, confidence=self.confidence)

    def item_at(self, index: int) -> Domain[T]:
        """Return the domain of one item."""
        return self.items.get(index, self.item)

    def resolve(self, suggester: Suggester, path: str) -> tuple[T, ...]:
        """Return as many items as answered, each under its zero-based index."""
        count = self.counts.resolve(suggester, join(path, "count"))
        return tuple(
            self.item_at(index).resolve(suggester, join(path, index)) for index in range(count)
        )

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the length, and the answers for each item.

        Raises:
            DomainError: The value is no tuple of an allowed length, or an item is outside.
        """
        if type(value) is not tuple:
            raise DomainError(f"{path}: needs a tuple, not {value!r}")
        count = self.counts.encode(len(value), join(path, "count"))
        items = (
            self.item_at(index).encode(one, join(path, index)) for index, one in enumerate(value)
        )
        return _merge([count, *items])

    def default(self) -> tuple[T, ...]:
        """Return the declared default, else the likely number of items, else the minimum."""
        if self.initial is not None:
            return self.initial
        return tuple(self.item_at(index).default() for index in range(self.counts.default()))

    def size(self) -> float:
        """Return the number of combinations over all lengths."""
        return total(self)

    def census(self, shared: dict[str, float]) -> Census:
        """Return the sum over the lengths of the products over the items."""
        items = (census_of(self.item_at(index), shared) for index in range(self.high))
        return added(list(accumulate(items, multiplied, initial=ONE))[self.low :])

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """Several named decisions that make one value, such as a dataclass.

    Examples:
        >>> Record(Residual, {"kernel": choice(3, 5)}).resolve(trial, "block")
    """

    make: Callable[..., T]
    """Takes the fields by keyword: a dataclass, `dict`, or a function."""
    fields: Mapping[str, Domain[Any]]
    """Domain of each field, in the order of the questions."""
    _: KW_ONLY
    take: Callable[[T], Mapping[str, Any]] | None = None
    """Inverse of `make`; None reads each field as an attribute or item of that name."""

    def __post_init__(self) -> None:
        """Reject names that look like a path, or that collide.

        Raises:
            SpaceError: A name is no Python identifier, or an inline field asks under the name of
                another.
        """
        if odd := [name for name in self.fields if not name.isidentifier()]:
            raise SpaceError(f"Record: a field's name must be a Python identifier, not {odd[0]!r}")
        taken: dict[str, str] = {}
        for name, domain in self.fields.items():
            for asked in _asked_by(name, domain):
                if asked in taken:
                    raise SpaceError(
                        f"Record: fields {taken[asked]!r} and {name!r} both ask for {asked!r}"
                    )
                taken[asked] = name

    def resolve(self, suggester: Suggester, path: str) -> T:
        """Return the value made of all fields, each asked under its name."""
        inside = f"{path}." if path else ""
        return self.make(
            **{
                name: domain.resolve(suggester, inside + name)
                for name, domain in self.fields.items()
            }
        )

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the answers for all fields.

        Raises:
            DomainError: A field is missing or outside, or the value has more than the decided
                fields.
        """
        parts = self._parts(value, path)
        params = _merge(
            domain.encode(parts[name], join(path, name)) for name, domain in self.fields.items()
        )
        if not same(made := self.make(**parts), value):
            raise DomainError(
                f"{path}: {value!r} is not {made!r}, the value made of its decided fields"
            )
        return params

    def default(self) -> T:
        """Return the value made of the fields' defaults."""
        return self.make(**{name: domain.default() for name, domain in self.fields.items()})

    def size(self) -> float:
        """Return the product of the fields' sizes; a shared decision counts once."""
        return total(self)

    def census(self, shared: dict[str, float]) -> Census:
        """Return the product over the fields."""
        parts = (census_of(field, shared) for field in self.fields.values())
        return reduce(multiplied, parts, ONE)

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)

    def _parts(self, value: Any, path: str) -> dict[str, Any]:
        if self.take is None:
            return {name: _part(value, name, path) for name in self.fields}
        try:
            return {**self.take(value)}
        except (KeyError, AttributeError, TypeError) as error:
            raise DomainError(f"{path}: {value!r} cannot be split into fields: {error!r}") from None


def _part(value: Any, name: str, path: str) -> Any:
    try:
        return value[name] if isinstance(value, Mapping) else getattr(value, name)
    except (KeyError, AttributeError):
        raise DomainError(f"{join(path, name)}: {value!r} has no such field") from None


def _asked_by(name: str, field: Domain[Any]) -> set[str]:
    """Return the names directly below a record's path under which one of its fields asks."""
    return _asked_at(field.domain) if isinstance(field, Inline) else {name}


def _asked_at(domain: Domain[Any]) -> set[str]:
    """Return the names directly below a domain's path that it asks for; "" is the path itself."""
    if isinstance(domain, OneOf):
        return {"", *map(str, domain.branches)}
    if isinstance(domain, Record):
        return set[str]().union(*(_asked_by(name, field) for name, field in domain.fields.items()))
    if isinstance(domain, Repeat):
        return {"count", *map(str, range(domain.high))}
    return set() if isinstance(domain, Shared | Const) else {""}


def _check_not_inline(what: str, part: Domain[Any]) -> None:
    if isinstance(part, Inline):
        raise SpaceError(f"{what}: only a record's field can be inline")


def _check_labels(branches: Mapping[Label, Domain[Any]]) -> None:
    read = [str(label) for label in branches]
    if not read or len(set(read)) != len(read):
        raise SpaceError(f"OneOf: needs branches whose labels look different, not {read}")
    for label, branch in branches.items():
        _check_not_inline("OneOf", branch)
        if "." in str(label) and not isinstance(branch, Const):
            raise SpaceError(
                f"OneOf: label {label!r} contains a dot, which separates names in a path"
            )


def _merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        for name, answer in part.items():
            if not same(merged.setdefault(name, answer), answer):
                raise DomainError(
                    f"{name}: read in several places as {merged[name]!r} and as {answer!r}; "
                    "a shared decision has one answer"
                )
    return merged
