"""A trial's learning curve as a drawing: what training and validation measured, epoch by epoch.

One panel for each quantity, training and validation in one panel where both were measured. Knows
no MLflow, and no library: a drawing for every trial must cost next to nothing.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.figures import svg
from workers.measurement import Measurement

_WIDTH, _HEIGHT = 360.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 20.0, 36.0, 44.0
_LABEL_WIDTH = 72.0
_PANELS = 3
_PREFIXES = ("val_", "train_")
_COLOURS = {"val": svg.BLUE.edge, "train": svg.ORANGE.edge}
_PALETTE = (svg.BLUE.edge, svg.ORANGE.edge, svg.GREEN.edge, "#9333ea", "#dc2626", "#0891b2")
_LINE_HEIGHT = 20.0
_TERM_WIDTH = 180.0
_NAMES = {"val": "validation", "train": "training"}

Points = Sequence[tuple[int, float]]


def learning_curve(measured: Sequence[Measurement], wanted: Sequence[str]) -> str | None:
    """The curves as an SVG drawing; None where there is nothing to join.

    Args:
        measured: What was seen, by rising epoch.
        wanted: Metrics to show first, such as the objectives; losses follow.
    """
    panels = _panels(measured, wanted)
    if not panels:
        return None
    parts = [
        part
        for place, (name, lines) in enumerate(panels.items())
        for part in _panel(place * _WIDTH, name, lines)
    ]
    return svg.document(len(panels) * _WIDTH, _HEIGHT, "Learning curve", parts)


def loss_curves(measured: Sequence[Measurement]) -> str | None:
    """Each loss term's value and weight over training; None where there are not two terms.

    Args:
        measured: What was seen, by rising epoch.
    """
    panels = {}
    for title, prefix in (("loss terms, as measured", "terms/"), ("their weights", "weights/")):
        names = {key for one in measured for key in one.metrics if key.startswith(prefix)}
        lines = {
            name.removeprefix(prefix): [
                (one.fidelity, one.metrics[name]) for one in measured if name in one.metrics
            ]
            for name in sorted(names)
        }
        panels[title] = {name: line for name, line in lines.items() if len(line) > 1}
    if not all(panels.values()):
        return None
    terms = sorted({name for lines in panels.values() for name in lines})
    colours = dict(zip(terms, itertools.cycle(_PALETTE), strict=False))
    parts = [
        part
        for place, (title, lines) in enumerate(panels.items())
        for part in _panel(place * _WIDTH, title, lines, colours)
    ]
    right = len(panels) * _WIDTH
    for place, (name, colour) in enumerate(colours.items()):
        y = _TOP + place * _LINE_HEIGHT
        parts.append(svg.dot(right, y, 4, colour=colour))
        parts.append(svg.words(right + 10, y + 4, name, anchor="start"))
    return svg.document(right + _TERM_WIDTH, _HEIGHT, "Loss terms", parts)


def _panels(
    measured: Sequence[Measurement], wanted: Sequence[str]
) -> Mapping[str, Mapping[str, Points]]:
    """Lines by the quantity and by who measured it."""
    panels: dict[str, dict[str, Points]] = {}
    for metric in (*wanted, "val_loss"):
        name = _bare(metric)
        candidates = {metric, *(prefix + name for prefix in _PREFIXES)}
        lines: dict[str, Points] = {}
        for key in sorted(candidates, reverse=True):
            points = [(one.fidelity, one.metrics[key]) for one in measured if key in one.metrics]
            if len(points) > 1:
                lines[key.removesuffix(name).strip("_")] = points
        if lines and len(panels) < _PANELS:
            panels[name] = lines
    return panels


def _bare(metric: str) -> str:
    for prefix in _PREFIXES:
        metric = metric.removeprefix(prefix)
    return metric


def _panel(
    left: float, name: str, lines: Mapping[str, Points], colours: Mapping[str, str] = _COLOURS
) -> Iterator[str]:
    points = [point for line in lines.values() for point in line]
    first, last = min(epoch for epoch, _ in points), max(epoch for epoch, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    bottom, right = _HEIGHT - _BOTTOM, left + _WIDTH - _RIGHT

    def at(epoch: float, value: float) -> tuple[float, float]:
        along = (epoch - first) / (last - first)
        return (
            left + _LEFT + along * (_WIDTH - _LEFT - _RIGHT),
            bottom - (value - low) / (high - low) * (bottom - _TOP),
        )

    yield svg.words(left + _LEFT, _TOP - 14, name, size=14, bold=True, anchor="start")
    for share in (0.0, 0.5, 1.0):
        value = low + room + share * (high - low - 2 * room)
        _, y = at(first, value)
        yield svg.path(f"M{left + _LEFT:g} {y:.1f}H{right:g}", colour="#e2e8f0", width=1)
        yield svg.words(left + _LEFT - 6, y + 4, f"{value:.3g}", fill=svg.PALE, anchor="end")
    for epoch in sorted({first, last}):
        yield svg.words(at(epoch, low)[0], bottom + 18, str(epoch), fill=svg.PALE)
    yield svg.words((left + _LEFT + right) / 2, bottom + 34, "epoch", fill=svg.PALE)
    for place, (who, line) in enumerate(lines.items()):
        yield from _line([at(*point) for point in line], colours.get(who, svg.BLUE.edge))
        if who in _NAMES:
            at_x, colour = right - place * _LABEL_WIDTH, colours[who]
            yield svg.words(at_x, _TOP - 14, _NAMES[who], fill=colour, anchor="end")


def _line(points: Sequence[tuple[float, float]], colour: str) -> Iterator[str]:
    yield svg.polyline(points, colour=colour)
    if len(points) <= 40:
        for x, y in points:
            yield svg.dot(x, y, 2.5, colour=colour)
