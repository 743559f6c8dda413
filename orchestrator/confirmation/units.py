"""Units in which differences of a metric are shown: points, or the metric's own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FRACTION = re.compile(r"accuracy|f1|auroc|precision|recall|top\d|mcc")
"""Names of metrics between 0 and 1, whose differences are given in points."""


@dataclass(frozen=True, slots=True)
class MetricUnit:
    """Unit of a metric's differences.

    Examples:
        >>> MetricUnit.of("val_accuracy", [0.91, 0.93]).difference(0.018)
        '1.8 points'
    """

    metric: str
    in_points: bool
    """True if differences are shown in points, 100 times the metric."""

    @classmethod
    def of(cls, metric: str, values: Iterable[float]) -> "MetricUnit":
        """Return the unit of a metric with these values: accuracies in percent are no fractions."""
        fraction = all(abs(value) <= 1 for value in values)
        return cls(metric, bool(_FRACTION.search(metric)) and fraction)

    def number(self, value: float) -> str:
        """Return a difference without its unit."""
        return f"{100 * value:.1f}" if self.in_points else f"{value:.3g}"

    def difference(self, value: float) -> str:
        """Return a difference with its unit."""
        return f"{self.number(value)} {'points' if self.in_points else f'in {self.metric}'}"
