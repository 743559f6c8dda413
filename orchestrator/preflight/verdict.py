"""What cannot work, as the messages that a search is refused or started with."""

import math
from collections.abc import Iterator

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Path, Problem
from orchestrator.preflight.diagnosis import Diagnosis
from orchestrator.preflight.feasibility import Met
from orchestrator.sampling.halving import expected_complete
from orchestrator.terminal import number, span

CERTAINTY = 3.0
"""How many times too slow a prediction must be before a search is refused for it."""


def idle_sampler(config: StudyConfig) -> str | None:
    """Warn of a sampler that would propose by chance: too few trials complete for it to learn.

    A warning, for trials may be added later, and studies that began so can be resumed.
    """
    name, trials, budget = config.sampler.name, config.stop.trials, config.to_budget()
    if trials is None or name in {"tpe", "random"}:
        return None
    from orchestrator.sampling.optuna_sampler import COMPLETE_TO_LEARN  # noqa: PLC0415 - loads optuna

    needed, halving = COMPLETE_TO_LEARN[name], config.pruner.name == "halving"
    complete = expected_complete(trials, budget) if halving else trials
    if complete >= needed:
        return None
    enough = needed
    while halving and expected_complete(enough, budget) < needed:
        enough = math.ceil(1.1 * enough)
    ways = ["sampler.name: tpe, which learns from stopped trials too", f"stop.trials: {enough:,}"]
    if halving and trials >= needed:
        ways.append("pruner.name: none")
    return (
        f"sampler.name: {name} learns from complete trials alone and needs {needed}; about "
        f"{complete} of {trials:,} trials are expected to complete with pruner "
        f"{config.pruner.name}, so it proposes by chance. Better: {'; or '.join(ways)}."
    )


def refusals(diagnosis: Diagnosis, examples: int) -> list[Problem]:
    """Why the search cannot work; empty where it can.

    Args:
        diagnosis: What was found.
        examples: Training examples of an epoch.
    """
    origin = diagnosis.config.name
    found = list(_unbuilt(diagnosis))
    if not found:
        found = list(_unmet(diagnosis)) or list(_too_slow(diagnosis, examples))
    return [Problem(origin, text=text, path=path) for path, text in found]


def _unbuilt(diagnosis: Diagnosis) -> Iterator[tuple[Path, str]]:
    """Nobody builds, neither by chance nor what is tried first."""
    everyone = [*diagnosis.drawn, *diagnosis.counted, *diagnosis.first]
    built = [*diagnosis.counted, *diagnosis.first]
    if any(probe.cost is not None for probe in built):
        return
    reasons = [probe.failure for probe in everyone if probe.failure is not None]
    why = str(diagnosis.culprits[0]) if diagnosis.culprits else reasons[0]
    yield (
        ("space",),
        f"none of {len(diagnosis.drawn):,} random candidates builds for this data ({why}); "
        "change what the space decides there, or give data of another shape",
    )


def _unmet(diagnosis: Diagnosis) -> Iterator[tuple[Path, str]]:
    """Constraints that nobody meets, or that nobody meets together."""
    alone = [(index, met) for index, met in enumerate(diagnosis.limits) if not met.possible]
    for index, met in alone:
        [limit] = met.limits
        given = index < len(diagnosis.config.constraints)
        path: Path = ("constraints", index, "at_most") if given else ("space",)
        yield (
            path,
            f"no candidate found has {limit.metric} of at most {number(limit.at_most)}; "
            f"{_nearest(met)}; {_way_out(met, given)}",
        )
    together = diagnosis.together
    if not alone and together is not None and not together.possible:
        text = (
            "each constraint can be met, and no candidate found meets all of them together; "
            f"{_nearest(together)}; loosen one of them"
        )
        yield ("constraints",), text


def _nearest(met: Met) -> str:
    if met.nearest is None or met.nearest.cost is None:
        return "none builds"
    have = ", ".join(
        f"{limit.metric} {number(met.nearest.cost[limit.metric])}" for limit in met.limits
    )
    return f"the nearest, {met.nearest.candidate.describe()}, has {have}"


def _way_out(met: Met, given: bool) -> str:
    nearest = met.nearest
    if not given or nearest is None or nearest.cost is None:
        return "loosen the space's own constraint, or let it decide smaller networks"
    value = nearest.cost[met.limits[0].metric]
    return f"raise it to {number(value)} or more, or search a space of smaller networks"


def _too_slow(diagnosis: Diagnosis, examples: int) -> Iterator[tuple[Path, str]]:
    """Hours in which not even the fastest trial reaches its first rung."""
    hours = diagnosis.config.stop.hours
    times = [
        epoch_s
        for probe in (*diagnosis.counted, *diagnosis.first)
        if (epoch_s := diagnosis.epoch_s(probe, examples)) is not None
    ]
    if hours is None or not times:
        return
    minimum = diagnosis.config.budget.minimum
    needed_s = min(times) * minimum
    if needed_s > CERTAINTY * hours * 3600:
        epochs = "1 epoch" if minimum == 1 else f"{minimum} epochs"
        yield (
            ("stop", "hours"),
            f"{span(hours * 3600)} end before the fastest of {len(times)} networks is judged "
            f"for the first time, after {epochs} or about {span(needed_s)} here; give more hours, "
            "a lower budget.minimum, or less data (data.limit)",
        )
