"""Heartbeats: which attempts have expired, and which have not. Without Ray."""

from collections.abc import Sequence

import pytest

from orchestrator.engines.ray_tune.liveness import GRACE_S, Heartbeats
from workers.job import AttemptKey

KEY = AttemptKey(trial_uid="a" * 32, number=1, fence="f")
LIMIT_S = 2.0 + GRACE_S


class Head:
    """Double of Ray's head: the heartbeats of workers, and the time."""

    def __init__(self) -> None:
        self.sent: dict[AttemptKey, bytes] = {}
        self.now = 0.0
        self.heartbeats = Heartbeats(self.read, silence_s=2.0, now=lambda: self.now)

    def read(self, running: Sequence[AttemptKey]) -> dict[AttemptKey, bytes]:
        return {key: self.sent[key] for key in running if key in self.sent}

    def later(self, seconds: float) -> list[AttemptKey]:
        """Return the attempts that expire in so many seconds, read every second."""
        found: list[AttemptKey] = []
        for _ in range(int(seconds)):
            self.now += 1.0
            found += self.heartbeats.expired([KEY])
        return found


@pytest.fixture
def head() -> Head:
    return Head()


def test_an_attempt_whose_heartbeats_end_expires(head: Head) -> None:
    head.sent[KEY] = b"1"
    assert head.later(LIMIT_S - 1) == []
    assert KEY in head.later(6)


def test_one_that_sends_heartbeats_does_not_expire_in_a_long_epoch(head: Head) -> None:
    for number in range(100):
        head.sent[KEY] = str(number).encode()
        assert head.later(3) == []


def test_one_that_never_sent_a_heartbeat_is_not_watched(head: Head) -> None:
    assert head.later(10 * LIMIT_S) == []


def test_an_attempt_that_ended_meanwhile_is_forgotten(head: Head) -> None:
    head.sent[KEY] = b"1"
    head.later(LIMIT_S - 2)
    head.now += 2.0
    head.now += LIMIT_S
    assert head.heartbeats.expired([]) == []
    assert head.later(LIMIT_S - 2) == []
