"""Signs of life: who is taken for stopped, and who is not. Without Ray."""

from collections.abc import Sequence

import pytest

from orchestrator.engines.ray_tune.liveness import GRACE_S, Heartbeats
from workers.job import AttemptKey

KEY = AttemptKey(trial_uid="a" * 32, number=1, fence="f")
LIMIT_S = 2.0 + GRACE_S


class Head:
    """What workers have left, and what time it is."""

    def __init__(self) -> None:
        self.left: dict[AttemptKey, bytes] = {}
        self.now = 0.0
        self.signs = Heartbeats(self.read, silence_s=2.0, now=lambda: self.now)

    def read(self, running: Sequence[AttemptKey]) -> dict[AttemptKey, bytes]:
        return {key: self.left[key] for key in running if key in self.left}

    def later(self, seconds: float) -> list[AttemptKey]:
        """Who is taken for stopped after so long, looked at every second."""
        found: list[AttemptKey] = []
        for _ in range(int(seconds)):
            self.now += 1.0
            found += self.signs.stopped([KEY])
        return found


@pytest.fixture
def head() -> Head:
    return Head()


def test_a_process_whose_signs_end_is_taken_for_stopped(head: Head) -> None:
    head.left[KEY] = b"1"
    assert head.later(LIMIT_S - 1) == []
    assert KEY in head.later(6)


def test_one_that_gives_signs_is_not_however_long_its_epoch(head: Head) -> None:
    for number in range(100):
        head.left[KEY] = str(number).encode()
        assert head.later(3) == []


def test_one_that_never_gave_a_sign_is_not_watched(head: Head) -> None:
    assert head.later(10 * LIMIT_S) == []


def test_an_attempt_that_ended_meanwhile_is_forgotten(head: Head) -> None:
    head.left[KEY] = b"1"
    head.later(LIMIT_S - 2)
    head.now += 2.0
    head.now += LIMIT_S
    assert head.signs.stopped([]) == []
    assert head.later(LIMIT_S - 2) == []
