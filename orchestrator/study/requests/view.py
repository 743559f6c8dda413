"""A study as the ledger has it, from which the answer to a request follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, Ledger, StudyRow, UnknownStudyError
from orchestrator.trial import Trial
from search_spaces.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """One study at one moment."""

    row: StudyRow
    config: StudyConfig
    """Its config as stored, with all changes so far."""
    task: Task | None
    """Task that its networks are built for; None where the user's own code trains."""
    by_driver: bool
    """True if the driver that runs the study answers, with the Python code that it has loaded."""
    trials: Sequence[Trial]
    """All trials, by number."""

    @classmethod
    def read(cls, ledger: Ledger, name: str, *, by_driver: bool = False) -> Self:
        """Read the study of this name.

        Raises:
            UnknownStudyError: It has been deleted.
        """
        if (row := ledger.study(name)) is None:
            raise UnknownStudyError(f"no study {name!r} in this ledger")
        config = StudyConfig.from_json(row.config_json)
        task = ledger.metadata(row.id).get("task")
        return cls(
            row=row,
            config=config,
            task=Task.from_dict(task) if task else None,
            by_driver=by_driver,
            trials=ledger.trials(row.id),
        )


def refusal(reason: str) -> Effect:
    """Return the effect of a request that is refused."""
    return Effect(answer={"refused": reason})
