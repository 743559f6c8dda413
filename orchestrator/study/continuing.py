"""Continuations: ended trials that train on from their checkpoint, as new trials.

A trial that its rung has pruned, or that is complete at an earlier, smaller budget, is continued as
soon as the pruner would promote it, for example after its study was extended. A terminal row never
changes, so its continuation is a trial of kind `continue` with the same candidate and seed, whose
curve begins with that of its parent. It does not count against `stop.trials`.
"""

from collections.abc import Iterable, Sequence

from orchestrator.objective import Objective, main_objective, rank
from orchestrator.trial import Trial, TrialState, newest_continuations

MAX_CONTINUABLE = 10
"""Pruned trials that may be continued, the best; their checkpoints take space on disk."""


def continuable_trials(
    trials: Iterable[Trial], objectives: Sequence[Objective], maximum: int
) -> list[Trial]:
    """Return the ended trials that may be continued: complete ones, then the best pruned ones.

    Args:
        trials: All trials of the study.
        objectives: The study's objectives.
        maximum: Fidelity at which a trial is complete now.
    """
    below = [
        trial
        for trial in newest_continuations(trials)
        if trial.measurements
        and trial.reached < maximum
        and ((trial.state, trial.reason) == (TrialState.COMPLETE, None) or _was_paused(trial))
    ]
    ranking = rank(below, objectives, main_objective(objectives))
    return [*ranking.complete, *ranking.pruned[:MAX_CONTINUABLE]]


def _was_paused(trial: Trial) -> bool:
    """Return whether a trial was pruned while a rung had paused it; a stop by a rung is final."""
    return (trial.state, trial.reason) == (TrialState.PRUNED, "rung") and trial.left_at_rung
