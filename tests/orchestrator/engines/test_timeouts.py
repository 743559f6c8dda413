"""Calls to Ray time out, and show what they wait for; Ray's object store fits the data."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import timeouts
from orchestrator.engines.ray_tune import EngineLostError, engine, launch
from orchestrator.engines.ray_tune import cluster as clusters
from orchestrator.engines.ray_tune.cluster import Cluster
from orchestrator.engines.ray_tune.launch import STORE_BYTES, store_bytes
from orchestrator.timeouts import NoAnswerError, call_with_timeout
from workers.data import DataSpec, load
from workers.job import AttemptKey


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """A call that does not return before the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_a_call_returns_and_raises_like_its_function() -> None:
    assert call_with_timeout(lambda: 7, timeout_s=60) == 7
    with pytest.raises(KeyError, match="lost"):
        call_with_timeout(lambda: {}["lost"], timeout_s=60)


def test_a_slow_call_is_shown_once_and_abandoned_at_its_timeout(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "SLOW_S", 0.05)
    said: list[str] = []
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.1 s"):
        call_with_timeout(never.wait, timeout_s=0.1, on_slow=lambda: said.append("slow"))
    assert said == ["slow"]


def test_a_head_that_does_not_answer_is_a_lost_cluster(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SimpleNamespace(head="10.0.0.1:6379", stuck=False)
    cluster = Cluster.__new__(Cluster)
    monkeypatch.setattr(cluster, "_session", session, raising=False)
    with pytest.raises(
        EngineLostError, match=r"10.0.0.1:6379 no longer answers.*`archscout resume`"
    ):
        cluster.call(never.wait, timeout_s=0.1)
    assert session.stuck


def test_heartbeats_are_not_read_from_a_head_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [True]
    monkeypatch.setattr(clusters, "read", lambda running: dict.fromkeys(running, b"heartbeat"))
    monkeypatch.setattr(clusters, "is_listening", lambda head: there[0])
    cluster = Cluster.__new__(Cluster)
    monkeypatch.setattr(cluster, "_session", SimpleNamespace(head="10.0.0.1:6379"), raising=False)
    key = AttemptKey(trial_uid="a", number=1, fence="f")
    assert cluster.heartbeats([key]) == {key: b"heartbeat"}
    there[0] = False
    assert cluster.heartbeats([key]) == {}


def test_an_engine_starts_ray_with_a_store_for_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[dict[str, int]] = []

    class NoSessionError(Exception):
        pass

    def enter(address: None, options: dict[str, int], tell: object) -> None:
        entered.append(options)
        raise NoSessionError

    monkeypatch.setattr(engine, "store_bytes", lambda data_bytes: data_bytes + 1)
    monkeypatch.setattr(engine.Session, "enter", enter)
    data = load(DataSpec(source="surrogate"))
    with pytest.raises(NoSessionError):
        engine.RayTuneEngine(ray_options={"num_cpus": 1}).run(SimpleNamespace(), data)
    held = sum(getattr(values, "nbytes", 0) for values in data.to_arrays().values())
    assert held > 1000
    assert entered == [{"object_store_memory": held + 1, "num_cpus": 1}]


@given(data=st.integers(0, 1 << 45), memory=st.integers(0, 1 << 42))
def test_the_object_store_holds_the_data_unless_memory_forbids(data: int, memory: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "available_bytes", lambda: memory)
        size = store_bytes(data, Path("/is-not-there"))
    assert size >= STORE_BYTES
    assert size >= min(data + STORE_BYTES, memory // 2)
    assert size == STORE_BYTES or size <= memory // 2


def test_the_object_store_is_no_larger_than_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "available_bytes", lambda: 1 << 40)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=600 << 20))
    assert store_bytes(4 << 30, tmp_path) == 600 << 20
