"""Files that a store refuses: noted, passed, tried again within bounds, named at the end."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tracking.files import Files


class Store:
    """Takes files or does not, and counts how often it was asked."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        self.is_away = False
        self.held: list[str] = []
        self.asked = 0

    def upload(self, name: str) -> Callable[[], None]:
        def do() -> None:
            self.asked += 1
            if self.is_away or name in self.refuses:
                raise PermissionError(f"{name}: 403")
            self.held.append(name)

        return do


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    refused=st.sets(st.integers(0, 9), max_size=3),
    outages=st.lists(st.booleans(), min_size=10, max_size=10),
    steps_s=st.lists(st.sampled_from([0.0, 1.0, 100.0]), min_size=10, max_size=10),
)
def test_every_file_is_uploaded_once_or_named(
    refused: set[int], outages: list[bool], steps_s: list[float]
) -> None:
    store, clock = Store(), Clock()
    files = Files(clock)
    store.refuses = {str(number) for number in refused}
    for number, away in enumerate(outages):
        store.is_away = away
        clock.now += steps_s[number]
        files.send(str(number), store.upload(str(number)))
    store.is_away = False
    for _ in range(10):
        files.retry(at_once=True)
    assert sorted(store.held) == [str(n) for n in range(10) if n not in refused]
    assert set(files.waiting) == store.refuses
    assert (files.reason is None) == (not refused)


def test_a_store_that_is_away_is_asked_ever_more_seldom() -> None:
    store, clock = Store(), Clock()
    store.is_away = True
    files = Files(clock)
    for second in range(3600):
        clock.now = float(second)
        files.send(str(second), store.upload(str(second)))
        files.retry()
    assert store.asked <= 20
    assert len(files.waiting) == 3600
    store.is_away = False
    clock.now += 600
    files.retry()
    assert (len(store.held), files.waiting) == (3600, [])


def test_a_newer_file_replaces_one_that_waits() -> None:
    store, clock = Store(), Clock()
    files = Files(clock)
    store.is_away = True
    files.send("leaderboard.json", store.upload("old"))
    files.send("leaderboard.json", store.upload("new"))
    store.is_away = False
    files.retry(at_once=True)
    assert store.held == ["new"]
