"""Comparison of a challenger with the champion of an alias, by the challenger's objectives.

Judged on the same data, both are compared as their searches recorded them. A champion that was
judged on other data is scored beside the challenger on the newest validation examples, except those
that one of the two was trained on; costs are compared as recorded there too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from orchestrator.errors import PromotionRefusedError
from orchestrator.formatting import format_number
from orchestrator.objective import Objective, dominates
from orchestrator.promotion import package
from orchestrator.promotion.clean_room import VerifiedModel
from orchestrator.promotion.registry import Champion
from orchestrator.promotion.winner import Winner
from workers.data import DataError, Dataset, DataSpec, Preprocessing, Split, load
from workers.data.identity import example_digests
from workers.metrics import measured_metrics

MIN_EXAMPLES = 30
"""Fewest unseen validation examples on which two models are compared."""

_SCORES: Mapping[str, Objective] = {
    "accuracy": Objective(metric="val_accuracy", direction="maximize"),
    "mae": Objective(metric="val_mae", direction="minimize"),
    "rmse": Objective(metric="val_rmse", direction="minimize"),
}
_WORDS = {
    "val_accuracy": "accuracy",
    "val_mae": "mean absolute error",
    "val_rmse": "root mean squared error in deviations",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same metrics of challenger and champion, measured on the same examples."""

    objectives: tuple[Objective, ...]
    ours: tuple[float, ...]
    """The challenger's value of each objective."""
    theirs: tuple[float, ...]
    """The champion's."""
    examples: str
    """What they were measured on, for people."""

    @property
    def champion_wins(self) -> bool:
        """Whether the champion is nowhere worse and somewhere better."""
        return dominates(self.theirs, self.ours, self.objectives)

    def describe(self) -> str:
        """Return both sides in one line."""
        theirs = " and ".join(
            f"{_WORDS.get(each.metric, each.metric)} {format_number(value)}"
            for each, value in zip(self.objectives, self.theirs, strict=True)
        )
        ours = " and ".join(format_number(value) for value in self.ours)
        return f"{theirs} on {self.examples}, this one {ours}"


def recorded_metrics(winner: Winner) -> dict[str, float]:
    """Return what a study can aim at, as the search recorded it of a trial at the full budget.

    Errors by the name of a regression target are none of these; such names may be no MLflow tags.
    """
    trial = winner.trial
    measured = trial.measurements[-1].metrics if trial.measurements else {}
    scores = {f"val_{name}": score for name, score in winner.scores.items()}
    known = {**measured, **trial.cost, **scores}
    return {name: float(known[name]) for name in measured_metrics() or () if name in known}


def compare_recorded(winner: Winner, champion: Champion) -> Comparison | None:
    """Compare both as recorded, by the study's objectives.

    Where the champion's value of an objective is unknown, accuracy or error replaces the objectives
    that are measured.

    Returns:
        None if the champion was judged on other data, or in metrics that the winner lacks.
    """
    if champion.tags.get("archscout.data_digest") != winner.study.data_digest:
        return None
    ours = recorded_metrics(winner)
    for objectives in (winner.config.objectives, _score_objectives(winner, champion)):
        known = _tagged(champion, objectives)
        if len(known) == len(objectives) and all(each.metric in ours for each in objectives):
            return Comparison(
                objectives=objectives,
                ours=tuple(ours[each.metric] for each in objectives),
                theirs=tuple(known),
                examples="validation",
            )
    return None


def compare_on_unseen(
    winner: Winner, model: VerifiedModel, champion: Champion, theirs: VerifiedModel
) -> Comparison:
    """Score both on the winner's validation examples that neither was trained on.

    Args:
        winner: The challenger, whose data are the newest.
        model: Its model, fetched back.
        champion: The champion's version.
        theirs: The champion's model, fetched back.

    Raises:
        PromotionRefusedError: The champion takes other inputs or gives other outputs, does not
            say what it was trained on, or the two were trained on nearly all of the examples.
    """
    facts = json.loads(theirs.file(package.FACTS) or b"{}")
    _require_same_outputs(winner.dataset, facts)
    prepared, validation = _as_the_champion_takes_them(winner, facts)
    trained = theirs.file(package.TRAINING_EXAMPLES)
    if trained is None:
        raise PromotionRefusedError(
            "it does not say which examples it was trained on, for an older release promoted it"
        )
    seen = safetensors.numpy.load(trained)["digests"].view(np.uint64)
    unseen = _unseen(winner.dataset, validation, seen)
    objectives = _score_objectives(winner, champion)
    costs = [each for each in objectives if each.is_cost]
    ours = score(winner, model, winner.dataset.validation.take(unseen), winner.preprocessing)
    other = score(winner, theirs, validation.take(unseen), prepared)
    recorded = recorded_metrics(winner)
    return Comparison(
        objectives=objectives,
        ours=(*ours.values(), *(recorded[each.metric] for each in costs)),
        theirs=(*other.values(), *_tagged(champion, costs)),
        examples=f"the {len(unseen)} validation examples that neither was trained on",
    )


def score(
    winner: Winner, model: VerifiedModel, split: Split, prepared: Preprocessing | None
) -> dict[str, float]:
    """Return what a model's answers come to, by the names of `winner.scores`.

    Errors of several numbers are in the winner's standard deviations, whichever model answers.
    """
    dataset = winner.dataset
    answers = model.answers(package.examples(split, prepared))
    scores = {}
    if dataset.class_names:
        right = [dataset.class_names[target] for target in split.targets]
        hits = [label == true for label, true in zip(answers["label"], right, strict=True)]
        scores["accuracy"] = float(np.mean(hits))
    if split.values is not None:
        columns = [answers[f"value_{name}"] for name in dataset.value_names]
        missed_NV = np.column_stack(columns) - split.values.astype(np.float64)
        scores["mae"] = float(np.abs(missed_NV).mean())
        deviation_V = winner.checkpoint.state["normalisation"]["values"]["deviation"]
        scores["rmse"] = float(np.sqrt(np.square(missed_NV / deviation_V).mean()))
    return {name: scores[name] for name in winner.scores}


def told(metric: str, score: float) -> str:
    """Return a score as people read it."""
    return f"{_WORDS[f'val_{metric}']} {format_number(score)}"


def _score_objectives(winner: Winner, champion: Champion) -> tuple[Objective, ...]:
    """Accuracy or error, then those costs among the study's objectives that both versions record.

    Any model can be scored, so these compare any two.
    """
    known = recorded_metrics(winner)
    costs = [
        each
        for each in winner.config.objectives
        if each.is_cost and each.metric in known and _tagged(champion, [each])
    ]
    return (*(_SCORES[name] for name in winner.scores), *costs)


def _tagged(champion: Champion, objectives: Sequence[Objective]) -> list[float]:
    """Return those of the champion's values that its version records."""
    tags = [champion.tags.get(f"archscout.{each.metric}") for each in objectives]
    return [float(tag) for tag in tags if tag is not None]


def _unseen(dataset: Dataset, validation: Split, seen: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return which validation examples neither model was trained on.

    Args:
        dataset: The challenger's.
        validation: Its validation part as the champion takes it.
        seen: Digests of the champion's training examples.
    """
    theirs = np.isin(example_digests(validation), seen)
    ours = np.isin(example_digests(dataset.validation), example_digests(dataset.train))
    unseen = np.flatnonzero(~(theirs | ours))
    if len(unseen) < MIN_EXAMPLES:
        raise PromotionRefusedError(
            f"all but {len(unseen)} of the {len(validation)} validation examples are among the "
            f"training examples of one of the two; {MIN_EXAMPLES} are needed"
        )
    return unseen


def _as_the_champion_takes_them(
    winner: Winner, facts: Mapping[str, Any]
) -> tuple[Preprocessing | None, Split]:
    """Return how the champion's inputs are prepared, and the winner's validation part so prepared.

    Images of a folder are read again where their size or colour changed between the data sets.
    """
    dataset, ours = winner.dataset, winner.preprocessing
    theirs = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
    spec = winner.config.data
    if spec.source == "folder" and theirs is not None and theirs != ours:
        return theirs, _read_again(spec, theirs)
    inputs = {name: list(shape) for name, shape in dataset.task.inputs.items()}
    if facts["inputs"] != inputs:
        raise PromotionRefusedError(f"it takes {facts['inputs']}, and this one {inputs}")
    # Arrays in the data's own units are compared: each model scales and normalises them itself.
    if (theirs and theirs.takes_bytes) != (ours and ours.takes_bytes):
        raise PromotionRefusedError("its inputs are prepared from the files in another way")
    return winner.preprocessing, dataset.validation


def _read_again(spec: DataSpec, prepared: Preprocessing) -> Split:
    """The validation part of a folder, its images prepared in another way."""
    try:
        return load(spec, prepared).validation
    except DataError as error:  # the champion takes arrays that no image becomes
        raise PromotionRefusedError(
            "its inputs are prepared from the files in another way"
        ) from error


def _require_same_outputs(dataset: Dataset, facts: Mapping[str, Any]) -> None:
    """Refuse a champion whose answers the challenger does not replace, or the other way round."""
    if bool(facts["class_names"]) != bool(dataset.class_names):
        raise PromotionRefusedError("only one of the two answers with a class")
    if lost := sorted(set(facts["class_names"]) - set(dataset.class_names)):
        raise PromotionRefusedError(f"it knows the class '{lost[0]}', which this one does not")
    if lost := sorted(set(facts["value_names"]) - set(dataset.value_names)):
        raise PromotionRefusedError(f"it predicts '{lost[0]}', which this one does not")
    if lacking := sorted(set(dataset.value_names) - set(facts["value_names"])):
        raise PromotionRefusedError(f"it does not predict '{lacking[0]}'")
