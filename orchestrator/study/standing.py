"""Standing: a study's memory at one moment, put into words for people."""

from collections.abc import Mapping

from orchestrator.config.schema import StudyConfig
from orchestrator.objective import Objective
from orchestrator.snapshot import RunningTrial, Snapshot
from orchestrator.study.limits import Course
from orchestrator.study.outcome import Attempt
from orchestrator.study.state import Memory
from orchestrator.trial import Trial
from workers.budget import Budget


def standing(
    memory: Memory,
    running: Mapping[str, Attempt],
    course: Course,
    config: StudyConfig,
    *,
    judge: Objective,
    now: float,
) -> Snapshot:
    """How the study stands.

    Args:
        memory: What became of its trials.
        running: Attempts under way, by trial.
        course: How long it has run, and why it stops.
        config: What its user asked for.
        judge: What rungs judge.
        now: The study's monotonic clock.
    """
    history, best, budget = memory.history, memory.best, config.to_budget()
    shown = [
        _show(history[uid], judge, budget, now - attempt.started)
        for uid, attempt in running.items()
    ]
    return Snapshot(
        counts=dict(history.counts),
        screened=history.screened,
        counted=history.counted,
        trials=config.stop.trials,
        hours=config.stop.hours,
        spent_s=course.spent_s,
        running=tuple(sorted(shown, key=lambda r: r.number)),
        judge=judge.metric,
        best_number=best.number if best else None,
        best_values=best.values if best else None,
        best_describe=best.describe if best else None,
        epochs=history.epochs,
        stop_reason=course.reason,
        refused=memory.refusals.in_a_row,
        refused_s=memory.refusals.seconds,
    )


def _show(trial: Trial, judge: Objective, budget: Budget, elapsed_s: float) -> RunningTrial:
    return RunningTrial(
        number=trial.number,
        describe=trial.describe,
        epoch=trial.reached,
        rung=next((r for r in budget.rungs() if r > trial.reached), budget.maximum),
        metric=trial.measurements[-1].metrics.get(judge.metric) if trial.measurements else None,
        elapsed_s=elapsed_s,
    )
