import random
from collections.abc import Callable

import pytest

from orchestrator.confirmation.plan import IS_DEFAULT, KIND, MAX_SEEDS_KEY, SEED_INDEX
from orchestrator.confirmation.plateau import plateau
from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")


def searched(
    level: Callable[[int], float], *, trials: int, seed: int = 0, noise: float = 0.005
) -> list[Trial]:
    """Return complete trials whose curves rise to a level by number, with noise at each epoch."""
    rng = random.Random(seed)
    return [curve(n, level(n), rng, noise) for n in range(trials)]


def curve(number: int, level: float, rng: random.Random, noise: float, **changed: object) -> Trial:
    values = [level * (1 - 0.5**epoch) + rng.gauss(0, noise) for epoch in range(1, 16)]
    given: dict[str, object] = {
        "number": number,
        "uid": f"u{number}",
        "params": {},
        "distributions": {},
        "candidate": {},
        "digest": f"d{number}",
        "seed": number,
        "state": TrialState.COMPLETE,
        "values": (values[-1],),
        "measurements": tuple(
            Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
            for epoch, value in enumerate(values, start=1)
        ),
    }
    return Trial(**{**given, **changed})  # type: ignore[arg-type]  # plain keyword arguments


@pytest.mark.parametrize("seed", range(10))
def test_a_rising_search_has_no_plateau_and_a_flat_one_has(seed: int) -> None:
    rising = searched(lambda n: 0.5 + 0.01 * n, trials=30, seed=seed)
    assert plateau(rising, [ACCURACY]) is None
    flat = searched(lambda n: min(0.9, 0.5 + 0.05 * n), trials=40, seed=seed, noise=0.002)
    found = plateau([t for t in flat if t.number < 9] + [flat[0]] * 20, [ACCURACY])
    assert found is not None
    assert found.startswith(
        "more search is not worth it: over the last 14 complete trials the best val_accuracy has "
        "risen by 0.0 points, no more than the noise of one training ("
    )
    assert found.endswith("from epoch to epoch at the end)")


def test_few_trials_and_several_objectives_have_no_plateau() -> None:
    flat = searched(lambda _: 0.9, trials=10)
    assert plateau(flat, [ACCURACY]) is None
    assert plateau([*flat, *flat], [ACCURACY, SIZE]) is None


def test_the_noise_of_the_confirmed_default_counts_once_it_is_known() -> None:
    trials = searched(lambda n: 0.8 if n < 14 else 0.82, trials=25, noise=0.0001)
    assert plateau(trials, [ACCURACY]) is None
    rng = random.Random(1)
    marks = {MAX_SEEDS_KEY: 10, IS_DEFAULT: True}
    trials += [
        curve(25 + index, 0.8 + 0.05 * index, rng, 0.0, kind=KIND, parent="u0",
              sampler_attrs={**marks, SEED_INDEX: index})
        for index in range(3)
    ]  # fmt: skip
    assert (plateau(trials, [ACCURACY]) or "").endswith("of the default over 3 seeds)")
