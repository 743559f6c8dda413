"""Tables of recordings: the regression is used where it predicts, recorded candidates elsewhere."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from benchmarks.search.recordings import regression, store, surrogate
from benchmarks.search.recordings.regression import Encoding, Forest
from benchmarks.search.recordings.store import Recording
from benchmarks.search.recordings.surrogate import EPOCHS, MIN_CANDIDATES, MIN_RANK_CORRELATION
from benchmarks.search.tables.space import draw_uniform

CANDIDATES = 60


@pytest.fixture(scope="module", autouse=True)
def little_work() -> Iterator[None]:
    """Fit few trees, and take few samples for a quantile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "TREES", 10)
        patch.setattr(surrogate, "QUANTILE_SAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def points() -> list[dict[str, Any]]:
    """Return the default, twice more, and random candidates of the table's space."""
    space, rng = surrogate.space_of("table"), random.Random(0)
    own = space.default_params()
    return [own, own, own, *(draw_uniform(space, rng) for _ in range(CANDIDATES))]


@pytest.fixture(scope="module")
def predictable(points: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of recordings whose finals follow from few decisions."""
    return write(tmp_path_factory.mktemp("predictable"), points, by_recipe)


@pytest.fixture(scope="module")
def unpredictable(points: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of recordings with random finals."""
    return write(tmp_path_factory.mktemp("unpredictable"), points, by_chance)


def write(folder: Path, points: list[dict[str, Any]], final: Callable[[Any, int], float]) -> Path:
    """Write recordings with these finals; the first epoch is random, the others approach them."""
    made = []
    for number, params in enumerate(points):
        top = final(params, number)
        curve = [random.Random(number).uniform(0.2, 0.3)]
        curve += [top * (1 - 0.5**epoch) for epoch in range(2, EPOCHS)] + [top]
        each = Recording(
            number=number,
            kind="default" if number < 3 else "uniform",
            parent=None,
            space="vector 1",
            params=params,
            seed=number,
            flops=10,
            parameters=10,
            metrics={"val_accuracy": curve},
            cpu_s=[float(epoch) * (1 + number) for epoch in range(1, EPOCHS + 1)],
        )
        made.append(each)
    store.add("table", made, folder)
    return folder


def by_recipe(params: Any, number: int) -> float:
    """Return a final value that depends on the recipe and hardly on the seed."""
    adamw = params["recipe.optimizer"] == "adamw"
    return float(0.3 + 0.2 * adamw + 0.6 * params["recipe.warmup"] + 1e-4 * number)


def by_chance(_: Any, number: int) -> float:
    return random.Random(number).uniform(0.3, 0.9)


def test_a_regression_that_predicts_answers_for_all_candidates(
    predictable: Path, points: list[dict[str, Any]]
) -> None:
    table = surrogate.recordings("table", folder=predictable)
    short, long = (points[3] | {"recipe.warmup": warmup} for warmup in (0.0, 0.5))

    fitted = surrogate.fit("vector", predictable)
    assert fitted.rank_correlation("table") >= MIN_RANK_CORRELATION
    assert table.candidates is None
    assert table.space.default_params() == points[0]
    assert table.truth(long) > table.truth(short)
    assert table.noise.candidate == pytest.approx(1e-4, rel=0.2)


def test_a_regression_that_does_not_predict_is_refused(unpredictable: Path) -> None:
    table = surrogate.recordings("table", folder=unpredictable)
    made = store.read("table", unpredictable)

    fitted = surrogate.fit("vector", unpredictable)
    assert fitted.rank_correlation("table") < MIN_RANK_CORRELATION
    assert table.candidates is not None
    truths = [table.truth(each) for each in table.candidates()]
    expected = [np.mean([each.final for each in made[:3]]), *(each.final for each in made[3:])]
    assert sorted(truths) == pytest.approx(sorted(expected))
    assert table.truth(table.space.default_params()) == pytest.approx(expected[0])


def test_a_regression_of_few_candidates_is_refused(
    tmp_path: Path, points: list[dict[str, Any]]
) -> None:
    write(tmp_path, points[:MIN_CANDIDATES], by_recipe)  # of which three are the default

    fitted = surrogate.fit("vector", tmp_path)

    assert fitted.rank_correlation("table") >= MIN_RANK_CORRELATION
    assert not fitted.predicts("table")
    assert surrogate.recordings("table", folder=tmp_path).candidates is not None


def test_two_recordings_are_a_table(tmp_path: Path, points: list[dict[str, Any]]) -> None:
    write(tmp_path, points[2:4], by_recipe)

    table = surrogate.recordings("table", quantile=0.5, folder=tmp_path)

    assert table.candidates is not None
    assert len(table.candidates()) == 2


@pytest.mark.parametrize("folder", ["predictable", "unpredictable"])
def test_a_wrong_default_has_its_quantile_among_uniform_candidates(
    folder: str, request: pytest.FixtureRequest
) -> None:
    low, median = (
        surrogate.recordings("table", quantile=q, folder=request.getfixturevalue(folder))
        for q in (0.1, 0.5)
    )
    truths = [table.truth(table.space.default_params()) for table in (low, median)]

    assert truths[0] < truths[1]
    assert low.unit_s == median.unit_s


def test_a_wrong_default_has_wrong_priors_and_designs(predictable: Path) -> None:
    own, low = (
        surrogate.recordings("table", quantile=q, folder=predictable).space for q in (None, 0.1)
    )

    for space in (own, low):
        assert space.priors
        assert all(space.start[name] == prior.prior for name, prior in space.priors.items())
        assert space.kinds()
    assert own.start != low.start
    assert own.kinds() != low.kinds()


def test_early_epochs_rank_candidates_no_better_than_the_recorded_ones(predictable: Path) -> None:
    table = surrogate.recordings("table", folder=predictable)
    rng = random.Random(1)
    found, _ = table.curves([draw_uniform(table.space, rng) for _ in range(200)], [1, 8, 9])

    assert abs(surrogate.rank_correlation(found[:, 0], found[:, 2])) < 0.4
    assert surrogate.rank_correlation(found[:, 1], found[:, 2]) > 0.8


def test_a_failed_training_is_worth_chance(tmp_path: Path, points: list[dict[str, Any]]) -> None:
    write(tmp_path, points[:12], by_recipe)
    failed = store.read("table", tmp_path)[5]
    store.add("table", [replace(failed, outcome="DivergedError")], tmp_path)

    curves = surrogate.curves_of("table", store.read("table", tmp_path))

    assert curves.values[3].tolist() == [pytest.approx(1 / 6)] * EPOCHS
    assert len(curves.points) == 10
    assert len(curves.default) == 3


def test_the_report_says_whether_the_regression_is_used(
    predictable: Path, unpredictable: Path
) -> None:
    used, refused = (
        surrogate.report(surrogate.fit("vector", folder)) for folder in (predictable, unpredictable)
    )

    assert "table: 61 candidates; the regression is used" in used
    assert "table: 61 candidates; recorded candidates only" in refused
    assert f"uniform ({CANDIDATES})" in used


def test_features_tell_apart_what_is_absent_and_what_is_lowest(
    points: list[dict[str, Any]],
) -> None:
    space = surrogate.space_of("table")
    encoding = Encoding.of([space])
    features = encoding.features(points[3:])

    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == CANDIDATES
    warmup = features[:, encoding.slots["recipe.warmup", ""]]
    lowest = min(each["recipe.warmup"] for each in points[3:])
    assert warmup.min() == pytest.approx(regression.PRESENT + lowest / 0.5)


def test_a_larger_batch_undoes_a_larger_step(points: list[dict[str, Any]]) -> None:
    recipe = {"recipe.optimizer": "adamw", "recipe.accumulation": 1}
    rate = "recipe.optimizer.adamw.learning_rate"
    small, large = (
        points[0] | recipe | {rate: 0.001 * factor, "recipe.batch_size": 32 * factor}
        for factor in (1, 2)
    )
    features = Encoding.of([surrogate.space_of("table")]).features([small, large])[:, -5:]

    assert features[0, :2] != pytest.approx(features[1, :2])
    assert features[0, 2:] == pytest.approx(features[1, 2:])


def test_a_forest_of_arrays_predicts_as_the_fitted_one() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    fitted = ExtraTreesRegressor(7, random_state=0).fit(x, y)

    new = rng.normal(size=(20, 5))

    assert Forest(fitted).predict(new) == pytest.approx(fitted.predict(new))
