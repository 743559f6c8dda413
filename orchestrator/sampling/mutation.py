"""Mutation: neighbors of a known candidate, for constraints that random sampling rarely meets."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces.domains.suggester import BaseSuggester, ChoiceQuestion, Question, sample

_LOWEST_SHARE = 0.5
"""Probability that a changed number takes its lowest value."""


def architecture_decisions(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decisions that costs depend on: those of the architecture if named so."""
    found = {name: value for name, value in params.items() if name.startswith("architecture")}
    return found or dict(params)


class MutatingSuggester(BaseSuggester):
    """Repeats another candidate's answers, except for some decisions, which tend downwards."""

    def __init__(
        self, known: Mapping[str, Any], changed: frozenset[str] | None, rng: random.Random
    ) -> None:
        """Prepare the answers.

        Args:
            known: Answers of the other candidate.
            changed: Names to answer differently; None gives every number its lowest value.
            rng: Source of new answers.
        """
        self.params: dict[str, Any] = {}
        self._known = known
        self._changed = changed
        self._rng = rng

    def answer(self, name: str, question: Question) -> Any:
        """Return the known answer unless the decision changes, else a new one."""
        if name not in self.params:
            changed = self._changed is None or name in self._changed
            keep = not changed and self._fits(name, question)
            self.params[name] = self._known[name] if keep else self._new(question)
        return self.params[name]

    def _fits(self, name: str, question: Question) -> bool:
        if name not in self._known:
            return False
        known = self._known[name]
        if isinstance(question, ChoiceQuestion):
            return any(type(known) is type(c) and known == c for c in question.choices)
        return isinstance(known, int | float) and question.low <= known <= question.high

    def _new(self, question: Question) -> Any:
        if isinstance(question, ChoiceQuestion):
            return sample(question, self._rng)
        if self._changed is None or self._rng.random() < _LOWEST_SHARE:
            return question.low
        return sample(replace(question, log=False), self._rng)
