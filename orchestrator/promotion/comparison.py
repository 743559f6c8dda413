"""Comparison of a challenger with the champion of an alias, by the challenger's objectives.

If both were evaluated on the same data, their recorded metrics are compared. Otherwise both are
scored on the challenger's validation examples that neither was trained on; costs are compared as
recorded.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from orchestrator.errors import PromotionRefusedError
from orchestrator.formatting import METRIC_NAMES, format_number
from orchestrator.objective import Objective, dominates
from orchestrator.promotion import package
from orchestrator.promotion.clean_model import VerifiedModel
from orchestrator.promotion.registry import Champion
from orchestrator.promotion.winner import Winner
from workers.data import DataError, Dataset, DataSpec, Preprocessing, Split, load
from workers.data.identity import example_digests
from workers.metrics import measured_metrics

MIN_EXAMPLES = 30
"""Minimum number of unseen validation examples for a comparison."""

_SCORES: Mapping[str, Objective] = {
    "accuracy": Objective(metric="val_accuracy", direction="maximize"),
    "mae": Objective(metric="val_mae", direction="minimize"),
    "rmse": Objective(metric="val_rmse", direction="minimize"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Metrics of challenger and champion on the same examples."""

    objectives: tuple[Objective, ...]
    ours: tuple[float, ...]
    """The challenger's value of each objective."""
    theirs: tuple[float, ...]
    """The champion's value of each objective."""
    examples: str
    """Description of the examples."""

    @property
    def champion_wins(self) -> bool:
        """True if the champion Pareto-dominates the challenger."""
        return dominates(self.theirs, self.ours, self.objectives)

    def describe(self) -> str:
        """Return both sides in one line."""
        theirs = " and ".join(
            f"{METRIC_NAMES.get(objective.metric, objective.metric)} {format_number(value)}"
            for objective, value in zip(self.objectives, self.theirs, strict=True)
        )
        ours = " and ".join(format_number(value) for value in self.ours)
        return f"{theirs} on {self.examples}, this one {ours}"


def recorded_metrics(winner: Winner) -> dict[str, float]:
    """Return the recorded metrics of the trial, at the epoch of its values, that can be objectives.

    Errors of single regression targets are left out: their names may not be valid MLflow tags.
    """
    trial = winner.trial
    scores = {f"val_{name}": score for name, score in winner.scores.items()}
    known = {**winner.measurement.metrics, **trial.cost, **scores}
    return {name: float(known[name]) for name in measured_metrics() or () if name in known}


def compare_recorded(winner: Winner, champion: Champion) -> Comparison | None:
    """Compare recorded metrics, by the study's objectives.

    If the champion's value of an objective is unknown, accuracy or error replaces the measured
    objectives.

    Returns:
        None if the champion was evaluated on other data, or by metrics that the winner lacks.
    """
    if champion.tags.get("archscout.data_digest") != winner.study.data_digest:
        return None
    ours = recorded_metrics(winner)
    for objectives in (winner.config.objectives, _score_objectives(winner, champion)):
        known = _tagged(champion, objectives)
        if len(known) == len(objectives) and all(
            objective.metric in ours for objective in objectives
        ):
            return Comparison(
                objectives=objectives,
                ours=tuple(ours[objective.metric] for objective in objectives),
                theirs=tuple(known),
                examples="validation",
            )
    return None


def compare_on_unseen(
    winner: Winner, model: VerifiedModel, champion: Champion, theirs: VerifiedModel
) -> Comparison:
    """Score both on the winner's validation examples that neither was trained on.

    Args:
        winner: The challenger.
        model: Its model, fetched back.
        champion: The champion's version.
        theirs: The champion's model, fetched back.

    Raises:
        PromotionRefusedError: The champion has other inputs or outputs or no record of its
            training examples, or the two were trained on nearly all of the examples.
    """
    facts = json.loads(theirs.file(package.FACTS) or b"{}")
    _require_same_outputs(winner.dataset, facts)
    preprocessing, validation = _preprocessed_for_champion(winner, facts)
    trained = theirs.file(package.TRAINING_EXAMPLES)
    if trained is None:
        raise PromotionRefusedError(
            "it has no record of its training examples, because an older release promoted it"
        )
    seen = safetensors.numpy.load(trained)["digests"].view(np.uint64)
    unseen = _unseen(winner.dataset, validation, seen)
    objectives = _score_objectives(winner, champion)
    costs = [objective for objective in objectives if objective.is_cost]
    ours = score(winner, model, winner.dataset.validation.take(unseen), winner.preprocessing)
    other = score(winner, theirs, validation.take(unseen), preprocessing)
    recorded = recorded_metrics(winner)
    return Comparison(
        objectives=objectives,
        ours=(*ours.values(), *(recorded[objective.metric] for objective in costs)),
        theirs=(*other.values(), *_tagged(champion, costs)),
        examples=f"the {len(unseen)} validation examples that neither was trained on",
    )


def score(
    winner: Winner, model: VerifiedModel, split: Split, preprocessing: Preprocessing | None
) -> dict[str, float]:
    """Return a model's scores on a split, by the names of `winner.scores`.

    Errors of several regression targets are in the winner's standard deviations, for both models.
    """
    dataset = winner.dataset
    predictions = model.predict(package.examples(split, preprocessing))
    scores = {}
    if dataset.class_names:
        expected = [dataset.class_names[target] for target in split.targets]
        is_correct = [
            label == target_name
            for label, target_name in zip(predictions["label"], expected, strict=True)
        ]
        scores["accuracy"] = float(np.mean(is_correct))
    if split.values is not None:
        columns = [predictions[f"value_{name}"] for name in dataset.value_names]
        error_NV = np.column_stack(columns) - split.values.astype(np.float64)
        scores["mae"] = float(np.abs(error_NV).mean())
        std_V = winner.checkpoint.state["normalisation"]["values"]["deviation"]
        scores["rmse"] = float(np.sqrt(np.square(error_NV / std_V).mean()))
    return {name: scores[name] for name in winner.scores}


def _score_objectives(winner: Winner, champion: Champion) -> tuple[Objective, ...]:
    """Return accuracy or error, and the study's cost objectives that both versions have recorded.

    Any model can be scored, so these compare any two.
    """
    known = recorded_metrics(winner)
    costs = [
        objective
        for objective in winner.config.objectives
        if objective.is_cost and objective.metric in known and _tagged(champion, [objective])
    ]
    return (*(_SCORES[name] for name in winner.scores), *costs)


def _tagged(champion: Champion, objectives: Sequence[Objective]) -> list[float]:
    """Return the champion's recorded values of the objectives, without unknown ones."""
    tags = [champion.tags.get(f"archscout.{objective.metric}") for objective in objectives]
    return [float(tag) for tag in tags if tag is not None]


def _unseen(dataset: Dataset, validation: Split, seen: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the indices of validation examples that neither model was trained on.

    Args:
        dataset: The challenger's data set.
        validation: Its validation split, preprocessed for the champion.
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


def _preprocessed_for_champion(
    winner: Winner, facts: Mapping[str, Any]
) -> tuple[Preprocessing | None, Split]:
    """Return the champion's preprocessing, and the winner's validation split preprocessed by it.

    Images of a folder are read again if the data sets differ in size or color.
    """
    dataset, ours = winner.dataset, winner.preprocessing
    theirs = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
    spec = winner.config.data
    if spec.source == "folder" and theirs is not None and theirs != ours:
        return theirs, _read_again(spec, theirs)
    inputs = {name: list(shape) for name, shape in dataset.task.inputs.items()}
    if facts["inputs"] != inputs:
        raise PromotionRefusedError(f"it takes {facts['inputs']}, and this one {inputs}")
    # Arrays in the data's own units are comparable: each model normalizes them itself.
    if (theirs and theirs.takes_bytes) != (ours and ours.takes_bytes):
        raise PromotionRefusedError("its inputs are prepared from the files in another way")
    return winner.preprocessing, dataset.validation


def _read_again(spec: DataSpec, preprocessing: Preprocessing) -> Split:
    """Return the validation split of a folder with another preprocessing of its images."""
    try:
        return load(spec, preprocessing).validation
    except DataError as error:  # the champion's inputs cannot be made from images
        raise PromotionRefusedError(
            "its inputs are prepared from the files in another way"
        ) from error


def _require_same_outputs(dataset: Dataset, facts: Mapping[str, Any]) -> None:
    """Refuse a champion if the two models' outputs differ."""
    if bool(facts["class_names"]) != bool(dataset.class_names):
        raise PromotionRefusedError("only one of the two is a classifier")
    if removed := sorted(set(facts["class_names"]) - set(dataset.class_names)):
        raise PromotionRefusedError(f"it knows the class '{removed[0]}', which this one does not")
    if removed := sorted(set(facts["value_names"]) - set(dataset.value_names)):
        raise PromotionRefusedError(f"it predicts '{removed[0]}', which this one does not")
    if missing := sorted(set(dataset.value_names) - set(facts["value_names"])):
        raise PromotionRefusedError(f"it does not predict '{missing[0]}'")
