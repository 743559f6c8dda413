"""Retention: delete the checkpoints of ended trials that are not among the best.

The ledger records the end of a trial before any of its files are deleted. A crash in between leaves
extra files, never too few; the next start deletes them.
"""

import re
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.objective import (
    CheckpointName,
    Objective,
    main_objective,
    pareto_front,
    pareto_order,
    rank,
    scored_measurement,
)
from orchestrator.study.continuing import continuable_trials
from orchestrator.trial import CONTINUE, REUSED, Trial, TrialState
from workers import manifest
from workers.measurement import CheckpointRef
from workers.paths import PathOutsideError
from workers.storage import Storage

_CHECKPOINT = re.compile(r"\.?epoch-\d+-[0-9a-f]+(\.tmp)?")
"""Names of checkpoints, complete or not; other files in a trial's folder belong to the user."""

MAX_KEPT = 10
"""Number of the best trials that keep their checkpoints."""

MAX_FRONT_BYTES = 4 * 2**30
"""Size of the checkpoints that the Pareto front keeps beyond MAX_KEPT trials."""

TRIAL_FOLDER = re.compile(r"[0-9a-f]{32}")
"""Names of the folders in a study's checkpoint folder: its trials' uids."""


class Retention:
    """Checkpoint folders of one study, one for each trial, named by its uid."""

    def __init__(
        self, folder: Storage, objectives: Sequence[Objective], checkpoint: CheckpointName = "last"
    ) -> None:
        self._folder = folder
        self._objectives = tuple(objectives)
        self._checkpoint: CheckpointName = checkpoint
        self._kept: tuple[Trial, ...] = ()
        self._needed: set[str] = set()

    def sweep(self, trials: Iterable[Trial]) -> None:
        """Delete the checkpoints of all ended trials that are not among the best."""
        known = list(trials)
        self._needed = _continued_now(known)
        self._kept = self._to_keep(known)
        self._delete(
            trial for trial in known if trial.state.is_terminal and trial not in self._kept
        )

    def update(self, trial: Trial) -> None:
        """Add an ended trial, and delete the checkpoints of trials no longer among the best."""
        before = (*self._kept, trial)
        self._needed.discard(trial.parent or "")
        self._kept = self._to_keep(before)
        self._delete(other for other in before if other not in self._kept)

    def _to_keep(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        kept = [
            *trials_to_keep(trials, self._objectives, self._checkpoint),
            *resumable_trials(trials, self._objectives),
            *(trial for trial in trials if trial.uid in self._needed),
        ]
        return tuple({trial.uid: trial for trial in kept}.values())

    def _delete(self, trials: Iterable[Trial]) -> None:
        folders = [self._folder / trial.uid for trial in trials]
        if not self._folder.is_remote:
            _remove(folders, self._folder)
        elif folders:
            # Object stores may be slow, and the search must not wait for them.
            args = (folders, self._folder)
            threading.Thread(target=_remove, args=args, name="retention", daemon=True).start()


def _remove(folders: Iterable[Storage], root: Storage) -> None:
    # A folder that cannot be deleted now costs space, not results: the next sweep tries again.
    for folder in folders:
        with suppress(OSError, PathOutsideError):
            folder.remove(root)


def trials_to_keep(
    trials: Iterable[Trial], objectives: Sequence[Objective], checkpoint: CheckpointName = "last"
) -> tuple[Trial, ...]:
    """Return the complete trials that keep their checkpoints, best first.

    These are the MAX_KEPT best of the ranking and, with several objectives, the whole Pareto front
    up to MAX_FRONT_BYTES, because the user may prefer any of its trials. Beyond that, the most
    crowded trials are dropped first, which keeps the best by each objective and the spread of the
    front. Results reused from earlier studies have no checkpoints here.
    """
    done = [
        trial for trial in trials if trial.state is TrialState.COMPLETE and trial.reason != REUSED
    ]
    complete = rank(done, objectives, main_objective(objectives)).complete
    if len(objectives) < 2:
        return complete[:MAX_KEPT]
    front = _uncrowded_first(pareto_front(done, objectives), objectives)
    kept, size = set(), 0
    for place, trial in enumerate(front):
        size += sum(each.bytes for each in kept_checkpoints(trial, objectives, checkpoint))
        if place < MAX_KEPT or size <= MAX_FRONT_BYTES:
            kept.add(trial.uid)
    others = [trial.uid for trial in complete if trial.uid not in {each.uid for each in front}]
    kept.update(others[: max(0, MAX_KEPT - len(front))])
    return tuple(trial for trial in complete if trial.uid in kept)


def resumable_trials(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the trials that keep their checkpoints, so that they may be continued.

    These are the best pruned ones and, once the maximum was raised, the best complete at the
    former one.
    """
    highest = max((t.reached for t in trials if t.state is TrialState.COMPLETE), default=0)
    below = continuable_trials(trials, objectives, highest)
    complete = [trial for trial in below if trial.state is TrialState.COMPLETE]
    every = continuable_trials(trials, objectives, sys.maxsize)
    return [*complete[:MAX_KEPT], *(t for t in every if t.state is TrialState.PRUNED)]


def _continued_now(trials: Iterable[Trial]) -> set[str]:
    """Return the uids of the trials whose continuation has not ended: it may start from them."""
    open_ones = [t for t in trials if t.kind == CONTINUE and not t.state.is_terminal]
    return {trial.parent or "" for trial in open_ones}


def _uncrowded_first(front: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return a front by descending crowding distance; the best by each objective come first."""
    points = [
        tuple(o.score(value) for o, value in zip(objectives, trial.values or (), strict=True))
        for trial in front
    ]
    keys = {t.uid: key for t, key in zip(front, pareto_order(points), strict=True)}
    # Stable, so that the earliest of equals comes first.
    return sorted(front, key=lambda trial: keys[trial.uid], reverse=True)


def kept_checkpoints(
    trial: Trial, objectives: Sequence[Objective], checkpoint: CheckpointName
) -> list[CheckpointRef]:
    """Return the checkpoints of a trial that are on disk: the two newest and the scored one."""
    kept = [seen.checkpoint for seen in trial.own_measurements if seen.checkpoint][-2:]
    scored = _scored_checkpoint(trial, objectives, checkpoint)
    return kept if scored is None or scored in kept else [scored, *kept]


def _scored_checkpoint(
    trial: Trial, objectives: Sequence[Objective], checkpoint: CheckpointName
) -> CheckpointRef | None:
    if not trial.own_measurements:
        return None
    scored = scored_measurement(trial, objectives, checkpoint)
    return None if scored is None else scored.checkpoint


def unreferenced_files(
    folder: Storage,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    checkpoint: CheckpointName,
    needed: Collection[str],
    owned: bool,
) -> list[Storage]:
    """Return the checkpoint files of a study that neither a resume nor a promotion reads.

    Args:
        folder: The study's checkpoint folder; no trial may be training in it.
        trials: All trials of the study.
        objectives: The study's objectives.
        checkpoint: Epoch whose checkpoint a trial keeps besides the newest ones.
        needed: Uids of trials whose checkpoints are kept whatever their rank.
        owned: Whether folders of unknown trials may be deleted.
    """
    if folder.is_link():  # remove() refuses to follow it
        return []
    found = folder.entries()
    kept = {trial.uid for trial in trials_to_keep(trials, objectives, checkpoint)} | set(needed)
    kept |= {trial.uid for trial in trials if not trial.state.is_terminal}
    kept |= {trial.uid for trial in resumable_trials(trials, objectives)} | _continued_now(trials)
    known = {trial.uid: trial for trial in trials}
    paths = [
        path
        for path in found
        if path.name not in kept
        and (path.name in known or (owned and TRIAL_FOLDER.fullmatch(path.name)))
    ]
    for path in found:
        if path.name in kept & known.keys():
            saved = kept_checkpoints(known[path.name], objectives, checkpoint)
            paths += _others(path, saved)
    return paths


def _others(folder: Storage, kept: Sequence[CheckpointRef]) -> list[Storage]:
    """Return the checkpoints in a trial's folder except the kept ones."""
    if folder.is_link() or not folder.is_dir():
        return []
    names = {Path(reference.path).name for reference in kept}
    return [
        path
        for path in folder.entries()
        if _CHECKPOINT.fullmatch(path.name) and path.name not in names
    ]


def bad_checkpoints(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    checkpoint: CheckpointName,
    folder: Storage,
) -> Iterator[tuple[Trial, str, str]]:
    """Yield the defects of the checkpoints that a promotion or a resume reads.

    Args:
        trials: All trials of the study.
        objectives: The study's objectives.
        checkpoint: Epoch whose checkpoint is promoted.
        folder: The study's checkpoint folder.

    Yields:
        The trial, the checkpoint's name, and what was found in its place.
    """
    complete = trials_to_keep(trials, objectives, checkpoint)
    kept = [*complete, *(t for t in trials if not t.state.is_terminal)]
    for trial in sorted(kept, key=lambda trial: trial.number):
        read = [_scored_checkpoint(trial, objectives, checkpoint)]
        if not trial.state.is_terminal:
            read += kept_checkpoints(trial, objectives, checkpoint)[-1:]
        for reference in dict.fromkeys(read):
            if reference is None:
                continue
            name = reference.path.rpartition("/")[2]
            if (found := _defect(reference, folder / trial.uid / name)) is not None:
                yield trial, name, found


def _defect(reference: CheckpointRef, folder: Storage) -> str | None:
    """Return what is there instead of a checkpoint; None where names and sizes are as recorded."""
    try:
        files = manifest.load(folder.read, reference.manifest_sha256)["files"]
        sizes = folder.sizes()
    except ValueError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return f"nothing at {folder / manifest.NAME}" if missing else f"{folder}: {error}"
    except OSError as error:
        return f"an unreadable checkpoint at {folder}: {error}"
    for name, recorded in files.items():
        if name not in sizes:
            return f"nothing at {folder / name}"
        if sizes[name] != recorded["bytes"]:
            return f"{name} of another size in {folder}"
    return None
