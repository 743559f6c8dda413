"""The laws hold for random candidates of every built-in space, and fail where they should."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import laws
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.blocks import Attention, Recurrent, Residual
from search_spaces.catalog import catalog, load
from search_spaces.domains import Const, IntRange
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.task import Shape, Task

TASK = Task(inputs={"image": (1, 8, 8)}, num_classes=10)


@pytest.mark.parametrize("name", catalog())
def test_every_sampled_candidate_obeys_the_laws(name: str, samples: int) -> None:
    found = laws.examine(name, range(samples))
    assert len(found["parameters"]) == samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Liar:
    """Promises the shape that goes in and gives half of it."""

    kind: ClassVar[str] = "liar"

    def out_shape(self, shape: Shape) -> Shape:
        return shape

    def build(self, shape: Shape) -> nn.Module:
        return nn.MaxPool2d(2)


def inconsistent() -> Any:
    candidate = load("tiny").resolve(RandomSuggester(0))
    image = candidate.architecture.streams["image"]
    stage = replace(image.stages[0], block=Liar())
    streams = {"image": replace(image, stages=(stage,))}
    return replace(candidate, architecture=replace(candidate.architecture, streams=streams))


def test_a_broken_promise_of_a_shape_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"streams\.image\.stages\.0 promises"):
        laws.what_is_promised_comes_out(inconsistent(), TASK)


def test_a_block_that_wants_one_number_format_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(module: nn.Linear, x: Tensor) -> Tensor:
        y = functional.linear(x, module.weight, module.bias)
        return torch.lerp(y, torch.zeros_like(y), functional.softmax(y, dim=-1))

    monkeypatch.setattr(nn.Linear, "forward", mixed)
    with pytest.raises(RuntimeError, match="expected dtype"):
        laws.what_is_promised_comes_out(load("tiny").default(), TASK)


def test_a_candidate_that_cannot_be_read_back_is_noticed() -> None:
    with pytest.raises(ValueError, match="unknown block 'liar'"):
        laws.plain_data_leads_back(inconsistent())


def test_a_name_with_two_domains_is_noticed() -> None:
    one, other = laws.Noting(0), laws.Noting(0)
    IntRange(1, 3).resolve(one, "depth")
    IntRange(1, 4).resolve(other, "depth")
    with pytest.raises(AssertionError, match="depth is asked for as int 1 3"):
        laws.one_name_has_one_domain(one.asked, other.asked)


def test_a_space_that_forgets_an_answer_is_noticed() -> None:
    candidate = load("tiny").default()
    space = replace(load("tiny"), candidates=Const(candidate))
    with pytest.raises(AssertionError, match="answered"):
        laws.encoding_undoes_resolving(space, candidate, {"architecture.depth": 3})


@pytest.mark.parametrize(
    ("block", "shape", "multiply_adds"),
    [
        (Residual(), (4, 5, 5), 2 * 25 * 9 * 16),
        (Attention(heads=2, mlp_ratio=2.0), (6, 8), 6 * 8 * 8 * 8 + 2 * 6 * 6 * 8),
        (Recurrent(), (6, 8), 6 * 2 * 4 * 8 * 8),
        (Recurrent(cell="gru"), (6, 8), 6 * 2 * 3 * 8 * 8),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_second_count_is_what_a_pencil_gives(
    block: Any, shape: Shape, multiply_adds: int
) -> None:
    with laws.ByHand() as counter, torch.no_grad():
        block.build(shape).eval()(torch.randn(3, *shape))
    assert counter.flops == 2 * 3 * multiply_adds


def test_a_run_that_was_cut_off_goes_on_and_says_what_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "laws" / "chunks.jsonl"
    monkeypatch.setattr(laws, "catalog", lambda: ("tiny",))
    monkeypatch.setattr(laws, "CHUNK", 2)
    first = list(laws.results(4, map, kept))
    assert [(one["first"], one["end"]) for one in first] == [(0, 2), (2, 4)]
    whole, cut = kept.read_text().splitlines()
    kept.write_text(f"{whole}\n{cut[:40]}")
    monkeypatch.setattr(laws, "chunks", lambda samples: [("tiny", 0, 2)])
    monkeypatch.setattr(laws, "examine_chunk", lambda chunk: pytest.fail("done before"))
    again = list(laws.results(4, map, kept))
    assert [one["parameters"] for one in again] == [first[0]["parameters"]]
    assert next(laws.report(again)).startswith("tiny: 2 candidates obey")
    broken = json.loads(whole) | {"asked": {"a": "int 1 2"}, "broken": "tiny, seed 1: so it is"}
    assert list(laws.report([broken]))[-1] == "BROKEN tiny, seed 1: so it is"
