"""Search spaces of networks, training recipes and loss weights, and the parts to write your own.

A user's file needs no other import:

    from search_spaces import Const, IntRange, Record, SearchSpace, Stage, register_block

The names below are loaded when they are first used: importing this package does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture, Stream
    from search_spaces.blocks import (
        Attention,
        Block,
        Chain,
        Classify,
        Concatenate,
        ConformerConvolution,
        ConvNeXt,
        ConvolutionStem,
        CrossAttentionFusion,
        FeedForward,
        Gate,
        Gated,
        MBConv,
        MultiTaskHead,
        Parallel,
        PatchStem,
        ProjectionHead,
        RawStem,
        Recurrent,
        Regress,
        Residual,
        SegmentMemory,
        SeriesStem,
        SpectrogramStem,
        Stage,
        TemporalConvolution,
        TokenStem,
        TwoTower,
        UnbuildableError,
        VectorStem,
        register_block,
    )
    from search_spaces.candidate import Candidate, Decisions
    from search_spaces.catalog.parts import classifier
    from search_spaces.domains import (
        Const,
        Domain,
        DomainError,
        FloatRange,
        Inline,
        IntRange,
        OneOf,
        Record,
        Repeat,
        Shared,
        SpaceError,
        choice,
    )
    from search_spaces.loss_terms import LossTerm, LossWeights, loss_term
    from search_spaces.losses import law, loss_domain, rising
    from search_spaces.model_output import Batch, ModelOutput
    from search_spaces.recipe import Recipe, recipe_domain
    from search_spaces.space import Constraint, DefineByRunSpace, SearchSpace
    from search_spaces.task import Shape, Task

_HOMES = {
    name: module
    for module, names in {
        "search_spaces.architecture": "Architecture Stream",
        "search_spaces.blocks": (
            "Attention Block Chain Classify Concatenate ConformerConvolution ConvNeXt "
            "ConvolutionStem CrossAttentionFusion FeedForward Gate Gated MBConv MultiTaskHead "
            "Parallel PatchStem ProjectionHead RawStem Recurrent Regress Residual "
            "SegmentMemory SeriesStem SpectrogramStem Stage TemporalConvolution TokenStem "
            "TwoTower UnbuildableError VectorStem register_block"
        ),
        "search_spaces.candidate": "Candidate Decisions",
        "search_spaces.catalog.parts": "classifier",
        "search_spaces.domains": (
            "Const Domain DomainError FloatRange Inline IntRange OneOf Record Repeat Shared "
            "SpaceError choice"
        ),
        "search_spaces.loss_terms": "LossTerm LossWeights loss_term",
        "search_spaces.losses": "law loss_domain rising",
        "search_spaces.model_output": "Batch ModelOutput",
        "search_spaces.recipe": "Recipe recipe_domain",
        "search_spaces.space": "Constraint DefineByRunSpace SearchSpace",
        "search_spaces.task": "Shape Task",
    }.items()
    for name in names.split()
}
"""Module of each public name."""

__all__ = [
    "Architecture",
    "Attention",
    "Batch",
    "Block",
    "Candidate",
    "Chain",
    "Classify",
    "Concatenate",
    "ConformerConvolution",
    "Const",
    "Constraint",
    "ConvNeXt",
    "ConvolutionStem",
    "CrossAttentionFusion",
    "Decisions",
    "DefineByRunSpace",
    "Domain",
    "DomainError",
    "FeedForward",
    "FloatRange",
    "Gate",
    "Gated",
    "Inline",
    "IntRange",
    "LossTerm",
    "LossWeights",
    "MBConv",
    "ModelOutput",
    "MultiTaskHead",
    "OneOf",
    "Parallel",
    "PatchStem",
    "ProjectionHead",
    "RawStem",
    "Recipe",
    "Record",
    "Recurrent",
    "Regress",
    "Repeat",
    "Residual",
    "SearchSpace",
    "SegmentMemory",
    "SeriesStem",
    "Shape",
    "Shared",
    "SpaceError",
    "SpectrogramStem",
    "Stage",
    "Stream",
    "Task",
    "TemporalConvolution",
    "TokenStem",
    "TwoTower",
    "UnbuildableError",
    "VectorStem",
    "choice",
    "classifier",
    "law",
    "loss_domain",
    "loss_term",
    "recipe_domain",
    "register_block",
    "rising",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
