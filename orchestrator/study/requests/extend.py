"""Requested extensions: more trials, more hours, or other resources for a study."""

from collections.abc import Mapping
from typing import Any

from orchestrator.config.schema import ResourcesConfig, StopConfig, StudyConfig
from orchestrator.ledger import Effect
from orchestrator.study.limits import exhausted_reason
from orchestrator.study.moved_files import same_except_paths
from orchestrator.study.requests.view import StudyView, refusal

EXTEND = "extend"
"""Request kind; payload `trials` and `hours` to add and an `operation`, or `stop` and `resources`
as they shall be; answer: the same keys of the new config."""


def extend(study: StudyView, payload: Mapping[str, Any]) -> Effect:
    """Raise the limits of a study, unless it would start no trial then either."""
    stop = _raised(study, payload) if "stop" not in payload else StopConfig(**payload["stop"])
    if isinstance(stop, str):
        return refusal(stop)
    resources = study.config.resources.model_copy(update=payload.get("resources", {}))
    config = study.config.model_copy(update={"stop": stop, "resources": resources})
    reason = exhausted_reason(config, study.row.spent_s, study.trials)
    if reason is not None:
        return refusal(f"it would start no more trials ({reason}). {_fix(reason)}")
    return Effect(
        answer={"stop": stop.model_dump(exclude_none=True)},
        changes={"config_json": config.canonical_json()},
    )


def extends(stored: StudyConfig, config: StudyConfig) -> bool:
    """Return whether a config differs from a stored one, and only by more search or resources.

    More search is a larger or absent limit of trials or hours, and a target that is absent or
    harder to reach.
    """
    if stored.stop == config.stop and _own(stored.resources) == _own(config.resources):
        return False
    alike = stored.model_copy(update={"stop": config.stop, "resources": config.resources})
    return same_except_paths(alike, config) and _is_larger(stored, config.stop)


def absolute_payload(config: StudyConfig) -> dict[str, Any]:
    """Return the payload that gives a study the limits and resources of a config."""
    return {"stop": config.stop.model_dump(), "resources": _own(config.resources)}


def _raised(study: StudyView, payload: Mapping[str, Any]) -> StopConfig | str:
    """Return the limits with what a request adds, or the reason why nothing can be added."""
    stop, changes = study.config.stop, dict[str, Any]()
    for name, other in (("trials", "hours"), ("hours", "trials")):
        more, limit = payload.get(name), getattr(stop, name)
        if more is None:
            continue
        if limit is None:
            return f"it has no limit of {name}. Extend it by {other}: --{other} +N"
        # A confirmation may have taken longer than the limit.
        spent = study.row.spent_s / 3600 if name == "hours" else 0
        changes[name] = max(limit, spent) + more
    return stop.model_copy(update=changes)


def _is_larger(stored: StudyConfig, stop: StopConfig) -> bool:
    before, sign = stored.stop, stored.objectives[0].score(1.0)
    for old, new in ((before.trials, stop.trials), (before.hours, stop.hours)):
        if new is not None and (old is None or new < old):
            return False
    if stop.target is None:
        return True
    return before.target is not None and sign * stop.target >= sign * before.target


def _own(resources: ResourcesConfig) -> dict[str, Any]:
    """Return the resources without the GPUs, which each start may change."""
    return resources.model_dump(exclude={"gpu"})


def _fix(reason: str) -> str:
    if "target" in reason:
        return "Search with a harder target, or none: --set stop.target=null"
    return f"Extend it by {'hours' if 'time' in reason else 'trials'} too"
