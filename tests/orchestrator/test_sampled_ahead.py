"""Trials sampled ahead: recorded as waiting while all slots are busy; the next ask starts them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.driving import LONG_S, Gate, bridge_to, recorded, started, train
from support.studies import config, curve, opened, run

from orchestrator.engines.ray_tune.attempt import Watchdog
from orchestrator.engines.ray_tune.bridge import Bridge
from orchestrator.engines.ray_tune.messages import Report
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import Trial, TrialState

SMALL = config(pruner={"name": "none"}, sampler={"name": "random"})


def waiting(study: StudyDriver) -> list[Trial]:
    return [trial for trial in study.trials if trial.state is TrialState.WAITING]


def die(study: StudyDriver) -> None:
    """Lets a driver end without its last words."""
    for heartbeat in study._heartbeats:
        heartbeat.stop()
    study.close = lambda: None  # type: ignore[method-assign]


def test_one_trial_is_sampled_ahead_and_the_next_ask_starts_it_without_a_sampler(
    tmp_path: Path,
) -> None:
    gate = Gate()
    with opened(tmp_path, SMALL, space=gate.space) as study:
        started(study)
        for _ in range(3):
            study.sample_ahead()
        (ahead,) = waiting(study)
        assert (ahead.number, ahead.attempts) == (1, 0)
        gate.open.clear()  # a draw would block from now on
        assert started(study).key.trial_uid == ahead.uid
        gate.open.set()


def test_after_a_kill_the_resumed_study_starts_the_recorded_proposal(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        running = started(study)
        study.sample_ahead()
        (ahead,) = waiting(study)
        die(study)
    assert [trial.state.name for trial in recorded(tmp_path)] == ["RUNNING", "WAITING"]
    with opened(tmp_path, SMALL) as study:
        first, second, third = (started(study) for _ in range(3))
        assert first.key.trial_uid == ahead.uid
        assert first.candidate == recorded(tmp_path)[1].candidate
        assert second.key.trial_uid == running.key.trial_uid  # lost ones start last
        assert third.trial_number == 2


@given(st.lists(st.sampled_from(["ask", "ahead", "train", "restart"]), max_size=15))
@settings(max_examples=8, deadline=None)
def test_no_order_of_events_exceeds_the_limit_or_loses_a_trial(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    folder, limit = tmp_path_factory.mktemp("orders"), 4
    asked = config(stop={"trials": limit}, pruner={"name": "none"}, sampler={"name": "random"})
    seen: dict[int, str] = {}
    for part in " ".join(events).split("restart"):
        with opened(folder, asked) as study:
            jobs = []
            for event in part.split():
                if event == "ahead":
                    study.sample_ahead()
                elif event == "ask" and len(jobs) < 2 and (job := study.ask()):
                    jobs.append(job)
                elif event == "train" and jobs:
                    train(study, jobs.pop(0))
                assert len(study.trials) <= limit
                assert sum(not trial.attempts for trial in waiting(study)) <= 1
                for trial in study.trials:
                    assert seen.setdefault(trial.number, trial.uid) == trial.uid
    with opened(folder, asked) as study:
        run(study)
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * limit


def test_an_interrupted_trial_starts_before_the_one_sampled_ahead(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as study:
        first = started(study)
        study.sample_ahead()
        study.report(first.key, next(curve(first, None)))
        study.requeue(first.key)
        assert [started(study).trial_number for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("reason", ["target", "hours", "signal"])
def test_one_that_is_never_started_counts_nowhere_and_waits(tmp_path: Path, reason: str) -> None:
    with opened(tmp_path, SMALL) as study:
        train(study, started(study))
        started(study)
        study.sample_ahead()
        study.request_stop(reason)
        study.sample_ahead()
        assert study.ask() is None
        assert study.snapshot().counted == 2
    with opened(tmp_path, SMALL) as study:
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "WAITING", "WAITING"]
        assert [started(study).trial_number for _ in range(2)] == [1, 2]


def test_in_process_nothing_is_sampled_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(StudyDriver, "sample_ahead")
    with opened(tmp_path, SMALL) as study:
        run(study)
        assert study.finished


@pytest.fixture
def watch(tmp_path: Path) -> Watchdog:
    return Watchdog(silence_s=LONG_S, stacks=tmp_path / "stacks")


def settle(bridge: Bridge) -> None:
    """Lets Tune's loop ask while all slots are busy, until the candidate is sampled."""
    assert bridge.ask("z") is None
    assert bridge.error is None
    if bridge._ahead is not None:
        bridge._ahead.result(LONG_S)


def test_the_bridge_samples_one_ahead_while_all_slots_are_busy(
    tmp_path: Path, watch: Watchdog
) -> None:
    gate = Gate()
    with opened(tmp_path, SMALL, space=gate.space) as study:
        bridge = bridge_to(study, watch, slots=2)
        messages = [bridge.ask("a"), bridge.ask("b")]
        assert all(messages)
        assert waiting(study) == []
        for _ in range(3):
            settle(bridge)
        assert [trial.number for trial in waiting(study)] == [2]
        gate.open.clear()
        for seen in curve(messages[0].job, None):
            bridge.receive("a", Report(measurement=seen, ended=seen.fidelity == 9))
        following = bridge.ask("c")
        assert following is not None
        assert following.job.trial_number == 2
        gate.open.set()
        settle(bridge)
        assert [trial.number for trial in waiting(study)] == [3]


def test_with_one_slot_the_bridge_samples_nothing_ahead(tmp_path: Path, watch: Watchdog) -> None:
    with opened(tmp_path, SMALL) as study:
        bridge = bridge_to(study, watch, slots=1)
        assert bridge.ask("a")
        settle(bridge)
        assert waiting(study) == []


def test_what_a_sample_ahead_raises_ends_the_run(watch: Watchdog) -> None:
    class Failing:
        stopping = finished = False

        def sample_ahead(self) -> None:
            raise OSError("no space left on device")

    bridge = bridge_to(Failing(), watch, slots=2)  # type: ignore[arg-type]
    bridge._has_slot = lambda: False  # type: ignore[method-assign]
    assert bridge.ask("a") is None
    assert bridge._ahead is not None
    assert isinstance(bridge._ahead.exception(LONG_S), OSError)
    assert bridge.ask("a") is None
    assert isinstance(bridge.error, OSError)
