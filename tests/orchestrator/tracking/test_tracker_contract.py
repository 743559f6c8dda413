"""The projection onto MLflow keeps the contract of trackers; a broken one does not."""

from collections.abc import Iterator

import pytest
from support.stories import Story
from support.trackers import NoTracker

from orchestrator.testing import TrackerContract
from orchestrator.tracking import Tracker, start_projector


class TestATrackerThatShowsNothing(TrackerContract):
    @pytest.fixture
    def tracker(self) -> Tracker:
        return NoTracker()


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*noload.*")
class TestTheProjectionOntoMlflow(TrackerContract):
    @pytest.fixture
    def tracker(self, story: Story) -> Iterator[Tracker]:
        story.whole(0.5)
        process = start_projector(
            ledger_url=story.ledger_url,
            study="mine",
            home=story.home,
            tracking_uri=story.tracking_uri,
        )
        yield process
        process.close()


class Hasty(NoTracker):
    """Says that something is left."""

    def drain(self, timeout_s: float, on_left: object = None) -> bool:
        return False


def test_the_contract_catches_a_tracker_that_never_has_shown_all() -> None:
    with pytest.raises(AssertionError):
        TrackerContract().test_draining_ends_and_leaves_no_reason(Hasty())
