"""The examples run as they are, with spaces, blocks and training of the user."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import search_spaces
from search_spaces import losses
from search_spaces.candidate import candidate_from_dict
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.model_output import Batch, ModelOutput, TargetScaler
from search_spaces.plugins import load_user_object
from search_spaces.space import DefineByRunSpace
from search_spaces.task import Task

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_users_space_contains_its_own_block() -> None:
    space = load_user_object("my_space.py:space", EXAMPLES).value
    task = Task(inputs={"image": (1, 8, 8)}, num_classes=10)
    seen = set()
    for seed in range(30):
        chance = RandomSuggester(seed)
        candidate = space.resolve(chance)
        assert space.encode(candidate) == chance.params
        assert candidate_from_dict(candidate.to_dict()) == candidate
        seen |= {stage.block.kind for stage in candidate.architecture.streams["image"].stages}
    assert seen == {"blur", "residual"}
    output = candidate.architecture.build(task)({"image": torch.zeros(2, 1, 8, 8)})
    assert output.logits_BK.shape == (2, 10)


def test_a_project_that_exists_learns_what_its_function_decides() -> None:
    function = load_user_object("existing_project.py:space", EXAMPLES).value
    train = load_user_object("existing_project.py:train", EXAMPLES).value
    space = DefineByRunSpace(name="space", version="1", function=function)
    decided = space.resolve(ReplaySuggester({"width": 64, "learning_rate": 0.01}))
    metrics = list(train(decided.decisions, SimpleNamespace(seed=0, epochs=4)))
    assert len(metrics) == 4
    assert metrics[-1]["val_accuracy"] > 0.85


def test_every_public_name_is_importable_without_loading_torch_before() -> None:
    code = "import sys, search_spaces as s; print('torch' in sys.modules, *s.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, *names = done.stdout.split()
    assert loaded == "False"
    assert all(getattr(search_spaces, name) is not None for name in names)
    assert sorted(search_spaces._HOMES) == sorted(names)
    with pytest.raises(AttributeError, match="has no attribute 'Stag'"):
        search_spaces.Stag  # noqa: B018 - the lookup is the test


def test_files_that_import_from_the_modules_of_earlier_versions_still_run(tmp_path: Path) -> None:
    old = EXAMPLES / "my_space.py"
    start, end = old.read_text().index("from search_spaces"), old.read_text().index("@register")
    imports = """\
from search_spaces.blocks import ConvolutionStem, Residual, Stage, register_block
from search_spaces.catalog.parts import classifier
from search_spaces.domains import Const, Inline, IntRange, OneOf, Record, Repeat, choice
from search_spaces.loss_weights import LossTerm, LossWeights, loss_domain, loss_term
from search_spaces.losses import law
from search_spaces.space import SearchSpace

"""
    text = old.read_text()[:start] + imports + old.read_text()[end:]
    (tmp_path / "old.py").write_text(text.replace('"blur"', '"blur_of_an_old_file"'))
    space = load_user_object("old.py:space", tmp_path).value
    assert space.default().architecture.streams["image"].stages


@pytest.mark.parametrize("name", ["my_space.py", "existing_project.py", "two_forces.py"])
def test_an_example_says_how_to_name_it_in_a_study(name: str) -> None:
    assert f"space: {name}:space" in (EXAMPLES / name).read_text()


def test_an_energy_term_and_a_wave_term_weigh_what_the_example_says() -> None:
    space = load_user_object("two_forces.py:space", EXAMPLES).value
    task = Task(inputs={"vector": (2,)}, num_classes=0, num_values=2)
    candidate = space.resolve(RandomSuggester(0))
    assert candidate_from_dict(candidate.to_dict()) == candidate
    network = candidate.architecture.build(task)
    mixed = losses.build(candidate.losses)
    state_B2 = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    told_B2 = torch.tensor([[0.0, 5.0], [math.pi / 2, 0.0]])
    batch = Batch(
        values_BV=told_B2,
        raw={"vector": state_B2},
        target_scaler=TargetScaler(torch.zeros(2), torch.ones(2)),
    )
    terms = mixed(ModelOutput(values_BV=told_B2), batch).terms
    assert float(terms["mse"]) == 0
    # The first keeps its energy; the second has pi^2/8 of which 1/2 was there.
    assert float(terms["spring_energy"]) == pytest.approx((math.pi**2 / 8 - 0.5) ** 2 / 2, rel=1e-5)
    assert float(terms["wave"]) == pytest.approx((abs(math.sin(5)) + 1) / 4, rel=1e-5)
    assert mixed.weights["wave"] / mixed.weights["spring_energy"] == pytest.approx(0.3)
    value = mixed(network({"vector": state_B2}), batch)
    mixed.backward(value, list(network.parameters()))
    assert any(weight.grad.abs().sum() > 0 for weight in network.parameters())
