"""How decisions compose: small domains that build large ones, each a value that draws and undraws.

Two laws hold for every domain. `encode` undoes `resolve`, and `resolve` undoes `encode`. One
parameter name has one domain, whatever else is decided: the label of a chosen branch is part of
the names beneath it. Knows names and values only: no network, no sampler.

    stage = Record(Stage, {"width": IntRange(16, 64, step=16), "norm": choice("batch", "group")})
    stages = Repeat(stage, 1, 4)
    stages.resolve(optuna_trial, "stages")   # asks stages.count, stages.0.width, stages.0.norm, ...
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, TypeVar

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
"""What a branch of OneOf may be called: what a categorical parameter may hold."""


@dataclass(frozen=True, slots=True)
class OneOf(Generic[T_co]):
    """One of several labelled domains; what is decided within carries the label in its name."""

    branches: Mapping[Any, Domain[T_co]]
    """The domains by label (see `Label`). No value may lie in two of them."""
    _: KW_ONLY
    initial: Label = None
    """Label of the default; None takes the prior, else the first."""
    prior: Label = None
    """Label of the likeliest branch; None expects none."""
    confidence: Confidence = "medium"
    """How far to trust the prior."""

    def __post_init__(self) -> None:
        """Refuse labels and branches that would break a law.

        Raises:
            SpaceError: No branch, labels that cannot be told apart in a name, or branches that
                share a value.
        """
        _check_labels(self.branches)
        check_confidence("OneOf", self.confidence)
        for label in (self.initial, self.prior):
            if label is not None and label not in self.branches:
                raise SpaceError(f"OneOf: no branch {label!r} in {list(self.branches)}")
        for label, branch in self.branches.items():
            others = (name for name in self.branches if name is not label)
            if twin := [name for name in others if branch.default() in self.branches[name]]:
                raise SpaceError(f"OneOf: branches {label!r} and {twin[0]!r} share a value")

    def resolve(self, suggester: Suggester, path: str) -> T_co:
        """The value of the branch whose label is answered under `path`."""
        labels = list(self.branches)
        label = labels[0] if len(labels) == 1 else suggester.suggest_categorical(path, labels)
        return self.branches[label].resolve(suggester, join(path, label))

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The label of the branch that holds the value, and the answers within.

        Raises:
            DomainError: No branch holds it.
            SpaceError: Two branches hold it.
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
            raise SpaceError(f"{path}: {value!r} lies in several branches: {list(found)}")
        ((label, within),) = found.items()
        return within if len(self.branches) == 1 else {path: label, **within}

    def default(self) -> T_co:
        """The default of the declared branch, else of the likeliest, else of the first."""
        declared = [label for label in (self.initial, self.prior) if label is not None]
        return self.branches[[*declared, *self.branches][0]].default()

    def size(self) -> float:
        """The branches' sizes together."""
        return _total(self)

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


def choice(
    *values: Any, initial: Label = None, prior: Label = None, confidence: Confidence = "medium"
) -> OneOf[Any]:
    """Return a domain of several plain values, each its own label.

    Raises:
        SpaceError: Two values read alike, or are equal as Python has it: 1, 1.0 and True.
    """
    if min(len({str(value) for value in values}), len(set(values))) != len(values):
        raise SpaceError(f"choice: values must read differently and be unequal, not {values}")
    branches = {value: Const(value) for value in values}
    return OneOf(branches, initial=initial, prior=prior, confidence=confidence)


@dataclass(frozen=True, slots=True)
class Repeat(Generic[T]):
    """A tuple of `low` to `high` values of one domain; the count is a decision named `count`."""

    item: Domain[T]
    """What each place holds."""
    low: int
    """The fewest."""
    high: int
    """The most."""
    _: KW_ONLY
    initial: tuple[T, ...] | None = None
    """The default; None takes as many items as expected, else the fewest, each its own default."""
    prior: int | None = None
    """The likeliest count; None expects none."""
    confidence: Confidence = "medium"
    """How far to trust the prior."""

    def __post_init__(self) -> None:
        """Refuse impossible counts.

        Raises:
            SpaceError: Not 0 <= low <= high, or a default that lies outside.
        """
        _check_not_inline("Repeat", self.item)
        if not 0 <= self.low <= self.high:
            raise SpaceError(f"Repeat: needs 0 <= low <= high, not {self.low} and {self.high}")
        self.counts  # noqa: B018 - refuses a prior that lies outside
        if self.initial is not None:
            try:
                self.encode(self.initial, "initial")
            except DomainError as error:
                raise SpaceError(f"Repeat: the initial value lies outside: {error}") from error

    @property
    def counts(self) -> IntRange:
        """The decision of how many."""
        return IntRange(self.low, self.high, prior=self.prior, confidence=self.confidence)

    def resolve(self, suggester: Suggester, path: str) -> tuple[T, ...]:
        """As many items as answered, each under its zero-based index."""
        count = self.counts.resolve(suggester, join(path, "count"))
        return tuple(self.item.resolve(suggester, join(path, index)) for index in range(count))

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The count, and the answers for each item.

        Raises:
            DomainError: It is no tuple of an allowed length, or an item lies outside.
        """
        if type(value) is not tuple:
            raise DomainError(f"{path}: needs a tuple, not {value!r}")
        count = self.counts.encode(len(value), join(path, "count"))
        items = (self.item.encode(one, join(path, index)) for index, one in enumerate(value))
        return _merge([count, *items])

    def default(self) -> tuple[T, ...]:
        """The declared default, else as many items as expected, else the fewest."""
        if self.initial is not None:
            return self.initial
        return tuple(self.item.default() for _ in range(self.counts.default()))

    def size(self) -> float:
        """Every length's combinations together."""
        return _total(self)

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """Several named decisions that make one value, such as a dataclass."""

    make: Callable[..., T]
    """Takes the fields by keyword: a dataclass, `dict`, or a function."""
    fields: Mapping[str, Domain[Any]]
    """The domain of each field, in the order in which they are asked."""
    _: KW_ONLY
    take: Callable[[T], Mapping[str, Any]] | None = None
    """Undoes `make`; None reads each field as an attribute (or item) of that name."""

    def __post_init__(self) -> None:
        """Refuse names that could be mistaken for a path, or for each other.

        Raises:
            SpaceError: A name that is no Python identifier, or an inline field that asks under the
                name of another.
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
        """What is made of all fields, each asked under its name."""
        return self.make(
            **{
                name: domain.resolve(suggester, join(path, name))
                for name, domain in self.fields.items()
            }
        )

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The answers for every field.

        Raises:
            DomainError: A field is missing or lies outside, or the value holds more than that.
        """
        parts = self._parts(value, path)
        params = _merge(
            domain.encode(parts[name], join(path, name)) for name, domain in self.fields.items()
        )
        if not same(made := self.make(**parts), value):
            raise DomainError(f"{path}: {value!r} is not {made!r}, which its decided fields make")
        return params

    def default(self) -> T:
        """What the fields' defaults make."""
        return self.make(**{name: domain.default() for name, domain in self.fields.items()})

    def size(self) -> float:
        """The fields' sizes multiplied; a shared decision counts once."""
        return _total(self)

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)

    def _parts(self, value: Any, path: str) -> dict[str, Any]:
        if self.take is None:
            return {name: _part(value, name, path) for name in self.fields}
        try:
            return {**self.take(value)}
        except (KeyError, AttributeError, TypeError) as error:
            raise DomainError(f"{path}: {value!r} does not come apart: {error!r}") from None


def _part(value: Any, name: str, path: str) -> Any:
    try:
        return value[name] if isinstance(value, Mapping) else getattr(value, name)
    except (KeyError, AttributeError):
        raise DomainError(f"{join(path, name)}: {value!r} has no such field") from None


def _asked_by(name: str, field: Domain[Any]) -> set[str]:
    """The names directly beneath a record's path under which one of its fields asks."""
    return _asked_at(field.domain) if isinstance(field, Inline) else {name}


def _asked_at(domain: Domain[Any]) -> set[str]:
    """The names directly beneath a domain's path under which it asks; "" is the path itself."""
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
        raise SpaceError(f"OneOf: needs branches whose labels read differently, not {read}")
    for label, branch in branches.items():
        _check_not_inline("OneOf", branch)
        if "." in str(label) and not isinstance(branch, Const):
            raise SpaceError(f"OneOf: label {label!r} holds a dot, which separates names in a path")


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


Census = dict[frozenset[str], float]
"""How many values read exactly these shared decisions, the shared answers themselves not counted.

Multiplying sizes would count a decision that is read twice as two.
"""


def _total(domain: Domain[Any]) -> float:
    """How many different values a composed domain has."""
    shared: dict[str, float] = {}
    total: float = 0
    for names, count in _census(domain, shared).items():
        for name in names:
            count = _times(count, shared[name])  # noqa: PLW2901 - a running product
        total = _plus(total, count)
    return total


def _census(domain: Domain[Any], shared: dict[str, float]) -> Census:
    """The census of a domain; sizes of the shared decisions it meets are put into `shared`."""
    if isinstance(domain, Shared):
        shared[domain.name] = domain.domain.size()
        return {frozenset([domain.name]): 1}
    if isinstance(domain, Inline):
        return _census(domain.domain, shared)
    if isinstance(domain, OneOf):
        return _added(_census(branch, shared) for branch in domain.branches.values())
    if isinstance(domain, Record):
        census: Census = {frozenset(): 1}
        for field in domain.fields.values():
            census = _multiplied(census, _census(field, shared))
        return census
    if isinstance(domain, Repeat):
        item = _census(domain.item, shared)
        lengths: list[Census] = [{frozenset(): 1}]
        for _ in range(domain.high):
            lengths.append(_multiplied(lengths[-1], item))
        return _added(lengths[domain.low :])
    return {frozenset(): domain.size()}


def _added(parts: Iterable[Census]) -> Census:
    total: Census = {}
    for part in parts:
        for names, count in part.items():
            total[names] = _plus(total.get(names, 0), count)
    return total


def _multiplied(one: Census, other: Census) -> Census:
    total: Census = {}
    for left, left_count in one.items():
        for right, right_count in other.items():
            names = left | right
            total[names] = _plus(total.get(names, 0), _times(left_count, right_count))
    return total


def _times(one: float, other: float) -> float:
    """A product of counts; whole numbers stay exact however large, and never meet an infinity."""
    return math.inf if math.inf in (one, other) else one * other


def _plus(one: float, other: float) -> float:
    """A sum of counts, as exact as `_times`."""
    return math.inf if math.inf in (one, other) else one + other
