"""LCBench: fully connected networks on 34 tabular data sets, 52 epochs, 7 decisions.

Learning curves of Zimmer et al. ("Auto-PyTorch Tabular", 2021) as the surrogate of YAHPO Gym
(Pfisterer et al., 2022). The published default is poor: no better than a median uniform sample.
"""

import json
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.search.tables.space import Params, TableSpace
from benchmarks.search.tables.table import Noise, Numbers, Table, data_folder, predicted_cost
from search_spaces.domains import FloatRange, IntRange, Record
from search_spaces.domains.suggester import RandomSuggester

DEVELOPMENT = ("126025", "126026", "126029", "146212", "167104", "167149", "167152", "167161")
"""Tasks for development; all others are for final comparisons only."""
_UNUSABLE = {"#na#", "167083"}
FIDELITIES = tuple(range(2, 53))
"""Epoch 1 of the recording is the state before any training."""
DOMAIN = Record(
    dict,
    {
        "batch_size": IntRange(16, 512, log=True, initial=91),
        "learning_rate": FloatRange(1e-4, 0.1, log=True, initial=0.0031622777),
        "momentum": FloatRange(0.1, 0.99, initial=0.545),
        "weight_decay": FloatRange(1e-5, 0.1, initial=0.050005),
        "num_layers": IntRange(1, 5, initial=3),
        "max_units": IntRange(64, 1024, log=True, initial=256),
        "max_dropout": FloatRange(0.0, 1.0, initial=0.5),
    },
)
NOISE = Noise(candidate=0.002, epoch=0.001)
"""Between seeds of published benchmarks: 0.14 to 0.2 points."""


def final_tasks() -> tuple[str, ...]:
    """Return the tasks that are kept for final comparisons."""
    codes = _model().codes
    return tuple(sorted(set(codes) - set(DEVELOPMENT) - _UNUSABLE))


def lcbench(task: str, *, quantile: float | None = None) -> Table:
    """Return the table of a task.

    Args:
        task: OpenML task id.
        quantile: Quantile of uniform samples that takes the default's place; None keeps the
            published default.
    """
    model = _model()
    code = model.codes[task]

    def curves(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        return model.curves(code, points, fidelities)

    def space(start: Params) -> TableSpace:
        flops = predicted_cost(curves, FIDELITIES[-1])
        return TableSpace(name=f"lcbench-{task}", domain=DOMAIN, start=start, flops=flops)

    start: Params = DOMAIN.default()
    if quantile is not None:
        start = _at_quantile(curves, quantile)
    before = model.curves(code, _draws(300), [1])[0]
    return Table(
        name=f"lcbench-{task}" + ("" if quantile is None else f"-q{quantile:g}"),
        space=space(start),
        fidelities=FIDELITIES,
        curves=curves,
        noise=NOISE,
        chance=float(np.percentile(before, 2)),
    )


def _at_quantile(curves: Any, quantile: float) -> Params:
    points = _draws(3000)
    order = np.argsort(curves(points, [FIDELITIES[-1]])[0][:, 0])
    return points[order[int(quantile * (len(points) - 1))]]


def _draws(count: int) -> list[dict[str, Any]]:
    rng = random.Random(3)
    return [DOMAIN.resolve(RandomSuggester(rng.getrandbits(32)), "") for _ in range(count)]


class _OnnxModel:
    """The surrogate, on one thread."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - of the extra `bench`

        folder = data_folder() / "lcbench_yahpo"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        self.codes: dict[str, int] = codes
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name

    def curves(
        self, code: int, points: Sequence[Params], fidelities: Sequence[int]
    ) -> tuple[Numbers, Numbers]:
        """Return accuracies, and seconds that never fall."""
        names = list(DOMAIN.fields)
        own = np.array([[p[n] for n in names] for p in points], dtype=np.float32)
        x = np.empty((len(points) * len(fidelities), 1 + len(names)), dtype=np.float32)
        x[:, 0] = np.tile(np.asarray(fidelities, dtype=np.float32), len(points))
        x[:, 1:] = np.repeat(own, len(fidelities), axis=0)
        category = np.full((len(x), 1), code, dtype=np.int32)
        feed = {name: category if "cat" in name else x for name in self._inputs}
        out = np.asarray(self._session.run([self._output], feed)[0], dtype=np.float64)
        out = out.reshape(len(points), len(fidelities), -1)
        seconds = np.maximum.accumulate(np.maximum(out[..., 0], 1e-3), axis=1)
        return np.clip(out[..., 1] / 100, 0.0, 1.0), seconds


@lru_cache(maxsize=1)
def _model() -> _OnnxModel:
    return _OnnxModel()
