"""Mutation: neighbors of a known candidate."""

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.sampling.scales import WIDTHS, neighbor
from search_spaces.domains.priors import Expected, sample_prior
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    Question,
    is_answer,
    sample,
)

_LOWEST_SHARE = 0.5
"""Probability that a shrinking number takes its lowest value."""


def architecture_decisions(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decisions that costs depend on: those of the architecture if named so."""
    found = {name: value for name, value in params.items() if name.startswith("architecture")}
    return found or dict(params)


class MutatingSuggester(BaseSuggester):
    """Repeats another candidate's answers, except for some; new decisions are sampled uniformly.

    Examples:
        >>> suggester = MutatingSuggester(trial.params, {"depth"}, random.Random(0))
        >>> candidate = space.resolve(suggester)
    """

    def __init__(
        self,
        known: Mapping[str, Any],
        changed: Collection[str],
        rng: random.Random,
        widths: tuple[float, float] = WIDTHS,
    ) -> None:
        """Prepare the answers.

        Args:
            known: Answers of the other candidate; those that do not fit a question are ignored.
            changed: Names to answer differently.
            rng: Source of new answers.
            widths: Range of the standard deviation of a change, relative to that of the answers.
        """
        self.params: dict[str, Any] = {}
        """Answers so far by name, in the order of the questions."""
        self.questions: dict[str, Question] = {}
        """Questions so far by name, in order."""
        self._known = known
        self._changed = changed
        self._rng = rng
        self._widths = widths

    def answer(self, name: str, question: Question) -> Any:
        """Return the known answer unless the decision is new or changes."""
        if name in self.params:
            return self.params[name]
        self.questions[name] = question
        if name not in self._known or not is_answer(question, answer := self._known[name]):
            answer = self._new(name, question)
        elif name in self._changed:
            answer = self._other(name, question)
        self.params[name] = answer
        return answer

    def repeat(self, name: str, question: Question) -> None:
        """Repeat the known answer to a question that is asked again."""
        self.questions[name], self.params[name] = question, self._known[name]

    def _new(self, name: str, question: Question) -> Any:  # noqa: ARG002 - subclasses use it
        """Return the answer of a decision that the other candidate lacks."""
        return sample(question, self._rng)

    def _other(self, name: str, question: Question) -> Any:
        """Return a changed answer."""
        return neighbor(question, self._known[name], self._rng, self._widths)


class PriorSuggester(MutatingSuggester):
    """Samples new decisions from their priors where they have one."""

    def __init__(
        self, known: Mapping[str, Any], expected: Mapping[str, Expected], rng: random.Random
    ) -> None:
        """Prepare the answers.

        Args:
            known: Fixed answers; those that do not fit a question are ignored.
            expected: Decisions that have a prior, by name.
            rng: Source of new answers.
        """
        super().__init__(known, (), rng)
        self._expected = expected

    def _new(self, name: str, question: Question) -> Any:
        if name in self._expected:
            return sample_prior(self._expected[name], self._rng)
        return sample(question, self._rng)


class ShrinkingSuggester(MutatingSuggester):
    """A mutation in which new and changed numbers tend to their lowest value.

    For constraints that random sampling rarely meets.
    """

    def __init__(
        self, known: Mapping[str, Any], changed: Collection[str] | None, rng: random.Random
    ) -> None:
        """Prepare the answers; `changed` None gives every number its lowest value."""
        super().__init__({} if changed is None else known, changed or (), rng)
        self._lowest_share = 1.0 if changed is None else _LOWEST_SHARE

    def _new(self, name: str, question: Question) -> Any:  # noqa: ARG002 - the base's
        if isinstance(question, ChoiceQuestion):
            return sample(question, self._rng)
        if self._lowest_share == 1 or self._rng.random() < self._lowest_share:
            return question.low
        return sample(replace(question, log=False), self._rng)

    def _other(self, name: str, question: Question) -> Any:
        return self._new(name, question)
