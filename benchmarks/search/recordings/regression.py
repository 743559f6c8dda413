"""Regression of learning curves on the decisions of candidates, over several data sets at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.tables.space import Params
from search_spaces.domains.suggester import ChoiceQuestion, Question, RandomSuggester
from search_spaces.space import SearchSpace

# N candidates, F features, T targets, K trees

Numbers = NDArray[np.float64]
SAMPLES = 400
"""Random candidates whose questions are the decisions of a space."""
PRESENT = 0.5
"""Offset of a number that is asked for: absent differs from the lowest."""
TREES = 200
USUAL_RATES = {"sgd_nesterov": 0.1, "adamw": 0.003}
USUAL_MOMENTUM = 0.9
STAGE = re.compile(r"(.*\.stages)\.\d+(.*)")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Features of candidates: one-hot decisions, the same over all stages, sizes and updates."""

    questions: Mapping[str, Question]
    slots: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, spaces: Iterable[SearchSpace]) -> Self:
        """Return the encoding of all decisions of some spaces."""
        questions: dict[str, Question] = {}
        for space in spaces:
            for seed in range(SAMPLES):
                suggester = RandomSuggester(seed)
                space.resolve(suggester)
                questions.update(suggester.questions)
        slots: dict[tuple[str, str], int] = {}
        for name, question in questions.items():
            labels = map(repr, question.choices) if isinstance(question, ChoiceQuestion) else [""]
            for label in labels:
                for key in (name, _any_stage(name)):
                    slots.setdefault((key, label), len(slots))
        return cls(questions=questions, slots=slots)

    def features(self, points: Sequence[Params]) -> Numbers:
        """Return the features of candidates, (N, F)."""
        return np.array([self._encode(params) for params in points])

    def _encode(self, params: Params) -> Numbers:
        x, count = np.zeros(len(self.slots)), np.zeros(len(self.slots))
        for name, value in params.items():
            if (question := self.questions.get(name)) is None:
                continue
            choice = isinstance(question, ChoiceQuestion)
            label, amount = (repr(value), 1.0) if choice else ("", _scaled(question, value))
            for key in {name, _any_stage(name)}:
                slot = self.slots.get((key, label))
                if slot is not None:
                    x[slot] += amount
                    count[slot] += not choice  # numbers of several stages are averaged
        return np.concatenate([x / np.maximum(count, 1), _sizes(params), _updates(params)])


def _any_stage(name: str) -> str:
    return STAGE.sub(r"\1.*\2", name)


def _scaled(question: Any, value: float) -> float:
    low, high = question.low, question.high
    if question.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return PRESENT + (0.5 if high == low else float((value - low) / (high - low)))


def _sizes(params: Params) -> Numbers:
    """Return depth, multiplications, activations and last width of the stages, about as logs."""
    depth = multiplications = activations = 0.0
    last = side = 1.0
    for prefix in (name.removesuffix(".count") for name in params if name.endswith("stages.count")):
        last = params.get(prefix.removesuffix("stages") + "stem.width", 32)
        for index in range(params[f"{prefix}.count"]):
            width, layers = params[f"{prefix}.{index}.width"], params[f"{prefix}.{index}.depth"]
            side /= 1 if params.get(f"{prefix}.{index}.reduction", "none") == "none" else 2
            depth += layers
            multiplications += side**2 * width * (last + layers * width)
            activations += side**2 * width * layers
            last = width
    return np.array([depth / 4, *np.log(np.array([multiplications, activations, last]) + 1) / 2])


def _updates(params: Params) -> Numbers:
    """Return sizes and number of the optimizer's updates, their product, and its two ends, as logs.

    Sizes are relative to the usual ones of each optimizer; momentum multiplies those of SGD.
    """
    optimizer = params["recipe.optimizer"]
    rate = params[f"recipe.optimizer.{optimizer}.learning_rate"] / USUAL_RATES[optimizer]
    momentum = params.get(f"recipe.optimizer.{optimizer}.momentum", USUAL_MOMENTUM)
    size = np.log(rate * (1 - USUAL_MOMENTUM) / (1 - momentum))
    number = -np.log(params["recipe.batch_size"] * params["recipe.accumulation"] / 64)
    total = size + number
    return np.array(
        [size / 3, number / 1.5, total / 3, max(total - 1, 0) / 2, max(-1 - total, 0) / 2]
    )


class Regression:
    """Mean of extremely randomized trees and a Gaussian process over all data sets (tasks).

    The process multiplies the kernel of decisions by one of tasks (intrinsic coregionalization,
    Bonilla et al. 2008); its settings minimize the leave-one-out error.
    """

    def __init__(self, x_NF: Numbers, tasks_N: NDArray[np.int64], y_NT: Numbers) -> None:
        from sklearn.ensemble import ExtraTreesRegressor  # noqa: PLC0415 - takes a second

        self._center, self._scale = _moments(tasks_N, y_NT)
        z_NT = (y_NT - self._center[tasks_N]) / self._scale[tasks_N]
        self._x, self._tasks = x_NF, tasks_N
        trees = ExtraTreesRegressor(TREES, max_features=0.4, random_state=0)
        self._forest = Forest(trees.fit(self._with_task(x_NF, tasks_N), z_NT))
        self._fit_process(z_NT)

    def predict(self, x_NF: Numbers, task: int) -> Numbers:
        """Return the targets of candidates on one data set, (N, T)."""
        tasks = np.full(len(x_NF), task)
        kernel = self._kernel(x_NF, tasks, *self._settings)
        smooth = kernel @ self._weights
        trees = self._forest.predict(self._with_task(x_NF, tasks))
        return np.asarray(self._center[task] + self._scale[task] * (smooth + trees) / 2)

    def _with_task(self, x_NF: Numbers, tasks_N: NDArray[np.int64]) -> Numbers:
        return np.hstack([x_NF, np.eye(len(self._center))[tasks_N]])

    def _fit_process(self, z_NT: Numbers) -> None:
        self._median = float(np.median(_distances(self._x, self._x))) or 1.0
        self._length = float((self._x**2).sum(1).mean())
        best = np.inf
        shares = (1.0,) if len(self._center) == 1 else (0.3, 0.7, 0.95)
        for settings in (
            (s, lin, r) for s in (0.3, 1.0, 3.0) for lin in (0.1, 0.5) for r in shares
        ):
            kernel = self._kernel(self._x, self._tasks, *settings)
            values, vectors = np.linalg.eigh(kernel)
            for noise in (0.05, 0.15, 0.4, 1.0):
                inverse = (vectors / (values.clip(0) + noise)) @ vectors.T
                weights = inverse @ z_NT
                error = float(np.mean((weights / np.diag(inverse)[:, None]) ** 2))
                if error < best:
                    best, self._settings, self._weights = error, settings, weights

    def _kernel(
        self, x_NF: Numbers, tasks_N: NDArray[np.int64], scale: float, linear: float, shared: float
    ) -> Numbers:
        radial = np.exp(-_distances(x_NF, self._x) / (2 * scale * self._median))
        same = tasks_N[:, None] == self._tasks
        products = x_NF @ self._x.T / self._length
        return np.asarray((radial + linear * products) * np.where(same, 1.0, shared))


class Forest:
    """Fitted trees as arrays: a tenth of a millisecond a candidate instead of ten."""

    def __init__(self, fitted: Any) -> None:
        trees = [each.tree_ for each in fitted.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        self._roots = starts[:-1]
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        pairs = list(zip(trees, starts, strict=False))
        self._left = np.concatenate([tree.children_left + start for tree, start in pairs])
        self._right = np.concatenate([tree.children_right + start for tree, start in pairs])
        self._values = np.concatenate([tree.value[:, :, 0] for tree in trees])

    def predict(self, x_NF: Numbers) -> Numbers:
        """Return the mean over the trees, (N, T)."""
        x_NF = x_NF.astype(np.float32)  # as the trees compare
        return np.array([self._leaves(x).mean(0) for x in x_NF])

    def _leaves(self, x_F: NDArray[np.float32]) -> Numbers:
        node_K = self._roots
        while (inner := self._feature[node_K] >= 0).any():
            left = x_F[np.maximum(self._feature[node_K], 0)] <= self._threshold[node_K]
            below = np.where(left, self._left[node_K], self._right[node_K])
            node_K = np.where(inner, below, node_K)
        return np.asarray(self._values[node_K])


def _distances(a_NF: Numbers, b_MF: Numbers) -> Numbers:
    squares = (a_NF**2).sum(1)[:, None] + (b_MF**2).sum(1) - 2 * a_NF @ b_MF.T
    return np.asarray(squares.clip(0))


def _moments(tasks_N: NDArray[np.int64], y_NT: Numbers) -> tuple[Numbers, Numbers]:
    """Return mean and standard deviation of the targets on each data set."""
    own = [y_NT[tasks_N == task] for task in range(tasks_N.max() + 1)]
    return np.array([y.mean(0) for y in own]), np.array([y.std(0) + 1e-6 for y in own])
