"""Report of a diagnosis, as text and as plain data, and the errors that refuse a search."""

import math
from collections.abc import Iterator
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import KeyPath, Problem
from orchestrator.formatting import (
    format_duration,
    format_fields,
    format_number,
    format_si,
    format_table,
)
from orchestrator.preflight.diagnosis import Diagnosis, costs, finite_or_none, quantiles
from orchestrator.preflight.failure_causes import FailureCause
from orchestrator.preflight.feasibility import ConstraintReport
from orchestrator.preflight.forecast import Span, StudyForecast
from orchestrator.preflight.timing import Pace
from orchestrator.pruning.promotions import expected_complete
from orchestrator.sampling.optuna_sampler import COMPLETE_TO_LEARN

BARS = " ▁▂▃▄▅▆▇█"
BINS = 16
_UNITS = {"parameters": "", "flops": "FLOP", "activation_bytes": "B"}
_NAMES = {"activation_bytes": "activation memory", "flops": "FLOPs", "epoch_s": "epoch here"}


def text(diagnosis: Diagnosis, examples: int) -> str:
    """Return the report as text."""
    sections = [format_fields(_facts(diagnosis)), _spread(diagnosis, examples), _limits(diagnosis)]
    return "\n\n".join(section for section in sections if section)


def forecast_line(diagnosis: Diagnosis) -> str:
    """Return the expected duration in one line."""
    found, stop = diagnosis.forecast, diagnosis.config.stop
    if found is None:
        return f"not known: {_why_unknown(diagnosis)}"
    slots = f"{diagnosis.slots} slot{'' if diagnosis.slots == 1 else 's'}"
    if (plan := diagnosis.config.confirm.plan) is not None:
        slots += f", and at most {plan.max_trainings} trainings that confirm"
    if found.hours_decide and stop.hours is not None:
        of = f" of {stop.trials}" if stop.trials else ""
        return (
            f"{format_duration(stop.hours * 3600)} on {slots}: about {found.trials.median:.0f}{of} "
            f"trials ({found.trials.low:.0f}-{found.trials.high:.0f})"
        )
    return f"{found.trials.median:.0f} trials on {slots}: about {_span(found.seconds)}"


def document(diagnosis: Diagnosis, examples: int) -> dict[str, Any]:
    """Return the report as plain data."""
    fits, sampled = diagnosis.fits
    builds, built = diagnosis.builds
    networks, pace = diagnosis.networks, diagnosis.pace
    values = costs(diagnosis) | _epochs(diagnosis, examples)
    return {
        "drawn": sampled,
        "fit_by_shape": fits,
        "counted": built,
        "build": builds,
        "culprits": [_cause(cause) for cause in diagnosis.failure_causes],
        "quantiles": {name: quantiles(found) for name, found in values.items() if found},
        "constraints": [_constraint(report) for report in diagnosis.limits],
        "all_constraints": None if diagnosis.together is None else _constraint(diagnosis.together),
        "networks": networks
        and {
            "count": finite_or_none(networks.count),
            "low": finite_or_none(networks.low),
            "high": finite_or_none(networks.high),
            "method": networks.method,
            "spellings": finite_or_none(networks.encodings),
        },
        "pace": pace and {"networks_timed": pace.timed, "relative_error": pace.error},
        "forecast": diagnosis.forecast and _forecast(diagnosis.forecast, diagnosis.slots),
    }


def _facts(diagnosis: Diagnosis) -> dict[str, str]:
    fits, sampled = diagnosis.fits
    builds, built = diagnosis.builds
    facts = {
        "random candidates": f"{share(fits, sampled)} fit the data by their shapes; "
        f"of those counted, {share(builds, built)} build"
    }
    for index, cause in enumerate(diagnosis.failure_causes):
        facts["broken by" if index == 0 else "and by" + " " * index] = str(cause)
    if diagnosis.networks is not None:
        facts["distinct networks"] = _networks(diagnosis)
    if diagnosis.pace is not None:
        facts["calibration"] = _calibration(diagnosis.pace)
    facts["forecast"] = forecast_line(diagnosis)
    return facts


def _calibration(pace: Pace) -> str:
    """Return the accuracy of the predicted times."""
    if pace.error is None:
        return f"{pace.timed} timed here: too few to estimate the error of predictions"
    return f"{pace.timed} networks timed here; cross-validated error {pace.error:.0%}"


def _networks(diagnosis: Diagnosis) -> str:
    found = diagnosis.networks
    if found is None:
        return ""
    if found.low == found.high:
        return f"{found.count:,.0f} ({found.method})"
    encodings = (
        "" if finite_or_none(found.encodings) is None else f" of {found.encodings:.2g} encodings"
    )
    if found.count == found.low:
        return f"at least {found.count:.2g}{encodings} ({found.method})"
    return (
        f"at least about {found.count:.2g}{encodings} "
        f"({found.low:.2g} to {found.high:.2g}; {found.method})"
    )


def _epochs(diagnosis: Diagnosis, examples: int) -> dict[str, list[float]]:
    times = (diagnosis.epoch_s(sample, examples) for sample in diagnosis.counted)
    return {"epoch_s": [time for time in times if time is not None]}


def _spread(diagnosis: Diagnosis, examples: int) -> str:
    """Return the quantiles of the costs, one cost per line."""
    rows = []
    for name, values in (costs(diagnosis) | _epochs(diagnosis, examples)).items():
        if values:
            found = [_shown(name, value) for value in quantiles(values).values()]
            rows.append([_NAMES.get(name, name), *found, histogram(values)])
    columns = list(quantiles([0.0]))
    return format_table(["", *columns, "on a log scale"], rows, right=columns) if rows else ""


def _shown(name: str, value: float) -> str:
    if name == "epoch_s":
        return format_duration(value) if value >= 10 else f"{value:.2g} s"
    return format_si(value, _UNITS.get(name, ""))


def histogram(values: list[float]) -> str:
    """Return a histogram of values on a logarithmic scale, in block characters."""
    low, high = min(values), max(values)
    if low <= 0 or low == high:
        return BARS[-1]
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(math.log(value / low) / math.log(high / low) * BINS))] += 1
    most = max(counts)
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)


def _limits(diagnosis: Diagnosis) -> str:
    """Return the feasibility of the constraints, one per line."""
    rows = [
        _limit(
            f"{report.limits[0].metric} at most {format_number(report.limits[0].at_most)}", report
        )
        for report in diagnosis.limits
    ]
    if len(rows) > 1 and diagnosis.together is not None:
        rows.append(_limit("all together", diagnosis.together))
    return format_table(["constraint", "met by", "nearest candidate"], rows) if rows else ""


def _limit(name: str, report: ConstraintReport) -> list[str]:
    nearest = ""
    if report.nearest is not None and report.nearest.cost is not None:
        over = report.nearest.worst(report.limits)
        has = ", ".join(format_si(report.nearest.cost[limit.metric]) for limit in report.limits)
        where = "meets it" if over <= 0 else f"exceeds it by {over:.0%}"
        nearest = f"{report.nearest.candidate.describe()}: {has}, {where}"
    by = share(report.num_feasible, report.num_built)
    return [name, by if report.possible else "none found", nearest]


def share(count: int, total: int) -> str:
    """Return a share in words: `1,940 of 2,000 (97.0%)`."""
    return f"{count:,} of {total:,} ({count / total:.1%})" if total else "none"


def _span(seconds: Span) -> str:
    """Return a duration with its range: `12 min (8-19)`."""
    unit, factor = ("s", 1) if seconds.median < 90 else ("min", 60)
    if seconds.median >= 5400:
        unit, factor = "h", 3600
    places = 1 if seconds.median / factor < 10 and factor > 1 else 0
    low, middle, high = (
        f"{value / factor:.{places}f}" for value in (seconds.low, seconds.median, seconds.high)
    )
    return f"{middle} {unit} ({low}-{high})"


def _why_unknown(diagnosis: Diagnosis) -> str:
    config = diagnosis.config
    if config.data.source == "surrogate":
        return "nothing is trained"
    if config.engine.address is not None:
        return "the cluster may be faster than this machine, or slower"
    if diagnosis.together is not None and not diagnosis.together.possible:
        return "no candidate meets the constraints"
    return "nothing could be timed here"


def _cause(cause: FailureCause) -> dict[str, Any]:
    return {
        "decision": cause.decision,
        "drawn": cause.sampled,
        "broken": cause.broken,
        "reason": cause.reason,
    }


def _constraint(report: ConstraintReport) -> dict[str, Any]:
    nearest = report.nearest
    return {
        "limits": {limit.metric: limit.at_most for limit in report.limits},
        "share": report.num_feasible / report.num_built if report.num_built else 0.0,
        "possible": report.possible,
        "nearest": None
        if nearest is None
        else {
            "describe": nearest.candidate.describe(),
            "params": dict(nearest.params),
            "cost": dict(nearest.cost or {}),
            "worst_violation": nearest.worst(report.limits),
        },
    }


def _forecast(found: StudyForecast, slots: int) -> dict[str, Any]:
    return {
        "slots": slots,
        "hours_decide": found.hours_decide,
        "seconds": _plain_span(found.seconds),
        "trials": _plain_span(found.trials),
    }


def _plain_span(found: Span) -> dict[str, float]:
    return {"p10": found.low, "median": found.median, "p90": found.high}


CERTAINTY = 3.0
"""Factor by which a predicted time must exceed the limit before the search is refused."""


def idle_sampler(config: StudyConfig) -> str | None:
    """Return a warning if too few trials would complete for the sampler to learn; None otherwise.

    Only a warning, because trials may be added later and such studies can be resumed.
    """
    name, trials, budget = config.sampler.name, config.stop.trials, config.budget
    needed, halving = COMPLETE_TO_LEARN.get(name), config.pruner.name == "halving"
    if trials is None or needed is None:  # `auto` and `tpe` learn from stopped trials too
        return None
    complete = expected_complete(trials, budget) if halving else trials
    if complete >= needed:
        return None
    enough = needed
    while halving and expected_complete(enough, budget) < needed:
        enough = math.ceil(1.1 * enough)
    ways = ["sampler.name: auto, which learns from stopped trials too", f"stop.trials: {enough:,}"]
    if halving and trials >= needed:
        ways.append("pruner.name: none")
    return (
        f"sampler.name: {name} learns from complete trials alone and needs {needed}; about "
        f"{complete} of {trials:,} trials are expected to complete with pruner "
        f"{config.pruner.name}, so it proposes at random. Better: {'; or '.join(ways)}."
    )


def refusals(diagnosis: Diagnosis, examples: int) -> list[Problem]:
    """Return the problems for which the search cannot work; empty if it can.

    Args:
        diagnosis: Results of a check.
        examples: Number of training examples.
    """
    origin = diagnosis.config.name
    found = list(_unbuilt(diagnosis))
    if not found:
        found = list(_unmet(diagnosis)) or list(_too_slow(diagnosis, examples))
    return [Problem(origin, text=text, path=path) for path, text in found]


def _unbuilt(diagnosis: Diagnosis) -> Iterator[tuple[KeyPath, str]]:
    """Yield a problem if no candidate builds, neither random nor first ones."""
    all_samples = [*diagnosis.sampled, *diagnosis.counted, *diagnosis.first]
    built = [*diagnosis.counted, *diagnosis.first]
    if any(sample.cost is not None for sample in built):
        return
    reasons = [sample.failure for sample in all_samples if sample.failure is not None]
    why = str(diagnosis.failure_causes[0]) if diagnosis.failure_causes else reasons[0]
    yield (
        ("space",),
        f"none of {len(diagnosis.sampled):,} random candidates builds for this data ({why}); "
        "change what the space decides there, or give data of another shape",
    )


def _unmet(diagnosis: Diagnosis) -> Iterator[tuple[KeyPath, str]]:
    """Yield the constraints that no candidate meets, alone or together."""
    alone = [
        (index, report) for index, report in enumerate(diagnosis.limits) if not report.possible
    ]
    for index, report in alone:
        [limit] = report.limits
        given = index < len(diagnosis.config.constraints)
        path: KeyPath = ("constraints", index, "at_most") if given else ("space",)
        yield (
            path,
            f"no candidate found has {limit.metric} of at most {format_number(limit.at_most)}; "
            f"{_nearest(report)}; {_suggested_fix(report, given)}",
        )
    together = diagnosis.together
    if not alone and together is not None and not together.possible:
        text = (
            "each constraint can be met, and no candidate found meets all of them together; "
            f"{_nearest(together)}; loosen one of them"
        )
        yield ("constraints",), text


def _nearest(report: ConstraintReport) -> str:
    if report.nearest is None or report.nearest.cost is None:
        return "none builds"
    have = ", ".join(
        f"{limit.metric} {format_number(report.nearest.cost[limit.metric])}"
        for limit in report.limits
    )
    return f"the nearest, {report.nearest.candidate.describe()}, has {have}"


def _suggested_fix(report: ConstraintReport, given: bool) -> str:
    nearest = report.nearest
    if not given or nearest is None or nearest.cost is None:
        return "loosen the space's own constraint, or let it decide smaller networks"
    value = nearest.cost[report.limits[0].metric]
    return f"raise it to {format_number(value)} or more, or search a space of smaller networks"


def _too_slow(diagnosis: Diagnosis, examples: int) -> Iterator[tuple[KeyPath, str]]:
    """Yield a problem if not even the fastest trial reaches its first rung in time."""
    hours = diagnosis.config.stop.hours
    times = [
        epoch_s
        for sample in (*diagnosis.counted, *diagnosis.first)
        if (epoch_s := diagnosis.epoch_s(sample, examples)) is not None
    ]
    if hours is None or not times:
        return
    minimum = diagnosis.config.budget.rungs()[0]
    needed_s = min(times) * minimum
    if needed_s > CERTAINTY * hours * 3600:
        epochs = "1 epoch" if minimum == 1 else f"{minimum} epochs"
        yield (
            ("stop", "hours"),
            f"{format_duration(hours * 3600)} end before the fastest of {len(times)} networks is "
            f"judged for the first time, after {epochs} or about {format_duration(needed_s)} here; "
            "give more hours, a lower budget.minimum, or less data (data.limit)",
        )
