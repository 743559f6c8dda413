"""Draws that meet every option of a space at least once, however rare chance would make it.

Knows questions and answers only; what they lead to is the caller's.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from search_spaces.domains.suggester import Question, RandomSuggester, Suggester

T = TypeVar("T")

BY_CHANCE = 64
"""Draws before the first that is led to an option."""
AT_MOST = 2000
"""Draws altogether; options beyond them stay unmet."""


def covering(resolve: Callable[[Suggester], T], at_most: int = AT_MOST) -> Iterator[T]:
    """Draws by chance, and then one for each option that none of them met.

    Options are the choices of a categorical question and the ends of a range. Who is led to one
    repeats the answers that once came before its question; all else is left to chance.

    Args:
        resolve: Draws a value from a suggester's answers.
        at_most: Draws altogether.
    """
    met: set[tuple[str, str]] = set()
    unmet: dict[tuple[str, str], Mapping[str, Any]] = {}
    for seed in range(at_most):
        if seed >= BY_CHANCE and not unmet:
            return
        # The newest first: what is decided last, the loss, is met before a large architecture.
        given = {} if seed < BY_CHANCE else unmet.popitem()[1]
        suggester = RandomSuggester(seed, given)
        yield resolve(suggester)
        before: dict[str, Any] = {}
        for name, question in suggester.questions.items():
            answer = suggester.params[name]
            met.add((name, repr(answer)))
            unmet.pop((name, repr(answer)), None)
            for option in _options(question):
                key = (name, repr(option))
                if key not in met and key not in unmet:
                    unmet[key] = {**before, name: option}
            before[name] = answer


def _options(question: Question) -> tuple[Any, ...]:
    kind, *asked = question
    return tuple(asked) if kind == "categorical" else tuple(asked[:2])
