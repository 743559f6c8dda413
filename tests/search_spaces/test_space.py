"""Built-in spaces with Optuna's own trials, and users' functions."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.catalog import catalog, load
from search_spaces.domains import Const, IntRange, Record, SpaceError, choice
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester
from search_spaces.plugins import load_user_object
from search_spaces.space import Constraint, DefineByRunSpace, SearchSpace

SPACES = {name: load(name) for name in catalog()}


@pytest.mark.parametrize("name", catalog())
def test_one_parameter_name_has_one_distribution_over_all_trials(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    distributions: dict[str, Any] = {}
    for _ in range(60):
        trial = study.ask()
        SPACES[name].resolve(trial)
        for parameter, distribution in trial.distributions.items():
            assert distributions.setdefault(parameter, distribution) == distribution


@pytest.mark.parametrize("name", catalog())
def test_the_default_belongs_to_its_space_and_carries_its_name(name: str) -> None:
    default = SPACES[name].default()
    assert default in SPACES[name]
    assert (default.space_name, default.space_version) == (name, SPACES[name].version)
    assert SPACES[name].resolve(ReplaySuggester(SPACES[name].encode(default))) == default


def test_candidates_of_another_space_lie_outside() -> None:
    assert SPACES["tiny"].default() not in SPACES["hybrid"]
    assert "no candidate" not in SPACES["tiny"]


def test_a_space_is_made_of_its_parts() -> None:
    bound = Constraint(metric="parameters", at_most=1e6)
    architecture: Any = choice("small", "large", initial="large")
    space = SearchSpace.of(
        name="mine",
        version="3",
        architecture=architecture,
        recipe=Const(SPACES["tiny"].default().recipe),
        losses=Const(SPACES["tiny"].default().losses),
        constraints=(bound,),
    )
    assert space.size() == 2
    assert space.constraints == (bound,)
    assert space.encode(space.default()) == {"architecture": "large"}
    assert (space.default().space_name, space.default().space_version) == ("mine", "3")


DEFINE_BY_RUN = """
def space(trial):
    depth = trial.suggest_int("depth", 1, 3)
    for layer in range(depth):
        trial.suggest_int(f"width{layer}", 8, 64, step=8)
    trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("kind", ["a", None, 2])

def named(trial):
    return {"layers": [trial.suggest_int("width", 1, 4)] * 2}
"""


def user_space(folder: Path, name: str) -> DefineByRunSpace:
    (folder / "mine.py").write_text(DEFINE_BY_RUN)
    found = load_user_object(f"mine.py:{name}", folder)
    return DefineByRunSpace(name=found.name, version=found.sha256, function=found.value)


def test_a_plain_function_decides_by_asking_an_optuna_trial(tmp_path: Path) -> None:
    space = user_space(tmp_path, "space")
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    decided = space.resolve(trial)
    assert decided.decisions == trial.params
    assert space.resolve(ReplaySuggester(trial.params)) == decided
    assert decided.to_dict() == {"schema": 1, "decisions": trial.params}


def test_what_a_plain_function_returns_are_its_decisions(tmp_path: Path) -> None:
    space = user_space(tmp_path, "named")
    decided = space.resolve(ReplaySuggester({"width": 3}))
    assert decided.decisions == {"layers": [3, 3]}


def test_a_plain_function_has_no_default(tmp_path: Path) -> None:
    space: Any = user_space(tmp_path, "space")
    assert space.default() is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3, "must return a dict or None"),
        ({"when": object()}, "plain JSON data"),
        ({"size": (1, 2)}, "plain JSON data"),
        ({1: 2}, "plain JSON data"),
        ({"rate": float("nan")}, "plain JSON data"),
    ],
)
def test_decisions_that_are_no_plain_data_are_refused(given: Any, reason: str) -> None:
    space = DefineByRunSpace(name="mine", version="1", function=lambda trial: given)
    with pytest.raises(SpaceError, match=f"mine: .*{reason}"):
        space.resolve(RandomSuggester(0))


def test_a_space_of_the_user_comes_from_their_file(tmp_path: Path) -> None:
    text = """
from search_spaces.catalog import load
from search_spaces.domains import Const
from search_spaces.space import SearchSpace

space = SearchSpace.of(
    name="mine", version="1", architecture=Const(load("tiny").default().architecture)
)
"""
    (tmp_path / "mine.py").write_text(text)
    space = load_user_object("mine.py:space", tmp_path).value
    candidate = space.resolve(RandomSuggester(0))
    assert candidate.architecture == SPACES["tiny"].default().architecture
    assert candidate.space_name == "mine"


def test_any_domain_of_candidates_makes_a_space() -> None:
    tiny = SPACES["tiny"].default()
    space = SearchSpace(name="one", version="1", candidates=Const(tiny))
    assert space.resolve(ReplaySuggester({})) is tiny
    assert space.size() == 1
    unlike: Any = Record(dict, {"width": IntRange(0, 3)})
    assert tiny not in SearchSpace(name="other", version="1", candidates=unlike)
