"""Hyperband in asynchronous brackets, with the proposals of BOHB and of PriorBand."""

import math
import random
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.search.peers.event_loop import PeerTrial
from benchmarks.search.peers.kernels import KernelDensity, KernelSuggester, QuestionLog
from benchmarks.search.tables.space import Params, draw_uniform
from benchmarks.search.tables.table import Numbers, Table


class BracketModel(Protocol):
    """Proposes candidates for a bracket."""

    def propose(self, trials: Sequence[PeerTrial], rung: int) -> dict[str, Any]:
        """Return the decisions of a new trial that starts at this rung, 0 being the lowest."""
        ...


class HyperbandPeer:
    """Brackets that start at different rungs, in turn; within each, asynchronous promotion.

    Li et al. (2018, 2020). A trial that is not promoted is paused and may be promoted later.
    """

    def __init__(
        self, table: Table, model: BracketModel, rungs: Sequence[int], factor: int = 3
    ) -> None:
        """Prepare a search.

        Args:
            table: The table.
            model: Proposes candidates.
            rungs: Fidelities of the longest bracket, the last one a full training.
            factor: One in this many is promoted.
        """
        self._model = model
        self._default = table.space.default_params()
        self._rungs = tuple(rungs)
        self._factor = factor
        self._trials: list[PeerTrial] = []
        self._bracket: dict[int, int] = {}
        self._starts = self._schedule()

    def next(self) -> tuple[PeerTrial, int]:
        """Return the paused trial to promote at the highest rung, else a new one."""
        for place in reversed(range(len(self._rungs) - 1)):
            if (trial := self._promotable(place)) is not None:
                trial.state = "running"
                return trial, self._rungs[place + 1]
        start = len(self._rungs) - 1 if not self._trials else next(self._starts)
        params = self._model.propose(self._trials, start) if self._trials else self._default
        trial = PeerTrial(number=len(self._trials), params=dict(params))
        self._trials.append(trial)
        self._bracket[trial.number] = start
        return trial, self._rungs[start]

    def tell(self, trial: PeerTrial) -> int | None:
        """Pause the trial at its rung; `next` decides which one continues."""
        if trial.state != "complete":
            trial.state = "paused"
        return None

    def _schedule(self) -> Any:
        """Yield the first rung of each new trial, by Hyperband's numbers of trials a bracket."""
        brackets = len(self._rungs)
        while True:
            for start in range(brackets):
                rounds = brackets - 1 - start
                size = math.ceil(brackets / (rounds + 1) * self._factor**rounds)
                yield from [start] * size

    def _promotable(self, place: int) -> PeerTrial | None:
        fidelity = self._rungs[place]
        for bracket in range(place + 1):
            seen = [
                t
                for t in self._trials
                if fidelity in t.values and self._bracket[t.number] == bracket
            ]
            seen.sort(key=lambda t: (-t.values[fidelity], t.number))
            for trial in seen[: len(seen) // self._factor]:
                if trial.state == "paused" and trial.reached == fidelity:
                    return trial
        return None


class UniformModel:
    """Uniform samples."""

    def __init__(self, table: Table, seed: int) -> None:
        self._space = table.space
        self._rng = random.Random(f"uniform {seed}")

    def propose(self, trials: Sequence[PeerTrial], rung: int) -> dict[str, Any]:  # noqa: ARG002
        """Return a uniform sample."""
        return draw_uniform(self._space, self._rng)


class BohbModel:
    """Kernel densities of good and bad candidates at the highest fidelity with enough of them.

    Falkner et al. (2018), with the published defaults: a third of the proposals uniform, 64
    samples, the best 15 % are good, bandwidths times 3 for sampling.
    """

    RANDOM, SAMPLES, GOOD, WIDER = 1 / 3, 64, 0.15, 3.0

    def __init__(self, table: Table, seed: int) -> None:
        self._space = table.space
        self._rng = random.Random(f"bohb {seed}")
        self._log = QuestionLog()
        self._logged = 0

    def propose(self, trials: Sequence[PeerTrial], rung: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the sample with the highest ratio of densities."""
        while self._logged < len(trials):
            self._log.add(self._space, trials[self._logged].params)
            self._logged += 1
        if self._rng.random() < self.RANDOM or (split := self._split(trials)) is None:
            return draw_uniform(self._space, self._rng)
        choices = self._log.choices()
        densities = [KernelDensity(self._impute([t.params for t in s]), choices) for s in split]
        widths = self.WIDER * densities[0].bandwidths
        names = list(self._log.questions)
        samples = [
            self._around(self._rng.choice(split[0]).params, dict(zip(names, widths, strict=True)))
            for _ in range(self.SAMPLES)
        ]
        known = [p for p in samples if all(name in self._log.questions for name in p)]
        if not known:
            return samples[0]
        queries = self._impute(known)
        ratio = densities[0].log_density(queries) - densities[1].log_density(queries)
        return known[int(np.argmax(ratio))]

    def _split(self, trials: Sequence[PeerTrial]) -> tuple[list[PeerTrial], list[PeerTrial]] | None:
        """Return the good and the bad at the highest fidelity that has enough trials."""
        least = len(self._log.questions) + 1
        for fidelity in sorted({f for t in trials for f in t.values}, reverse=True):
            seen = [t for t in trials if fidelity in t.values]
            if len(seen) >= least + 2:
                seen.sort(key=lambda t: -t.values[fidelity])
                good = max(least, int(self.GOOD * len(seen)))
                bad = max(least, int((1 - self.GOOD) * len(seen)))
                return seen[:good], seen[-bad:]
        return None

    def _impute(self, points: Sequence[Params]) -> Numbers:
        """Return the encoding; missing decisions are uniformly random, as in BOHB."""
        x, choices = self._log.encode(points), self._log.choices()
        rng = np.random.default_rng(self._rng.getrandbits(32))
        noise = rng.random(x.shape)
        noise = np.where(choices > 0, np.floor(noise * np.maximum(choices, 1)), noise)
        return np.where(np.isnan(x), noise, x)

    def _around(self, center: Params, widths: dict[str, float]) -> dict[str, Any]:
        choices = dict(zip(self._log.questions, self._log.choices(), strict=True))
        odds = {
            name: (1 - min(width, 0.9)) * max(1.0, choices[name] - 1) / max(min(width, 0.9), 1e-6)
            for name, width in widths.items()
        }
        suggester = KernelSuggester(center, self._rng, widths=widths, odds=odds)
        self._space.domain.resolve(suggester, "")
        return suggester.params


class PriorBandModel:
    """Random, prior and incumbent-based proposals, mixed by a rule (Mallik et al., 2023).

    The prior is centered at the default with the published widths (medium confidence); the
    incumbent counts once one bracket's worth of compute has been spent.
    """

    WIDTH, ODDS, CHANGED = 0.25, 4.0, 0.5

    def __init__(self, table: Table, seed: int, rungs: Sequence[int], factor: int = 3) -> None:
        self._space = table.space
        self._rng = random.Random(f"priorband {seed}")
        self._rungs = tuple(rungs)
        self._factor = factor

    def propose(self, trials: Sequence[PeerTrial], rung: int) -> dict[str, Any]:
        """Return a proposal of one of the three kinds."""
        trust = self._factor**rung
        shares = {"random": 1 / (1 + trust), "prior": trust / (1 + trust), "incumbent": 0.0}
        best = self._incumbent(trials)
        if best is not None:
            share = self._share_of_incumbent(trials, best)
            shares["incumbent"] = shares["prior"] * share
            shares["prior"] *= 1 - share
        kind = self._rng.choices(list(shares), list(shares.values()))[0]
        if kind == "random":
            return draw_uniform(self._space, self._rng)
        if kind == "prior":
            return self._around(self._space.default_params(), changed=1.0)
        return self._around(best or {}, changed=self.CHANGED)

    def _incumbent(self, trials: Sequence[PeerTrial]) -> Params | None:
        """Return the best at the highest fidelity; None before one bracket's worth of compute."""
        spent = sum(t.reached for t in trials)
        if spent < len(self._rungs) * self._rungs[-1]:
            return None
        seen = [t for t in trials if t.values]
        highest = max(t.reached for t in seen)
        return max((t for t in seen if highest in t.values), key=lambda t: t.values[highest]).params

    def _share_of_incumbent(self, trials: Sequence[PeerTrial], best: Params) -> float:
        """Return how much likelier the best trials are near the incumbent than under the prior."""
        for fidelity in reversed(self._rungs):
            seen = [t for t in trials if fidelity in t.values]
            if len(seen) >= self._factor:
                break
        seen.sort(key=lambda t: -t.values[fidelity])
        top = seen[: max(self._factor, len(seen) // self._factor)]
        weights = range(len(top), 0, -1)
        near, prior = (
            self._scores([t.params for t in top], center)
            for center in (best, self._space.default_params())
        )
        peak = max(near + prior)
        one, other = (
            sum(w * math.exp(score - peak) for w, score in zip(weights, scores, strict=True))
            for scores in (near, prior)
        )
        return one / (one + other)

    def _scores(self, points: Sequence[Params], center: Params) -> list[float]:
        """Return the logarithm of the kernel around a center at each candidate."""
        log = QuestionLog()
        for params in (*points, center):
            log.add(self._space, params)
        x, middle = log.encode(points), log.encode([center])[0]
        choices = np.maximum(log.choices(), 2)
        same, other = self.ODDS / (self.ODDS + choices - 1), 1 / (self.ODDS + choices - 1)
        gauss = -0.5 * ((x - middle) / self.WIDTH) ** 2 - math.log(self.WIDTH)
        chosen = np.log(np.where(x == middle, same, other))
        kernel = np.where(log.choices() > 0, chosen, gauss)
        uniform = np.where(log.choices() > 0, -np.log(choices), 0.0)
        absent = np.isnan(x) | np.isnan(middle)
        return [float(row.sum()) for row in np.where(absent, uniform, kernel)]

    def _around(self, center: Params, *, changed: float) -> dict[str, Any]:
        names = [name for name in center if self._rng.random() < changed]
        suggester = KernelSuggester(
            center,
            self._rng,
            widths=dict.fromkeys(names, self.WIDTH),
            odds=dict.fromkeys(names, self.ODDS),
        )
        self._space.domain.resolve(suggester, "")
        return suggester.params
