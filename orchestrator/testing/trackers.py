"""Contract of trackers: draining ends, and closing loses nothing."""

import threading

import pytest

from orchestrator.tracking import Tracker


class TrackerContract:
    """Tests of a tracker; a subclass gives the fixture `tracker`, started on a finished study."""

    @pytest.fixture
    def tracker(self) -> Tracker:
        """The tracker under test."""
        raise NotImplementedError("give a fixture `tracker`")

    def test_draining_ends_and_leaves_no_reason(self, tracker: Tracker) -> None:
        left: list[int] = []
        assert tracker.drain(120.0, left.append)
        assert tracker.reason == ""
        assert left == sorted(left, reverse=True)
        assert tracker.drain(120.0)
        tracker.close()

    def test_a_cancelled_drain_returns(self, tracker: Tracker) -> None:
        drained: list[bool] = []
        waiting = threading.Thread(target=lambda: drained.append(tracker.drain(600.0)))
        waiting.start()
        tracker.cancel_wait()
        waiting.join(60.0)
        assert len(drained) == 1
        tracker.close()

    def test_closing_may_be_repeated(self, tracker: Tracker) -> None:
        tracker.close()
        tracker.close()
