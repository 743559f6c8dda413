"""Which examples a part of a split gets: every class in proportion, and at least once.

Equal targets and seeds give equal parts, on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from workers.data.checks import DataError


def count_of(wanted: float, targets: NDArray[np.int64], part: str) -> int:
    """Examples meant by a share below 1, rounded up to one a class, or by a count."""
    total = len(targets)
    count = round(wanted * total) if wanted < 1 else int(wanted)
    if not 1 <= count < total:
        raise DataError(f"data.split.{part} means {count} of {total} examples: a part is empty")
    classes = len(np.unique(targets))
    if count < classes and wanted >= 1:
        raise DataError(
            f"data.split.{part}: {count} examples cannot be of all {classes} classes; "
            f"ask for {classes} or more"
        )
    return max(count, classes)


def draw(
    targets: NDArray[np.int64],
    among: NDArray[np.int64],
    count: int,
    seed: list[int],
    *,
    least: int = 1,
    keep: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` positions, each class in proportion.

    Args:
        targets: Class of each example.
        among: Positions to draw from.
        count: How many to draw.
        seed: Of the shuffle.
        least: How many of each class to draw at least, where `count` allows it.
        keep: How many of each class to leave at least.

    Returns:
        The drawn positions and the rest, both shuffled.
    """
    shuffled = np.random.default_rng(seed).permutation(among)
    _, labels, members = np.unique(targets[shuffled], return_inverse=True, return_counts=True)
    quota = _quotas(members, count, least, keep)
    by_class = np.argsort(labels, kind="stable")
    rank = np.empty(len(shuffled), dtype=np.int64)
    rank[by_class] = np.arange(len(shuffled)) - np.repeat(np.cumsum(members) - members, members)
    drawn = rank < quota[labels]
    return shuffled[drawn], shuffled[~drawn]


def _quotas(members: NDArray[np.int64], count: int, least: int, keep: int) -> NDArray[np.int64]:
    """How many to draw of each class: in proportion, within bounds, `count` in all.

    Raises:
        DataError: It would leave too few of a class.
    """
    most = members - keep
    fewest = np.minimum(min(least, count // len(members)), most)
    if count > most.sum():
        raise DataError(
            "data.split: the parts leave less than one example of each class to train on; "
            "ask for fewer"
        )
    exact = members * (count / members.sum())
    quota: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    # The largest remainders get what rounding down left over; the sort is stable, hence repeatable.
    missing = count - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1
    quota = np.minimum(np.maximum(quota, fewest), most)
    while (missing := count - int(quota.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_ = quota < most if step > 0 else quota > fewest
        lacking = np.where(open_, step * (exact - quota), -np.inf)
        chosen = np.argsort(-lacking, kind="stable")[: min(abs(missing), int(open_.sum()))]
        quota[chosen] += step
    return quota
