"""History: the trials of one study as last seen in the ledger, counted and looked up quickly.

An image, not a memory: every entry was written to the ledger first. Of trials that have ended it
leaves out what only their start needs, so that a long search stays small.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.study.outcome import MAX_LOSSES
from orchestrator.trial import Trial, TrialState


class TrialIndex:
    """A study's trials by uid, by digest and by state."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials: dict[str, Trial] = {}
        self._known: dict[str, Trial] = {}
        self._waiting: dict[str, Trial] = {}
        self._losses: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        """Trials by state; duplicates are left out."""
        self.counted = 0
        """Searched trials that started an attempt."""
        self.infeasible = 0
        """Trials refused before training."""
        self.epochs = 0
        """Measurements of all trials."""
        for trial in sorted(trials, key=lambda t: t.number):
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Enters a trial, or what has become of it."""
        if trial.state.is_terminal:
            trial = replace(trial, candidate={}, distributions={})
        if (before := self._trials.get(trial.uid)) is not None:
            self._count(before, -1)
            if trial.reached > before.reached:
                self._losses.pop(trial.uid, None)
        self._count(trial, 1)
        self._trials[trial.uid] = trial
        if trial.state is TrialState.WAITING:
            self._waiting[trial.uid] = trial
        else:
            self._waiting.pop(trial.uid, None)
        if trial.reason != "duplicate":
            first = self._known.get(trial.digest)
            if first is None or first.uid == trial.uid:
                self._known[trial.digest] = trial

    def __getitem__(self, uid: str) -> Trial:
        return self._trials[uid]

    def find(self, uid: str | None) -> Trial | None:
        """The trial of this uid, if it is one of this study."""
        return None if uid is None else self._trials.get(uid)

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them, by number."""
        return tuple(self._trials.values())

    @property
    def known(self) -> Mapping[str, Trial]:
        """By digest; the first of those that share one."""
        return self._known

    @property
    def waiting(self) -> Trial | None:
        """The waiting trial to start next: fewest losses first, then the lowest number.

        Of those that fail with their next loss one runs at a time, until it records an epoch:
        the driver's death then counts against one trial, not against all that ran with it.
        """
        chosen = min(
            self._waiting.values(),
            key=lambda t: (self._losses.get(t.uid, 0), t.number),
            default=None,
        )
        return None if chosen and self._suspected(chosen.uid) and self._suspect_runs else chosen

    @property
    def all_waiting(self) -> tuple[Trial, ...]:
        """The waiting trials."""
        return tuple(self._waiting.values())

    def postpone(self, uid: str, losses: int) -> None:
        """Let waiting trials with fewer losses start before this one."""
        self._losses[uid] = losses

    @property
    def promised(self) -> int:
        """Searched trials that count against `stop.trials`, or will once they start."""
        fresh = sum(t.kind == "search" and not t.attempts for t in self._waiting.values())
        return self.counted + fresh

    def _suspected(self, uid: str) -> bool:
        return self._losses.get(uid, 0) >= MAX_LOSSES - 1

    @property
    def _suspect_runs(self) -> bool:
        states = (self._trials[uid].state for uid in self._losses if self._suspected(uid))
        return TrialState.RUNNING in states

    def _count(self, trial: Trial, sign: int) -> None:
        if trial.reason != "duplicate":
            self.counts[trial.state.value] += sign
        self.infeasible += sign * (trial.reason == "infeasible")
        self.counted += sign * (trial.kind == "search" and trial.attempts > 0)
        self.epochs += sign * len(trial.measurements)
