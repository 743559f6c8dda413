"""Draws from a study's space; what a user's own space raises is told as a mistake in the input."""

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Problem, ProblemsError
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import Suggester
from search_spaces.space import DefineByRunSpace, SearchSpace

Space = SearchSpace | DefineByRunSpace


def resolve_candidate(
    config: StudyConfig, space: Space, suggester: Suggester
) -> Candidate | Decisions:
    """What the space makes of the suggester's answers.

    Raises:
        ProblemsError: The user's own space raised.
    """
    try:
        return space.resolve(suggester)
    except Exception as error:  # the user's own function may raise anything
        if user_object(config.space) is None:
            raise
        text = f"the space raised {type(error).__name__}: {error}"
        raise ProblemsError([Problem(config.name, text=text, path=("space",))]) from error
