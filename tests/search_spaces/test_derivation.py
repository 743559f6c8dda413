"""Derived spaces: laws of fixed, narrowed and removed decisions, and the messages of mistakes."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.catalog import load
from search_spaces.derivation import default_changes, derive
from search_spaces.domains import (
    Const,
    Domain,
    DomainError,
    FloatRange,
    IntRange,
    OneOf,
    Record,
    Repeat,
    Shared,
    choice,
)
from search_spaces.domains.edits import SpaceEditError, SpaceEdits
from search_spaces.domains.restriction import questions, restrict
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    Question,
    RandomSuggester,
    ReplaySuggester,
    is_answer,
)
from search_spaces.space import DefineByRunSpace, SearchSpace

STAGES = "architecture.streams.image.stages"
RATE = "recipe.optimizer.adamw.learning_rate"


@cache
def base(name: str) -> SearchSpace:
    return load(name)


def derived(name: str = "hybrid", **edits: Any) -> SearchSpace:
    space = derive(base(name), SpaceEdits(**edits))
    assert isinstance(space, SearchSpace)
    return space


def function(trial: Any) -> dict[str, Any]:
    """Ask for decisions that depend on others, in a loop."""
    decided = {"rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True)}
    for index in range(trial.suggest_int("count", 1, 3)):
        kind = trial.suggest_categorical(f"layers.{index}", ["dense", "wide", None])
        decided[f"kind{index}"] = kind
        if kind == "wide":
            decided[f"width{index}"] = trial.suggest_int(f"layers.{index}.width", 8, 64, step=8)
    return decided


BY_RUN = DefineByRunSpace(name="function", version="7", function=function)


def consistent_edits(
    params: Mapping[str, Any], asked: Mapping[str, Question], seed: int
) -> list[tuple[str, str, Any]]:
    """Return random edits, section, name and value, that all keep the answers in `params`."""
    rng = random.Random(seed)
    edits: list[tuple[str, str, Any]] = []
    for name in rng.sample(sorted(params), min(5, len(params))):
        question, answer = asked[name], params[name]
        if rng.random() < 0.3:
            edits.append(("fix", name, answer))
        elif not isinstance(question, ChoiceQuestion):
            low, high = question.low, question.high
            edits.append(("narrow", name, [answer, high] if answer < high else [low, answer]))
        else:
            others = [each for each in question.choices if each != answer]
            chosen = rng.sample(others, rng.randint(1, len(others)))
            section, value = rng.choice((("narrow", [answer, *chosen]), ("remove", chosen)))
            edits.append((section, name, value))
    return edits


def as_edits(rows: list[tuple[str, str, Any]]) -> SpaceEdits:
    sections: dict[str, dict[str, Any]] = {"fix": {}, "narrow": {}, "remove": {}}
    for section, name, value in rows:
        sections[section][name] = value
    return SpaceEdits(**sections)


SEEDS = st.integers(0, 10**6)
SPACES = st.sampled_from(["hybrid", "tiny", "wide", "image_text", "vector"])


@given(SPACES, SEEDS)
@settings(max_examples=30, deadline=None)
def test_laws_of_a_derived_space(name: str, seed: int) -> None:
    space, sampled = base(name), RandomSuggester(seed)
    candidate = space.resolve(sampled)
    edits = as_edits(consistent_edits(sampled.params, sampled.questions, seed))
    narrower = derive(space, edits)
    assert isinstance(narrower, SearchSpace)
    assert narrower.version == f"{space.version}+{edits.digest}"
    assert narrower.size() <= space.size()

    # What the edits keep is inside, and leads back.
    params = narrower.locate(candidate, sampled.params)
    moved = replace(candidate, space_version=narrower.version)
    assert narrower.resolve(ReplaySuggester(params)) == moved

    asked: dict[str, Question] = {}
    for each in range(seed, seed + 5):
        suggester = RandomSuggester(each)
        inside = narrower.resolve(suggester)
        assert narrower.encode(inside) == suggester.params
        assert (inside.space_name, inside.space_version) == (space.name, narrower.version)
        for decision, question in suggester.questions.items():
            assert asked.setdefault(decision, question) == question
        in_base = space.locate(inside, {})
        assert space.resolve(ReplaySuggester(in_base)) == replace(
            inside, space_version=space.version
        )
        full = questions(space.candidates)
        for edit in edits:
            if edit.pattern in in_base:
                assert is_answer(edit.apply(full[edit.pattern]), in_base[edit.pattern])

    default = narrower.default()
    assert default in narrower
    assert narrower.resolve(ReplaySuggester(narrower.default_params())) == default
    assert all(
        expected.prior in [*expected.branches]
        if isinstance(expected, OneOf)
        else expected.prior in expected
        for expected in narrower.expected().values()
    )
    for kind in narrower.kinds():
        narrower.resolve(ReplaySuggester(kind))


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_edits_commute_and_their_order_changes_no_version(seed: int) -> None:
    space, sampled = base("hybrid"), RandomSuggester(seed)
    space.resolve(sampled)
    rows = consistent_edits(sampled.params, sampled.questions, seed)
    one, other = as_edits(rows[:2]), as_edits(rows[2:])
    at_once = derive(space, as_edits(rows))
    in_steps = derive(derive(space, one), other)
    swapped = derive(derive(space, other), one)
    assert isinstance(at_once, SearchSpace)
    assert isinstance(in_steps, SearchSpace)
    assert isinstance(swapped, SearchSpace)
    assert questions(in_steps.candidates) == questions(at_once.candidates)
    assert questions(swapped.candidates) == questions(at_once.candidates)
    assert in_steps.size() == at_once.size()
    assert as_edits(rows[::-1]).digest == as_edits(rows).digest
    assert in_steps.version == f"1+{one.digest}+{other.digest}"


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_laws_of_a_derived_function(seed: int) -> None:
    sampled = RandomSuggester(seed)
    candidate = BY_RUN.resolve(sampled)
    edits = as_edits(consistent_edits(sampled.params, sampled.questions, seed))
    narrower = derive(BY_RUN, edits)
    assert narrower.version == f"7+{edits.digest}"
    assert narrower.locate(candidate, sampled.params) == sampled.params
    for each in range(seed, seed + 10):
        suggester = RandomSuggester(each)
        inside = narrower.resolve(suggester)
        # Fixed decisions are recorded too, so that the base space can replay them.
        assert BY_RUN.locate(inside, suggester.params) == suggester.params
        original = RandomSuggester(each, suggester.params)
        BY_RUN.resolve(original)
        for edit in edits:
            if edit.pattern in suggester.params:
                allowed = edit.apply(original.questions[edit.pattern])
                assert is_answer(allowed, suggester.params[edit.pattern])


@pytest.mark.parametrize("space", [base("tiny"), BY_RUN])
def test_no_edits_are_the_base(space: Any) -> None:
    assert derive(space, SpaceEdits()) is space


def test_a_digest_is_stable_and_ignores_how_equal_edits_are_written() -> None:
    edits = SpaceEdits(fix={"recipe.optimizer": "adamw"})
    assert edits.digest == "101baeb0"
    two = SpaceEdits(narrow={"a": [1, 2], "b": ["x", "y"]}, fix={"c": 1})
    same = SpaceEdits(fix={"c": 1.0}, narrow={"b": ["y", "x"], "a": [1.0, 2]})
    assert two.digest == same.digest
    assert two.digest != SpaceEdits(narrow={"a": [1, 2], "b": ["x"]}, fix={"c": 1}).digest


def sampled_names(space: SearchSpace, runs: int = 40) -> dict[str, Question]:
    asked: dict[str, Question] = {}
    for seed in range(runs):
        suggester = RandomSuggester(seed)
        space.resolve(suggester)
        asked |= suggester.questions
    return asked


def test_a_star_is_every_index_and_an_index_is_one_item() -> None:
    asked = questions(
        derived(fix={"stages.*.reduction": "pool"}, narrow={"stages.1.width": [40, 100]}).candidates
    )
    for index in range(4):
        assert asked[f"{STAGES}.{index}.reduction"] == ChoiceQuestion(("pool",))
        width = asked[f"{STAGES}.{index}.width"]
        assert (width.low, width.high) == ((48, 96) if index == 1 else (32, 128))
    assert asked["architecture.streams.image.stem.reduction"] == ChoiceQuestion(("pool", "stride"))


def test_a_star_is_not_the_length_of_a_repeated_part() -> None:
    asked = sampled_names(derived(fix={"stages.*": "attention"}))
    assert f"{STAGES}.count" in asked
    assert f"{STAGES}.0" not in asked  # one choice is no question
    assert {name.split(".")[5] for name in asked if name.startswith(f"{STAGES}.0.")} == {
        "width",
        "depth",
        "reduction",
        "attention",
    }


def test_decisions_below_a_removed_choice_vanish() -> None:
    asked = sampled_names(derived(remove={"stages.*": ["gate"], "recipe.optimizer": ["adamw"]}))
    assert not [name for name in asked if ".gate." in name or ".adamw." in name]
    assert [name for name in asked if ".sgd_nesterov." in name]


def test_a_shared_decision_is_restricted_at_all_its_places() -> None:
    space = derived(remove={"normalisation": ["batch"]})
    for seed in range(10):
        stages = space.resolve(RandomSuggester(seed)).architecture.streams["image"].stages
        assert {stage.normalisation for stage in stages} <= {"group", "layer"}
    assert space.default().architecture.streams["image"].stem.normalisation == "group"


def test_the_default_takes_the_nearest_allowed_values() -> None:
    space = derived(
        fix={"recipe.optimizer": "adamw", "stages.count": 3},
        narrow={RATE: [5e-3, 1e-2], "stages.0.width": [80, 128]},
        remove={"stages.1": ["gate"], "batch_size": [64]},
    )
    assert default_changes(base("hybrid"), space) == {
        "recipe.optimizer": ("sgd_nesterov", "adamw"),
        f"{STAGES}.count": (2, 3),
        f"{STAGES}.0.width": (48, 80),
        f"{STAGES}.1": ("gate", "residual"),
        "recipe.batch_size": (64, 32),
    }
    assert space.default().recipe.learning_rate == 5e-3  # the prior was 3e-3
    assert default_changes(BY_RUN, BY_RUN) == {}


def test_designs_offer_each_kind_where_it_is_allowed() -> None:
    space = derived(fix={"stages.0": "residual"}, narrow={"stages.1": ["attention", "mbconv"]})
    chosen = [(kind.get(f"{STAGES}.0"), kind[f"{STAGES}.1"]) for kind in space.kinds()]
    assert {(None, "mbconv"), (None, "attention")} >= set(chosen)
    assert chosen


class Enumerate(BaseSuggester):
    """Answers by a prefix, then by the first option; records the options."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix, self.taken, self.params = prefix, [], {}  # type: ignore[var-annotated]

    def answer(self, name: str, question: Question) -> Any:
        if name not in self.params:
            options = (
                question.choices
                if isinstance(question, ChoiceQuestion)
                else range(question.low, question.high + 1, question.step)  # type: ignore[arg-type]
            )
            place = len(self.taken)
            index = self.prefix[place] if place < len(self.prefix) else 0
            self.taken.append((index, len(options)))
            self.params[name] = options[index]
        return self.params[name]


def values(domain: Domain[Any]) -> Iterator[Any]:
    """Yield all values of a domain of integers and choices."""
    prefix: list[int] | None = []
    while prefix is not None:
        suggester = Enumerate(prefix)
        yield domain.resolve(suggester, "")
        taken = suggester.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        prefix = [index for index, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


def test_the_size_of_a_restricted_domain_is_the_number_of_its_values() -> None:
    norm: Domain[Any] = Shared("norm", choice("a", "b", "c"))
    block: Domain[Any] = OneOf({"x": Record(dict, {"n": norm, "k": IntRange(1, 3)}), "y": Const(0)})
    domain = Record(dict, {"n": norm, "blocks": Repeat(block, 0, 3, prior=1)})
    edits = SpaceEdits(
        fix={"blocks.1": "y"}, narrow={"blocks.*.x.k": [1, 2]}, remove={"norm": ["b"]}
    )
    asked = questions(domain)
    narrower = restrict(
        domain,
        {n: edits.restrict(n, q) for n, q in asked.items() if any(e.matches(n) for e in edits)},
    )
    expected = [
        value
        for value in values(domain)
        if value["n"] != "b"
        and value["blocks"][1:2] in ((), (0,))
        and all(each == 0 or each["k"] <= 2 for each in value["blocks"])
    ]
    found = list(values(narrower))
    assert narrower.size() == len(found) == len(expected)
    assert all(value in found for value in expected)
    assert restrict(domain, {}) is domain


MISTAKES = [
    (
        {"fix": {"recipe.optimizr": "adamw"}},
        "fix.recipe.optimizr: matches no decision of space "
        "'hybrid'; list them with archscout space. Did you mean 'recipe.optimizer'?",
    ),
    (
        {"fix": {"stages.*.attention.head": 2}},
        "fix.stages.*.attention.head: matches no decision of "
        "space 'hybrid'; list them with archscout space. Did you mean 'stages.*.attention.heads'?",
    ),
    (
        {"fix": {"recipe.optimizer": "adam"}},
        "fix.recipe.optimizer: 'adam' is none of sgd_nesterov, adamw. Did you mean 'adamw'?",
    ),
    (
        {"fix": {"stages.count": 9}},
        f"fix.stages.count: {STAGES}.count: 9 is not a number from 2 to 4",
    ),
    (
        {"fix": {"stages.count": 2.5}},
        f"fix.stages.count: {STAGES}.count: 2.5 is not an integer from 2 to 4",
    ),
    (
        {"fix": {"recipe.warmup": 0.07}},
        "fix.recipe.warmup: 0.07 is not a number from 0.0 to 0.5 in steps of 0.05",
    ),
    (
        {"fix": {"recipe.warmup": True}},
        "fix.recipe.warmup: True is not a number from 0.0 to 0.5 in steps of 0.05",
    ),
    (
        {"narrow": {RATE: [1e-2, 1e-3]}},
        f"narrow.{RATE}: needs [LOW, HIGH] with LOW below HIGH; use fix for one value",
    ),
    (
        {"narrow": {RATE: [1e-3, 1.0]}},
        f"narrow.{RATE}: [0.001, 1.0] reaches beyond the numbers from 0.0003 to 0.02",
    ),
    (
        {"narrow": {"recipe.warmup": [0.06, 0.09]}},
        "narrow.recipe.warmup: leaves no number from 0.0 to 0.5 in steps of 0.05",
    ),
    (
        {"narrow": {"recipe.batch_size": [16, 32]}},
        "narrow.recipe.batch_size: 16 is none of 64, 32, 128.",
    ),
    (
        {"remove": {"recipe.warmup": [0.1]}},
        "remove.recipe.warmup: is a number from 0.0 to 0.5 in "
        "steps of 0.05; use narrow: [LOW, HIGH]",
    ),
    (
        {"remove": {"recipe.optimizer": ["adamw", "sgd_nesterov"]}},
        "remove.recipe.optimizer: leaves no choice; keep at least one of sgd_nesterov, adamw",
    ),
    ({"remove": {"recipe.optimizer": []}}, "remove.recipe.optimizer: needs at least one value"),
    (
        {"fix": {"recipe.optimizer": "adamw"}, "remove": {"recipe.optimizer": ["adamw"]}},
        "remove.recipe.optimizer: leaves no value of recipe.optimizer together with "
        "fix.recipe.optimizer; change one of them",
    ),
    (
        {"fix": {"stages.*.width": 64}, "narrow": {"stages.2.width": [80, 96]}},
        f"narrow.stages.2.width: leaves no value of {STAGES}.2.width together with "
        "fix.stages.*.width; change one of them",
    ),
    (
        {"fix": {"recipe.optimizer": "sgd_nesterov", RATE: 1e-3}},
        f"fix.{RATE}: applies only to parts that other edits remove; remove one of them",
    ),
]


@pytest.mark.parametrize(("edits", "message"), MISTAKES)
def test_each_mistake_has_its_message(edits: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceEditError) as caught:
        derived(**edits)
    assert str(caught.value) == message


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SpaceEditError) as caught:
        derived(
            fix={"recipe.optimizer": "adam", "stages.0.width": 64},
            narrow={"stages.*.width": [80, 96], "x.y": [1, 2]},
        )
    assert [(found.section, found.pattern) for found in caught.value.problems] == [
        ("fix", "recipe.optimizer"),
        ("narrow", "x.y"),
        ("narrow", "stages.*.width"),
    ]


def test_a_choice_may_be_written_as_it_looks() -> None:
    edits = SpaceEdits(fix={"layers.0": "none"}, remove={"layers.*": ["dense"]})
    with pytest.raises(SpaceEditError, match="is none of dense, wide, none"):
        derive(BY_RUN, SpaceEdits(fix={"layers.0": "nothing"}))
    space = derive(BY_RUN, edits)
    assert isinstance(space, DefineByRunSpace)
    decided = [space.resolve(RandomSuggester(seed)).decisions for seed in range(20)]
    assert {each["kind0"] for each in decided} == {None}
    assert {each.get("kind1") for each in decided} == {None, "wide"}


def test_decisions_of_a_function_are_known_from_runs() -> None:
    with pytest.raises(SpaceEditError, match=r"Did you mean 'layers\.\*\.width'\?"):
        derive(BY_RUN, SpaceEdits(narrow={"layers.*.widths": [8, 16]}))
    with pytest.raises(SpaceEditError, match=r"fix\.count: 5 is not a number from 1 to 3"):
        derive(BY_RUN, SpaceEdits(fix={"count": 5}))
    with pytest.raises(SpaceEditError, match="applies only to parts that other edits remove"):
        derive(BY_RUN, SpaceEdits(fix={"count": 1, "layers.2.width": 8}))


def test_the_reason_names_what_puts_a_trial_outside() -> None:
    sampled = RandomSuggester(3, {"recipe.optimizer": "sgd_nesterov"})
    candidate = base("hybrid").resolve(sampled)
    space = derived(fix={"recipe.optimizer": "adamw"})
    with pytest.raises(DomainError, match=r"^recipe\.optimizer: 'sgd_nesterov' is none of 'adamw'"):
        space.locate(candidate, sampled.params)
    with pytest.raises(DomainError, match="contains networks"):
        space.locate(BY_RUN.resolve(RandomSuggester(0)), {})


def test_the_reason_names_what_puts_a_trial_of_a_function_outside() -> None:
    sampled = RandomSuggester(0, {"count": 2, "layers.0": "wide", "layers.0.width": 64})
    candidate = BY_RUN.resolve(sampled)
    narrow = derive(BY_RUN, SpaceEdits(narrow={"layers.*.width": [8, 32]}))
    with pytest.raises(DomainError, match=r"layers\.0\.width: 64 is not an integer from 8 to 32"):
        narrow.locate(candidate, sampled.params)
    with pytest.raises(DomainError, match=r"more: the space has no such decision"):
        BY_RUN.locate(candidate, {**sampled.params, "more": 1})
    with pytest.raises(DomainError, match="count: is missing"):
        BY_RUN.locate(candidate, {"rate": 0.01})
    with pytest.raises(DomainError, match="lead to other decisions"):
        BY_RUN.locate(candidate, {**sampled.params, "rate": 0.05})


def test_priors_move_into_their_range() -> None:
    domain = Record(
        dict,
        {
            "rate": FloatRange(1e-4, 1.0, log=True, prior=1e-3),
            "heads": choice(4, 2, 8, prior=4),
            "kind": choice("a", "b", "c", prior="a", confidence="low"),
        },
    )
    edits = SpaceEdits(narrow={"rate": [1e-2, 1e-1]}, remove={"heads": [4], "kind": ["a"]})
    asked = questions(domain)
    narrower = restrict(domain, {name: edits.restrict(name, q) for name, q in asked.items()})
    assert narrower.default() == {"rate": 1e-2, "heads": 2, "kind": "b"}
    assert isinstance(narrower, Record)
    assert narrower.fields["rate"].prior == 1e-2  # type: ignore[attr-defined]
    assert narrower.fields["heads"].prior is None  # type: ignore[attr-defined]
