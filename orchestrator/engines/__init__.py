"""Engines: where and when attempts run.

The contract suite in tests/orchestrator/engines checks what every engine must do.
"""

from typing import TYPE_CHECKING, Protocol

from workers.data.dataset import Dataset

if TYPE_CHECKING:
    # Workers import engines too, and need neither the sampler nor the ledger.
    from orchestrator.study.driver import StudyDriver


class Engine(Protocol):
    """Runs a study's attempts."""

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Ask for attempts, train and report them until the study is finished or stopping.

        Every attempt is finished or requeued on return. The failure of a trial is reported, not
        raised.

        Args:
            study: Supplies attempts and records their results.
            dataset: Data of all trials.

        Raises:
            LedgerError: The ledger failed.
            EngineLostError: The machines are lost.
        """
        ...

    def close(self) -> None:
        """Release all resources; called once, also after an error."""
        ...
