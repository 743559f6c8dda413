"""Each-choice coverage: samples that contain every option of a space at least once."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from search_spaces.domains.suggester import ChoiceQuestion, Question, RandomSuggester, Suggester

T = TypeVar("T")

MIN_SAMPLES = 64
"""Purely random samples, before the first that is directed to an option."""
MAX_SAMPLES = 2000
"""Samples altogether; options that need more stay uncovered."""


def each_choice(resolve: Callable[[Suggester], T], max_samples: int = MAX_SAMPLES) -> Iterator[T]:
    """Yield random samples, then one for each option that none of them contained.

    Options are the choices of a categorical question and the two ends of a range. A directed sample
    repeats the answers that once preceded its question; everything else is random.

    Args:
        resolve: Makes a value from a suggester's answers.
        max_samples: Samples altogether.
    """
    covered: set[tuple[str, str]] = set()
    uncovered: dict[tuple[str, str], Mapping[str, Any]] = {}
    for seed in range(max_samples):
        if seed >= MIN_SAMPLES and not uncovered:
            return
        # The newest first: the loss, which is decided last, is covered before a large architecture.
        given = {} if seed < MIN_SAMPLES else uncovered.popitem()[1]
        suggester = RandomSuggester(seed, given)
        yield resolve(suggester)
        before: dict[str, Any] = {}
        for name, question in suggester.questions.items():
            answer = suggester.params[name]
            covered.add((name, repr(answer)))
            uncovered.pop((name, repr(answer)), None)
            for option in _options(question):
                key = (name, repr(option))
                if key not in covered and key not in uncovered:
                    uncovered[key] = {**before, name: option}
            before[name] = answer


def _options(question: Question) -> tuple[Any, ...]:
    if isinstance(question, ChoiceQuestion):
        return question.choices
    return question.low, question.high
