"""Uploads that a store rejects: kept, retried within bounds, and named at the end."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tracking.uploads import UploadQueue


class Store:
    """Accepts or rejects files, and counts the attempts."""

    def __init__(self) -> None:
        self.rejects: set[str] = set()
        self.is_down = False
        self.stored: list[str] = []
        self.attempts = 0

    def upload(self, name: str) -> Callable[[], None]:
        def do() -> None:
            self.attempts += 1
            if self.is_down or name in self.rejects:
                raise PermissionError(f"{name}: 403")
            self.stored.append(name)

        return do


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    rejected=st.sets(st.integers(0, 9), max_size=3),
    outages=st.lists(st.booleans(), min_size=10, max_size=10),
    steps_s=st.lists(st.sampled_from([0.0, 1.0, 100.0]), min_size=10, max_size=10),
)
def test_every_file_is_uploaded_once_or_pending(
    rejected: set[int], outages: list[bool], steps_s: list[float]
) -> None:
    store, clock = Store(), Clock()
    uploads = UploadQueue(clock)
    store.rejects = {str(number) for number in rejected}
    for number, is_down in enumerate(outages):
        store.is_down = is_down
        clock.now += steps_s[number]
        uploads.send(str(number), store.upload(str(number)))
    store.is_down = False
    for _ in range(10):
        uploads.retry(ignore_pause=True)
    assert sorted(store.stored) == [str(n) for n in range(10) if n not in rejected]
    assert set(uploads.pending) == store.rejects
    assert (uploads.error is None) == (not rejected)


def test_uploads_to_an_unreachable_store_become_rarer() -> None:
    store, clock = Store(), Clock()
    store.is_down = True
    uploads = UploadQueue(clock)
    for second in range(3600):
        clock.now = float(second)
        uploads.send(str(second), store.upload(str(second)))
        uploads.retry()
    assert store.attempts <= 20
    assert len(uploads.pending) == 3600
    store.is_down = False
    clock.now += 600
    uploads.retry()
    assert (len(store.stored), uploads.pending) == (3600, [])


def test_a_newer_upload_replaces_a_pending_one() -> None:
    store, clock = Store(), Clock()
    uploads = UploadQueue(clock)
    store.is_down = True
    uploads.send("leaderboard.json", store.upload("old"))
    uploads.send("leaderboard.json", store.upload("new"))
    store.is_down = False
    uploads.retry(ignore_pause=True)
    assert store.stored == ["new"]
