"""Tune's scheduler and stopper: carry out the study's verdicts, and end a run."""

# ruff: noqa: ARG002 - the signatures are Ray's

from pathlib import Path
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.schedulers import TrialScheduler

from orchestrator.engines.ray_tune.bridge import Bridge, WorkerAction
from orchestrator.engines.ray_tune.liveness import Heartbeats


class StudyScheduler(TrialScheduler):
    """Records the workers' reports and carries out the study's verdicts."""

    def __init__(self, bridge: Bridge, heartbeats: Heartbeats) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge = bridge
        self._heartbeats = heartbeats
        self._live: dict[str, Any] = {}
        self._idle: dict[str, Any] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue the trial, keep its worker for the next attempt, or end the worker."""
        action = self._bridge.receive(trial.trial_id, result["report"])
        if action is WorkerAction.REUSE:
            # Tune 2.60 keeps the actors of stopped trials only as far as others are pending, and
            # one more. While the next candidate is sampled, the trials are stopped later.
            self._idle[trial.trial_id] = trial
            return str(TrialScheduler.NOOP)
        if action is WorkerAction.END:
            # Tune 2.60 keeps the actor of a stopped trial for the next one. A trial that continues
            # in a killed process fails instead, and its actor is discarded.
            _kill(trial)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Record that the worker's process died or was killed."""
        self._live.pop(trial.trial_id, None)
        self._idle.pop(trial.trial_id, None)
        self._bridge.record_death(trial.trial_id, _error_text(trial))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Register a trial, whose process is killed if the run is dropped."""
        self._live[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forget the trial; the study already knows, as only its verdict completes one."""
        self._live.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that never started; its attempt is requeued at the end of the run."""
        self._live.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Stop one idle trial if another waits for an actor, which is then reused.

        One at a time, since Tune keeps one actor while nothing is staged. All of them once the
        study samples nothing more: then no idle actor is needed.
        """
        waits = any(
            trial.status == trial.PENDING and trial.temporary_state.ray_actor is None
            for trial in self._live.values()
        )
        unneeded = not waits and not self._bridge.asking
        for trial_id in list(self._idle)[: None if unneeded else int(waits)]:
            tune_controller.stop_trial(self._idle.pop(trial_id))

    def debug_string(self) -> str:
        """Return the name in Tune's logs."""
        return "archscout"

    def kill_ended(self) -> None:
        """Kill processes of stopped trials, and those without a recent heartbeat.

        The attempts of the latter fail with a timeout.
        """
        for trial_id in (*self._bridge.stopped(), *self._bridge.expire(self._heartbeats)):
            trial = self._live.pop(trial_id, None)
            if trial is not None:
                _kill(trial)

    def drop(self) -> None:
        """Requeue every attempt and kill its process, also in the middle of an epoch."""
        self._bridge.requeue()
        while self._live:
            _, trial = self._live.popitem()
            _kill(trial)


class RunAbandonedError(BaseException):
    """Unwinds Tune, whose cleanup would call a cluster that never answers.

    Not an `Exception`, which Tune would catch.
    """


class StudyStopper(Stopper):
    """Ends the run once it is to be dropped; Tune asks every tenth of a second."""

    def __init__(self, bridge: Bridge, scheduler: StudyScheduler) -> None:
        self._bridge = bridge
        self._scheduler = scheduler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: the scheduler ends single trials."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: Tune's snapshots are never read."""
        return {}

    def stop_all(self) -> bool:
        """Return True to end the run; kill the workers first, since Tune waits for their epochs.

        Raises:
            RunAbandonedError: The engine no longer waits for the run; its cluster may be lost.
        """
        if self._bridge.abandoned:
            raise RunAbandonedError
        if self._bridge.stopping:
            self._scheduler.drop()
        else:
            self._scheduler.kill_ended()
        return self._bridge.stopping


def _kill(trial: Any) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor, no_restart=True)


def _error_text(trial: Any) -> str:
    """Return Ray's description of the process's death."""
    path = trial.error_file
    return "" if path is None else Path(path).read_text(errors="replace")
