"""Every ready space obeys the laws: what it draws builds, and comes back from its parameters."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.architecture import Architecture, Network
from search_spaces.candidate import Candidate
from search_spaces.catalog import catalog, load
from search_spaces.cost import cost
from search_spaces.meta import Counting
from search_spaces.plugins import UnknownNameError
from search_spaces.suggester import RandomSuggester, ReplaySuggester
from search_spaces.task import Task

TASKS = [
    Task(inputs={"image": shape}, num_classes=10)
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48))
]
NUM_CANDIDATES = 200


@pytest.fixture(scope="module", params=catalog())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def candidates(name: str) -> list[Candidate]:
    return [load(name).resolve(RandomSuggester(seed)) for seed in range(NUM_CANDIDATES)]


def test_every_drawn_candidate_builds_and_gives_what_it_promised(
    candidates: list[Candidate],
) -> None:
    for index, candidate in enumerate(candidates):
        task = TASKS[index % len(TASKS)]
        promised = candidate.architecture.walk(task)
        with torch.device("meta"):
            network = Network(candidate.architecture, task, auxiliary=True)
            image = torch.empty(2, *task.inputs["image"])
        with torch.no_grad(), Counting():
            output = network({"image": image})
        assert output.logits_BK.shape == (2, *promised["head"]), candidate.describe()
        assert output.embedding_BD.shape == (2, *promised["fusion"]), candidate.describe()
        assert [scores.shape for scores in output.auxiliary] == [(2, 10)]


def test_flops_equal_torchs_own_counter(candidates: list[Candidate]) -> None:
    for candidate in candidates[:5]:
        with torch.device("meta"):
            network = Network(candidate.architecture, TASKS[1], auxiliary=False)
            image = torch.empty(2, 1, 28, 28)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network({"image": image})
        counted = cost(candidate.architecture, TASKS[1])
        assert counted.flops * 2 == counter.get_total_flops(), candidate.describe()


def test_parameters_lead_back_to_the_candidate_and_the_candidate_to_its_parameters(
    name: str, candidates: list[Candidate]
) -> None:
    space = load(name)
    for candidate in candidates:
        params = space.encode(candidate)
        replay = ReplaySuggester(params)
        assert space.resolve(replay) == candidate
        assert replay.unused() == ()
        assert space.encode(space.resolve(ReplaySuggester(params))) == params


def test_architectures_survive_the_round_trip_through_plain_data(
    candidates: list[Candidate],
) -> None:
    for candidate in candidates:
        data = candidate.architecture.to_dict()
        assert Architecture.from_dict(data) == candidate.architecture


def test_different_draws_have_different_digests(name: str, candidates: list[Candidate]) -> None:
    params = {str(sorted(load(name).encode(candidate).items())) for candidate in candidates}
    assert len({candidate.digest for candidate in candidates}) == len(params)


def test_the_default_lies_in_the_space_and_trains(name: str) -> None:
    space = load(name)
    default = space.default()
    assert default in space
    assert space.resolve(ReplaySuggester(space.encode(default))) == default
    torch.manual_seed(0)
    network = default.architecture.build(TASKS[0])
    network({"image": torch.randn(4, 1, 8, 8)}).logits_BK.square().sum().backward()
    starved = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert starved == []


def test_one_parameter_name_has_one_domain_across_candidates(
    name: str, candidates: list[Candidate]
) -> None:
    asked: dict[str, object] = {}

    class Noting(RandomSuggester):
        def suggest_int(self, name: str, low: int, high: int, **rest: object) -> int:
            assert asked.setdefault(name, (low, high, *rest.items())) == (low, high, *rest.items())
            return super().suggest_int(name, low, high, **rest)

        def suggest_categorical(self, name: str, choices: list[object]) -> object:
            assert asked.setdefault(name, tuple(choices)) == tuple(choices)
            return super().suggest_categorical(name, choices)

    for seed in range(NUM_CANDIDATES):
        load(name).resolve(Noting(seed))


def test_a_stages_block_is_named_by_the_stage_itself() -> None:
    params = load("hybrid").encode(load("hybrid").default())
    stage = "architecture.streams.image.stages.1"
    assert params[stage] == "gate"
    assert params[f"{stage}.gate.attention.heads"] == 4


def test_the_hybrid_space_holds_both_forms_and_what_they_are_made_of() -> None:
    described = [load("hybrid").resolve(RandomSuggester(seed)).describe() for seed in range(200)]
    assert any("gate" in one for one in described)
    assert any("T" in one and "gate" not in one for one in described)
    for letters in ("C", "M", "N", "T", "CT", "MT", "NT"):
        assert any(f"-{letters}" in one for one in described), letters


@pytest.mark.parametrize(
    ("space", "others"), [("convolution", {"T"}), ("transformer", {"C", "M", "N"})]
)
def test_the_baselines_are_pure(space: str, others: set[str]) -> None:
    for seed in range(50):
        assert not set(load(space).resolve(RandomSuggester(seed)).describe()) & others


def test_the_hybrid_default_costs_no_more_than_the_plain_network_of_three_convolutions() -> None:
    hybrid, plain = (
        cost(load(name).default().architecture, TASKS[1]) for name in ("hybrid", "convolution")
    )
    assert hybrid.flops < plain.flops
    assert hybrid.parameters < plain.parameters
    # What batch normalisation, rectifiers and pooling touch costs as much time as arithmetic.
    assert hybrid.activation_bytes < plain.activation_bytes


def test_tiny_networks_are_tiny() -> None:
    for seed in range(20):
        assert cost(load("tiny").resolve(RandomSuggester(seed)).architecture, TASKS[0]).flops < 3e6


def test_an_unknown_space_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'hybrid'"):
        load("hybird")


def test_naming_the_spaces_loads_no_torch() -> None:
    code = "import sys; from search_spaces.catalog import catalog; catalog(); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"torch" not in printed.stdout.split()


def test_the_wide_space_holds_every_hybrid_form() -> None:
    drawn = [str(load("wide").resolve(RandomSuggester(seed)).architecture) for seed in range(200)]
    forms = ("grid", "shifted", "linear", "convolution", "relative", "rotary", "none")
    mixes = ("sum", "concatenate", "cross_attention", "channel", "scalar", "token")
    for word in (*forms, *mixes, "tokens", "patch", "rms"):
        assert any(f"='{word}'" in one for one in drawn), word
    assert any("hard=True" in one for one in drawn)
