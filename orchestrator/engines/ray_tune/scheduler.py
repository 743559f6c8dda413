"""Tune's question whether a trial goes on, passed on to the study; and the end of a run."""

# ruff: noqa: ARG002 - the signatures are Ray's

from pathlib import Path
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.schedulers import TrialScheduler

from orchestrator.engines.ray_tune.bridge import Bridge, Next
from orchestrator.engines.ray_tune.liveness import Heartbeats


class StudyScheduler(TrialScheduler):
    """Records what workers report and carries the study's verdicts out."""

    def __init__(self, bridge: Bridge, signs: Heartbeats) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge = bridge
        self._signs = signs
        self._live: dict[str, Any] = {}
        self._idle: dict[str, Any] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue, keep the worker for the next attempt, or end it."""
        following = self._bridge.receive(trial.trial_id, result["report"])
        if following is Next.FREE:
            # Tune 2.60 keeps the actors of stopped trials only as far as others are pending, and
            # one more. While a draw takes its time, the trials are stopped later.
            self._idle[trial.trial_id] = trial
            return str(TrialScheduler.NOOP)
        if following is Next.DISMISS:
            # Tune 2.60 keeps the actor of a stopped trial for the next one. A trial that "goes on"
            # in a killed process fails instead, and its actor is thrown away.
            _kill(trial)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The worker's process died, or was ended."""
        self._live.pop(trial.trial_id, None)
        self._idle.pop(trial.trial_id, None)
        self._bridge.lost(trial.trial_id, _last_words(trial))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Remember whom to end when the run is dropped."""
        self._live[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The study knows already: a trial completes only on our own verdict."""
        self._live.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Never started; its attempt is given back at the run's end."""
        self._live.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Stop an idle trial for each that waits for an actor, which is then reused.

        One at a time, since Tune keeps one actor where nothing is staged yet. Where the study
        draws nothing more, no idle actor is needed.
        """
        waits = any(
            trial.status == trial.PENDING and trial.temporary_state.ray_actor is None
            for trial in self._live.values()
        )
        needless = not waits and not self._bridge.asking
        for trial_id in list(self._idle)[: None if needless else int(waits)]:
            tune_controller.stop_trial(self._idle.pop(trial_id))

    def debug_string(self) -> str:
        """What Tune calls us in its logs."""
        return "archscout"

    def end_stopped(self) -> None:
        """End processes that give no sign of life any more; their trials are told of."""
        for trial_id in self._bridge.expire(self._signs):
            trial = self._live.pop(trial_id, None)
            if trial is not None:
                _kill(trial)

    def drop(self) -> None:
        """Give every attempt back and end its process, in the middle of an epoch if need be."""
        self._bridge.requeue()
        while self._live:
            _, trial = self._live.popitem()
            _kill(trial)


class Abandoned(BaseException):
    """Unwinds Tune, which would tidy up with calls to a cluster that never answers."""


class StudyStopper(Stopper):
    """Looks, every tenth of a second, whether the run is to be dropped."""

    def __init__(self, bridge: Bridge, scheduler: StudyScheduler) -> None:
        self._bridge = bridge
        self._scheduler = scheduler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never: single trials are the scheduler's."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune's last snapshot, which nobody reads."""
        return {}

    def stop_all(self) -> bool:
        """Whether the run ends now; ends the workers first, since Tune waits for their epochs.

        Raises:
            Abandoned: Nobody waits for the run, and its cluster may be gone: leave without a word.
        """
        if self._bridge.abandoned:
            raise Abandoned
        if self._bridge.over:
            self._scheduler.drop()
        else:
            self._scheduler.end_stopped()
        return self._bridge.over


def _kill(trial: Any) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor, no_restart=True)


def _last_words(trial: Any) -> str:
    """What Ray knows of the process's end."""
    path = trial.error_file
    return "" if path is None else Path(path).read_text(errors="replace")
