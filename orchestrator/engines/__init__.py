"""Engines: where and when an attempt runs. Each keeps its slots busy and tells the study the rest.

What every engine owes the study is the contract suite in tests/orchestrator/engines.
"""

from typing import TYPE_CHECKING, Protocol

from workers.data.dataset import Dataset

if TYPE_CHECKING:
    # Workers import engines too, and must not pay for the study's sampler and ledger.
    from orchestrator.study.driver import StudyDriver


class Engine(Protocol):
    """Runs a study's attempts."""

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Asks, trains, reports and tells until the study has nothing left or is stopping.

        Every attempt asked for has been told or given back when it returns. No failure of a trial
        raises; what raises is the ledger's, or the loss of the machines.
        """
        ...

    def close(self) -> None:
        """Lets go of whatever it holds; called once, also after an error."""
        ...
