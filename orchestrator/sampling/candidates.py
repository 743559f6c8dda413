"""Candidates: resolve them from a study's space."""

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Problem, ProblemsError
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import Suggester
from search_spaces.errors import ArchscoutError
from search_spaces.space import DefineByRunSpace, SearchSpace

Space = SearchSpace | DefineByRunSpace


class UserSpaceError(ArchscoutError):
    """The user's define-by-run space raised an exception."""


def user_space_error(error: Exception) -> UserSpaceError:
    """Return the error that reports an exception of the user's space."""
    return UserSpaceError(f"the space raised {type(error).__name__}: {error}")


def resolve_candidate(
    config: StudyConfig, space: Space, suggester: Suggester
) -> Candidate | Decisions:
    """Return the candidate that a suggester's values lead to.

    Raises:
        ProblemsError: The user's own space raised an exception.
    """
    try:
        return space.resolve(suggester)
    except Exception as error:  # the user's own function may raise anything
        if user_object(config.space_base) is None:
            raise
        text = str(user_space_error(error))
        raise ProblemsError([Problem(config.name, text=text, path=("space",))]) from error
