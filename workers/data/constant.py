"""Source `surrogate`: constant images, only for the shapes of searches that train nothing."""

import numpy as np

from workers.data.dataset import RawData, Split
from workers.data.spec import DataSpec

NUM_CLASSES = 10
EACH = 20


def read(spec: DataSpec) -> RawData:  # noqa: ARG001 - every source takes the spec
    """Return black 8x8 images, twenty per class."""
    targets = np.repeat(np.arange(NUM_CLASSES, dtype=np.int64), EACH)
    return RawData(
        pool=Split(
            inputs={"image": np.zeros((len(targets), 1, 8, 8), dtype=np.uint8)}, targets=targets
        ),
        class_names=tuple(str(label) for label in range(NUM_CLASSES)),
    )
