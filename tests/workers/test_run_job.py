"""One entry point for every kind of job: networks, surrogate curves, the user's generators."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.__main__ import main
from workers.budget import Budget
from workers.data import Dataset, DataSpec, SplitSpec, load
from workers.failures import UserCodeError
from workers.job import AttemptKey, TrainingJob
from workers.measurement import CheckpointRef, Measurement
from workers.metrics import measured_metrics
from workers.run_job import run_job

MakeJob = Callable[..., TrainingJob]
SURROGATE = DataSpec(source="surrogate")


def curve(job: TrainingJob) -> list[float]:
    measured = run_job(replace(job, data=SURROGATE), load(SURROGATE))
    return [one.metrics["val_accuracy"] for one in measured if isinstance(one, Measurement)]


def decisions(**values: Any) -> dict[str, Any]:
    return {"schema": 1, "decisions": values}


def test_a_surrogate_curve_is_a_function_of_candidate_and_seed(make_job: MakeJob) -> None:
    job = make_job(epochs=9)
    assert curve(job) == curve(job)
    assert curve(job) != curve(replace(job, seed=1))
    assert curve(job) != curve(make_job(epochs=9, recipe={"learning_rate": 1e-2}))
    assert curve(replace(job, budget=Budget(maximum=4))) == curve(job)[:4]


def test_a_surrogate_curve_rises_ever_slower(make_job: MakeJob) -> None:
    seen = curve(make_job(epochs=81))
    assert 0.1 < seen[0] < seen[8] < seen[80] < 1
    assert seen[8] - seen[0] > seen[80] - seen[8]


def test_seeds_of_one_candidate_differ_by_noise_only(make_job: MakeJob) -> None:
    ends = [curve(make_job(epochs=27, seed=seed))[-1] for seed in range(10)]
    assert 0 < max(ends) - min(ends) < 0.02


def test_a_surrogate_prefers_a_good_learning_rate_smoothly(make_job: MakeJob) -> None:
    rates = (3e-5, 3e-4, 3e-3, 3e-2, 3e-1)
    ends = [curve(make_job(epochs=9, recipe={"learning_rate": rate}))[-1] for rate in rates]
    assert ends[0] < ends[1] < ends[2] > ends[3] > ends[4]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=5)),
        max_size=6,
    )
)
def test_a_surrogate_takes_whatever_decisions_there_are(values: dict[str, Any]) -> None:
    job = TrainingJob(
        key=AttemptKey(trial_uid="u", number=1, fence="f"),
        trial_number=0,
        candidate=decisions(**values),
        data=SURROGATE,
        budget=Budget(maximum=3),
        seed=0,
    )
    assert all(0.1 < seen <= 1 for seen in curve(job))


def test_what_the_surrogate_and_the_trainer_measure_is_what_configs_may_name(
    make_job: MakeJob, digits: Dataset
) -> None:
    known = measured_metrics()
    assert known is not None
    for job in (make_job(epochs=1), make_job(epochs=1, data=SURROGATE)):
        measured = [one for one in run_job(job, digits) if isinstance(one, Measurement)]
        assert set(measured[0].metrics) <= set(known)
    assert {"parameters", "flops", "activation_bytes"} <= set(known)
    assert measured_metrics(train="mine.py:train") is None


def write(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(body)
    return f"{folder / 'mine.py'}:train"


def tell(make_job: MakeJob, digits: Dataset, train: str, **changes: Any) -> list[Measurement]:
    job = make_job(candidate=decisions(width=8), train=train, **changes)
    return [one for one in run_job(job, digits) if isinstance(one, Measurement)]


def test_the_users_generator_is_measured_an_epoch(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    train = write(
        tmp_path,
        "def train(decisions, context):\n"
        "    for epoch in range(100):\n"
        "        yield {'val_accuracy': epoch / 10, 'width': decisions['width'],\n"
        "               'seed': context.seed, 'epochs': context.epochs}\n",
    )
    measured = tell(make_job, digits, train, epochs=3, seed=5)
    assert [one.fidelity for one in measured] == [1, 2, 3]
    assert measured[2].metrics == {"val_accuracy": 0.2, "width": 8.0, "seed": 5.0, "epochs": 3.0}


def test_the_users_generator_may_end_early_and_is_closed_when_stopped(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    train = write(
        tmp_path,
        "import pathlib\n"
        "def train(decisions, context):\n"
        "    try:\n"
        "        yield {'a': 1}\n"
        "        yield {'a': 2}\n"
        "    finally:\n"
        f"        pathlib.Path({str(tmp_path / 'closed')!r}).touch()\n",
    )
    assert len(tell(make_job, digits, train, epochs=9)) == 2
    (tmp_path / "closed").unlink()
    run = run_job(make_job(candidate=decisions(), train=train, epochs=9), digits)
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def train(d, c):\n    yield {'a': 1}\n    raise KeyError('lost')\n", "lost"),
        ("def train(d, c):\n    yield 3\n", "expected a mapping of metrics, not 3"),
        ("def train(d, c):\n    yield {}\n", "expected a mapping of metrics"),
        ("def train(d, c):\n    yield {'a': 'b'}\n", "metric 'a' must be a number, not 'b'"),
        ("def train(d, c):\n    yield {1: 2}\n", "metric names must be printable"),
        ("def train(d, c):\n    yield {'a\\ud800': 2}\n", "metric names must be printable"),
        ("def train(d, c):\n    yield {'a\\x00b': 2}\n", "metric names must be printable"),
        ("def train(d, c):\n    yield {' ': 2}\n", "metric names must be printable"),
        ("def train(d, c):\n    yield {'a': 10**400}\n", "metric 'a' must be a number"),
        ("def train(d, c):\n    return {'a': 1}\n", "must be a generator function"),
        ("def train(d):\n    yield {'a': 1}\n", "cannot be started"),
        ("def other(d, c):\n    yield {'a': 1}\n", "cannot be started"),
        ("1 / 0\n", "division by zero"),
    ],
)
def test_errors_in_the_users_code_are_classified_as_theirs(
    make_job: MakeJob, digits: Dataset, tmp_path: Path, body: str, message: str
) -> None:
    with pytest.raises(UserCodeError, match=message):
        tell(make_job, digits, write(tmp_path, body))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_users_metric_that_is_no_finite_number_is_passed_on(
    make_job: MakeJob, digits: Dataset, tmp_path: Path, value: str
) -> None:
    body = f"def train(d, c):\n    yield {{'a': float('{value}')}}\n"
    [seen] = tell(make_job, digits, write(tmp_path, body))
    assert str(seen.metrics["a"]) == value


def test_a_users_training_that_parses_its_options_sees_none_of_the_workers(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    body = (
        "import argparse\nparse = argparse.ArgumentParser().parse_args\nparse()\n"
        "def train(d, c):\n    parse()\n    for _ in range(2):\n        parse()\n"
        "        yield {'a': 1}\n"
    )
    assert len(tell(make_job, digits, write(tmp_path, body))) == 2


def test_a_users_space_file_is_run_before_the_candidate_is_read(
    make_job: MakeJob, digits: Dataset, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "blocks.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nspace = 1\n"
    )
    list(run_job(make_job(epochs=1, space=f"{tmp_path / 'blocks.py'}:space"), digits))
    assert mark.exists()


def test_one_candidate_can_be_trained_by_hand(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "candidate.json"
    path.write_text(json.dumps(make_job().candidate))
    assert main([str(path), "--epochs", "2", "--limit", "400"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1"], ["epoch", "2"]]
    assert "val_accuracy" in lines[1]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{", [], "Expecting"),
        ("[]", [], "a candidate must be a JSON object"),
        ("{}", [], "schema"),
        ("{}", ["--data", "digit"], "Did you mean 'digits'"),
        ("{}", ["--epochs", "0"], "maximum: Input should be"),
    ],
)
def test_mistakes_by_hand_end_in_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    options: list[str],
    message: str,
) -> None:
    path = tmp_path / "candidate.json"
    path.write_text(content)
    assert main([str(path), *options]) == 2
    assert message in capsys.readouterr().err
    assert main([str(tmp_path / "gone.json")]) == 2


def test_jobs_data_and_metrics_load_no_torch() -> None:
    modules = "workers.run_job, workers.metrics, workers.data, workers.failures, workers.surrogate"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


names = st.text(min_size=1, max_size=10)
finite = st.floats(allow_nan=False, allow_infinity=False)
references = st.builds(
    CheckpointRef, path=names, manifest_sha256=names, bytes=st.integers(0, 2**40)
)


@given(
    st.builds(
        Measurement,
        fidelity=st.integers(1, 999),
        metrics=st.dictionaries(names, finite, max_size=4),
        elapsed_s=st.floats(0, 1e6),
        checkpoint=st.none() | references,
    )
)
def test_a_measurement_survives_json(measurement: Measurement) -> None:
    assert Measurement.from_dict(json.loads(json.dumps(measurement.to_dict()))) == measurement


@given(
    st.builds(
        TrainingJob,
        key=st.builds(AttemptKey, trial_uid=names, number=st.integers(1, 9), fence=names),
        trial_number=st.integers(0, 10**6),
        candidate=st.dictionaries(names, st.dictionaries(names, st.integers() | finite | names)),
        data=st.builds(
            DataSpec,
            source=names,
            path=st.none() | names,
            split=st.builds(
                SplitSpec,
                validation=st.floats(0.01, 0.4) | st.integers(1, 99),
                test=st.floats(0, 0.4),
                seed=st.integers(0),
            ),
            limit=st.none() | st.integers(1),
        ),
        budget=st.builds(Budget, maximum=st.integers(1, 999)),
        seed=st.integers(0, 2**63),
        train=st.none() | names,
        space=st.none() | names,
        checkpoint_dir=st.none() | names,
        resume_from=st.lists(references, max_size=2).map(tuple),
        threads=st.integers(1, 64),
        device=st.sampled_from(["cpu", "cuda"]),
        gpu_share=st.floats(0, 1),
    )
)
def test_a_job_survives_json(job: TrainingJob) -> None:
    assert TrainingJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job
