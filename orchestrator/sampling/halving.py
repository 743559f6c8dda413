"""Asynchronous successive halving, decided from recorded measurements alone.

A rung promotes a trial that is among the best 1/reduction_factor of all trials measured there so
far (ASHA; Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020). Trials
are compared by their best value up to the rung, not by the last: the running maximum ranks noisy
curves better. Trial 0, the default candidate, is the reference: its curve counts at every rung, so
that the first arrivals are judged against it.

A trial that is not promoted is paused, since later arrivals make room for more. A small share of
the trials is promoted whatever its rank, as an audit of what the rungs cost.
"""

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.objective import Objective, main_objective, pareto_order
from orchestrator.pruning.promotions import AUDIT_EVERY, is_audited, num_promoted
from orchestrator.pruning.rungs import first_rung
from orchestrator.pruning.scores import scores_at
from orchestrator.trial import CONTINUE, Trial, TrialState
from workers.budget import Budget

MAX_PAUSED = 10
"""Paused trials at each fidelity, the best; their checkpoints take space on disk."""


class Halving:
    """Rungs of one study and the trials that reached them.

    Examples:
        >>> halving = Halving(config.budget, rung_objectives(config.objectives), seed=config.seed)
        >>> halving.observe(trial)
        >>> halving.promotes(trial, fidelity=1)
        True
    """

    def __init__(
        self,
        budget: Budget,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        audit_every: int = AUDIT_EVERY,
    ) -> None:
        """Start without trials.

        Args:
            budget: The study's budget.
            objectives: Objectives that rungs compare trials by.
            seed: The study's seed, which decides which trials are audited.
            audit_every: One in this many trials trains to the end whatever its rank.
        """
        self._budget = budget
        self._objectives = tuple(objectives)
        self._seed, self._audit_every = seed, audit_every
        self._trials: dict[str, Trial] = {}
        self._continued_by: dict[str, Trial] = {}
        self._default: Trial | None = None
        self._unselected: dict[str, Trial] = {}
        self._scores: dict[int, dict[str, tuple[float, ...]]] = {}
        self._better: dict[int, dict[str, int]] = {}
        self._rungs: tuple[int, ...] | None = None

    @property
    def rungs(self) -> tuple[int, ...]:
        """Fidelities at which running trials are judged now, ascending, without the maximum.

        While the reference trains, only those that it has reached and the highest.
        """
        if self._rungs is None:
            reference = self._default and self._newest(self._default)
            ended = reference is not None and reference.state.is_terminal
            first = first_rung(
                self._budget,
                main_objective(self._objectives),
                reference,
                self._unselected.values(),
            )
            *lower, highest = self._budget.rungs(first)[:-1] or (0,)
            reached = 0 if reference is None else reference.reached
            judged = [rung for rung in lower if ended or rung <= reached]
            self._rungs = (*judged, highest) if highest else ()
        return self._rungs

    def observe(self, trial: Trial) -> None:
        """Record a trial's measurements and its state; repeating it changes nothing.

        A continuation takes the place of its parent, whose curve it begins with.
        """
        if trial.kind in {"confirm", "replay"}:
            return
        if trial.kind == CONTINUE:
            self._continued_by[trial.parent or ""], self._rungs = trial, None
            self._forget(trial.parent or "")
        if trial.uid not in self._continued_by:
            self._trials[trial.uid] = trial
        if trial.number == 0:
            self._default, self._rungs = trial, None
        elif self._is_audited(trial) and trial.state is TrialState.COMPLETE:
            self._unselected[trial.uid] = trial
            self._rungs = None
        for fidelity in self._scores:
            self._add_score(trial, fidelity)

    def _forget(self, uid: str) -> None:
        """Compare a trial no more, because another one continues it."""
        self._trials.pop(uid, None)
        for fidelity, scores in self._scores.items():
            if scores.pop(uid, None) is not None:
                self._better.pop(fidelity, None)

    def _newest(self, trial: Trial) -> Trial:
        """Return the newest continuation of a trial, or itself."""
        while trial.uid in self._continued_by:
            trial = self._continued_by[trial.uid]
        return trial

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        """Return whether a trial trains beyond a fidelity; always true between rungs.

        A paused or ended trial is judged where it stopped, also after the rungs have changed. Trial
        0 is never pruned: without its full result a study could not report the gain of its search.
        Trials of other kinds (confirmations, replays) are not pruned either.
        """
        if self._is_default(trial) or self._is_audited(trial):
            return True
        if trial.kind not in {"search", CONTINUE}:
            return True
        stopped = trial.paused or trial.state.is_terminal
        if not stopped and fidelity not in self.rungs:
            return True
        better = self._num_better(fidelity)
        # A trial without a score cannot be compared.
        return trial.uid not in better or better[trial.uid] < num_promoted(
            len(better), self._budget.reduction_factor
        )

    def next_promoted(self, paused: Iterable[Trial]) -> Trial | None:
        """Return the paused trial to continue next, of the highest rung and there the best."""
        promoted = [trial for trial in paused if self.promotes(trial, trial.reached)]
        return min(promoted, key=lambda t: (-t.reached, *self._place(t)), default=None)

    def surplus(self, paused: Iterable[Trial]) -> list[Trial]:
        """Return the paused trials beyond the MAX_PAUSED best at each fidelity."""
        at: dict[int, list[Trial]] = {}
        for trial in paused:
            at.setdefault(trial.reached, []).append(trial)
        return [t for group in at.values() for t in sorted(group, key=self._place)[MAX_PAUSED:]]

    def _place(self, trial: Trial) -> tuple[int, int]:
        """Return a trial's place among those of its fidelity; earlier ones first of equals."""
        return self._num_better(trial.reached).get(trial.uid, 0), trial.number

    def _is_default(self, trial: Trial) -> bool:
        """Return whether a trial is trial 0 or continues it."""
        default = self._default and self._newest(self._default)
        return trial.number == 0 or (default is not None and trial.uid == default.uid)

    def _is_audited(self, trial: Trial) -> bool:
        return trial.kind == "search" and is_audited(self._seed, trial.number, self._audit_every)

    def _num_better(self, fidelity: int) -> Mapping[str, int]:
        """Return the number of better trials at a fidelity, by trial measured there."""
        if fidelity not in self._scores:
            self._scores[fidelity] = {}
            for trial in self._trials.values():
                self._add_score(trial, fidelity)
        if fidelity not in self._better:
            scores = self._scores[fidelity]
            keys = pareto_order(list(scores.values()))
            ranked = sorted(keys, reverse=True)
            first = {key: place for place, key in reversed(list(enumerate(ranked)))}
            self._better[fidelity] = {
                uid: first[key] for uid, key in zip(scores, keys, strict=True)
            }
        return self._better[fidelity]

    def _add_score(self, trial: Trial, fidelity: int) -> None:
        known = self._scores[fidelity]
        if trial.reached < fidelity or trial.uid in known or trial.uid in self._continued_by:
            return
        scores = scores_at(trial, fidelity, self._objectives)
        if scores is not None:
            known[trial.uid] = scores
            self._better.pop(fidelity, None)
