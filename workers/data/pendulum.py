"""A pendulum without friction: its state after a step of time, and its energy, from its state now.

Simulated by the classical Runge-Kutta method. In units of its mass, length and gravity, so that its
energy is velocity^2 / 2 + 1 - cos(angle).
"""

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import DataError, RawData, Split
from workers.data.spec import DataSpec

# N examples; a state is (angle, angular velocity)

COUNT = 3_000
STEP = 0.25
"""Time between a state and the next; small swings take 2 pi."""
MAX_ENERGY = 1.6
"""Of the states that are drawn: 2 would let it stand upside down. What starts below stays below."""
_SUBSTEPS = 10


def read(spec: DataSpec) -> RawData:
    """States drawn evenly up to an energy; another seed of the split draws others.

    Raises:
        DataError: The spec names a path, which this source has no use for.
    """
    if spec.path is not None:
        raise DataError("data.path: the pendulum is simulated; drop the path")
    states_N2 = drawn(COUNT, np.random.default_rng([spec.split.seed, 0]))
    values_N3 = np.column_stack([advanced(states_N2), energy(states_N2)])
    return RawData(
        pool=Split(
            inputs={"vector": states_N2.astype(np.float32)},
            targets=np.zeros(COUNT, dtype=np.int64),
            values=values_N3.astype(np.float32),
        ),
        class_names=(),
        value_names=("angle", "velocity", "energy"),
    )


def drawn(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """States (N, 2), even over all whose energy is low enough."""
    widest = np.arccos(1 - MAX_ENERGY)
    fastest = np.sqrt(2 * MAX_ENERGY)
    # Three quarters of the rectangle around them qualify; four times as many are always enough.
    states_N2 = generator.uniform(-1.0, 1.0, (4 * count, 2)) * (widest, fastest)
    return states_N2[energy(states_N2) <= MAX_ENERGY][:count]


def energy(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy of states, (N,): none at rest below, 2 at rest above."""
    return states_N2[:, 1] ** 2 / 2 + 1 - np.cos(states_N2[:, 0])


def advanced(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The states a step later, (N, 2)."""
    time = STEP / _SUBSTEPS
    for _ in range(_SUBSTEPS):
        first = _change(states_N2)
        second = _change(states_N2 + time / 2 * first)
        third = _change(states_N2 + time / 2 * second)
        fourth = _change(states_N2 + time * third)
        states_N2 = states_N2 + time / 6 * (first + 2 * second + 2 * third + fourth)
    return states_N2


def _change(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([states_N2[:, 1], -np.sin(states_N2[:, 0])])
