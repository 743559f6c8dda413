"""Identity of examples: digests that show whether two data sets share any.

Unlike `Dataset.digest` they ignore split and order, so the same photograph is found in another
split.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import Dataset, Split

_DIGEST_BYTES = 8


def example_digests(split: Split) -> NDArray[np.uint64]:
    """Return a digest of each example's prepared inputs, (N,); targets are ignored."""
    arrays = [split.inputs[name] for name in sorted(split.inputs)]
    digests = np.empty(len(split), dtype=np.uint64)
    for index in range(len(split)):
        found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for array in arrays:
            # One at a time: images are stored channels-last, and a copy of all of them is large.
            found.update(np.ascontiguousarray(array[index]).data)
        digests[index] = int.from_bytes(found.digest(), "big")
    return digests


def test_split_identity(dataset: Dataset) -> dict[str, str]:
    """Return digests that identify the held-out test set, whatever its split, limit or order.

    Returns:
        `test_digest` of the test set alone, and `examples_digest` of all splits together, which
        does not depend on the seed and the fractions of the split.
    """
    test = example_digests(dataset.open_test())
    splits = [example_digests(dataset.train), example_digests(dataset.validation), test]
    return {
        "test_digest": _of_all(test),
        "examples_digest": _of_all(np.concatenate(splits)),
    }


def _of_all(digests: NDArray[np.uint64]) -> str:
    return hashlib.sha256(np.sort(digests).astype("<u8").tobytes()).hexdigest()
