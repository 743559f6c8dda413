"""Answer of a study in one sentence: whether a candidate beats the default, and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.confirmation.plan import MIN_SEEDS
from orchestrator.confirmation.racing import Estimate, Race, mean_interval
from orchestrator.confirmation.results import Confirmation, Contestant, read_confirmation
from orchestrator.confirmation.units import MetricUnit
from orchestrator.formatting import format_table
from orchestrator.objective import Objective, best
from orchestrator.trial import Trial

SMALLER = 0.9
"""Largest share of the default's parameters for which an alternative is mentioned."""
WITHIN_NOISE = 2.0
"""Standard deviations of one training by which an equal alternative may be worse at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedCandidate:
    """Result of one candidate."""

    trial: int
    """The trial's number."""
    gain: Estimate | None
    """Gain over the default in the objective's unit; None before the first comparison."""
    verdict: str
    """`better`, `not better`, `open`, or why it was dropped; without a default, `best mean`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Result of a study, from confirmation trials alone."""

    sentence: str
    decided: bool
    """True if a confirmation has come to its end."""
    winner: int | None = None
    """Number of the trial that is better than the default, or the best without a default."""
    candidates: tuple[ConfirmedCandidate, ...] = ()
    in_points: bool = False
    """True if gains are shown in points, 100 times the metric."""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data."""
        return {
            "sentence": self.sentence,
            "decided": self.decided,
            "winner": self.winner,
            "candidates": [_plain(candidate) for candidate in self.candidates],
        }

    def text(self) -> str:
        """Return the candidates as a table, and the sentence below it."""
        if not self.candidates:
            return self.sentence
        gain = "gain over the default" + (" in points" if self.in_points else "")
        head = ["candidate", gain, "95 % interval", "seeds", "result"]
        rows = [_cells(candidate, self.in_points) for candidate in self.candidates]
        return f"{format_table(head, rows, right=head[:-1])}\n{self.sentence}"


def answer(
    study: str,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    program: str | None = "archscout",
) -> Answer:
    """Return the answer that a study's trials give.

    Args:
        study: The study's name.
        trials: All trials of the study, with their measurements.
        objectives: The study's objectives.
        program: How commands are called; None suggests none, as while the study runs.
    """
    command = "" if program is None else f"; run: {program} confirm {study}"
    confirmation = read_confirmation(trials, objectives)
    if confirmation is None:
        several = sum(best([trial], objectives) is not None for trial in trials) > 1
        text = "not confirmed: the best value of a search is optimistic"
        return Answer(sentence=text + (command if several else ""), decided=False)
    if confirmation.default is None:
        return _without_default(confirmation, confirmation.race, command)
    return _compared(confirmation, confirmation.default, command)


def _compared(confirmation: Confirmation, default: Contestant, command: str) -> Answer:
    """Return the answer of a confirmation with a default."""
    race = confirmation.race
    contestants = (*confirmation.candidates, default)
    scores = [score for each in contestants for score in each.scores.values()]
    unit = MetricUnit.of(confirmation.objective.metric, scores)
    winner = next((c for c in confirmation.candidates if c.trial.uid == race.winner), None)
    if winner is not None:
        sentence = _beats(winner, race.estimates[winner.trial.uid], unit)
    elif race.decided:
        sentence = _no_difference(confirmation, default, race, unit)
    else:
        sentence = _unfinished(race.next_look, confirmation.max_seeds, command)
    return Answer(
        sentence=sentence,
        decided=race.decided,
        winner=None if winner is None else winner.trial.number,
        candidates=tuple(_candidate(each, race) for each in confirmation.candidates),
        in_points=unit.in_points,
    )


def _interval(found: Estimate, unit: MetricUnit) -> str:
    low, high = unit.number(found.low), unit.number(found.high)
    return f"95 % interval {low} to {high}, {found.seeds} seeds"


def _beats(winner: Contestant, gain: Estimate, unit: MetricUnit) -> str:
    return (
        f"trial {winner.trial.number} beats the default by {unit.difference(gain.mean)} "
        f"({_interval(gain, unit)})"
    )


def _no_difference(
    confirmation: Confirmation, default: Contestant, race: Race, unit: MetricUnit
) -> str:
    if not race.estimates:
        return "no candidate could be compared with the default: all confirmations failed"
    text = "no candidate is better than the default beyond noise"
    smaller = _smallest_equal(confirmation, default, race)
    if smaller is None:
        return text
    alternative, share = smaller
    metric = unit.metric.removeprefix("val_")
    found = race.estimates[alternative.trial.uid]
    return (
        f"{text}; the best alternative, trial {alternative.trial.number}, has {share:.2f} of its "
        f"parameters at the same {metric} (difference {unit.difference(found.mean)}, "
        f"{_interval(found, unit)})"
    )


def _smallest_equal(
    confirmation: Confirmation, default: Contestant, race: Race
) -> tuple[Contestant, float] | None:
    """Return the smallest candidate that equals the default within noise, with its size.

    Its interval contains no difference, and nothing worse than WITHIN_NOISE standard deviations of
    one training.
    """
    size = default.trial.cost.get("parameters")
    equal = []
    for candidate in confirmation.candidates:
        found = race.estimates.get(candidate.trial.uid)
        parameters = candidate.trial.cost.get("parameters")
        if candidate.failure or found is None or not size or parameters is None:
            continue
        within = found.low >= -WITHIN_NOISE * race.noise and found.high >= 0
        if within and parameters <= SMALLER * size:
            equal.append((candidate, parameters / size))
    return min(equal, key=lambda pair: pair[1], default=None)


def _without_default(confirmation: Confirmation, race: Race, command: str) -> Answer:
    """Return the best candidate's mean, where the default does not exist or failed."""
    means = {
        each.trial.uid: mean_interval(
            [each.scores[index] for index in sorted(each.scores)][: race.next_look],
            num_candidates=len(confirmation.candidates),
        )
        for each in confirmation.candidates
        if not each.failure and len(each.scores) >= MIN_SEEDS
    }
    reason = "has no default to compare with"
    if confirmation.default_failure:
        reason = (
            f"cannot be compared with the default, which failed ({confirmation.default_failure})"
        )
    text = _unfinished(race.next_look, race.next_look, command)
    winner = None
    if race.decided:
        text = f"the study {reason}, and all other confirmations failed"
    if race.decided and means:
        uid = max(means, key=lambda uid: means[uid].mean)
        winner = next(each for each in confirmation.candidates if each.trial.uid == uid)
        text = f"the study {reason}; "
        text += _mean_sentence(winner.trial.number, means[uid], confirmation.objective)
    return Answer(
        sentence=text,
        decided=race.decided,
        winner=None if winner is None else winner.trial.number,
        candidates=tuple(
            ConfirmedCandidate(
                trial=each.trial.number,
                gain=None,
                verdict=_verdict_alone(each, is_best=each is winner, is_open=not race.decided),
            )
            for each in confirmation.candidates
        ),
    )


def _verdict_alone(candidate: Contestant, *, is_best: bool, is_open: bool) -> str:
    if candidate.failure:
        return f"dropped: {candidate.failure}"
    return "best mean" if is_best else "open" if is_open else "not the best mean"


def _mean_sentence(number: int, mean: Estimate, objective: Objective) -> str:
    value = objective.score(mean.mean)
    low, high = sorted((objective.score(mean.low), objective.score(mean.high)))
    return (
        f"trial {number} has the best mean {objective.metric}, {value:.4g} "
        f"(95 % interval {low:.4g} to {high:.4g}, {mean.seeds} seeds)"
    )


def _unfinished(look: int, max_seeds: int, command: str) -> str:
    needed = f"the confirmation needs {look} of at most {max_seeds} seeds next"
    return f"not decided yet: {needed}{command}"


def _candidate(contestant: Contestant, race: Race) -> ConfirmedCandidate:
    uid, found = contestant.trial.uid, race.estimates.get(contestant.trial.uid)
    last = max((estimate.seeds for estimate in race.estimates.values()), default=0)
    if contestant.failure:
        verdict = f"dropped: {contestant.failure}"
    elif found is not None and found.low > 0:
        verdict = "better"
    elif uid in race.racing or found is None or (race.winner and found.seeds == last):
        verdict = "open"
    else:
        verdict = "not better"
    return ConfirmedCandidate(trial=contestant.trial.number, gain=found, verdict=verdict)


def _plain(candidate: ConfirmedCandidate) -> dict[str, Any]:
    found = candidate.gain
    estimate = {} if found is None else {"gain": found.mean, "interval": [found.low, found.high]}
    seeds = 0 if found is None else found.seeds
    return {"trial": candidate.trial, **estimate, "seeds": seeds, "verdict": candidate.verdict}


def _cells(candidate: ConfirmedCandidate, in_points: bool) -> list[str]:
    found = candidate.gain
    if found is None:
        return [f"trial {candidate.trial}", "", "", "0", candidate.verdict]
    numbers = (found.low, found.mean, found.high)
    low, mean, high = (f"{100 * n:+.1f}" if in_points else f"{n:+.3g}" for n in numbers)
    interval = f"{low} to {high}"
    return [f"trial {candidate.trial}", mean, interval, str(found.seeds), candidate.verdict]
