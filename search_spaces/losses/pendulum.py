"""Physical law of a frictionless pendulum: conservation of energy."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.losses.physics import law

# B batch; a state is (angle, angular velocity)


@law("pendulum_energy")
def energy_is_kept(inputs: Mapping[str, Tensor], outputs_BV: Tensor) -> Tensor:
    """Return the energy of the predicted state minus that of the current state, shape (B,).

    In units of the pendulum's mass, length and gravity.
    """
    return _energy(outputs_BV) - _energy(inputs["vector"])


def _energy(states: Tensor) -> Tensor:
    return states[:, 1].square() / 2 + 1 - states[:, 0].cos()
