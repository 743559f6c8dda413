"""Candidates and networks of earlier versions keep their digests and outputs."""

import hashlib

import pytest
import torch
from torch import nn

from search_spaces.blocks import Attention, Block, Gate, Residual
from search_spaces.blocks.initialisation import initialize
from search_spaces.catalog import load
from search_spaces.domains.suggester import RandomSuggester


@pytest.mark.parametrize(
    ("block", "weights", "values"),
    [
        (Attention(), 13, [-0.573485, -3.182541, -2.231793, 1.345926, -0.292824]),
        (
            Gate(convolution=Residual(), attention=Attention()),
            29,
            [-2.174133, -0.862709, -0.379719, 1.402259, -0.607652],
        ),
    ],
    ids=["attention", "gate"],
)
def test_a_block_gives_what_it_ever_gave(block: Block, weights: int, values: list[float]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(block.build((8, 3, 3)))
    initialize(module, "he")
    assert len(module.state_dict()) == weights
    y = module(torch.linspace(-1, 1, 144).reshape(2, 8, 3, 3))
    assert y.flatten()[::29].tolist() == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "default", "sampled"),
    [
        ("hybrid", "1c81053166d23c8a", "007fdde056f8ff76"),
        ("convolution", "6c216128738f446b", "d531ea8f2ca5d2d2"),
        ("transformer", "5fcc6628cb9b0c09", "e4fb02cc87600508"),
        ("tiny", "8732a93c996a8f06", "68bdfd16e6b52c01"),
        ("wide", "f7e3fd7d036c9ca6", "89583293a20baeb0"),
        ("sequence", "d152e3b7e277a30e", "a9394712aa335ade"),
        ("text", "aaf0fa834bfcdb9d", "38ef981ad60726d7"),
        ("vector", "472d8d9af75fefb2", "61647065b174c361"),
        ("pendulum", "757813acfb7970c5", "098c40b01ec21822"),
        ("image_text", "0dca0bd846986814", "d5c99d7d54419a10"),
        ("image_sound", "1acd14a04cd8525f", "7fd53b1fee3d4158"),
    ],
)
def test_a_spaces_candidates_keep_their_digests(name: str, default: str, sampled: str) -> None:
    space = load(name)
    assert space.default().digest.startswith(default)
    digests = [space.resolve(RandomSuggester(seed)).digest for seed in range(50)]
    assert hashlib.sha256("".join(digests).encode()).hexdigest().startswith(sampled)
