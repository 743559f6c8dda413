"""Requested designs: trials whose decisions a user has made, as far as given.

The running driver's sampler completes them, so they stay open until a driver runs. Each counts
against `stop.trials`, which rises with them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, StudyRow
from orchestrator.sampling.candidates import Space, user_space_error
from orchestrator.sampling.duplicates import digest_of
from orchestrator.sampling.screening import infeasibility, screen
from orchestrator.study.limits import LIMITS
from orchestrator.study.requests.view import StudyView, refusal
from orchestrator.trial import Trial
from search_spaces.designs import Design, DesignError, fixed_decisions
from search_spaces.domains.suggester import ReplaySuggester, SuggestionError

ENQUEUE = "enqueue"
"""Request kind; payload `designs`: `params` (all of them apply) and `base` (where they apply) of
each, `operation`, and `like` for display; answer `trials`: their numbers. All of them become
trials, or none."""


def to_payload(
    designs: Sequence[Design], operation: str, like: int | None = None
) -> dict[str, Any]:
    """Return the payload of a request.

    Args:
        designs: The designs.
        operation: Random id that keeps equal requests apart.
        like: Number of the trial that they start from; None without one.
    """
    listed = [{"params": dict(each.params), "base": dict(each.base)} for each in designs]
    start = {} if like is None else {"like": like}
    return {**start, "designs": listed, "operation": operation}


def read_designs(payload: Mapping[str, Any]) -> list[Design]:
    """Return the designs of a request."""
    return [Design(params=each["params"], base=each["base"]) for each in payload["designs"]]


def problem(study: StudyView, space: Space, design: Design) -> str | None:
    """Return the reason why a design would be refused; None if only the sampler can find one.

    Raises:
        UserSpaceError: The user's define-by-run space raised an exception.
    """
    try:
        fixed = fixed_decisions(space, design)
        candidate = space.resolve(ReplaySuggester(fixed))
    except DesignError as error:
        return str(error)
    except SuggestionError:  # the sampler completes it
        return None
    except Exception as error:
        raise user_space_error(error) from error
    digest = digest_of(candidate, study.task)
    equal = next((trial for trial in study.trials if trial.digest == digest), None)
    if equal is not None:
        return f"the design equals trial {equal.number}"
    bounds = (*study.config.constraints, *space.constraints)
    reason = infeasibility(screen(candidate, study.task, bounds))
    return reason and f"the design {reason}"


def refused_at_end(limit: str | None) -> Effect | None:
    """Return the refusal of designs after the end by `hours` or `target`; None before it."""
    if limit not in LIMITS:
        return None
    return refusal(f"it starts no more trials: the limit stop.{limit} is reached")


def enqueued(row: StudyRow, trials: Sequence[Trial]) -> Effect:
    """Return the effect that adds trials to a study and raises its limit by those to be trained."""
    config = StudyConfig.from_json(row.config_json)
    new, limit = sum(not trial.state.is_terminal for trial in trials), config.stop.trials
    changes = {}
    if limit is not None and new:
        stop = config.stop.model_copy(update={"trials": limit + new})
        changes["config_json"] = config.model_copy(update={"stop": stop}).canonical_json()
    numbers = [trial.number for trial in trials]
    return Effect(answer={"trials": numbers}, changes=changes, added=trials)
