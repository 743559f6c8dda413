"""Primitive domains, of one decision or none, and the protocol of all domains."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from search_spaces.domains.suggester import Suggester, grid_steps, on_grid
from search_spaces.errors import ArchscoutError, ExitCode

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Confidence = Literal["low", "medium", "high"]
"""Confidence in a prior (see `search_spaces.domains.priors` for the numbers)."""


class DomainError(ArchscoutError, ValueError):
    """A value is outside a domain; the message says where, and what is allowed."""

    exit_code = ExitCode.INPUT


class SpaceError(ArchscoutError, ValueError):
    """A domain is inconsistent: the space itself must be corrected."""

    exit_code = ExitCode.INPUT


class Domain(Protocol[T_co]):
    """A set of values; named decisions lead to each of them."""

    def resolve(self, suggester: Suggester, path: str) -> T_co:
        """Return the value for a suggester's answers; all names start with `path`."""
        ...

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the answers that lead to `value`; the inverse of `resolve`.

        Raises:
            DomainError: The domain does not contain the value.
        """
        ...

    def default(self) -> T_co:
        """Return the default value."""
        ...

    def size(self) -> float:
        """Return the number of different values; infinite for a continuous range."""
        ...

    def __contains__(self, value: object) -> bool: ...


def join(path: str, name: object) -> str:
    """Return the path of `name` below `path`."""
    return f"{path}.{name}" if path else str(name)


def encodes(domain: Domain[Any], value: object) -> bool:
    """Return whether a domain contains a value: the meaning of `in`."""
    try:
        domain.encode(value, "value")
    except DomainError:
        return False
    return True


def check_prior(domain: Domain[Any], prior: object, confidence: str) -> None:
    """Reject an impossible prior.

    Raises:
        SpaceError: The prior is outside, or the confidence is unknown.
    """
    check_confidence(domain, confidence)
    if prior is not None and prior not in domain:
        raise SpaceError(f"{domain}: the prior {prior!r} is outside")


def check_confidence(where: object, confidence: str) -> None:
    """Reject an unknown confidence.

    Raises:
        SpaceError: It is none of `Confidence`.
    """
    if confidence not in (allowed := get_args(Confidence)):
        raise SpaceError(f"{where}: confidence {confidence!r} is none of {', '.join(allowed)}")


def same(one: object, other: object) -> bool:
    """Return whether values are equal and of the same type: 1, 1.0 and True differ."""
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True)
class IntRange:
    """Integers from `low` to `high`, both included.

    Examples:
        >>> IntRange(16, 64, step=16).resolve(trial, "width")
    """

    low: int
    """Minimum."""
    high: int
    """Maximum."""
    _: KW_ONLY
    step: int = 1
    """Distance between neighbors."""
    log: bool = False
    """Sample uniformly in the logarithm."""
    initial: int | None = None
    """The default; None for the prior, else the minimum."""
    prior: int | None = field(default=None, repr=False)
    """The most likely value; None for no prior."""
    confidence: Confidence = field(default="medium", repr=False)
    """Confidence in the prior."""

    def __post_init__(self) -> None:
        """Reject impossible ranges.

        Raises:
            SpaceError: The range is empty, `high` is not on a step, or `log` is impossible.
        """
        if self.low > self.high or self.step < 1:
            raise SpaceError(f"{self}: needs low <= high and step >= 1")
        if self.log and (self.low < 1 or self.step != 1):
            raise SpaceError(f"{self}: log needs low >= 1 and step 1")
        if rest := (self.high - self.low) % self.step:
            raise SpaceError(f"{self}: high is off the steps; the last one is {self.high - rest}")
        if self.initial is not None and self.initial not in self:
            raise SpaceError(f"{self}: the initial value is outside")
        check_prior(self, self.prior, self.confidence)

    def resolve(self, suggester: Suggester, path: str) -> int:
        """Return the answer for `path`; a single value is not asked for."""
        if self.low == self.high:
            return self.low
        return suggester.suggest_int(path, self.low, self.high, step=self.step, log=self.log)

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the number itself as the answer.

        Raises:
            DomainError: The value is no integer of the range.
        """
        inside = type(value) is int and self.low <= value <= self.high
        if not inside or (value - self.low) % self.step:
            raise DomainError(f"{path}: {value!r} is not in {self}")
        return {} if self.low == self.high else {path: value}

    def default(self) -> int:
        """Return the declared default, else the most likely number, else the minimum."""
        return next(n for n in (self.initial, self.prior, self.low) if n is not None)

    def size(self) -> float:
        """Return the number of values."""
        return (self.high - self.low) // self.step + 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers from `low` to `high`, both included; with a step, the grid from `low` up.

    Examples:
        >>> FloatRange(1e-4, 1e-1, log=True).resolve(trial, "learning_rate")
    """

    low: float
    """Minimum."""
    high: float
    """Maximum."""
    _: KW_ONLY
    step: float | None = None
    """Distance between neighbors; None for a continuous range."""
    log: bool = False
    """Sample uniformly in the logarithm."""
    initial: float | None = None
    """The default; None for the prior, else the minimum."""
    prior: float | None = field(default=None, repr=False)
    """The most likely value; None for no prior."""
    confidence: Confidence = field(default="medium", repr=False)
    """Confidence in the prior."""

    def __post_init__(self) -> None:
        """Reject impossible ranges.

        Raises:
            SpaceError: The range is empty or not finite, `high` is off the grid, or `log` is
                impossible.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise SpaceError(f"{self}: needs finite low <= high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise SpaceError(f"{self}: log needs low > 0 and no step")
        if self.step is not None:
            if not (math.isfinite(self.step) and self.step > 0):
                raise SpaceError(f"{self}: step must be above zero")
            if grid_steps(self.low, self.high, self.step) is None:
                raise SpaceError(f"{self}: high is off the grid of steps from low")
        if self.initial is not None and self.initial not in self:
            raise SpaceError(f"{self}: the initial value is outside (a float is needed)")
        check_prior(self, self.prior, self.confidence)

    def resolve(self, suggester: Suggester, path: str) -> float:
        """Return the exact answer for `path`; a single value is not asked for."""
        if self.low == self.high:
            return float(self.low)
        return suggester.suggest_float(path, self.low, self.high, step=self.step, log=self.log)

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return the number itself as the answer.

        Raises:
            DomainError: The value is no float of the range.
        """
        inside = type(value) is float and self.low <= value <= self.high
        if not inside or (self.step is not None and not on_grid(value, self.low, self.step)):
            raise DomainError(f"{path}: {value!r} is not in {self}")
        return {} if self.low == self.high else {path: value}

    def default(self) -> float:
        """Return the declared default, else the most likely number, else the minimum."""
        return float(next(n for n in (self.initial, self.prior, self.low) if n is not None))

    def size(self) -> float:
        """Return the number of grid points; infinite without a grid."""
        if self.low == self.high:
            return 1
        steps = None if self.step is None else grid_steps(self.low, self.high, self.step)
        return math.inf if steps is None else steps + 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class Const(Generic[T]):
    """One value, without a decision.

    Examples:
        >>> Const(3).resolve(trial, "kernel")
    """

    value: T
    """The value."""

    def resolve(self, suggester: Suggester, path: str) -> T:  # noqa: ARG002 - a Domain's signature
        """Return the value without a question."""
        return self.value

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """Return no answers.

        Raises:
            DomainError: It is another value.
        """
        if not same(value, self.value):
            raise DomainError(f"{path}: {value!r} is not {self.value!r}")
        return {}

    def default(self) -> T:
        """Return the value."""
        return self.value

    def size(self) -> float:
        """Return 1."""
        return 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)
