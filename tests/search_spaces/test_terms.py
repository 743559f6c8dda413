"""Loss terms equal plain references, and a user's own terms train."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor, nn
from torch.nn import functional

from search_spaces import losses
from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import Attention, Concatenate, Regress, Stage, VectorStem
from search_spaces.loss_terms import LossTerm, LossWeights
from search_spaces.losses import loss_domain
from search_spaces.losses.physics import Law, Rising
from search_spaces.model_output import Batch, ModelOutput, TargetScaler
from search_spaces.plugins import load_user_object
from search_spaces.task import Task
from workers.training.device import Execution
from workers.training.evaluate import forward

B, K, D, V = 8, 3, 5, 2
MAKE = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=MAKE)


def numbers() -> tuple[ModelOutput, Batch]:
    return ModelOutput(values_BV=normal(B, V)), Batch(values_BV=normal(B, V))


def test_mse_and_huber_are_torchs() -> None:
    output, batch = numbers()
    missed = output.values_BV - batch.values_BV
    assert losses.SquaredError()(output, batch) == pytest.approx(float(missed.square().mean()))
    small = missed.abs() <= 0.5
    expected = torch.where(small, missed.square() / 2, 0.5 * (missed.abs() - 0.25)).mean()
    assert losses.Huber(delta=0.5)(output, batch) == pytest.approx(float(expected))


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_the_quantile_loss_is_least_at_the_quantile(quantile: float) -> None:
    targets = torch.linspace(0, 1, 101)[:, None]
    results = [
        float(
            losses.Quantile(quantile=quantile)(
                ModelOutput(values_BV=torch.full_like(targets, guess)), Batch(values_BV=targets)
            )
        )
        for guess in (quantile - 0.1, quantile, quantile + 0.1)
    ]
    assert results[1] < min(results[0], results[2])


def test_triplets_are_the_hardest_of_the_batch() -> None:
    embedding, labels = normal(B, D), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    unit = functional.normalize(embedding)
    apart = torch.cdist(unit, unit)
    same = labels[:, None] == labels[None]
    expected = []
    for i in range(B):
        farthest = max(float(apart[i, j]) for j in range(B) if same[i, j] and j != i)
        nearest = min(float(apart[i, j]) for j in range(B) if not same[i, j])
        expected.append(max(0.0, farthest - nearest + 0.3))
    missed = [each for each in expected if each > 0]
    found = losses.Triplet(margin=0.3)(ModelOutput(embedding_BD=embedding), Batch(targets_B=labels))
    assert float(found) == pytest.approx(sum(missed) / len(missed), rel=1e-4)


def test_nt_xent_is_the_cross_entropy_of_finding_the_other_view() -> None:
    first, second = normal(B, D), normal(B, D)
    both = functional.normalize(torch.cat([first, second]))
    scores = both @ both.T / 0.2
    scores.fill_diagonal_(-math.inf)
    partner = torch.arange(2 * B).roll(B)
    expected = functional.cross_entropy(scores, partner)
    found = losses.NTXent(temperature=0.2)(
        ModelOutput(embedding_BD=first), Batch(view=ModelOutput(embedding_BD=second))
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_clip_is_least_where_pairs_match_and_learns_its_temperature() -> None:
    towers = tuple(functional.normalize(normal(B, D)) for _ in range(2))
    term = losses.Clip()
    scores = towers[0] @ towers[1].T / 0.07
    each = torch.arange(B)
    expected = sum(functional.cross_entropy(s, each) for s in (scores, scores.T)) / 2
    found = term(ModelOutput(towers=towers), Batch())
    assert found.item() == pytest.approx(float(expected), rel=1e-4)
    found.backward()
    assert term.log_scale.grad is not None
    matched = term(ModelOutput(towers=(towers[0], towers[0])), Batch())
    assert matched.item() < found.item()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), labels=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_terms_that_compare_examples_are_pytorch_metric_learnings(
    seed: int, labels: list[int]
) -> None:
    torch.manual_seed(seed)
    targets_B = torch.tensor(labels)

    def value_and_gradient(term: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        embedding_BD = torch.randn(len(labels), D, requires_grad=True)
        value = term(embedding_BD)
        (value + embedding_BD.sum() * 0).backward()
        assert embedding_BD.grad is not None
        return value.detach(), embedding_BD.grad

    def ours(term: nn.Module) -> tuple[Tensor, Tensor]:
        batch = Batch(targets_B=targets_B)
        return value_and_gradient(lambda x: term(ModelOutput(embedding_BD=x), batch))

    contrast, margin, mine = SupConLoss(temperature=0.3), TripletMarginLoss(0.3), BatchHardMiner()
    theirs = value_and_gradient(lambda x: contrast(x, targets_B))
    torch.testing.assert_close(ours(losses.SupervisedContrastive(temperature=0.3)), theirs)
    theirs = value_and_gradient(lambda x: margin(x, targets_B, mine(x, targets_B)))
    torch.testing.assert_close(ours(losses.Triplet(margin=0.3)), theirs)


def test_clips_temperature_comes_back_from_its_limit() -> None:
    term = losses.Clip()
    nn.init.constant_(term.log_scale, math.log(1000.0))
    towers = tuple(functional.normalize(normal(B, D)) for _ in range(2))
    term(ModelOutput(towers=towers), Batch()).backward()
    assert term.log_scale.item() == pytest.approx(math.log(100.0))
    assert term.log_scale.grad is not None
    assert term.log_scale.grad > 0  # pairs that do not match want it cooler


def test_clips_temperature_comes_back_from_wherever_a_step_threw_it() -> None:
    term = losses.Clip()
    nn.init.constant_(term.log_scale, -300.0)
    tower = functional.normalize(normal(B, D), dim=1)
    term(ModelOutput(towers=(tower, tower)), Batch()).backward()
    assert term.log_scale.grad is not None
    assert term.log_scale.grad < -0.01  # pairs that match want it hotter


def test_consistency_is_the_distance_of_two_answers() -> None:
    one, other = normal(B, K), normal(B, K)
    output = ModelOutput(logits_BK=one, values_BV=torch.ones(B, V))
    view = ModelOutput(logits_BK=other, values_BV=torch.zeros(B, V))
    found = losses.Consistency()(output, Batch(view=view))
    expected = (one.softmax(1) - other.softmax(1)).square().sum() / B + 1
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="second view"):
        losses.Consistency()(output, Batch())


def test_distillation_is_zero_for_the_teacher_itself_and_else_its_divergence() -> None:
    ours, theirs = normal(B, K), normal(B, K)
    batch = Batch(teacher=ModelOutput(logits_BK=theirs))
    term = losses.Distillation(temperature=2.0)
    assert float(term(ModelOutput(logits_BK=theirs), batch)) == pytest.approx(0, abs=1e-6)
    p, q = (theirs / 2).softmax(1), (ours / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum() / B
    assert float(term(ModelOutput(logits_BK=ours), batch)) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_gate_entropy_is_one_bit_for_an_open_question_and_none_for_a_choice() -> None:
    term = losses.GateEntropy()
    halves = ModelOutput(embedding_BD=normal(2, D), gates=(torch.full((2, 3), 0.5),))
    assert float(term(halves, Batch())) == pytest.approx(1.0)
    chosen = halves._replace(gates=(torch.tensor([[0.0, 1.0]]), torch.ones(2, 2)))
    assert float(term(chosen, Batch())) == pytest.approx(0, abs=1e-4)
    assert float(term(halves._replace(gates=()), Batch())) == 0


def test_a_law_is_computed_in_the_datas_units() -> None:
    units = TargetScaler(torch.tensor([10.0, 0.0]), torch.tensor([2.0, 1.0]))
    output = ModelOutput(values_BV=torch.tensor([[1.0, 3.0]]))
    batch = Batch(raw={"state": torch.tensor([[4.0]])}, target_scaler=units)

    def left(inputs, outputs):  # type: ignore[no-untyped-def]
        return outputs[:, 0] + outputs[:, 1] - inputs["state"][:, 0]

    # 1 standard deviation above 10 is 12, and 3: 15 where there should be 4.
    assert float(Law(left, "equal")(output, batch)) == pytest.approx(121.0)
    assert float(Law(left, "at_most")(output, batch)) == pytest.approx(121.0)
    assert float(Law(lambda i, o: -left(i, o), "at_most")(output, batch)) == 0
    with pytest.raises(ValueError, match="must return a non-empty tensor"):
        Law(lambda i, o: 0.0, "equal")(output, batch)  # type: ignore[arg-type, return-value]


def test_a_law_that_does_not_depend_on_the_outputs_is_refused() -> None:
    output = ModelOutput(values_BV=torch.ones(1, 1, requires_grad=True))
    batch = Batch(
        raw={"state": torch.tensor([[4.0]])},
        target_scaler=TargetScaler(torch.zeros(1), torch.ones(1)),
    )
    with pytest.raises(ValueError, match="must depend on the outputs"):
        Law(lambda i, _: i["state"], "equal")(output, batch)


def test_values_at_a_boundary_are_a_law_too() -> None:
    def wall(inputs, outputs):  # type: ignore[no-untyped-def]
        return outputs * (inputs["state"] == 0)

    batch = Batch(
        raw={"state": torch.tensor([[0.0], [1.0]])},
        target_scaler=TargetScaler(torch.zeros(1), torch.ones(1)),
    )
    output = ModelOutput(values_BV=torch.tensor([[3.0], [5.0]]))
    assert float(Law(wall, "equal")(output, batch)) == pytest.approx(4.5)


@pytest.mark.parametrize("heads", [1, 4])
def test_input_gradients_are_trained_through_attention_in_float32(heads: int) -> None:
    stage = Stage(width=16, depth=1, reduction="none", block=Attention(heads=heads))
    network = Architecture(
        streams={"state": Stream(stem=VectorStem(width=16, tokens=True), stages=(stage,))},
        fusion=Concatenate(),
        head=Regress(),
    ).build(Task(inputs={"state": (3,)}, num_classes=0, num_values=1))
    inputs = {"state": normal(B, 3).requires_grad_()}
    execution = Execution(device=torch.device("cpu"), low_precision=None)
    output = forward(network, inputs, execution)
    batch = Batch(inputs=inputs)
    either_way = [Rising("state", 0, 0, sign)(output, batch) for sign in (1, -1)]
    torch.stack(either_way).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.streams.parameters())


class Asked(nn.Module):
    """Notes whether cuDNN would compute what it is asked for."""

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        self.by_cudnn = torch.backends.cudnn.enabled
        return ModelOutput(values_BV=inputs["state"])


def test_input_gradients_avoid_cudnn_whose_recurrent_cells_have_no_second_derivative() -> None:
    execution = Execution(device=torch.device("cpu"), low_precision=None)
    network = Asked()
    forward(network, {"state": normal(B, 3).requires_grad_()}, execution)
    assert not network.by_cudnn
    forward(network, {"state": normal(B, 3)}, execution)
    assert network.by_cudnn


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.0), (-1, 9.0)])
def test_an_input_gradient_of_the_wrong_sign_counts_by_its_square(
    sign: int, expected: float
) -> None:
    x = torch.tensor([[0.5, 1.0], [0.1, 2.0]], requires_grad=True)
    output = ModelOutput(values_BV=torch.stack([x[:, 1] * 0, 3 * x[:, 1] - x[:, 0]], dim=1))
    term = Rising("state", 1, 1, sign)
    assert float(term(output, Batch(inputs={"state": x}))) == pytest.approx(expected)


def test_the_wave_is_least_at_multiples_of_pi() -> None:
    units = TargetScaler(torch.zeros(1), torch.ones(1))
    for value, expected in ((math.pi, 0.0), (math.pi / 2, 1.0), (-math.pi / 6, 0.5)):
        output = ModelOutput(values_BV=torch.full((4, 1), value))
        assert float(losses.Wave()(output, Batch(target_scaler=units))) == pytest.approx(
            expected, abs=1e-6
        )


def test_a_law_of_the_users_is_a_term_that_can_be_searched(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("""
from search_spaces import law, loss_domain, rising

@law("sum_of_a_test")
def kept(inputs, outputs):
    return outputs.sum(1) - inputs["state"].sum(1)

rising("rising_of_a_test", stream="state", feature=0)
losses = loss_domain(main=("mse",), always=("sum_of_a_test",), side=("rising_of_a_test",))
""")
    domain = load_user_object("mine.py:losses", tmp_path).value
    weights = domain.default()
    assert weights.normalized_weights() == pytest.approx({"mse": 2 / 3, "sum_of_a_test": 1 / 3})
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    state = normal(64, 2)
    units = TargetScaler(torch.zeros(2), torch.ones(2))
    batch = Batch(
        inputs={"state": state}, raw={"state": state}, values_BV=normal(64, 2), target_scaler=units
    )
    loss = losses.build(weights)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    results = []
    for _ in range(100):
        optimizer.zero_grad()
        value = loss(ModelOutput(values_BV=network(state)), batch)
        loss.backward(value, list(network.parameters()))
        optimizer.step()
        results.append(float(value.terms["sum_of_a_test"].detach()))
    assert results[-1] < 0.05 * results[0]


@pytest.mark.parametrize("name", ["nt_xent", "consistency", "distillation", "gate_entropy"])
def test_what_validation_cannot_measure_is_no_main_term(name: str) -> None:
    with pytest.raises(ValueError, match=f"losses.main: '{name}' needs .*; make it a side term"):
        losses.build(LossWeights(main=name, terms={name: LossTerm()}))


def test_every_term_can_stand_in_a_space() -> None:
    side = (
        "nt_xent",
        "triplet",
        "consistency",
        "gate_entropy",
        "distillation",
        "supervised_contrastive",
    )
    space = loss_domain(main=("cross_entropy", "focal"), side=side, always=("mse", "wave"))
    assert {"mse", "wave"} < set(space.default().terms)
    assert space.size() > 1e6
