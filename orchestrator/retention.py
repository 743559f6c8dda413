"""Retention: whose checkpoints stay on disk once trials have ended.

The ledger has the end of a trial before anything of it is deleted, so what a crash leaves behind
is too much, never too little; the next start sweeps it. Knows folders and trials only.
"""

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from orchestrator.objective import Objective, rank
from orchestrator.stopping import judge_of
from orchestrator.trial import Trial, TrialState

_CHECKPOINT = re.compile(r"\.?epoch-\d+-[0-9a-f]+(\.tmp)?")
"""Ours, finished or not; what else lies in a trial's folder is its user's."""

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
        self._kept = best_of(known, self._objectives)
        for trial in known:
            if trial.state.is_terminal and trial not in self._kept:
                self._delete(trial)

    def ended(self, trial: Trial) -> None:
        """Keeps an ended trial's checkpoints if it is among the best, and drops who is no more."""
        before = (*self._kept, trial)
        self._kept = best_of(before, self._objectives)
        for other in before:
            if other not in self._kept:
                self._delete(other)

    def _delete(self, trial: Trial) -> None:
        # A folder that cannot be deleted now costs space, not results: the next sweep tries again.
        shutil.rmtree(self._folder / trial.uid, ignore_errors=True)


def best_of(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """The complete trials that keep their checkpoints, best first."""
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return rank(done, objectives, judge_of(objectives)).complete[:MOST_KEPT]


def superfluous(
    folder: Path,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    needed: Collection[str],
) -> list[Path]:
    """What lies in a study's checkpoint folder that neither a resume nor a promotion will read.

    Args:
        folder: The study's; nobody may be training in it.
        trials: All of the study's.
        objectives: The study's.
        needed: uids of trials whose checkpoints stay whatever their rank.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = {trial.uid for trial in best_of(trials, objectives)} | set(needed)
    kept |= {trial.uid for trial in trials if not trial.state.is_terminal}
    known = {trial.uid: trial for trial in trials}
    paths = [path for path in found if path.name not in kept]
    for path in found:
        if path.name in kept & known.keys() and path.is_dir():
            saved = [seen.checkpoint for seen in known[path.name].measurements if seen.checkpoint]
            newest = {Path(reference.path).name for reference in saved[-2:]}
            paths += [
                inside
                for inside in sorted(path.iterdir())
                if _CHECKPOINT.fullmatch(inside.name) and inside.name not in newest
            ]
    return paths
