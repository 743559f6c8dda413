"""Comparison of a challenger with the champion of an alias, by the challenger's objectives.

Judged on the same data, both are compared as their searches recorded them. A champion that was
judged on other data is scored beside the challenger on the newest validation examples, those left
out that the champion was trained on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy

from orchestrator.objective import Objective, dominates
from orchestrator.promotion import package
from orchestrator.promotion.clean_room import Examinee
from orchestrator.promotion.refusal import PromotionRefused
from orchestrator.promotion.registry import Champion
from orchestrator.promotion.winner import Winner
from orchestrator.terminal import number
from workers.data import Preprocessing, Split
from workers.data.identity import example_digests

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
_TAG = re.compile(r"[\w./-]+", re.ASCII)


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
            f"{_WORDS.get(each.metric, each.metric)} {number(value)}"
            for each, value in zip(self.objectives, self.theirs, strict=True)
        )
        ours = " and ".join(number(value) for value in self.ours)
        return f"{theirs} on {self.examples}, this one {ours}"


def recorded_metrics(winner: Winner) -> dict[str, float]:
    """Return what the search recorded of a trial at the full budget: `val_*` metrics and costs."""
    trial = winner.trial
    measured = trial.measurements[-1].metrics if trial.measurements else {}
    known = {name: value for name, value in measured.items() if name.startswith("val_")}
    known |= {**trial.cost, **{f"val_{name}": score for name, score in winner.scores.items()}}
    return {name: float(value) for name, value in known.items() if _TAG.fullmatch(name)}


def compare_recorded(winner: Winner, champion: Champion) -> Comparison | None:
    """Compare both as recorded, by the study's objectives.

    Where nothing tells the champion's value of an objective, accuracy or error decide instead.

    Returns:
        None if the champion was judged on other data, or in metrics that the winner lacks.
    """
    if champion.tags.get("archscout.data_digest") != winner.study.data_digest:
        return None
    ours = recorded_metrics(winner)
    for objectives in (winner.config.to_objectives(), _score_objectives(winner)):
        tags = [champion.tags.get(f"archscout.{each.metric}") for each in objectives]
        known = [float(tag) for tag in tags if tag is not None]
        if len(known) == len(objectives) and all(each.metric in ours for each in objectives):
            return Comparison(
                objectives=objectives,
                ours=tuple(ours[each.metric] for each in objectives),
                theirs=tuple(known),
                examples="validation",
            )
    return None


def compare_on_unseen(winner: Winner, model: Examinee, champion: Examinee) -> Comparison:
    """Score both on the winner's validation examples that neither was trained on.

    Args:
        winner: The challenger, whose data are the newest.
        model: Its model, fetched back.
        champion: The champion's model, fetched back.

    Raises:
        PromotionRefused: The champion takes other inputs or gives other outputs, does not say what
            it was trained on, or was trained on nearly all of the examples.
    """
    facts = json.loads(champion.file(package.FACTS) or b"{}")
    _require_same_task(winner, facts)
    trained = champion.file(package.TRAINING_EXAMPLES)
    if trained is None:
        raise PromotionRefused(
            "it does not say which examples it was trained on, for an older release promoted it"
        )
    seen = safetensors.numpy.load(trained)["digests"]
    validation = winner.dataset.validation
    unseen = np.flatnonzero(~np.isin(example_digests(validation).view(np.int64), seen))
    if len(unseen) < MIN_EXAMPLES:
        raise PromotionRefused(
            f"it was trained on all but {len(unseen)} of the {len(validation)} validation examples"
        )
    split = validation.take(unseen)
    objectives = _score_objectives(winner)
    return Comparison(
        objectives=objectives,
        ours=tuple(score(winner, model, split).values()),
        theirs=tuple(score(winner, champion, split).values()),
        examples=f"the {len(unseen)} validation examples that neither was trained on",
    )


def score(winner: Winner, model: Examinee, split: Split) -> dict[str, float]:
    """Return what a model's answers come to, by the names of `winner.scores`.

    Errors of several numbers are in the winner's standard deviations, whichever model answers.
    """
    dataset = winner.dataset
    answers = model.answers(package.examples(split, winner.preprocessing))
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
    return f"{_WORDS[f'val_{metric}']} {number(score)}"


def _score_objectives(winner: Winner) -> tuple[Objective, ...]:
    return tuple(_SCORES[name] for name in winner.scores)


def _require_same_task(winner: Winner, facts: Mapping[str, Any]) -> None:
    """Refuse a champion that cannot answer the winner's validation examples."""
    dataset = winner.dataset
    ours = {name: list(shape) for name, shape in dataset.task.inputs.items()}
    if facts["inputs"] != ours:
        raise PromotionRefused(f"it takes {facts['inputs']}, and this one {ours}")
    theirs = facts["preprocessing"] and Preprocessing.from_dict(facts["preprocessing"])
    # Arrays in the data's own units are compared: each model scales and normalises them itself.
    ours_read = winner.preprocessing
    if (theirs and theirs.takes_bytes) != (ours_read and ours_read.takes_bytes):
        raise PromotionRefused("its inputs are prepared from the files in another way")
    if bool(facts["class_names"]) != bool(dataset.class_names):
        raise PromotionRefused("only one of the two answers with a class")
    if lacking := sorted(set(dataset.value_names) - set(facts["value_names"])):
        raise PromotionRefused(f"it does not predict '{lacking[0]}'")
