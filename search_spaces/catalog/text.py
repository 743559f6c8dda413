"""`text`: sequences of tokens, with the same blocks as series."""

from search_spaces.architecture import Stream
from search_spaces.blocks import TokenStem
from search_spaces.catalog import step_parts
from search_spaces.domains import Const, Domain, IntRange, Record
from search_spaces.space import SearchSpace

VOCABULARY = 10_000
"""Size of the vocabulary."""


def stem() -> Domain[TokenStem]:
    """Return token embeddings."""
    width = IntRange(32, 128, step=16, prior=64)
    return Record(TokenStem, {"vocabulary": Const(VOCABULARY), "width": width})


def space() -> SearchSpace:
    """Return the space of networks for sequences (length,) of tokens below 10,000."""
    text = Record(Stream, {"stem": stem(), "stages": step_parts.stages(1, 3)})
    return SearchSpace.of(
        name="text",
        version="1",
        architecture=step_parts.predictor(
            {"text": text}, step_parts.pooled("average", "last", "maximum")
        ),
        recipe=step_parts.recipe(),
    )
