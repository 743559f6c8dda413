"""Loss terms against formulas written out, and mixtures of them."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search_spaces import losses
from search_spaces.domains import SpaceError
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.loss_terms import TERMS, LossTerm, LossWeights, loss_term
from search_spaces.losses import loss_domain
from search_spaces.losses.scale import WARMUP_STEPS
from search_spaces.model_output import Batch, ModelOutput
from search_spaces.plugins import DuplicateNameError, UnknownNameError, load_user_object

B, K, D = 12, 4, 6


def sampled(seed: int = 0, heads: int = 2) -> tuple[ModelOutput, Batch]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, requires_grad=True)

    output = ModelOutput(normal(B, K), normal(B, D), tuple(normal(B, K) for _ in range(heads)))
    return output, Batch(targets_B=torch.randint(0, K, (B,), generator=draw))


def log_p(logits_BK: Tensor) -> list[list[float]]:
    rows = logits_BK.tolist()
    return [[x - math.log(sum(math.exp(y) for y in row)) for x in row] for row in rows]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_mean_over_smoothed_targets(smoothing: float) -> None:
    output, batch = sampled()
    expected = 0.0
    for row, target in zip(log_p(output.logits_BK), batch.targets_B.tolist(), strict=True):
        for k, value in enumerate(row):
            mass = smoothing / K + (1 - smoothing) * (k == target)
            expected -= mass * value / B
    found = losses.CrossEntropy(smoothing=smoothing)(output, batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_weighs_each_example_by_its_miss(gamma: float) -> None:
    output, batch = sampled()
    chosen = [
        row[t] for row, t in zip(log_p(output.logits_BK), batch.targets_B.tolist(), strict=True)
    ]
    expected = sum(-((1 - math.exp(value)) ** gamma) * value for value in chosen) / B
    assert losses.Focal(gamma=gamma)(output, batch).item() == pytest.approx(expected, rel=1e-5)


def test_focal_has_finite_gradients_where_the_answer_is_certain() -> None:
    logits_BK = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    output = ModelOutput(logits_BK, logits_BK)
    losses.Focal(gamma=0.5)(output, Batch(targets_B=torch.tensor([0, 0]))).backward()
    assert logits_BK.grad is not None
    assert torch.isfinite(logits_BK.grad).all()


def contrastive(embedding_BD: Tensor, targets: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, averaged over anchors that have a partner."""
    unit = torch.nn.functional.normalize(embedding_BD.double(), dim=1)
    similarity = (unit @ unit.T / temperature).tolist()
    anchors = []
    for i, target in enumerate(targets):
        partners = [p for p, other in enumerate(targets) if p != i and other == target]
        if partners:
            total = math.log(sum(math.exp(similarity[i][a]) for a in range(len(targets)) if a != i))
            anchors.append(sum(total - similarity[i][p] for p in partners) / len(partners))
    return sum(anchors) / len(anchors)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supervised_contrastive_is_the_published_formula(temperature: float) -> None:
    output, batch = sampled()
    batch.targets_B[0] = K  # alone in its class: no anchor
    expected = contrastive(output.embedding_BD.detach(), batch.targets_B.tolist(), temperature)
    found = losses.SupervisedContrastive(temperature=temperature)(output, batch)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_supervised_contrastive_is_a_finite_zero_without_any_pair() -> None:
    output, _ = sampled()
    found = losses.SupervisedContrastive()(output, Batch(targets_B=torch.arange(B)))
    found.backward()
    assert found.item() == 0
    assert output.embedding_BD.grad is not None
    assert torch.isfinite(output.embedding_BD.grad).all()


def test_auxiliary_is_the_mean_cross_entropy_of_the_heads() -> None:
    output, batch = sampled()
    heads = [losses.CrossEntropy()(ModelOutput(a, a), batch) for a in output.auxiliary]
    expected = sum(head.item() for head in heads) / 2
    assert losses.Auxiliary()(output, batch).item() == pytest.approx(expected, rel=1e-6)


def test_auxiliary_is_a_zero_that_can_be_differentiated_where_there_is_no_head() -> None:
    output, batch = sampled(heads=0)
    found = losses.Auxiliary()(output, batch)
    found.backward()
    assert found.item() == 0


MIXTURE = LossWeights(
    main="focal",
    terms={
        "auxiliary": LossTerm(weight=0.5),
        "focal": LossTerm(weight=1.0, options={"gamma": 1.0}),
        "cross_entropy": LossTerm(weight=0.0),
        "supervised_contrastive": LossTerm(weight=0.5, options={"temperature": 0.2}),
    },
)


def test_a_mixture_weighs_its_terms_by_shares_that_sum_to_one() -> None:
    output, batch = sampled()
    loss = losses.build(MIXTURE)
    value = loss(output, batch)
    assert MIXTURE.normalized_weights() == {
        "auxiliary": 0.25,
        "focal": 0.5,
        "supervised_contrastive": 0.25,
    }
    assert set(value.terms) == {"auxiliary", "focal", "supervised_contrastive"}
    assert value.main.item() == value.terms["focal"].item()
    assert not value.main.requires_grad
    loss.backward(value, [])
    logged = loss.end_epoch()
    assert logged["terms/focal"] == pytest.approx(value.main.item())
    assert logged["weights/focal"] == 1  # the sizes of the others are not known yet
    for _ in range(WARMUP_STEPS):
        loss.backward(loss(*sampled()), [])
    loss.end_epoch()
    loss.backward(loss(*sampled()), [])
    logged = loss.end_epoch()
    assert [logged[f"weights/{name}"] for name in value.terms] == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize(("steps", "joins_at"), [(4, 2), (9, 2), (50, 5), (100, 10), (9000, 10)])
def test_side_terms_join_within_a_tenth_of_a_short_training(steps: int, joins_at: int) -> None:
    loss = losses.build(MIXTURE)
    loss.scale.expect_steps(steps)
    acted = []
    for _ in range(12):
        output, batch = sampled()
        loss.backward(loss(output, batch), [])
        embedded = output.embedding_BD.grad  # only a side term reads it
        acted.append(bool(embedded.any()))
        assert (loss.end_epoch()["weights/supervised_contrastive"] > 0) is acted[-1]
    assert acted.index(True) + 1 == joins_at


def test_terms_count_on_the_main_terms_scale() -> None:
    loss = losses.build(MIXTURE)
    for _ in range(WARMUP_STEPS):
        output, batch = sampled()
        loss.backward(loss(output, batch), [])
    found = [tensor.grad for tensor in (output.logits_BK, output.embedding_BD)]
    output, batch = sampled()
    value = losses.build(MIXTURE)(output, batch)
    size = value.main.item()
    parts = {name: term * size / term.item() for name, term in value.terms.items()}
    expected = sum(MIXTURE.normalized_weights()[name] * part for name, part in parts.items())
    torch.autograd.backward(expected)
    for ours, theirs in zip(found, (output.logits_BK, output.embedding_BD), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


def test_a_mixture_says_what_it_reads() -> None:
    assert losses.build(LossWeights()).needs == {"logits"}
    assert losses.build(MIXTURE).needs == {"logits", "auxiliary", "embedding", "labels"}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_losses_and_their_parameters_lead_to_each_other(seed: int) -> None:
    domain = loss_domain()
    chance = RandomSuggester(seed)
    weights = domain.resolve(chance, "losses")
    assert domain.encode(weights, "losses") == chance.params
    assert domain.resolve(ReplaySuggester(chance.params), "losses") == weights
    assert LossWeights.from_dict(weights.to_dict()) == weights
    assert math.isclose(sum(weights.normalized_weights().values()), 1)


def test_equal_ratios_on_a_grid_are_one_canonical_mixture_to_the_last_bit() -> None:
    def canonical(main: float, side: float) -> dict[str, Any]:
        terms = {"cross_entropy": LossTerm(weight=main), "focal": LossTerm(weight=side)}
        return LossWeights(terms=terms).canonical()

    for main, side in itertools.product(range(1, 21), repeat=2):
        assert canonical(main / 10, side / 10) == canonical(main * 0.3, side * 0.3)


@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e3), weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3))
def test_weights_of_equal_ratio_are_one_canonical_mixture(
    scale: float, weights: list[float]
) -> None:
    names = ("cross_entropy", "auxiliary", "focal")

    def mixture(factor: float) -> LossWeights:
        terms = {n: LossTerm(weight=w * factor) for n, w in zip(names, weights, strict=True)}
        return LossWeights(terms=terms)

    one, other = mixture(1.0).canonical(), mixture(scale).canonical()
    for name in names:
        one_share, other_share = one["terms"][name]["weight"], other["terms"][name]["weight"]
        assert one_share == pytest.approx(other_share, rel=1e-11)


def test_the_default_is_smoothed_cross_entropy_alone() -> None:
    assert loss_domain().default().canonical() == {
        "main": "cross_entropy",
        "terms": {"cross_entropy": {"weight": 1.0, "smoothing": 0.1}},
        "balancer": "fixed",
    }


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LossTerm(weight=-1.0), "not negative"),
        (lambda: LossTerm(weight=math.nan), "finite"),
        (lambda: LossWeights(main="focal"), "losses.main: 'focal' is not a term"),
        (lambda: LossWeights(terms={"cross_entropy": LossTerm(weight=0.0)}), "losses.main"),
        (lambda: LossWeights(balancer="magic"), "losses.balancer: 'magic' is none of fixed"),  # type: ignore[arg-type]
        (
            lambda: losses.build(LossWeights(terms={"cross_entropy": LossTerm(options={"x": 1})})),
            "losses.terms.cross_entropy: .*unexpected keyword argument 'x'",
        ),
        (lambda: loss_term("x", needs=(), options={"weight": None}), "cannot be called 'weight'"),  # type: ignore[dict-item]
    ],
)
def test_losses_that_cannot_be_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_a_term_cannot_be_main_and_side_at_once() -> None:
    with pytest.raises(SpaceError, match="focal"):
        loss_domain(main=("cross_entropy", "focal"), side=("focal",))


def test_an_unknown_term_is_reported_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'focal'"):
        loss_domain(main=("focl",))
    with pytest.raises(UnknownNameError, match="Did you mean 'focal'"):
        losses.build(LossWeights(main="focl", terms={"focl": LossTerm()}))


def test_the_main_term_of_a_single_one_need_not_be_said() -> None:
    data = {"terms": {"focal": {"weight": 1.0, "gamma": 2.0}}, "balancer": "fixed"}
    assert LossWeights.from_dict(data).main == "focal"


def test_a_term_of_the_user_is_searched_and_computed_like_ours(tmp_path: Path) -> None:
    text = """
from torch import nn
from search_spaces.domains import FloatRange
from search_spaces.loss_weights import loss_domain, loss_term

@loss_term("confidence_of_a_test", needs=("logits",), options={"floor": FloatRange(0.0, 0.5)})
class Confidence(nn.Module):
    def __init__(self, *, floor):
        super().__init__()
        self.floor = floor
    def forward(self, output, batch):
        return output.logits_BK.abs().mean() + self.floor

losses = loss_domain(main=("cross_entropy",), side=("confidence_of_a_test",))
"""
    (tmp_path / "mine.py").write_text(text)
    domain = load_user_object("mine.py:losses", tmp_path).value
    params = {
        "l.main.cross_entropy.smoothing": 0.0,
        "l.confidence_of_a_test": "on",
        "l.confidence_of_a_test.on.weight": 1.0,
        "l.confidence_of_a_test.on.floor": 0.25,
    }
    weights = domain.resolve(ReplaySuggester(params), "l")
    output, batch = sampled()
    value = losses.build(weights)(output, batch)
    expected = output.logits_BK.abs().mean().item() + 0.25
    assert value.terms["confidence_of_a_test"].item() == pytest.approx(expected)
    with pytest.raises(DuplicateNameError, match="'focal' exists already"):
        loss_term("focal", needs=("logits",))(losses.Focal)
    assert TERMS["focal"].make is losses.Focal
