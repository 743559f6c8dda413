"""Checkpoints that an attempt keeps: the newest ones, and that of its best epoch."""

from collections.abc import Mapping

from workers import checkpoint
from workers.job import BestEpoch
from workers.measurement import CheckpointRef
from workers.storage import Storage

NUM_NEWEST = 2
"""Number of newest checkpoints kept: the last one, and the previous one in case it is damaged."""


class KeptCheckpoints:
    """Checkpoints that an attempt saved or started from, oldest first.

    Examples:
        >>> kept = KeptCheckpoints(BestEpoch(metric="val_loss", direction="minimize"))
        >>> kept.add(reference, {"val_loss": 0.3})
        >>> kept.remove_old(job.checkpoints)
    """

    def __init__(self, best_epoch: BestEpoch | None) -> None:
        """Start with none.

        Args:
            best_epoch: Rule of the epoch whose checkpoint is kept too; None keeps the newest only.
        """
        self._best_epoch = best_epoch
        self._saved: list[tuple[CheckpointRef, float | None]] = []

    def add(self, reference: CheckpointRef, metrics: Mapping[str, float]) -> None:
        """Add the checkpoint of an epoch with these metrics, none where they are unknown."""
        score = None if self._best_epoch is None else self._best_epoch.score(metrics)
        self._saved.append((reference, score))

    def remove_old(self, folder: Storage) -> None:
        """Delete all but the kept ones.

        Files of other attempts stay: they may belong to a newer attempt.
        """
        scores = [score for _, score in self._saved if score is not None]
        # The earliest of equal epochs.
        best = next((one for one in self._saved if scores and one[1] == max(scores)), None)
        kept = [one for one in self._saved if one is best or one in self._saved[-NUM_NEWEST:]]
        earlier = None if self._best_epoch is None else self._best_epoch.earlier
        for one in self._saved:
            if one not in kept and one[0] != earlier:
                checkpoint.remove(one[0], folder)
        self._saved = kept
