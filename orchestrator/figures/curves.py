"""Learning curves of a trial as SVG: training and validation metrics by epoch.

Each metric has one panel with its training and validation curves. No plotting library is used:
every trial gets a drawing, which must cost next to nothing.
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
_COLORS = {"val": svg.BLUE.edge, "train": svg.ORANGE.edge}
_PALETTE = (svg.BLUE.edge, svg.ORANGE.edge, svg.GREEN.edge, "#9333ea", "#dc2626", "#0891b2")
_LINE_HEIGHT = 20.0
_TERM_WIDTH = 180.0
_NAMES = {"val": "validation", "train": "training"}

Points = Sequence[tuple[int, float]]


def learning_curve(measurements: Sequence[Measurement], metrics: Sequence[str]) -> str | None:
    """Return the curves as an SVG drawing; None without two points of any metric.

    Args:
        measurements: Measurements by ascending epoch.
        metrics: Metrics to show, such as the objectives; the loss follows.
    """
    panels = _panels(measurements, metrics)
    if not panels:
        return None
    parts = [
        part
        for index, (name, lines) in enumerate(panels.items())
        for part in _panel(index * _WIDTH, name, lines)
    ]
    return svg.document(len(panels) * _WIDTH, _HEIGHT, "Learning curve", parts)


def loss_curves(measurements: Sequence[Measurement]) -> str | None:
    """Return the values and weights of the loss terms by epoch; None if none were recorded.

    Args:
        measurements: Measurements by ascending epoch.
    """
    panels = {}
    for title, prefix in (("loss terms", "terms/"), ("loss weights", "weights/")):
        names = sorted({key for m in measurements for key in m.metrics if key.startswith(prefix)})
        lines = {name.removeprefix(prefix): _points(measurements, name) for name in names}
        panels[title] = {name: line for name, line in lines.items() if len(line) > 1}
    if not all(panels.values()):
        return None
    terms = sorted({name for lines in panels.values() for name in lines})
    colors = dict(zip(terms, itertools.cycle(_PALETTE), strict=False))
    parts = [
        part
        for index, (title, lines) in enumerate(panels.items())
        for part in _panel(index * _WIDTH, title, lines, colors)
    ]
    right = len(panels) * _WIDTH
    for index, (name, color) in enumerate(colors.items()):
        y = _TOP + index * _LINE_HEIGHT
        parts.append(svg.dot(right, y, 4, color=color))
        parts.append(svg.text(right + 10, y + 4, name, anchor="start"))
    return svg.document(right + _TERM_WIDTH, _HEIGHT, "Loss terms", parts)


def _panels(
    measurements: Sequence[Measurement], metrics: Sequence[str]
) -> Mapping[str, Mapping[str, Points]]:
    """Return points by metric, and by `train` or `val`."""
    panels: dict[str, dict[str, Points]] = {}
    for metric in (*metrics, "val_loss"):
        name = _base_name(metric)
        candidates = {metric, *(prefix + name for prefix in _PREFIXES)}
        lines: dict[str, Points] = {}
        for key in sorted(candidates, reverse=True):
            points = _points(measurements, key)
            if len(points) > 1:
                lines[key.removesuffix(name).strip("_")] = points
        if lines and len(panels) < _PANELS:
            panels[name] = lines
    return panels


def _points(measurements: Sequence[Measurement], name: str) -> Points:
    return [(m.fidelity, m.metrics[name]) for m in measurements if name in m.metrics]


def _base_name(metric: str) -> str:
    for prefix in _PREFIXES:
        metric = metric.removeprefix(prefix)
    return metric


def _panel(
    left: float, name: str, lines: Mapping[str, Points], colors: Mapping[str, str] = _COLORS
) -> Iterator[str]:
    points = [point for line in lines.values() for point in line]
    first, last = min(epoch for epoch, _ in points), max(epoch for epoch, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin
    bottom, right = _HEIGHT - _BOTTOM, left + _WIDTH - _RIGHT

    def at(epoch: float, value: float) -> tuple[float, float]:
        share = (epoch - first) / (last - first)
        return (
            left + _LEFT + share * (_WIDTH - _LEFT - _RIGHT),
            bottom - (value - low) / (high - low) * (bottom - _TOP),
        )

    yield svg.text(left + _LEFT, _TOP - 14, name, size=14, bold=True, anchor="start")
    for share in (0.0, 0.5, 1.0):
        value = low + margin + share * (high - low - 2 * margin)
        _, y = at(first, value)
        yield svg.path(f"M{left + _LEFT:g} {y:.1f}H{right:g}", color="#e2e8f0", width=1)
        yield svg.text(left + _LEFT - 6, y + 4, f"{value:.3g}", fill=svg.PALE, anchor="end")
    for epoch in sorted({first, last}):
        yield svg.text(at(epoch, low)[0], bottom + 18, str(epoch), fill=svg.PALE)
    yield svg.text((left + _LEFT + right) / 2, bottom + 34, "epoch", fill=svg.PALE)
    for index, (split, line) in enumerate(lines.items()):
        yield from _line([at(*point) for point in line], colors.get(split, svg.BLUE.edge))
        if split in _NAMES:
            at_x, color = right - index * _LABEL_WIDTH, colors[split]
            yield svg.text(at_x, _TOP - 14, _NAMES[split], fill=color, anchor="end")


def _line(points: Sequence[tuple[float, float]], color: str) -> Iterator[str]:
    yield svg.polyline(points, color=color)
    if len(points) <= 40:
        for x, y in points:
            yield svg.dot(x, y, 2.5, color=color)
