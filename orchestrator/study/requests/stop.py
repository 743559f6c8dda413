"""Requested stops of one trial: it ends as PRUNED with the reason `operator`."""

from collections.abc import Mapping
from typing import Any

from orchestrator.ledger import Effect
from orchestrator.study.requests.view import StudyView, refusal
from orchestrator.trial import PAUSED, known_numbers

STOP = "stop"
"""Request kind; payload and answer `trial`: number of the trial; answer also `was`: its state
before, and `epoch`: its last measured one, or 0."""


def stop(study: StudyView, payload: Mapping[str, Any]) -> Effect:
    """End a running, waiting or paused trial; refuse one that has ended, or does not exist."""
    number, trials = int(payload["trial"]), study.trials
    if number >= len(trials):
        return refusal(f"there is no trial {number}. Trials: {known_numbers(trials)}")
    trial = trials[number]
    if trial.state.is_terminal:
        reason = f", {trial.reason}" if trial.reason else ""
        return refusal(f"trial {number} has ended ({trial.state}{reason})")
    was = PAUSED if trial.paused else trial.state.lower()
    answer = {"trial": number, "was": was, "epoch": trial.reached}
    return Effect(answer=answer, ended=[trial.uid])
