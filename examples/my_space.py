"""A space of your own with a block of your own: `space: my_space.py:space` in study.yaml."""

from dataclasses import dataclass

from torch import nn

from search_spaces import (
    Const,
    ConvolutionStem,
    Inline,
    IntRange,
    OneOf,
    Record,
    Repeat,
    Residual,
    SearchSpace,
    Stage,
    choice,
    classifier,
    register_block,
)


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """Averages each pixel with its neighbors."""

    kind = "blur"
    size: int = 3

    def out_shape(self, shape):
        return shape

    def build(self, shape):
        return nn.AvgPool2d(self.size, stride=1, padding=self.size // 2)


block = OneOf({"residual": Const(Residual()), "blur": Record(Blur, {"size": choice(3, 5)})})
stage = Record(
    Stage, {"width": IntRange(16, 64, step=16), "depth": Const(1), "block": Inline(block)}
)
stem = Const(ConvolutionStem(width=16))
space = SearchSpace.of(name="mine", version="1", architecture=classifier(stem, Repeat(stage, 1, 3)))
