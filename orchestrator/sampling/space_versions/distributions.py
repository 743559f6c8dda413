"""Questions as Optuna's distributions in JSON, as the ledger keeps them, and back."""

from functools import lru_cache

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from search_spaces.domains.suggester import ChoiceQuestion, FloatQuestion, IntQuestion, Question


@lru_cache(maxsize=4096)
def to_json(question: Question) -> str:
    """Return Optuna's JSON of a question's distribution."""
    return distribution_to_json(_distribution(question))


@lru_cache(maxsize=4096)
def to_question(text: str) -> Question:
    """Return the question of a distribution in Optuna's JSON.

    Raises:
        ValueError: The distribution is unknown.
    """
    match json_to_distribution(text):
        case CategoricalDistribution() as known:
            return ChoiceQuestion(tuple(known.choices))
        case IntDistribution() as known:
            return IntQuestion(known.low, known.high, known.step, known.log)
        case FloatDistribution() as known:
            return FloatQuestion(known.low, known.high, known.step, known.log)
    raise ValueError(f"unknown distribution: {text}")


def _distribution(question: Question) -> BaseDistribution:
    match question:
        case ChoiceQuestion(choices):
            return CategoricalDistribution(choices)
        case IntQuestion(low, high, step, log):
            return IntDistribution(low, high, log=log, step=step)
        case FloatQuestion(low, high, step, log):
            return FloatDistribution(low, high, log=log, step=step)
