"""Handwritten digits that come with scikit-learn: 1,797 real images, nothing to download."""

import numpy as np

from workers.data.dataset import DataError, RawData, Split
from workers.data.spec import DataSpec

BRIGHTEST = 16
"""scikit-learn counts the dark cells of each 4x4 block: 0 to 16."""


def read(spec: DataSpec) -> RawData:
    """The 8x8 images, spread over the whole range of a byte.

    Raises:
        DataError: The spec names a path, which this source has no use for.
    """
    if spec.path is not None:
        raise DataError("data.path: the digits are bundled; drop the path, or use source 'idx'")
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second that others need not pay

    bundle = load_digits()
    images_NHW = np.rint(bundle.images * (255 / BRIGHTEST)).astype(np.uint8)
    return RawData(
        pool=Split(inputs={"image": images_NHW[:, None]}, targets=bundle.target.astype(np.int64)),
        class_names=tuple(str(digit) for digit in range(10)),
    )
