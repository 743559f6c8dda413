"""The law of a pendulum without friction: its energy is the same a moment later."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.losses.physics import law

# B batch; a state is (angle, angular velocity)


@law("pendulum_energy")
def energy_is_kept(inputs: Mapping[str, Tensor], outputs_BV: Tensor) -> Tensor:
    """Energy of the state foretold less that of the state now, (B,).

    In units of the pendulum's mass, length and gravity.
    """
    return _energy(outputs_BV) - _energy(inputs["vector"])


def _energy(states: Tensor) -> Tensor:
    return states[:, 1].square() / 2 + 1 - states[:, 0].cos()
