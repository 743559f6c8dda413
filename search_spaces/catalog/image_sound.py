"""`image_sound`: an image and a spectrogram, and their fusion."""

from search_spaces.architecture import Stream
from search_spaces.blocks import SpectrogramStem
from search_spaces.catalog import image_text, step_parts
from search_spaces.domains import IntRange, Record
from search_spaces.domains.priors import likely_first
from search_spaces.space import SearchSpace


def space() -> SearchSpace:
    """Return the space of networks for an image and a spectrogram (1, frequencies, time)."""
    stem = Record(
        SpectrogramStem,
        {
            "width": IntRange(16, 64, step=16, prior=32),
            "normalisation": likely_first("batch", "group", "layer"),
        },
    )
    sound = Record(Stream, {"stem": stem, "stages": step_parts.stages(1, 2)})
    return SearchSpace.of(
        name="image_sound",
        version="1",
        architecture=image_text.with_image("sound", sound),
        recipe=step_parts.recipe(),
    )
