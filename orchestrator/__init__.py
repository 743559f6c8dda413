"""Which candidate next, where it runs, and what was seen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.study.driver import Study

__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    """Loads `Study` when it is first asked for: the command line starts without it."""
    if name == "Study":
        from orchestrator.study.driver import Study  # noqa: PLC0415 - loads torch and optuna

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
