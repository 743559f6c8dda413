"""Tune's question what to run next, passed on to the study; keeps no history, the ledger does."""

from typing import Any

from ray.tune.search import Searcher

from orchestrator.engines.ray_tune.bridge import Bridge


class StudySearcher(Searcher):
    """Suggests attempts of the study, one for each free slot."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """An attempt as Tune's configuration, nothing for now, or the run's end."""
        parcel = self._bridge.ask(trial_id)
        if parcel is not None:
            return {"parcel": parcel}
        return Searcher.FINISHED if self._bridge.done else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler has told the study."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's snapshots are never read."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: every start is a fresh Tune run over what the ledger holds."""
