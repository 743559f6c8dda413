"""Retention: whose checkpoints stay on disk once trials have ended.

The ledger has the end of a trial before anything of it is deleted, so what a crash leaves behind
is too much, never too little; the next start sweeps it. Knows folders and trials only.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.objective import Objective, rank
from orchestrator.stopping import judge_of
from orchestrator.trial import Trial, TrialState

MOST_KEPT = 10
"""How many of the best trials keep their checkpoints."""


class Retention:
    """The checkpoint folders of one study: one a trial, named by its uid."""

    def __init__(self, folder: Path, objectives: Sequence[Objective]) -> None:
        self._folder = folder
        self._objectives = tuple(objectives)
        self._kept: tuple[Trial, ...] = ()

    def sweep(self, trials: Iterable[Trial]) -> None:
        """Deletes what ended trials left that are not among the best."""
        known = list(trials)
        self._kept = self._best(known)
        for trial in known:
            if trial.state.is_terminal and trial not in self._kept:
                self._delete(trial)

    def ended(self, trial: Trial) -> None:
        """Keeps an ended trial's checkpoints if it is among the best, and drops who is no more."""
        before = (*self._kept, trial)
        self._kept = self._best(before)
        for other in before:
            if other not in self._kept:
                self._delete(other)

    def _best(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        return rank(done, self._objectives, judge_of(self._objectives)).complete[:MOST_KEPT]

    def _delete(self, trial: Trial) -> None:
        # A folder that cannot be deleted now costs space, not results: the next sweep tries again.
        shutil.rmtree(self._folder / trial.uid, ignore_errors=True)
