"""Laws of your own as loss terms: `space: two_forces.py:space` in study.yaml.

The network predicts two numbers of a simulated mechanism: position and speed of a weight on a
spring, from both a moment before. An energy term asks that they keep the energy, and 0.3 times a
wave term that they are near whole multiples of pi: the mean of abs(sin) over the two outputs. The
data is an .npz file with `x` and `values`, of two columns each.
"""

from search_spaces import Const, LossTerm, LossWeights, SearchSpace, law
from search_spaces.catalog.vector import architecture


@law("spring_energy")
def spring_energy(inputs, outputs):
    def energy(state):
        return state.square().sum(1) / 2

    return energy(outputs) - energy(inputs["vector"])


losses = LossWeights(
    main="mse",
    terms={
        "mse": LossTerm(weight=1.0),
        "spring_energy": LossTerm(weight=1.0),
        "wave": LossTerm(weight=0.3),  # registered already: the mean of abs(sin)
    },
)
space = SearchSpace.of(
    name="two_forces", version="1", architecture=architecture(), losses=Const(losses)
)
