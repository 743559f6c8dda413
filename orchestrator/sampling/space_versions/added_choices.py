"""Choices that a change of a study's space has added: its next proposals try each once."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from orchestrator.sampling.candidates import Space
from orchestrator.sampling.space_versions.distributions import to_question
from orchestrator.trial import Trial
from search_spaces.derivation import decision_questions
from search_spaces.designs import Design, DesignError, fixed_decisions
from search_spaces.domains.suggester import ChoiceQuestion, RandomSuggester

_PROPOSALS = 10
"""Proposals after a change of the space within which its added choices are tried."""
_RUNS = 50
"""Random candidates among which one with an added choice is searched."""
_ITEM = re.compile(r"(?<=\.)\d+(?=\.|$)")
"""Position of an item of a repeated part in the name of a decision."""

Choice = tuple[str, Any]
"""A decision's name and one of its choices."""


class AddedChoices:
    """Choices that earlier versions of a space lacked; the first proposals try each once."""

    def __init__(self, space: Space, earlier: Iterable[Trial]) -> None:
        """Find the choices.

        Args:
            space: The present space.
            earlier: Trials of earlier versions, with their distributions.
        """
        self._space = space
        self._choices = _added(space, earlier)

    def next(self, trials: Collection[Trial]) -> Choice | None:
        """Return the next choice to try; None if all are, or after the first proposals.

        Args:
            trials: All trials of the study.
        """
        if not self._choices:
            return None
        new = [t for t in trials if t.space_version == self._space.version and t.kind == "search"]
        if len(new) >= max(_PROPOSALS, len(self._choices)):
            return None
        tried = {(_ITEM.sub("*", name), value) for t in new for name, value in t.params.items()}
        untried = (c for c in self._choices if (_ITEM.sub("*", c[0]), c[1]) not in tried)
        return next(untried, None)


def params_with(choice: Choice, space: Space, seed: int, *, complete: bool) -> Mapping[str, Any]:
    """Return parameters with a choice; only the choice where no run of the space asks for it.

    Args:
        choice: The choice.
        space: The present space.
        seed: Seed of the other decisions.
        complete: Decide all of them, at random; else only those that the choice implies.
    """
    name, value = choice
    if not complete:
        try:
            return fixed_decisions(space, Design(params={name: value}))
        except DesignError:
            return {name: value}
    for run in range(_RUNS):
        suggester = RandomSuggester(seed + run, {name: value})
        space.resolve(suggester)
        if name in suggester.questions:
            return {known: suggester.params[known] for known in suggester.questions}
    return {name: value}


def _added(space: Space, earlier: Iterable[Trial]) -> tuple[Choice, ...]:
    """Return the added choices, those of the items of a repeated part once."""
    known: dict[str, set[Any]] = {}
    for trial in earlier:
        for name, text in trial.distributions.items():
            question = to_question(text)
            if isinstance(question, ChoiceQuestion):
                known.setdefault(_ITEM.sub("*", name), set()).update(question.choices)
    if not known:
        return ()
    added: dict[Choice, Choice] = {}
    for name, asked in decision_questions(space).items():
        item = _ITEM.sub("*", name)
        for question in asked if item in known else ():
            choices = question.choices if isinstance(question, ChoiceQuestion) else ()
            for choice in choices:
                if choice not in known[item]:
                    added.setdefault((item, choice), (name, choice))
    return tuple(added.values())
