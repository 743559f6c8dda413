"""What a prior is worth: trials until a search is among the best, with a right and a wrong one.

    ARCHSCOUT_BENCH_DATA=/path .venv/bin/python benchmarks/priors.py [--seeds 10] [--trials 60]

Searches seven decisions of a recipe and a network against LCBench's recorded results (Zimmer et al.
2021, as the surrogate of YAHPO Gym; needs `pip install onnxruntime`), without priors and with two:
the best of 50 random settings on the same data set (near), and the worst of 2,000 (wrong). What is
expected is not tried as such, though a study does so first. Equal seeds for all; each number is a
mean with its 95 % bootstrap interval over data sets and seeds.
"""

import argparse
import json
import os
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.objective import Objective
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.trial import Trial, TrialState
from search_spaces.domains import FloatRange, IntRange, Record
from search_spaces.domains.priors import Expected
from search_spaces.domains.ranges import Confidence
from search_spaces.domains.suggester import RandomSuggester

TASKS = ("126025", "126026", "126029", "146212", "167104", "167149", "167152", "167161")
ARMS = ("none", "near", "wrong")
SETTINGS = 2_000
GUESSES = 50
TOP = 0.01
"""The share of random settings that counts as the best."""
EPOCHS = 52
DECISIONS: dict[str, IntRange | FloatRange] = {
    "batch_size": IntRange(16, 512, log=True),
    "learning_rate": FloatRange(1e-4, 0.1, log=True),
    "momentum": FloatRange(0.1, 0.99),
    "weight_decay": FloatRange(1e-5, 0.1),
    "num_layers": IntRange(1, 5),
    "max_units": IntRange(64, 1024, log=True),
    "max_dropout": FloatRange(0.0, 1.0),
}
EVERYTHING = Record(dict, DECISIONS)
ACCURACY = Objective(metric="val_accuracy", direction="maximize")
Settings = Mapping[str, Any]


class Recorded:
    """Validation accuracy after all epochs, as recorded."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime  # noqa: PLC0415 - the benchmark's own need

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._code = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]

    def accuracy(self, task: str, many: Sequence[Settings]) -> list[float]:
        """Of each of many settings, in per cent."""
        rows = [[EPOCHS, *(settings[name] for name in DECISIONS)] for settings in many]
        codes = np.full((len(rows), 1), self._code[task], dtype=np.int32)
        given = {"x_cat": codes, "x_cont": np.array(rows, dtype=np.float32)}
        (found, *_) = self._session.run(None, given)
        return [float(row[1]) for row in found]


def expecting(prior: Settings, confidence: Confidence) -> dict[str, Expected]:
    """All decisions, each with its prior."""
    return {
        name: replace(domain, prior=prior[name], confidence=confidence)
        for name, domain in DECISIONS.items()
    }


def search(
    recorded: Recorded,
    task: str,
    options: argparse.Namespace,
    seed: int,
    expected: Mapping[str, Expected],
) -> list[float]:
    """The accuracy of one trial after another."""
    sampler = OptunaSampler(
        sampler=options.sampler, objectives=[ACCURACY], seed=seed, expected=expected
    )
    seen = []
    for number in range(options.trials):
        draw = sampler.sample(number, 0)
        (value,) = recorded.accuracy(task, [EVERYTHING.resolve(draw.suggester, "")])
        seen.append(value)
        sampler.keep(draw, f"{number}", number)
        sampler.tell(ended(number, value))
    return seen


def ended(number: int, value: float) -> Trial:
    """A complete trial, as far as the sampler looks at it."""
    return Trial(
        number=number,
        uid=f"{number}",
        params={},
        distributions={},
        candidate={},
        digest="",
        state=TrialState.COMPLETE,
        values=(value,),
        seed=0,
        attempts=1,
        started=0.0,
        ended=0.0,
    )


def interval(values: Sequence[float]) -> str:
    """The mean with its 95 % bootstrap interval."""
    chance = random.Random(0)
    means = sorted(statistics.fmean(chance.choices(values, k=len(values))) for _ in range(2_000))
    return f"{statistics.fmean(values):.2f} ({means[50]:.2f} to {means[1949]:.2f})"


def main() -> None:
    """Prints a row for each prior: trials to the best, and what is missing to it on the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--confidence", default="medium")
    options = parser.parse_args()
    recorded = Recorded(Path(os.environ["ARCHSCOUT_BENCH_DATA"]) / "lcbench_yahpo")
    pool = [EVERYTHING.resolve(RandomSuggester(seed), "") for seed in range(SETTINGS)]
    known = {task: recorded.accuracy(task, pool) for task in TASKS}
    at = [count for count in (10, 20, 40, 80) if count < options.trials] + [options.trials]
    print(f"{'prior':8}{'trials to the top 1 %':>26}{'reached':>9}", end="")
    print("".join(f"{f'missing after {count}':>24}" for count in at))
    for arm in ARMS:
        needed: list[float] = []
        missing: dict[int, list[float]] = {count: [] for count in at}
        for task in TASKS:
            index = {
                "near": int(np.argmax(known[task][:GUESSES])),
                "wrong": int(np.argmin(known[task])),
            }
            expected = expecting(pool[index[arm]], options.confidence) if arm in index else {}
            target = sorted(known[task])[-int(TOP * SETTINGS)]
            for seed in range(options.seeds):
                seen = search(recorded, task, options, seed, expected)
                hits = [number for number, value in enumerate(seen, 1) if value >= target]
                needed.append(hits[0] if hits else options.trials + 1)
                for count in at:
                    missing[count].append(max(known[task]) - max(seen[:count]))
        reached = sum(count <= options.trials for count in needed) / len(needed)
        print(f"{arm:8}{interval(needed):>26}{reached:>9.0%}", end="")
        print("".join(f"{interval(missing[count]):>24}" for count in at), flush=True)


if __name__ == "__main__":
    main()
