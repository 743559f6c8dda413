"""Identity of examples: digests that tell whether two data sets share any.

A data set's own digest (`Dataset.digest`) also covers how it was split and in which order. These
do not: they follow the examples alone, so that the same photograph is recognised in another split.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import Dataset, Split

_DIGEST_BYTES = 8


def example_digests(split: Split) -> NDArray[np.uint64]:
    """Return a digest of each example's inputs as the network takes them, (N,), targets aside."""
    arrays = [split.inputs[name] for name in sorted(split.inputs)]
    digests = np.empty(len(split), dtype=np.uint64)
    for index in range(len(split)):
        found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for array in arrays:
            # One at a time: images are kept with their channels last, and a copy of all is large.
            found.update(np.ascontiguousarray(array[index]).data)
        digests[index] = int.from_bytes(found.digest(), "big")
    return digests


def test_split_identity(dataset: Dataset) -> dict[str, str]:
    """Return what identifies the sealed test part, whatever split, limit or order was asked for.

    Returns:
        `test_digest` of the test part alone, and `examples_digest` of all parts together, which
        stays the same when the same examples are split with another seed or other shares.
    """
    test = example_digests(dataset.open_test())
    parts = [example_digests(dataset.train), example_digests(dataset.validation), test]
    return {
        "test_digest": _of_all(test),
        "examples_digest": _of_all(np.concatenate(parts)),
    }


def _of_all(digests: NDArray[np.uint64]) -> str:
    return hashlib.sha256(np.sort(digests).astype("<u8").tobytes()).hexdigest()
