"""A draw may take its time: meanwhile the study records, keeps its lease, and can be stopped."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.driving import LONG_S, Gate, bridge_to, recorded, started, train
from support.studies import BRANCHING, config, curve, opened, run, story

from orchestrator.config.schema import StudyConfig
from orchestrator.engines.ray_tune import bridge as bridges
from orchestrator.engines.ray_tune.attempt import Watchdog
from orchestrator.engines.ray_tune.messages import Report
from orchestrator.ledger import Holder, Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.trial import TrialState
from workers.failures import Failure, FailureKind

ASKED = config(pruner={"name": "none"}, sampler={"name": "tpe"})


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_reports_tells_and_heartbeats_go_on_during_a_draw(tmp_path: Path, gate: Gate) -> None:
    with opened(tmp_path, ASKED, space=gate.space) as study:
        first = started(study)
        with gate.drawing(study) as asked:
            train(study, first)
            study._renew()
            study._account()
            assert study.snapshot().counts["COMPLETE"] == 1
            assert not study.finished
            assert [trial.state for trial in recorded(tmp_path)] == [TrialState.COMPLETE]
        second = asked.result()
        assert second is not None
        assert second.trial_number == 1


def test_nothing_that_holds_the_study_delays_its_lease(tmp_path: Path) -> None:
    with opened(tmp_path) as study, study._lock, ThreadPoolExecutor(1) as thread:
        thread.submit(study._renew).result(LONG_S)


def test_a_draw_sees_what_was_told_when_it_began_and_the_next_one_sees_the_rest(
    tmp_path: Path, gate: Gate
) -> None:
    seen: list[list[str]] = []
    with opened(tmp_path, ASKED, space=gate.space) as study:
        sampler = study._state._sampler
        gate.in_draw = lambda: seen.append([t.state.name for t in sampler._study.trials])
        first = started(study)
        with gate.drawing(study):
            train(study, first)
        with gate.drawing(study):
            pass
    during, after, following, _ = seen
    assert during == after == ["RUNNING", "RUNNING"]
    assert following == ["COMPLETE", "RUNNING", "RUNNING"]


def test_two_who_ask_at_once_get_two_numbers(tmp_path: Path, gate: Gate) -> None:
    with (
        opened(tmp_path, ASKED, space=gate.space) as study,
        ThreadPoolExecutor(3) as threads,
    ):
        with gate.drawing(study) as asked:
            others = [threads.submit(study.ask) for _ in range(3)]
        jobs = [future.result(LONG_S) for future in (asked, *others)]
        assert sorted(job.trial_number for job in jobs if job) == [0, 1, 2, 3]
    assert [trial.number for trial in recorded(tmp_path)] == [0, 1, 2, 3]


def take_over(study: StudyDriver, folder: Path) -> None:
    with Ledger.open(folder / "ledger.db") as other:
        other.open_study(name="small", config_json=None, holder=Holder.of_this_process())
    study._renew()


INTERRUPTIONS: dict[str, Callable[[StudyDriver, Path], None]] = {
    "signal": lambda study, _: study.request_stop("signal"),
    "lost lease": take_over,
    "closed": lambda study, _: study.close(),
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_a_draw_that_was_overtaken_by_the_end_records_nothing(
    tmp_path: Path, gate: Gate, interruption: str
) -> None:
    with opened(tmp_path, ASKED, space=gate.space) as study:
        train(study, started(study))
        with gate.drawing(study) as asked:
            INTERRUPTIONS[interruption](study, tmp_path)
            before = recorded(tmp_path)
        assert asked.result() is None
        assert recorded(tmp_path) == before
        assert [trial.number for trial in before] == [0]


def test_a_draw_whose_number_a_retry_has_taken_is_made_again(tmp_path: Path, gate: Gate) -> None:
    with opened(tmp_path, ASKED, space=gate.space) as study:
        study.tell(started(study).key, Failure.without_traceback(FailureKind.USER_CODE, "no"))
        with gate.drawing(study) as asked:
            study._ledger.add_request(study._lease.study_id, "retry", {"class": "user_code"})
            study._answer_requests()
        retried, sampled = asked.result(), started(study)
        assert retried is not None
        assert (retried.trial_number, sampled.trial_number) == (1, 2)
    assert [trial.kind for trial in recorded(tmp_path)] == ["search", "retry", "search"]


def test_a_twin_that_ends_during_the_draw_answers_it(tmp_path: Path) -> None:
    gate = Gate(lambda trial: {"kind": trial.suggest_categorical("kind", ["flat"])} | FIXED)
    with opened(tmp_path, ASKED, space=gate.space) as study:
        first = started(study)
        with gate.drawing(study) as asked:
            train(study, first)
        assert asked.result() is None
        assert study.finished
        assert study.trials[1].reason == "duplicate"
        assert study.trials[1].values == study.trials[0].values


FIXED = {"rate": 0.1, "depth": 0}


@pytest.fixture
def watch(tmp_path: Path) -> Watchdog:
    return Watchdog(silence_s=LONG_S, stacks=tmp_path / "stacks")


def test_tunes_loop_records_reports_while_the_study_draws(
    tmp_path: Path, gate: Gate, watch: Watchdog
) -> None:
    with opened(tmp_path, ASKED, space=gate.space) as study:
        bridge = bridge_to(study, watch, slots=2)
        message = bridge.ask("a")
        assert message is not None
        gate.open.clear()
        assert bridge.ask("b") is None
        assert gate.reached.wait(LONG_S)
        for seen in curve(message.job, None):
            bridge.receive("a", Report(measurement=seen, ended=seen.fidelity == 9))
        assert [trial.state for trial in recorded(tmp_path)] == [TrialState.COMPLETE]
        assert not bridge.exhausted
        gate.open.set()
        following = bridge.ask("c")  # nothing runs any more: waits for the draw
        assert following is not None
        assert following.job.trial_number == 1


@pytest.mark.parametrize("error", [OSError("no space left on device"), SystemExit(3)])
def test_what_a_draw_raises_ends_the_run(watch: Watchdog, error: BaseException) -> None:
    class Failing:
        stopping = finished = False

        def ask(self) -> None:
            raise error

    bridge = bridge_to(Failing(), watch, slots=1)  # type: ignore[arg-type]
    assert bridge.ask("a") is None
    assert bridge.error is error


def test_with_one_slot_the_bridge_draws_what_the_engine_in_process_does(
    tmp_path: Path, watch: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "SAMPLING_WAIT_S", 0.0)  # no answer is ever there at once
    asked: StudyConfig = config(stop={"trials": 14}, sampler={"name": "tpe"})
    with opened(tmp_path / "calm", asked) as study:
        run(study)
        calm = story(study)
    with opened(tmp_path / "tune", asked, space=BRANCHING) as study:
        bridge = bridge_to(study, watch, slots=1)
        while (message := bridge.ask("t")) is not None:
            reports = (Report(measurement=m, ended=m.fidelity == 9) for m in curve(message.job, 0))
            while bridge.receive("t", next(reports)) is bridges.WorkerAction.CONTINUE:
                pass
        assert story(study) == calm
