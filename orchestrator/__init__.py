"""Which candidate next, where it runs, and what was seen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.study.driver import StudyDriver

__all__ = ["StudyDriver"]


def __getattr__(name: str) -> Any:
    """Loads `StudyDriver` when it is first asked for: the command line starts without it."""
    if name == "StudyDriver":
        from orchestrator.study.driver import StudyDriver  # noqa: PLC0415 - loads torch and optuna

        return StudyDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
