"""What a requested edit changes in a study."""

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ProblemsError
from orchestrator.ledger import Effect
from orchestrator.sampling.candidates import Space
from orchestrator.study.prepare import check_space, study_space, user_code
from orchestrator.study.requests.edit import obstacle, set_value, value_at
from orchestrator.study.requests.trial_classes import classify
from orchestrator.study.requests.view import StudyView, refusal
from search_spaces.plugins import UserFileError


def edit(study: StudyView, payload: Mapping[str, Any]) -> Effect:
    """Change the config and the space of a study; end the open trials that make no sense then."""
    stored = json.loads(study.config.canonical_json())
    for key, (old, new) in payload["changes"].items():
        if (now := value_at(stored, key)) not in (old, new):
            return refusal(f"{key} has changed to {now} meanwhile. Edit it again")
        set_value(stored, key, new)
    config = StudyConfig.from_json(json.dumps(stored))
    try:
        space, problem = _open(study, config, payload)
    except (ProblemsError, UserFileError) as error:
        return refusal(str(error))
    if space is None or problem is not None:
        return refusal(problem or "")
    new = {
        "config_json": config.canonical_json(),
        "space_name": space.name,
        "space_version": space.version,
        "code_digest": payload["code_digest"],
    }
    classes = classify(study.trials, space, config)
    return Effect(
        answer={"space": [space.name, space.version], "trials": classes.to_dict()},
        changes={name: value for name, value in new.items() if value != getattr(study.row, name)},
        ended=[trial.uid for trial in study.trials if classes.ends(trial)],
    )


def _open(
    study: StudyView, config: StudyConfig, payload: Mapping[str, Any]
) -> tuple[Space | None, str | None]:
    """Return the space of the new config, or the reason why it cannot be used here."""
    if (reason := obstacle(study.config, config)) is not None:
        return None, reason
    code = user_code(config)
    digest = None if code is None else code.digest
    if study.by_driver and digest != study.row.code_digest:
        return None, (
            "the edit needs other Python code than the running driver has loaded. Pause the study "
            "first, then edit it again"
        )
    space = study_space(config, study.task)
    check_space(config, space)
    if [space.name, space.version] != payload["space"] or digest != payload["code_digest"]:
        return None, "your Python files have changed meanwhile. Edit the study again"
    return space, None
