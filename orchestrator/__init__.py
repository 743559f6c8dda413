"""archscout: search networks and loss weights, and promote the best model after verifying it.

    from orchestrator import create_study, load_model

    study = create_study("study.yaml")
    study.run()
    study.promote("mine")
    load_model("mine@champion").predict(images)

The names below are loaded when they are first used: importing this package loads neither torch nor
ray nor mlflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api.model import Model, load_model
    from orchestrator.api.opening import create_study, list_studies, load_study
    from orchestrator.api.study import Study
    from orchestrator.api.trial import FrozenTrial
    from orchestrator.config.schema import StudyConfig
    from orchestrator.errors import ArchscoutError
    from search_spaces.space import SearchSpace

_HOMES = {
    "ArchscoutError": "orchestrator.errors",
    "FrozenTrial": "orchestrator.api.trial",
    "Model": "orchestrator.api.model",
    "SearchSpace": "search_spaces.space",
    "Study": "orchestrator.api.study",
    "StudyConfig": "orchestrator.config.schema",
    "create_study": "orchestrator.api.opening",
    "list_studies": "orchestrator.api.opening",
    "load_model": "orchestrator.api.model",
    "load_study": "orchestrator.api.opening",
}
"""Module of each public name."""

__all__ = [
    "ArchscoutError",
    "FrozenTrial",
    "Model",
    "SearchSpace",
    "Study",
    "StudyConfig",
    "create_study",
    "list_studies",
    "load_model",
    "load_study",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
