"""`sequence`: series of measurements, by recurrence, causal convolution, attention or memory."""

from search_spaces.architecture import Stream
from search_spaces.blocks import SeriesStem
from search_spaces.catalog import step_parts
from search_spaces.domains import IntRange, Record
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """Return the space of networks for series (steps, measurements), for either kind of task."""
    stem = Record(SeriesStem, {"width": IntRange(32, 96, step=16, prior=64)})
    series = Record(Stream, {"stem": stem, "stages": step_parts.stages(1, 3)})
    return SearchSpace.of(
        name="sequence",
        version="1",
        architecture=step_parts.predictor(
            {"series": series}, step_parts.pooled("last", "average", "maximum")
        ),
        recipe=step_parts.recipe(),
    )
