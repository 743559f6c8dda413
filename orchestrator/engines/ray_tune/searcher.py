"""Tune's searcher: asks the study for the next attempt; the ledger has the history."""

from typing import Any

from ray.tune.search import Searcher

from orchestrator.engines.ray_tune.bridge import Bridge


class StudySearcher(Searcher):
    """Suggests attempts of the study, one for each free slot."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """Return an attempt as Tune's configuration, None for now, or the end of the run."""
        message = self._bridge.ask(trial_id)
        if message is not None:
            return {"message": message}
        return Searcher.FINISHED if self._bridge.exhausted else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler has reported to the study."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's snapshots are never read."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: every start is a new Tune run on the state of the ledger."""
