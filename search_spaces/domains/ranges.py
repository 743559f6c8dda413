"""The smallest domains, of one decision or none, and what every domain promises.

`search_spaces.domains.composite` composes them, and is where to import them from.
"""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from search_spaces.domains.suggester import Suggester, grid_steps, on_grid
from search_spaces.errors import ArchscoutError, ExitCode

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Confidence = Literal["low", "medium", "high"]
"""How far a prior is to be trusted (`search_spaces.domains.priors` has the numbers)."""


class DomainError(ArchscoutError, ValueError):
    """A value lies outside a domain; the message says where and what is allowed."""

    exit_code = ExitCode.INPUT


class SpaceError(ArchscoutError, ValueError):
    """A domain is ill-made: whoever wrote the space must change it, no value can help."""

    exit_code = ExitCode.INPUT


class Domain(Protocol[T_co]):
    """A set of values, each reached by answering named questions."""

    def resolve(self, suggester: Suggester, path: str) -> T_co:
        """The value that the suggester's answers lead to; all names begin with `path`."""
        ...

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The answers that lead to `value`.

        Raises:
            DomainError: No answers lead there.
        """
        ...

    def default(self) -> T_co:
        """The value taken when nobody decides."""
        ...

    def size(self) -> float:
        """How many different values there are; infinite for a continuous range."""
        ...

    def __contains__(self, value: object) -> bool: ...


def join(path: str, name: object) -> str:
    """The path of something called `name` beneath `path`."""
    return f"{path}.{name}" if path else str(name)


def encodes(domain: Domain[Any], value: object) -> bool:
    """Whether a domain finds answers that lead to the value: what `in` means."""
    try:
        domain.encode(value, "value")
    except DomainError:
        return False
    return True


def check_prior(domain: Domain[Any], prior: object, confidence: str) -> None:
    """Refuse an expectation that the domain cannot meet.

    Raises:
        SpaceError: The prior lies outside, or the confidence is no word for one.
    """
    check_confidence(domain, confidence)
    if prior is not None and prior not in domain:
        raise SpaceError(f"{domain}: the prior {prior!r} lies outside")


def check_confidence(where: object, confidence: str) -> None:
    """Refuse what is no word for a confidence.

    Raises:
        SpaceError: It is none.
    """
    if confidence not in (allowed := get_args(Confidence)):
        raise SpaceError(f"{where}: confidence {confidence!r} is none of {', '.join(allowed)}")


def same(one: object, other: object) -> bool:
    """Equality that tells 1, 1.0 and True apart."""
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True)
class IntRange:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    """The smallest."""
    high: int
    """The largest."""
    _: KW_ONLY
    step: int = 1
    """Distance between neighbours."""
    log: bool = False
    """Whether samplers should spread their draws evenly over the logarithm."""
    initial: int | None = None
    """The default; None takes the prior, else the smallest."""
    prior: int | None = field(default=None, repr=False)
    """The likeliest value; None expects none."""
    confidence: Confidence = field(default="medium", repr=False)
    """How far to trust the prior."""

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be drawn as they are written.

        Raises:
            SpaceError: Empty, a high end off the steps, or a logarithm that does not exist.
        """
        if self.low > self.high or self.step < 1:
            raise SpaceError(f"{self}: needs low <= high and step >= 1")
        if self.log and (self.low < 1 or self.step != 1):
            raise SpaceError(f"{self}: log needs low >= 1 and step 1")
        if rest := (self.high - self.low) % self.step:
            raise SpaceError(f"{self}: high is off the steps; the last one is {self.high - rest}")
        if self.initial is not None and self.initial not in self:
            raise SpaceError(f"{self}: the initial value lies outside")
        check_prior(self, self.prior, self.confidence)

    def resolve(self, suggester: Suggester, path: str) -> int:
        """The number answered under `path`; nothing is asked where there is no choice."""
        if self.low == self.high:
            return self.low
        return suggester.suggest_int(path, self.low, self.high, step=self.step, log=self.log)

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The number itself as the answer.

        Raises:
            DomainError: It is no whole number of the range.
        """
        inside = type(value) is int and self.low <= value <= self.high
        if not inside or (value - self.low) % self.step:
            raise DomainError(f"{path}: {value!r} is not in {self}")
        return {} if self.low == self.high else {path: value}

    def default(self) -> int:
        """The declared default, else the likeliest number, else the smallest."""
        return next(n for n in (self.initial, self.prior, self.low) if n is not None)

    def size(self) -> float:
        """How many numbers there are."""
        return (self.high - self.low) // self.step + 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers from `low` to `high`, both included; with a step, the grid from `low` up."""

    low: float
    """The smallest."""
    high: float
    """The largest."""
    _: KW_ONLY
    step: float | None = None
    """Distance between neighbours; None for a continuous range."""
    log: bool = False
    """Whether samplers should spread their draws evenly over the logarithm."""
    initial: float | None = None
    """The default; None takes the prior, else the smallest."""
    prior: float | None = field(default=None, repr=False)
    """The likeliest value; None expects none."""
    confidence: Confidence = field(default="medium", repr=False)
    """How far to trust the prior."""

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be drawn as they are written.

        Raises:
            SpaceError: Empty, not finite, a high end off the grid, or a logarithm that does not
                exist.
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
            raise SpaceError(f"{self}: the initial value lies outside (a float is needed)")
        check_prior(self, self.prior, self.confidence)

    def resolve(self, suggester: Suggester, path: str) -> float:
        """The number answered under `path`, to the last bit; not asked where there is no choice."""
        if self.low == self.high:
            return float(self.low)
        return suggester.suggest_float(path, self.low, self.high, step=self.step, log=self.log)

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """The number itself as the answer.

        Raises:
            DomainError: It is no float of the range.
        """
        inside = type(value) is float and self.low <= value <= self.high
        if not inside or (self.step is not None and not on_grid(value, self.low, self.step)):
            raise DomainError(f"{path}: {value!r} is not in {self}")
        return {} if self.low == self.high else {path: value}

    def default(self) -> float:
        """The declared default, else the likeliest number, else the smallest."""
        return float(next(n for n in (self.initial, self.prior, self.low) if n is not None))

    def size(self) -> float:
        """How many grid points there are; infinite without a grid."""
        if self.low == self.high:
            return 1
        steps = None if self.step is None else grid_steps(self.low, self.high, self.step)
        return math.inf if steps is None else steps + 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)


@dataclass(frozen=True, slots=True)
class Const(Generic[T]):
    """One value: nothing to decide."""

    value: T
    """The value."""

    def resolve(self, suggester: Suggester, path: str) -> T:  # noqa: ARG002 - a Domain's signature
        """The value; nothing is asked."""
        return self.value

    def encode(self, value: Any, path: str) -> dict[str, Any]:
        """No answers.

        Raises:
            DomainError: It is another value.
        """
        if not same(value, self.value):
            raise DomainError(f"{path}: {value!r} is not {self.value!r}")
        return {}

    def default(self) -> T:
        """The value."""
        return self.value

    def size(self) -> float:
        """One."""
        return 1

    def __contains__(self, value: object) -> bool:
        return encodes(self, value)
