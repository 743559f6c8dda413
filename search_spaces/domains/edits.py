"""Edits of a search space: decisions that are fixed, narrowed, or lose choices.

An edit names decisions by a pattern: a parameter path, or its last segments, in which `*` is
any one segment except `count`, the length of a repeated part. All edits of a decision apply to
the base space; what is left is their intersection, so their order does not matter.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    Suggester,
    describe_range,
    grid_point,
    is_answer,
)
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import did_you_mean

Section = Literal["fix", "narrow", "remove"]
Value = bool | int | float | str | None
"""Value of a decision in an edit."""
Number = IntQuestion | FloatQuestion
"""Question for a number."""
Questions = Mapping[str, Collection[Question]]
"""Questions of each decision by name; several where a function asks with different ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditProblem:
    """One mistake in the edits."""

    section: Section
    """Section of the edit."""
    pattern: str
    """Pattern of the edit."""
    text: str
    """Message: problem, allowed values, suggested fix."""


class SpaceEditError(ArchscoutError, ValueError):
    """Edits do not fit the space."""

    exit_code = ExitCode.INPUT

    problems: tuple[EditProblem, ...] = ()
    """The mistakes one by one."""

    @classmethod
    def of(cls, problems: Iterable[EditProblem]) -> Self:
        """Return the error that reports these mistakes, one a line."""
        found = tuple(problems)
        error = cls("\n".join(f"{each.section}.{each.pattern}: {each.text}" for each in found))
        error.problems = found
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One edit of the decisions that a pattern names."""

    section: Section
    """Kind of the edit."""
    pattern: str
    """Parameter path, or its last segments; `*` is any segment but `count`."""
    values: tuple[Value, ...]
    """The fixed value, the bounds or choices to keep, or the choices to remove."""

    def matches(self, name: str) -> bool:
        """Return whether the edit applies to a decision."""
        wanted, segments = self.pattern.split("."), name.split(".")
        return len(wanted) <= len(segments) and all(
            each == segment or (each == "*" and segment != "count")
            for each, segment in zip(wanted, segments[-len(wanted) :], strict=True)
        )

    def apply(self, question: Question) -> Question:
        """Return the question with only the allowed answers.

        Raises:
            ValueError: A value is no answer to it, or nothing is left; the message says which.
        """
        if not self.values:
            raise ValueError("needs at least one value")
        if isinstance(question, ChoiceQuestion):
            return ChoiceQuestion(self._choices(question.choices))
        low, high = self._bounds(question)
        return replace(question, low=low, high=high)

    def problem(self, text: str) -> EditProblem:
        """Return a mistake in this edit."""
        return EditProblem(section=self.section, pattern=self.pattern, text=text)

    def _choices(self, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        named = [_choice(value, choices) for value in self.values]
        kept = [
            index for index in range(len(choices)) if (index in named) != (self.section == "remove")
        ]
        if not kept:
            raise ValueError("leaves no choice; keep at least one of " + _listed(choices))
        return tuple(choices[index] for index in kept)

    def _bounds(self, question: Number) -> tuple[Any, Any]:
        span = describe_range(question)
        if self.section == "remove":
            raise ValueError(f"is a number {span}; use narrow: [LOW, HIGH]")
        numbers = [_number(value, question) for value in self.values]
        if self.section == "fix":
            if not is_answer(question, numbers[0]):
                raise ValueError(f"{numbers[0]!r} is not a number {span}")
            low = high = numbers[0]
        elif len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise ValueError("needs [LOW, HIGH] with LOW below HIGH; use fix for one value")
        else:
            low, high = numbers
        if low < question.low or high > question.high:
            raise ValueError(f"[{low!r}, {high!r}] reaches beyond the numbers {span}")
        return _on_grid(question, low, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceEdits:
    """All edits of a space by section and pattern.

    Examples:
        >>> SpaceEdits(fix={"recipe.optimizer": "adamw"}, narrow={"stages.*.width": [32, 64]})
    """

    fix: Mapping[str, Value] = field(default_factory=dict)
    """The one value of a decision."""
    narrow: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Bounds of a number, `[low, high]`, or the choices to keep."""
    remove: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Choices to remove."""

    def __iter__(self) -> Iterator[Edit]:
        """Iterate over single edits."""
        for pattern, value in self.fix.items():
            yield Edit(section="fix", pattern=pattern, values=(value,))
        for pattern, values in self.narrow.items():
            yield Edit(section="narrow", pattern=pattern, values=tuple(values))
        for pattern, values in self.remove.items():
            yield Edit(section="remove", pattern=pattern, values=tuple(values))

    def __bool__(self) -> bool:
        """Return whether there is any edit."""
        return bool(self.fix or self.narrow or self.remove)

    def describe(self) -> str:
        """Return the number of edits as the end of a space's name; empty without edits."""
        count = len(self.fix) + len(self.narrow) + len(self.remove)
        return f" with {count} edit{'s' * (count > 1)}" if count else ""

    @property
    def digest(self) -> str:
        """First 8 digits of the SHA-256 of the edits, independent of the order of their keys."""
        rows = sorted(
            [edit.section, edit.pattern, *sorted(map(_canonical, edit.values))] for edit in self
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]

    def check(self, questions: Questions, space: str) -> None:
        """Refuse edits that do not fit the decisions of a space.

        Args:
            questions: All decisions of the base space.
            space: Name of the base space, for messages.

        Raises:
            SpaceEditError: Every mistake found.
        """
        problems = {edit: text for edit in self if (text := _mistake(edit, questions, space))}
        good = [edit for edit in self if edit not in problems]
        for name, asked in questions.items():
            edits = [edit for edit in good if edit.matches(name)]
            if any(_intersection(question, edits) is None for question in asked):
                others = " and ".join(f"{edit.section}.{edit.pattern}" for edit in edits[:-1])
                text = f"leaves no value of {name} together with {others}; change one of them"
                problems.setdefault(edits[-1], text)
        if problems:
            raise SpaceEditError.of(edit.problem(text) for edit, text in problems.items())

    def check_effect(self, base: Iterable[str], derived: Collection[str]) -> None:
        """Refuse edits of decisions that other edits remove altogether.

        Args:
            base: Decisions of the base space.
            derived: Decisions of the edited space.

        Raises:
            SpaceEditError: An edit has no effect.
        """
        base = tuple(base)
        problems = [
            edit.problem("applies only to parts that other edits remove; remove one of them")
            for edit in self
            if any(map(edit.matches, base)) and not any(map(edit.matches, derived))
        ]
        if problems:
            raise SpaceEditError.of(problems)

    def restrict(self, name: str, question: Question) -> Question:
        """Return the question of a decision with only the allowed answers.

        Raises:
            SpaceEditError: No answer is allowed: the function asks with another range than it did
                when the edits were checked.
        """
        edits = [edit for edit in self if edit.matches(name)]
        try:
            restricted = _intersection(question, edits)
        except ValueError as error:
            text = f"{name}: {error}"
        else:
            if restricted is not None:
                return restricted
            text = f"leaves no value of {name}"
        raise SpaceEditError.of([edits[-1].problem(text)])


class RestrictingSuggester(BaseSuggester):
    """Passes questions on to another suggester with only the answers that edits allow."""

    def __init__(self, suggester: Suggester, edits: SpaceEdits) -> None:
        self._suggester = suggester
        self._edits = edits

    def answer(self, name: str, question: Question) -> Any:
        """Return the other suggester's answer; a fixed decision is asked with one answer."""
        return self._edits.restrict(name, question).ask(self._suggester, name)


def _mistake(edit: Edit, questions: Questions, space: str) -> str | None:
    """Return the first mistake of one edit alone; None if it fits all decisions that it names."""
    named = [name for name in questions if edit.matches(name)]
    for name in named:
        for question in questions[name]:
            try:
                edit.apply(question)
            except ValueError as error:
                return f"{'' if name == edit.pattern else f'{name}: '}{error}"
    return None if named else _unknown(edit.pattern, questions, space)


def _unknown(pattern: str, names: Iterable[str], space: str) -> str:
    """Return the message for a pattern that matches no decision, with the nearest one."""
    wanted = pattern.split(".")
    similar = dict.fromkeys(names)
    for name in tuple(similar):
        segments = name.split(".")
        if len(segments) > len(wanted):
            segments = segments[-len(wanted) :]
        starred = zip(wanted, segments, strict=False)
        similar[".".join("*" if each == "*" else segment for each, segment in starred)] = None
    hint = did_you_mean(pattern, similar)
    return f"matches no decision of space '{space}'; list them with archscout space.{hint}"


def _intersection(question: Question, edits: Iterable[Edit]) -> Question | None:
    """Return the question with the answers that all edits allow; None if there is none.

    Raises:
        ValueError: One edit alone does not fit.
    """
    result = question
    for edit in edits:
        allowed = edit.apply(question)
        if isinstance(result, ChoiceQuestion):
            result = ChoiceQuestion(tuple(c for c in result.choices if is_answer(allowed, c)))
            if not result.choices:
                return None
        elif not isinstance(allowed, ChoiceQuestion):
            low: Any = max(result.low, allowed.low)
            high: Any = min(result.high, allowed.high)
            if low > high:
                return None
            result = replace(result, low=low, high=high)
    return result


def _choice(value: Value, choices: Sequence[Any]) -> int:
    """Return the index of the choice that is equal to a value, or that looks like it.

    Raises:
        ValueError: There is none.
    """
    for index, choice in enumerate(choices):
        if type(choice) is type(value) and choice == value:
            return index
    for index, choice in enumerate(choices):
        if _text(choice) == _text(value):
            return index
    hint = did_you_mean(_text(value), [_text(choice) for choice in choices])
    raise ValueError(f"{value!r} is none of {_listed(choices)}.{hint}")


def _number(value: Value, question: Number) -> float:
    """Return a value as a number of the question's type.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number {describe_range(question)}")
    if isinstance(question, FloatQuestion):
        return float(value)
    if value != int(value):
        raise ValueError(f"{value!r} is not an integer {describe_range(question)}")
    return int(value)


def _on_grid(question: Number, low: float, high: float) -> tuple[Any, Any]:
    """Return the lowest and the highest answer between two numbers.

    Raises:
        ValueError: There is none.
    """
    if question.step is None:
        return low, high
    first = math.ceil((low - question.low) / question.step - 1e-8)
    last = math.floor((high - question.low) / question.step + 1e-8)
    if first > last:
        raise ValueError(f"leaves no number {describe_range(question)}")
    if isinstance(question, IntQuestion):
        return question.low + first * question.step, question.low + last * question.step
    step = question.step
    return grid_point(question.low, step, first), grid_point(question.low, step, last)


def _canonical(value: Value) -> str:
    """Return a value as JSON; equal numbers are equal texts."""
    integral = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if integral and value is not None else value)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _listed(choices: Sequence[Any]) -> str:
    return ", ".join(map(_text, choices))
