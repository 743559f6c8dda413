"""Recordings: proposals follow their shares, and a run continues what an earlier one recorded."""

import math
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search.recordings import record, store
from benchmarks.search.recordings.record import MAX_FLOPS, CandidateProposal, Recorder
from benchmarks.search.recordings.store import Recording
from workers.failures import DivergedError


def a_recording(number: int, **fields: Any) -> Recording:
    """Return a complete recording of little."""
    given = {
        "number": number,
        "kind": "uniform",
        "parent": None,
        "space": "hybrid 1",
        "params": {"width": 16},
        "seed": number,
        "flops": 10,
        "parameters": 5,
        "metrics": {"val_accuracy": [0.1, 0.5]},
        "cpu_s": [1.0, 2.0],
    }
    return Recording(**given | fields)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """Return a recorder of the digits, which need no file."""
    folder = tmp_path_factory.mktemp("recordings")
    return Recorder("digits", folder, folder)


def test_recordings_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    made = [a_recording(number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: store.add("digits", [each], tmp_path), reversed(made)))

    assert store.read("digits", tmp_path) == made
    assert store.read("glyphs", tmp_path) == []


def test_a_failed_training_is_worth_nothing() -> None:
    assert a_recording(1).final == 0.5
    assert a_recording(1, outcome="DivergedError").final == 0.0


@given(st.sets(st.integers(0, 40)), st.integers(1, 4))
def test_shards_share_out_all_numbers_that_are_not_recorded(known: set[int], shards: int) -> None:
    recordings = [a_recording(number) for number in known]
    found = {record.next_number(recordings, shard, shards) for shard in range(shards)}

    assert len(found) == shards
    assert not found & known
    assert min(found) == next(number for number in range(50) if number not in known)


@pytest.fixture(scope="module")
def proposals(recorder: Recorder) -> list[CandidateProposal]:
    """Return the first 40 proposals when only the default is recorded."""
    known = [a_recording(0, params=recorder.space.default_params())]
    return [recorder.propose(number, known) for number in range(40)]


def test_square_numbers_are_the_default_and_others_are_within_the_cap(
    proposals: list[CandidateProposal],
) -> None:
    kinds = Counter(each.kind for each in proposals)

    assert [n for n, each in enumerate(proposals) if each.kind == "default"] == [
        n for n in range(40) if math.isqrt(n) ** 2 == n
    ]
    assert kinds["uniform"] > kinds["prior"] > 0
    assert kinds["mutation"] > kinds["prior"]
    assert max(each.cost.flops for each in proposals) <= MAX_FLOPS * proposals[0].cost.flops


def test_a_mutation_changes_few_decisions_of_a_recorded_candidate(
    recorder: Recorder, proposals: list[CandidateProposal]
) -> None:
    parent = recorder.space.default_params()
    mutations = [each for each in proposals if each.kind == "mutation"]
    changed = [sum(each.params.get(n) != v for n, v in parent.items()) for each in mutations]

    assert {each.parent for each in mutations} == {0}
    assert min(changed) == 1
    assert max(changed) < len(parent) / 2


def test_a_proposal_depends_on_number_and_recordings_alone(
    recorder: Recorder, proposals: list[CandidateProposal]
) -> None:
    known = [a_recording(0, params=recorder.space.default_params())]
    random.seed(3)

    assert [recorder.propose(number, known) for number in range(3)] == proposals[:3]


def test_a_run_continues_the_recordings_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def measure(job: Any, dataset: Any) -> tuple[dict[str, list[float]], list[float], str]:
        trained.append(job.seed)
        if job.seed == 1:
            raise KeyboardInterrupt
        return {"val_accuracy": [0.1, 0.2]}, [1.0, 2.0], "complete"

    monkeypatch.setattr(record, "measure", measure)
    command = ["--names", "digits", "--results", str(tmp_path), "--data", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        record.main([*command, "--until", "3"])
    first = store.read("digits", tmp_path)
    monkeypatch.setattr(
        record, "measure", lambda job, dataset: ({"val_accuracy": [0.3]}, [1.0], "complete")
    )
    record.main([*command, "--until", "3"])

    assert trained == [0, 1]
    assert [each.number for each in first] == [0]
    assert store.read("digits", tmp_path)[0] == first[0]
    assert [each.number for each in store.read("digits", tmp_path)] == [0, 1, 2]


def test_a_diverged_training_keeps_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_job(job: Any, dataset: Any) -> Any:
        yield record.Measurement(fidelity=1, metrics={"val_accuracy": 0.123456789}, elapsed_s=1.0)
        raise DivergedError("train_loss is nan")

    monkeypatch.setattr(record, "run_job", run_job)
    metrics, cpu_s, outcome = record.measure(object(), object())

    assert (metrics, len(cpu_s), outcome) == ({"val_accuracy": [0.12346]}, 1, "DivergedError")


def test_recordings_survive_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("digits", [a_recording(0)], tmp_path)
    with pytest.raises(TypeError):
        store.add("digits", [replace(a_recording(1), params={"width": object()})], tmp_path)

    assert store.read("digits", tmp_path) == [a_recording(0)]
