"""A study as the ledger has it, from which the answer to a request follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Effect, Ledger, StudyRow, UnknownStudyError
from orchestrator.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """One study at one moment."""

    row: StudyRow
    config: StudyConfig
    """Its config as stored, with all changes so far."""
    trials: Sequence[Trial]
    """All trials, by number."""

    @classmethod
    def read(cls, ledger: Ledger, name: str) -> Self:
        """Read the study of this name.

        Raises:
            UnknownStudyError: It has been deleted.
        """
        if (row := ledger.study(name)) is None:
            raise UnknownStudyError(f"no study {name!r} in this ledger")
        config = StudyConfig.from_json(row.config_json)
        return cls(row=row, config=config, trials=ledger.trials(row.id))


def refusal(reason: str) -> Effect:
    """Return the effect of a request that is refused."""
    return Effect(answer={"refused": reason})
