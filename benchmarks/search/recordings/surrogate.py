"""Tables of our own recordings, and how far they can be trusted.

    .venv/bin/python -m benchmarks.search.recordings.surrogate

prints, for each data set, the held-out error of the regression of learning curves, the rank
correlation of each epoch with the end, and the noise of the default. The regression answers for all
candidates of a space where its held-out rank correlation is at least 0.7 over at least 40
candidates. Elsewhere the table has the recorded candidates only.
"""

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from scipy.stats import spearmanr

from benchmarks.search.data.datasets import DATA
from benchmarks.search.recordings import store
from benchmarks.search.recordings.regression import Encoding, Numbers, Regression
from benchmarks.search.recordings.store import COMPLETE, VALUE, Recording
from benchmarks.search.tables.space import Params, TableSpace, canonical_key, draw_uniform
from benchmarks.search.tables.table import Noise, Table, predicted_cost
from search_spaces.catalog import load as load_space
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.domains import Record, choice
from search_spaces.domains.kinds import kinds
from search_spaces.domains.priors import Expected
from search_spaces.domains.suggester import ReplaySuggester
from search_spaces.space import SearchSpace

EPOCHS = 9
FOLDS = 10
MIN_RANK_CORRELATION = 0.7
"""Least held-out rank correlation of the final value with which the regression is used."""
MIN_CANDIDATES = 40
"""Least number of candidates for that correlation to mean anything."""
QUANTILE_SAMPLES = 1000
CANDIDATE = "candidate"
"""Decision of a table of recorded candidates."""
MARGIN = 0.05
"""Accuracy below the default within which a candidate counts as sane."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Recorded candidates of one data set; repetitions of the default are one candidate."""

    name: str
    points: Sequence[Params]
    kinds: Sequence[str]
    values: Numbers
    """Accuracy, (candidate, epoch); chance throughout where the training failed."""
    seconds: Numbers
    """CPU seconds of the full training."""
    default: Numbers
    """Accuracy of the default, (repetition, epoch)."""
    chance: float

    def targets(self) -> Numbers:
        """Return what is regressed: logits of the accuracies, and the logarithm of the seconds."""
        return np.column_stack([_logit(self.values), np.log(self.seconds)])

    @property
    def noise(self) -> Noise:
        """Noise of the default over seeds, in its last third of epochs."""
        late = self.default[:, -(EPOCHS // 3) :]
        if len(late) < 3:
            return Noise()
        covariance = np.cov(late, rowvar=False)
        shared = max(0.0, float(covariance[~np.eye(len(covariance), dtype=bool)].mean()))
        own = max(0.0, float(np.diag(covariance).mean()) - shared)
        return Noise(candidate=shared**0.5, epoch=own**0.5)


def curves_of(name: str, recordings: Sequence[Recording]) -> Curves:
    """Return the curves of a data set by candidate.

    Raises:
        ValueError: The default is not recorded.
    """
    repeated = [each for each in recordings if each.kind == "default"]
    if not repeated:
        raise ValueError(f"{name}: the default is not recorded; make record")
    chance = 1 / DATA[name].task.num_classes
    groups: dict[str, list[Recording]] = {}
    for each in recordings:
        groups.setdefault(canonical_key(each.params), []).append(each)
    complete = [each.cpu_s[-1] for each in recordings if each.outcome == COMPLETE]
    median = float(np.median(complete))
    values, seconds = [], []
    for group in groups.values():
        values.append(np.mean([_curve(each, chance) for each in group], axis=0))
        spent = [each.cpu_s[-1] for each in group if each.outcome == COMPLETE]
        seconds.append(float(np.median(spent)) if spent else median)
    return Curves(
        name=name,
        points=[group[0].params for group in groups.values()],
        kinds=[group[0].kind for group in groups.values()],
        values=np.array(values),
        seconds=np.array(seconds),
        default=np.array([_curve(each, chance) for each in repeated]),
        chance=chance,
    )


def _curve(recording: Recording, chance: float) -> Numbers:
    if recording.outcome != COMPLETE:
        return np.full(EPOCHS, chance)
    return np.array(recording.metrics[VALUE])


def _logit(values: Numbers) -> Numbers:
    inside = values.clip(0.01, 0.998)
    return np.asarray(np.log(inside / (1 - inside)))


def _accuracy(logits: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-logits)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Regression of the curves of all data sets of one space, with its held-out predictions."""

    sets: Sequence[Curves]
    encoding: Encoding
    regression: Regression
    held_out: Mapping[str, Numbers]
    """Targets predicted by a regression without the candidate, by data set."""

    @classmethod
    def of(cls, sets: Sequence[Curves]) -> Self:
        """Fit the regression, and one more for each fold of the candidates."""
        encoding = Encoding.of(space_of(each.name) for each in sets)
        x = np.vstack([encoding.features(each.points) for each in sets])
        y = np.vstack([each.targets() for each in sets])
        tasks = np.repeat(np.arange(len(sets)), [len(each.points) for each in sets])
        folds = np.random.default_rng(0).permutation(len(x)) % FOLDS
        held_out = np.empty_like(y)
        for fold in range(FOLDS):
            rest, own = folds != fold, folds == fold
            fitted = Regression(x[rest], tasks[rest], y[rest])
            for task in set(tasks[own]):
                where = own & (tasks == task)
                held_out[where] = fitted.predict(x[where], int(task))
        return cls(
            sets=sets,
            encoding=encoding,
            regression=Regression(x, tasks, y),
            held_out={each.name: held_out[tasks == task] for task, each in enumerate(sets)},
        )

    def rank_correlation(self, name: str) -> float:
        """Return the held-out rank correlation of the final value over all candidates."""
        finals = self.curves(name).values[:, -1]
        return rank_correlation(self.held_out[name][:, EPOCHS - 1], finals)

    def predicts(self, name: str) -> bool:
        """Return whether the regression may answer for a data set."""
        enough = len(self.curves(name).points) >= MIN_CANDIDATES
        return enough and self.rank_correlation(name) >= MIN_RANK_CORRELATION

    def curves(self, name: str) -> Curves:
        """Return the recorded curves of a data set."""
        return next(each for each in self.sets if each.name == name)


def rank_correlation(a: Numbers, b: Numbers) -> float:
    """Return Spearman's rank correlation; NaN for fewer than three pairs, or equal values."""
    defined = len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0
    return float(spearmanr(a, b).statistic) if defined else float("nan")


def space_of(name: str) -> SearchSpace:
    """Return the space that a data set is recorded in."""
    data = DATA[name]
    return fit_to_task(load_space(data.space), data.task)


@cache
def fit(space: str, folder: Path = store.FOLDER) -> Fit:
    """Return the regression of all data sets of a space that are recorded."""
    names = [name for name, data in DATA.items() if data.space == space]
    found = {name: store.read(name, folder) for name in names}
    return Fit.of([curves_of(name, rows) for name, rows in found.items() if len(rows) >= FOLDS])


def recordings(name: str, *, quantile: float | None = None, folder: Path = store.FOLDER) -> Table:
    """Return the table of a data set, of all candidates or of the recorded ones.

    Args:
        name: Name of the data set.
        quantile: Quantile of uniform samples that takes the default's place (0.5: a wrong prior);
            None keeps the space's own default.
        folder: Folder of the recordings.
    """
    curves = curves_of(name, store.read(name, folder))
    suffix = "" if quantile is None else f"-q{quantile:g}"
    if len(curves.points) >= MIN_CANDIDATES:
        fitted = fit(DATA[name].space, folder)
        if fitted.predicts(name):
            return _fitted_table(fitted, name, f"{name}{suffix}", quantile)
    return _recorded_table(curves, f"{name}-recorded{suffix}", quantile)


def _fitted_table(fitted: Fit, name: str, title: str, quantile: float | None) -> Table:
    """Return a table of all candidates.

    Finals are the regression's. The way there differs from it as in a random held-out candidate:
    early epochs rank the candidates no better than the recorded ones.
    """
    task = [each.name for each in fitted.sets].index(name)
    curves = fitted.sets[task]
    errors = curves.targets()[:, :EPOCHS] - fitted.held_out[name][:, :EPOCHS]
    shapes = errors - errors[:, -1:]

    def answer(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        predicted = fitted.regression.predict(fitted.encoding.features(points), task)
        chosen = [random.Random(canonical_key(each)).randrange(len(shapes)) for each in points]
        values = _accuracy(predicted[:, :EPOCHS] + shapes[chosen])
        epochs = np.asarray(fidelities)
        return values[:, epochs - 1], np.exp(predicted[:, EPOCHS:]) * epochs / EPOCHS

    space = space_of(name)
    start = space.default_params()
    if quantile is not None:
        rng = random.Random(3)
        samples = [draw_uniform(space, rng) for _ in range(QUANTILE_SAMPLES)]
        start = samples[_at_quantile(answer(samples, [EPOCHS])[0][:, 0], quantile)]
    return Table(
        name=title,
        space=TableSpace(
            name=space.name,
            domain=space.candidates,
            start=start,
            flops=predicted_cost(answer, EPOCHS),
            priors=centered_priors(space, start),
            designs=designs_around(space, start),
        ),
        fidelities=tuple(range(1, EPOCHS + 1)),
        curves=answer,
        noise=curves.noise,
        chance=curves.chance,
        unit_s=float(answer([space.default_params()], [EPOCHS])[1][0, 0]),
    )


def centered_priors(space: SearchSpace, start: Params) -> dict[str, Expected]:
    """Return the priors of a space around other parameters: a wrong default has wrong priors."""
    own = space.expected()
    return {name: replace(own[name], prior=start[name]) for name in own if name in start}


def designs_around(space: SearchSpace, start: Params) -> list[Params]:
    """Return the first designs of a space when these parameters are the default."""
    network = space.candidates.fields["architecture"]  # type: ignore[attr-defined] - a Record
    found = kinds(network, "architecture", start)
    return [space.encode(space.resolve(ReplaySuggester(each))) for each in found]


def _recorded_table(curves: Curves, title: str, quantile: float | None) -> Table:
    """Return a table of the recorded candidates, by a number without meaning."""
    order = sorted(range(len(curves.points)), key=lambda i: random.Random(str(i)).random())
    values, seconds = curves.values[order], curves.seconds[order]
    kinds = [curves.kinds[i] for i in order]

    def answer(points: Sequence[Params], fidelities: Sequence[int]) -> tuple[Numbers, Numbers]:
        rows, epochs = [point[CANDIDATE] for point in points], np.asarray(fidelities)
        return values[rows][:, epochs - 1], seconds[rows][:, None] * epochs / EPOCHS

    default = start = kinds.index("default")
    if quantile is not None:
        sampled = np.array([i for i, kind in enumerate(kinds) if kind != "mutation"])
        start = int(sampled[_at_quantile(values[sampled, -1], quantile)])
    domain = Record(dict, {CANDIDATE: choice(*range(len(order)))})
    return Table(
        name=title,
        space=TableSpace(
            name=f"{curves.name}-recorded",
            domain=domain,
            start={CANDIDATE: start},
            flops=predicted_cost(answer, EPOCHS),
        ),
        fidelities=tuple(range(1, EPOCHS + 1)),
        curves=answer,
        chance=curves.chance,
        candidates=lambda: [{CANDIDATE: number} for number in range(len(order))],
        unit_s=float(seconds[default]),
    )


def _at_quantile(values: Numbers, quantile: float) -> int:
    return int(np.argsort(values)[int(quantile * (len(values) - 1))])


def report(fitted: Fit) -> str:
    """Return the held-out error, the rank correlation of the epochs, and the noise, as text."""
    lines = []
    for curves in fitted.sets:
        finals, guess = curves.values[:, -1], fitted.held_out[curves.name]
        off = np.abs(_accuracy(guess[:, EPOCHS - 1]) - finals).mean()
        default, predicts = curves.default[:, -1], fitted.predicts(curves.name)
        lines += [
            f"{curves.name}: {len(finals)} candidates; "
            + ("the regression is used" if predicts else "recorded candidates only"),
            f"  default {default.mean():.3f}, standard deviation {default.std(ddof=1):.4f} "
            f"({len(default)} seeds); noise of a table: candidate {curves.noise.candidate:.4f}, "
            f"epoch {curves.noise.epoch:.4f}",
            f"  held out: mean absolute error {100 * off:.1f} points; rank correlation of seconds "
            f"{rank_correlation(guess[:, EPOCHS], curves.seconds):.2f}",
        ]
        for kind in ("all", *sorted({*curves.kinds} - {"default"})):
            own = np.array([kind in (each, "all") for each in curves.kinds])
            epochs = [rank_correlation(v, finals[own]) for v in curves.values[own].T]
            lines.append(
                f"  {kind} ({own.sum()}): held-out rank correlation "
                f"{rank_correlation(guess[own, EPOCHS - 1], finals[own]):.2f}; within 5 points of "
                f"the default {np.mean(finals[own] >= default.mean() - MARGIN):.2f}; epochs 1 to "
                f"{EPOCHS} with the end {' '.join(f'{r:.2f}' for r in epochs)}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=store.FOLDER)
    folder = parser.parse_args().results
    for space in dict.fromkeys(data.space for data in DATA.values()):
        print(report(fit(space, folder)), flush=True)


if __name__ == "__main__":
    main()
