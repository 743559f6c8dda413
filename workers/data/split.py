"""Stratified sampling of a split: classes in proportion, each at least once.

Equal targets and seeds give equal splits on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from workers.data.checks import DataError


def split_size(wanted: float, targets: NDArray[np.int64], name: str) -> int:
    """Return the size of a split, at least one example per class.

    Args:
        wanted: A fraction below 1, or a count.
        targets: Class of each example, (N,).
        name: Name of the split, for messages.

    Raises:
        DataError: It is out of range.
    """
    total = len(targets)
    count = round(wanted * total) if wanted < 1 else int(wanted)
    if not 1 <= count < total:
        raise DataError(f"data.split.{name} takes {count} of {total} examples: a split is empty")
    classes = len(np.unique(targets))
    if count < classes and wanted >= 1:
        raise DataError(
            f"data.split.{name}: {count} examples cannot be of all {classes} classes; "
            f"take {classes} or more"
        )
    return max(count, classes)


def sample_split(
    targets: NDArray[np.int64],
    among: NDArray[np.int64],
    count: int,
    seed: list[int],
    *,
    least: int = 1,
    keep: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample `count` positions, stratified by class.

    Args:
        targets: Class of each example.
        among: Positions to sample from.
        count: Number to sample.
        seed: Seed of the shuffle.
        least: Minimum to sample of each class, where `count` allows it.
        keep: Minimum of each class to leave.

    Returns:
        The sampled positions and the rest, both shuffled.
    """
    shuffled = np.random.default_rng(seed).permutation(among)
    _, labels, members = np.unique(targets[shuffled], return_inverse=True, return_counts=True)
    quota = _quotas(members, count, least, keep)
    by_class = np.argsort(labels, kind="stable")
    rank = np.empty(len(shuffled), dtype=np.int64)
    rank[by_class] = np.arange(len(shuffled)) - np.repeat(np.cumsum(members) - members, members)
    sampled = rank < quota[labels]
    return shuffled[sampled], shuffled[~sampled]


def _quotas(members: NDArray[np.int64], count: int, least: int, keep: int) -> NDArray[np.int64]:
    """Return the number to sample of each class: in proportion, within bounds, `count` in total.

    Raises:
        DataError: Too few of a class would be left.
    """
    most = members - keep
    fewest = np.minimum(min(least, count // len(members)), most)
    if count > most.sum():
        raise DataError(
            "data.split: less than one example per class is left to train on; "
            "take fewer for validation and test"
        )
    exact = members * (count / members.sum())
    quota: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    # Largest remainder method; the sort is stable, hence repeatable.
    missing = count - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1
    quota = np.minimum(np.maximum(quota, fewest), most)
    while (missing := count - int(quota.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_ = quota < most if step > 0 else quota > fewest
        remainders = np.where(open_, step * (exact - quota), -np.inf)
        chosen = np.argsort(-remainders, kind="stable")[: min(abs(missing), int(open_.sum()))]
        quota[chosen] += step
    return quota
