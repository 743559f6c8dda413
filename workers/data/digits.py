"""Source `digits`: the 1,797 handwritten digits of scikit-learn; nothing is downloaded."""

import numpy as np

from workers.data.dataset import DataError, RawData, Split
from workers.data.spec import DataSpec

MAX_LEVEL = 16
"""Maximum value: scikit-learn counts the dark cells of each 4x4 block."""


def read(spec: DataSpec) -> RawData:
    """Return the 8x8 images, scaled to bytes.

    Raises:
        DataError: The spec names a path, which this source does not use.
    """
    if spec.path is not None:
        raise DataError("data.path: the digits are bundled; remove the path, or use source 'idx'")
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second to load

    bundle = load_digits()
    images_NHW = np.rint(bundle.images * (255 / MAX_LEVEL)).astype(np.uint8)
    return RawData(
        pool=Split(inputs={"image": images_NHW[:, None]}, targets=bundle.target.astype(np.int64)),
        class_names=tuple(str(digit) for digit in range(10)),
    )
