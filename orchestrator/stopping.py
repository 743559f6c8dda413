"""Stopping: asynchronous successive halving, decided from recorded measurements alone.

At each rung a trial goes on if it is among the best 1/reduction_factor of all that were measured
there so far (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in
the form that never waits). A trial is judged by the best value it has shown up to the rung, not
by the last: the running maximum ranks noisy curves better. Knows no sampler and no engine.
"""

from collections.abc import Mapping, Sequence

from orchestrator.objective import Objective
from orchestrator.trial import Trial
from workers.budget import Budget
from workers.measurement import Measurement


def judge_of(objectives: Sequence[Objective]) -> Objective:
    """The objective by which trials are compared before they are complete: the first trained one.

    A study of costs alone is judged by validation accuracy, which every worker of ours measures.
    """
    fall_back = Objective(metric="val_accuracy", direction="maximize")
    return next((o for o in objectives if not o.is_cost), fall_back)


def score_at(measurements: Sequence[Measurement], fidelity: int, judge: Objective) -> float | None:
    """The best score shown up to a fidelity, more being better; None if never measured."""
    scores = [
        judge.score(m.metrics[judge.metric])
        for m in measurements
        if m.fidelity <= fidelity and judge.metric in m.metrics
    ]
    return max(scores, default=None)


def decide(history: Mapping[str, float], trial: str, reduction_factor: int) -> bool:
    """Whether a trial goes on beyond a rung.

    Args:
        history: Score by trial of all that were measured at the rung, this one included.
        trial: Whose turn it is.
        reduction_factor: One in this many goes on.

    Returns:
        True for one among the best `len(history) // reduction_factor`, for one that equals the
        last of these, and while fewer than `reduction_factor` were measured.
    """
    places = len(history) // reduction_factor
    if places == 0 or trial not in history:
        return True
    better = sum(score > history[trial] for score in history.values())
    return better < places


class Halving:
    """The rungs of one study and who was seen there."""

    def __init__(self, budget: Budget, judge: Objective) -> None:
        self._rungs = budget.rungs()[:-1]
        self._reduction_factor = budget.reduction_factor
        self._judge = judge
        self._history: dict[int, dict[str, float]] = {rung: {} for rung in self._rungs}

    def observe(self, trial: Trial) -> None:
        """Enters a trial at every rung that it has reached; again is the same as once."""
        reached = trial.reached
        for rung in self._rungs:
            if rung > reached or trial.uid in self._history[rung]:
                continue
            score = score_at(trial.measurements, rung, self._judge)
            if score is not None:
                self._history[rung][trial.uid] = score

    def goes_on(self, trial: Trial, fidelity: int) -> bool:
        """Whether the trial is trained beyond this fidelity; always so between rungs.

        Trial 0, the reference recipe, is never stopped: a study whose reference did not reach the
        full budget could not say what its search has gained. It counts in the history like any
        other. Trials that are not part of the search (confirmations, replays) run through too.
        """
        if trial.number == 0 or trial.kind != "search":
            return True
        return decide(self._history.get(fidelity, {}), trial.uid, self._reduction_factor)
