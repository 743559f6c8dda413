"""The first study on somebody's data: limits that suit the machine, written as a study.yaml.

Knows the keys of a study and how long a training takes here; finding out both about the data and
about the machine is for others.
"""

import math
import re
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from orchestrator.config.schema import NAME_PATTERN
from orchestrator.errors import sanitize
from orchestrator.formatting import format_duration
from workers.data.dataset import DataError, split_data
from workers.data.inspection import Inspection

TRIALS = 40
EPOCHS = 9
"""Epochs of a full training: two judgements before, each letting a third go on."""
FULL_TRAINING_S = 45.0
"""Longest full training that a first look takes, if examples can be left out."""
FIRST_LOOK_S = 180.0
"""How long a first search takes at least; long enough for several full trainings a slot."""

UNTIMED_S = 1800.0
"""How long a first search takes where no training could be timed."""

_KEYS_WIDTH = 42
_FULL_TRAININGS = 8
_MIN_EACH = 50
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to train on."""

    cores: int
    """Trials that run side by side without a GPU."""
    gpu: bool
    """Whether a trial gets a GPU."""
    example_s: float | None
    """Time that the default candidate takes to learn from one example once; None if not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the first search is held to."""

    limit: int | None
    """Examples to take; None takes all."""
    full_s: float | None
    """How long one full training of the default candidate then takes; None if not known."""
    hours: float
    """How long the search may take."""


def space_for(streams: Container[str]) -> str:
    """The ready space for examples of one of these streams."""
    return "vector" if "vector" in streams else "hybrid"


def limits(found: Inspection, machine: Machine) -> Limits:
    """As much as several full trainings allow within minutes, and as fits into memory."""
    pool = found.examples["train"]
    if machine.example_s is None:
        return Limits(limit=found.spec.limit, full_s=None, hours=UNTIMED_S / 3600)
    learnt = 1.0 - sum(
        share
        for part, share in (
            ("validation", found.spec.split.validation),
            ("test", found.spec.split.test),
        )
        if part not in found.examples
    )
    epoch_s = machine.example_s * learnt
    patient = int(FULL_TRAINING_S / (EPOCHS * epoch_s))
    fewest = _MIN_EACH * max(1, len(found.classes))
    most = min(found.spec.limit or pool, max(patient, fewest))
    limit = _with_all_classes(found, None if most >= pool else _rounded_down(most))
    full_s = EPOCHS * epoch_s * (limit or pool)
    slots = 1 if machine.gpu else machine.cores
    seconds = max(FIRST_LOOK_S, _FULL_TRAININGS * full_s / slots)
    return Limits(limit=limit, full_s=full_s, hours=math.ceil(seconds / 36) / 100)


def study_name(path: Path) -> str:
    """A name for a study on this data."""
    name = _NOT_IN_NAMES.sub("-", path.name.removesuffix(".npz")).strip("-._")[:60]
    return name if re.fullmatch(NAME_PATTERN, name) else "mine"


def compose_yaml(found: Inspection, path: str, machine: Machine, held: Limits) -> str:
    """The text of a study.yaml that runs as it is, each key explained.

    Args:
        found: The data.
        path: Where it lies, as the file says it.
        machine: What there is to train on.
        held: The limits.
    """
    pool = found.examples["train"]
    limit = held.limit or ""
    why = f"of {pool:,}; more are better and take longer" if limit else "empty: all of them"
    where = "one GPU a trial" if machine.gpu else f"{machine.cores} trials side by side here"
    space = space_for(found.raw.pool.inputs)
    others = "" if space == "vector" else "convolution, transformer, tiny, "
    own = " and ".join(part for part in found.examples if part != "train")
    split = f"the data's own {own} part is used" if own else "shares, or counts from 1"
    lines = [
        (f"# A first study on {sanitize(path, 200)}; every line may be changed.", ""),
        (f"name: {quoted(study_name(Path(found.spec.path or '')))}", ""),
        (f"space: {space}", f"or {others}file.py:name"),
        ("data:", ""),
        (f"  source: {found.spec.source}", f"{' x '.join(map(str, found.shape))} once prepared"),
        (f"  path: {quoted(path)}", "from this file's folder"),
        ("  split: {validation: 0.2, test: 0.1, seed: 0}", split),
        (f"  limit: {limit}".rstrip(), why),
        (f"objectives: [{', '.join(_objectives(found))}]", ""),
        (
            f"budget: {{unit: epoch, minimum: 1, maximum: {EPOCHS}, reduction_factor: 3}}",
            "a full training could not be timed"
            if held.full_s is None
            else f"a full training takes about {format_duration(held.full_s)} here",
        ),
        (
            f"stop: {{trials: {TRIALS}, hours: {held.hours:g}}}",
            "whatever comes first; more hours find better networks",
        ),
        ("sampler: {name: tpe}", "or random; gp, nsga2, nsga3 learn from complete trials alone"),
        ("pruner: {name: halving}", "stops the weaker two thirds early; or none"),
        ("engine: {name: ray_tune}", "or in_process: one trial at a time, no cluster"),
        (f"resources: {{cpu: 1, gpu: {int(machine.gpu)}}}", where),
        ("seed: 0", "the same seed draws the same candidates"),
    ]
    return "".join(f"{_line(key, why)}\n" for key, why in lines)


def _objectives(found: Inspection) -> list[str]:
    """One for classes and one for numbers; several numbers are measured in their deviations."""
    asked = ["{metric: val_accuracy, direction: maximize}"] if found.classes else []
    if found.numbers:
        error = "val_mae" if len(found.numbers) == 1 else "val_rmse"
        asked.append(f"{{metric: {error}, direction: minimize}}")
    return asked


def _line(key: str, why: str) -> str:
    """A key with its explanation beside it, or above it where it is long."""
    if not why:
        return key
    if len(key) > _KEYS_WIDTH:
        indent = " " * (len(key) - len(key.lstrip()))
        return f"{indent}# {why[0].upper()}{why[1:]}.\n{key}"
    return f"{key.ljust(_KEYS_WIDTH)}  # {why}"


def quoted(text: str) -> str:
    """Text as YAML reads it back, plain where it can be."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in _WORDS:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf).strip())


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def _rounded_down(count: int) -> int:
    """A count with two figures that count."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return max(1, count // step * step)


def _with_all_classes(found: Inspection, limit: int | None) -> int | None:
    """The limit, raised until every class can be learnt and judged."""
    while limit is not None and limit < found.examples["train"]:
        try:
            split_data(found.raw, replace(found.spec, limit=limit))
        except DataError:
            limit *= 2
        else:
            return limit
    return found.spec.limit
