"""NAS-Bench-Macro: 6,561 networks of 8 layers on CIFAR-10, each trained with three seeds.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search" (CVPR 2021). Finals
only: it compares proposals, not pruning.
"""

import gzip
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.search.tables.space import Params, TableSpace
from benchmarks.search.tables.table import Numbers, Table, data_folder
from search_spaces.domains import Record, choice

LAYERS = tuple(f"layer{i}" for i in range(8))
TOP = 20
"""The goal: the best networks."""


def macro() -> Table:
    """Return the table; every training costs the same."""
    with gzip.open(data_folder() / "nas_bench_macro_cifar10.json.gz") as file:
        recorded = json.load(file)
    finals = {key: [float(a) / 100 for a in _accuracies(row)] for key, row in recorded.items()}

    def replicates(params: Params) -> list[float]:
        return finals["".join(params[layer] for layer in LAYERS)]

    def curves(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        values = np.array([[float(np.mean(replicates(p)))] * len(fidelities) for p in points])
        return values, np.ones_like(values)

    def candidates() -> list[dict[str, Any]]:
        every = itertools.product("012", repeat=len(LAYERS))
        return [dict(zip(LAYERS, kinds, strict=True)) for kinds in every]

    domain = Record(dict, {layer: choice("0", "1", "2", initial="1") for layer in LAYERS})
    space = TableSpace(
        name="nas-bench-macro", domain=domain, start=domain.default(), flops=lambda _: 1e6
    )
    return Table(
        name="macro",
        space=space,
        fidelities=(1,),
        curves=curves,
        replicates=replicates,
        candidates=candidates,
        goal_share=TOP / len(finals),
    )


def _accuracies(row: dict[str, Any]) -> list[float]:
    return row["test_acc"] if "test_acc" in row else row["mean_acc"]
