"""Source `pendulum`: a pendulum without friction, simulated by the classical Runge-Kutta method.

Input is the state; targets are the state after one time step and the energy. In units of mass,
length and gravity, so that the energy is velocity^2 / 2 + 1 - cos(angle).
"""

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import DataError, RawData, Split
from workers.data.spec import DataSpec

# N examples; a state is (angle, angular velocity)

COUNT = 3_000
STEP = 0.25
"""Time step; small oscillations have the period 2 pi."""
MAX_ENERGY = 1.6
"""Maximum energy of the sampled states; at 2 the pendulum would be upright."""
_SUBSTEPS = 10


def read(spec: DataSpec) -> RawData:
    """Sample states uniformly up to a maximum energy; the split seed is the random seed.

    Raises:
        DataError: The spec names a path, which this source does not use.
    """
    if spec.path is not None:
        raise DataError("data.path: the pendulum is simulated; remove the path")
    states_N2 = sample_states(COUNT, np.random.default_rng([spec.split.seed, 0]))
    values_N3 = np.column_stack([advance(states_N2), energy(states_N2)])
    return RawData(
        pool=Split(
            inputs={"vector": states_N2.astype(np.float32)},
            targets=np.zeros(COUNT, dtype=np.int64),
            values=values_N3.astype(np.float32),
        ),
        class_names=(),
        value_names=("angle", "velocity", "energy"),
    )


def sample_states(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return `count` states (N, 2), uniform over those below the maximum energy."""
    widest = np.arccos(1 - MAX_ENERGY)
    fastest = np.sqrt(2 * MAX_ENERGY)
    # Three quarters of the bounding rectangle qualify; four times as many always suffice.
    states_N2 = generator.uniform(-1.0, 1.0, (4 * count, 2)) * (widest, fastest)
    return states_N2[energy(states_N2) <= MAX_ENERGY][:count]


def energy(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the energy of states, (N,): 0 at rest hanging, 2 at rest upright."""
    return states_N2[:, 1] ** 2 / 2 + 1 - np.cos(states_N2[:, 0])


def advance(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the states after one time step, (N, 2)."""
    time = STEP / _SUBSTEPS
    for _ in range(_SUBSTEPS):
        first = _derivative(states_N2)
        second = _derivative(states_N2 + time / 2 * first)
        third = _derivative(states_N2 + time / 2 * second)
        fourth = _derivative(states_N2 + time * third)
        states_N2 = states_N2 + time / 6 * (first + 2 * second + 2 * third + fourth)
    return states_N2


def _derivative(states_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([states_N2[:, 1], -np.sin(states_N2[:, 0])])
