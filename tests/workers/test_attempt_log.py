"""A trial's log holds what its own attempts logged and printed, and costs the process nothing."""

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers import attempt_log
from workers.attempt_log import append, log_steps
from workers.data import Dataset
from workers.failures import FailureKind, UserCodeError, classify
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.redaction import redact
from workers.run_job import run_job

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "mine" / "7.log"


def attempt(make_job: MakeJob, log: Path, number: int = 1, **changes: Any) -> TrainingJob:
    key = AttemptKey(trial_uid="a" * 32, number=number, fence="")
    return make_job(key=key, trial_number=7, log_path=str(log), **changes)


def run(make_job: MakeJob, log: Path, body: Callable[[], None], number: int = 1) -> None:
    def steps() -> attempt_log.Steps:
        body()
        yield Measurement(fidelity=1, metrics={"val_accuracy": 0.5}, elapsed_s=1.0)

    list(log_steps(attempt(make_job, log, number), steps()))


def test_a_training_leaves_its_epochs_and_what_it_resumed_from(
    make_job: MakeJob, digits: Dataset, log: Path
) -> None:
    list(run_job(attempt(make_job, log, epochs=2), digits))
    first, *epochs = log.read_text().splitlines()
    assert "attempt 1 of trial 7 begins: seed" in first
    assert ["epoch 1 of 2: train_accuracy" in line for line in epochs] == [True, False]
    assert ["epoch 2 of 2: " in line and "val_loss" in line for line in epochs] == [False, True]
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_prints_and_logging_are_logged_and_still_reach_the_streams(
    make_job: MakeJob, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        print("printed", 1)
        print("an error", file=sys.stderr)
        logging.getLogger("theirs").info("loaded %d", 3)
        print("begun", end="")

    run(make_job, log, body)
    text = log.read_text()
    for part in (
        "\nprinted 1\n",
        "\nan error\n",
        "INFO theirs: loaded 3\n",
        "\nbegun\n",
    ):
        assert part in text
    assert capsys.readouterr().out == "printed 1\nbegun"


def test_between_steps_the_process_is_as_it_was(make_job: MakeJob, log: Path) -> None:
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, list(root.handlers), root.level)

    def steps() -> attempt_log.Steps:
        for epoch in (1, 2):
            assert sys.stdout is not before[0]
            yield Measurement(fidelity=epoch, metrics={"a": 1.0}, elapsed_s=0.0)

    running = log_steps(attempt(make_job, log), steps())
    next(iter(running))
    assert (sys.stdout, sys.stderr, list(root.handlers), root.level) == before
    print("not the trial's")
    running.close()  # type: ignore[attr-defined]
    assert "not the trial's" not in log.read_text()


def test_what_other_threads_print_and_log_is_not_the_trials(make_job: MakeJob, log: Path) -> None:
    def other() -> None:
        print("the display's")
        logging.getLogger("driver").warning("the driver's")

    def body() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    run(make_job, log, body)
    assert "display" not in log.read_text()
    assert "driver" not in log.read_text()


def test_attempts_follow_each_other_in_one_file(make_job: MakeJob, log: Path) -> None:
    run(make_job, log, lambda: print("first try"))
    append(log, "attempt 1 of trial 7 ended: timeout\nThread training:\n  File x")
    run(make_job, log, lambda: print("second try"), number=2)
    lines = [line.split(" ", 2)[-1] for line in log.read_text().splitlines() if "attempt" in line]
    assert [line[:26] for line in lines] == [
        "attempt 1 of trial 7 begin",
        "attempt 1 of trial 7 ended",
        "attempt 2 of trial 7 begin",
    ]


def test_a_generator_that_is_closed_cleans_up_into_the_log(make_job: MakeJob, log: Path) -> None:
    def steps() -> attempt_log.Steps:
        try:
            yield Measurement(fidelity=1, metrics={"a": 1.0}, elapsed_s=0.0)
        finally:
            print("cleaned up")

    running = log_steps(attempt(make_job, log), steps())
    next(iter(running))
    running.close()  # type: ignore[attr-defined]
    assert "cleaned up" in log.read_text()


def test_an_error_passes_through(make_job: MakeJob, log: Path) -> None:
    def body() -> None:
        raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"):
        run(make_job, log, body)


def test_a_progress_bar_leaves_its_last_state(make_job: MakeJob, log: Path) -> None:
    run(make_job, log, lambda: print("".join(f"\r{done} %" for done in range(101))))
    assert "\n100 %\n" in log.read_text()


def test_a_loop_that_prints_does_not_fill_the_disk(
    make_job: MakeJob, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_log, "MAX_BYTES", 1 << 20)
    run(make_job, log, lambda: [print("x" * 99) for _ in range(20_000)] and None)
    assert log.stat().st_size < 1_001 * 1024 + 65_536
    assert log.read_text().rstrip().endswith("the rest is not kept)")


def test_a_log_that_cannot_be_written_costs_no_training(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    run(make_job, tmp_path / "logs" / "7.log", lambda: print("goes on"))
    assert capsys.readouterr().out == "goes on\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql+psycopg://me:pa:ss@host/db", "postgresql+psycopg://me:***@host/db"),
        ("http://:token@host and ftp://a:b@c", "http://:***@host and ftp://a:***@c"),
        ("https://host:5000/path mail@host", "https://host:5000/path mail@host"),
    ],
)
def test_passwords_in_addresses_are_redacted(text: str, kept: str) -> None:
    assert redact(text) == kept


def test_no_password_gets_into_logs_or_failures(make_job: MakeJob, log: Path) -> None:
    address = "postgresql://me:hunter2@host/db"

    def body() -> None:
        print("using", address)
        logging.getLogger("theirs").warning("at %s", address)
        raise UserCodeError("failed") from OSError(f"cannot reach {address}")

    with pytest.raises(UserCodeError) as raised:
        run(make_job, log, body)
    failure = classify(raised.value)
    append(log, failure.traceback)
    assert failure.kind is FailureKind.USER_CODE
    assert "hunter2" not in failure.message + failure.traceback + log.read_text()
    assert log.read_text().count("me:***@host") >= 3
