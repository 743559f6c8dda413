"""Index of one study's trials as last seen in the ledger, with counts and fast look-ups.

Every entry is written to the ledger first. Ended trials are kept without the fields that only their
start needs, so that a long search needs little memory.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.confirmation.plan import KIND
from orchestrator.objective import is_feasible
from orchestrator.study.retry_policy import MAX_LOSSES
from orchestrator.trial import CHOICE, CONTINUE, PAUSED, REQUEST, Trial, TrialState


class TrialIndex:
    """A study's trials by uid, by digest and by state."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        trials = list(trials)
        self._continued = {trial.parent for trial in trials if trial.kind == CONTINUE}
        self._trials: dict[str, Trial] = {}
        self._by_digest: dict[str, Trial] = {}
        self._waiting: dict[str, Trial] = {}
        self._paused: dict[str, Trial] = {}
        self._losses: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        """Trials by state, paused ones as PAUSED, without duplicates and confirmations.

        A trial that was continued counts as its continuation."""
        self.confirmations = 0
        """Confirmations that have ended."""
        self.version = 0
        """Number of changes so far."""
        self.num_ended = 0
        """Number of changes of ended trials so far."""
        self.counted = 0
        """Trials of kind `search` that started an attempt."""
        self.proposed = 0
        """Trials of kind `search` that the study has proposed itself."""
        self.infeasible = 0
        """Trials rejected before training."""
        self.epochs = 0
        """Measurements of all trials."""
        for trial in sorted(trials, key=lambda t: t.number):
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Add a trial, or replace it by its new version."""
        self.version += 1
        if trial.state.is_terminal:
            self.num_ended += 1
            trial = replace(trial, candidate={}, distributions={})
        if (before := self._trials.get(trial.uid)) is not None:
            self._count(before, -1)
            if trial.reached > before.reached:
                self._losses.pop(trial.uid, None)
        self._count(trial, 1)
        self._trials[trial.uid] = trial
        self._waiting.pop(trial.uid, None)
        self._paused.pop(trial.uid, None)
        if trial.state is TrialState.WAITING:
            (self._paused if trial.paused else self._waiting)[trial.uid] = trial
        if trial.reason != "duplicate" and not _is_feasible_now(trial):
            first = self._by_digest.get(trial.digest)
            if first is None or first.uid == trial.uid:
                self._by_digest[trial.digest] = trial

    def __getitem__(self, uid: str) -> Trial:
        return self._trials[uid]

    def find(self, uid: str | None) -> Trial | None:
        """Return the trial of a uid; None if this study has none."""
        return None if uid is None else self._trials.get(uid)

    def lineage(self, trial: Trial) -> list[Trial]:
        """Return a trial, the one that it continues, the one that this continues, and so on."""
        found = [trial]
        while found[-1].kind == CONTINUE:
            found.append(self._trials[found[-1].parent or ""])
        return found

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, by number."""
        return tuple(self._trials.values())

    @property
    def by_digest(self) -> Mapping[str, Trial]:
        """Trials by digest; the first of those that share one."""
        return self._by_digest

    @property
    def next_waiting(self) -> Trial | None:
        """The waiting trial to start next, none paused; see `next_of`."""
        return self.next_of(self._waiting.values())

    @property
    def next_search(self) -> Trial | None:
        """The waiting trial of the search to start next; see `next_of`."""
        return self.next_of(trial for trial in self._waiting.values() if trial.kind != KIND)

    @property
    def next_confirmation(self) -> Trial | None:
        """The waiting confirmation to start next; see `next_of`."""
        return self.next_of(trial for trial in self._waiting.values() if trial.kind == KIND)

    def next_of(self, waiting: Iterable[Trial]) -> Trial | None:
        """Return the trial to start next: fewest losses first, then the lowest number.

        Trials that the study has proposed itself start after interrupted and requested ones.

        Of the trials that would fail with their next loss, one runs at a time until it records an
        epoch, so that the driver's death counts against one trial and not against all running ones.
        """
        chosen = min(
            waiting,
            key=lambda t: (self._losses.get(t.uid, 0), is_new(t), t.number),
            default=None,
        )
        return None if chosen and self._suspected(chosen.uid) and self._suspect_runs else chosen

    @property
    def waiting(self) -> tuple[Trial, ...]:
        """The waiting trials that are not paused."""
        return tuple(self._waiting.values())

    @property
    def paused(self) -> tuple[Trial, ...]:
        """The trials that a rung has paused."""
        return tuple(self._paused.values())

    def postpone(self, uid: str, losses: int) -> None:
        """Start waiting trials with fewer losses before this one."""
        self._losses[uid] = losses

    @property
    def scheduled(self) -> int:
        """Trials that count against `stop.trials`, or will once they start."""
        new = sum(t.kind == "search" and not t.attempts for t in self._waiting.values())
        return self.counted + new

    def _suspected(self, uid: str) -> bool:
        return self._losses.get(uid, 0) >= MAX_LOSSES - 1

    @property
    def _suspect_runs(self) -> bool:
        states = (self._trials[uid].state for uid in self._losses if self._suspected(uid))
        return TrialState.RUNNING in states

    def _count(self, trial: Trial, sign: int) -> None:
        self.counted += sign * (trial.kind == "search" and trial.attempts > 0)
        given = {REQUEST, CHOICE} & trial.sampler_attrs.keys()
        self.proposed += sign * (trial.kind == "search" and not given)
        if trial.uid in self._continued:
            return
        if trial.kind == KIND:
            self.confirmations += sign * trial.state.is_terminal
        elif trial.reason != "duplicate":
            self.counts[PAUSED.upper() if trial.paused else trial.state.value] += sign
        self.infeasible += sign * (trial.reason == "infeasible")
        self.epochs += sign * len(trial.measurements)


def is_new(trial: Trial) -> bool:
    """Return whether the study has proposed a trial itself and not started it yet."""
    return trial.kind == "search" and not trial.attempts and REQUEST not in trial.sampler_attrs


def _is_feasible_now(trial: Trial) -> bool:
    """Return whether a trial was rejected by constraints that an edit has loosened since."""
    return trial.reason == "infeasible" and is_feasible(trial)
