"""Starter study on a user's data: a study.yaml with limits that suit the machine."""

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

TRIALS = 80
"""Maximum number of trials; those that rungs end early cost a third of a full training or less."""
EPOCHS = 9
"""Epochs of a full training."""
FULL_TRAINING_S = 30.0
"""Maximum seconds of a full training, reached by limiting the examples."""
MIN_SEARCH_S = 180.0
"""Minimum seconds of the search; enough for several full trainings per slot."""

UNTIMED_SEARCH_S = 1800.0
"""Seconds of the search if no training could be timed."""

_KEYS_WIDTH = 42
_FULL_TRAININGS = 60
"""Full trainings that the limit of hours allows: two thirds for the search, which needs 20 to find
what is better than the default, and a third for its confirmation, five seeds of four networks."""
_MIN_EACH = 50
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Hardware to train on."""

    cores: int
    """Parallel trials without a GPU."""
    gpu: bool
    """True if trials use a GPU."""
    example_s: float | None
    """Seconds to train the default candidate on one example; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the starter study."""

    limit: int | None
    """Maximum number of examples; None takes all."""
    full_s: float | None
    """Seconds of a full training of the default candidate; None if unknown."""
    hours: float
    """Hours of the search."""


def space_for(streams: Container[str]) -> str:
    """Return the catalog space for data with these streams."""
    return "vector" if "vector" in streams else "hybrid"


def limits(found: Inspection, machine: Machine) -> Limits:
    """Return limits that allow several full trainings within minutes."""
    pool = found.examples["train"]
    if machine.example_s is None:
        return Limits(limit=found.spec.limit, full_s=None, hours=UNTIMED_SEARCH_S / 3600)
    train_share = 1.0 - sum(
        share
        for part, share in (
            ("validation", found.spec.split.validation),
            ("test", found.spec.split.test),
        )
        if part not in found.examples
    )
    epoch_s = machine.example_s * train_share
    affordable = int(FULL_TRAINING_S / (EPOCHS * epoch_s))
    fewest = _MIN_EACH * max(1, len(found.classes))
    most = min(found.spec.limit or pool, max(affordable, fewest))
    limit = _with_all_classes(found, None if most >= pool else _rounded_down(most))
    full_s = EPOCHS * epoch_s * (limit or pool)
    slots = 1 if machine.gpu else machine.cores
    seconds = max(MIN_SEARCH_S, _FULL_TRAININGS * full_s / slots)
    return Limits(limit=limit, full_s=full_s, hours=math.ceil(seconds / 36) / 100)


def study_name(path: Path) -> str:
    """Return a name for a study on this data."""
    name = _NOT_IN_NAMES.sub("-", path.name.removesuffix(".npz")).strip("-._")[:60]
    return name if re.fullmatch(NAME_PATTERN, name) else "mine"


def compose_yaml(found: Inspection, path: str, machine: Machine, held: Limits) -> str:
    """Return the text of a study.yaml that runs unchanged, with each key explained.

    Args:
        found: Inspection of the data.
        path: Path of the data, relative to the file.
        machine: Hardware to train on.
        held: Limits of the study.
    """
    where = "one GPU a trial" if machine.gpu else f"{machine.cores} parallel trials here"
    space = space_for(found.raw.pool.inputs)
    others = "" if space == "vector" else "convolution, transformer, tiny, "
    lines = [
        (f"# A first study on {sanitize(path, 200)}; every line may be changed.", ""),
        (f"name: {quoted(study_name(Path(found.spec.path or '')))}", ""),
        (f"space: {space}", f"or {others}file.py:name"),
        *_data_lines(found, path, held.limit),
        (f"objectives: [{', '.join(_objectives(found))}]", ""),
        (
            f"budget: {{unit: epoch, minimum: auto, maximum: {EPOCHS}, reduction_factor: 3}}",
            "a full training could not be timed"
            if held.full_s is None
            else f"a full training takes about {format_duration(held.full_s)} here",
        ),
        (
            f"stop: {{trials: {TRIALS}, hours: {held.hours:g}}}",
            "the search ends at the first of them",
        ),
        ("confirm: {top: 3, seeds: 10}", "retrains the best and the default: is it a gain?"),
        ("sampler: {name: auto}", "or tpe, random; gp, nsga2, nsga3 need complete trials"),
        ("pruner: {name: halving}", "prunes the worse two thirds early; or none"),
        ("engine: {name: ray_tune}", "or in_process: one trial at a time, no cluster"),
        (f"resources: {{cpu: 1, gpu: {int(machine.gpu)}}}", where),
        ("seed: 0", "the same seed samples the same candidates"),
    ]
    return "".join(f"{_line(key, why)}\n" for key, why in lines)


def _data_lines(found: Inspection, path: str, limit: int | None) -> list[tuple[str, str]]:
    """Return the keys of the data section, each with its explanation."""
    own = " and ".join(part for part in found.examples if part != "train")
    split = f"the data's own {own} split is used" if own else "shares, or counts from 1"
    pool = f"of {found.examples['train']:,}; more are better and take longer"
    return [
        ("data:", ""),
        (f"  source: {found.spec.source}", f"{' x '.join(map(str, found.shape))} once prepared"),
        (f"  path: {quoted(path)}", "from this file's folder"),
        ("  split: {validation: 0.2, test: 0.1, seed: 0}", split),
        (f"  limit: {limit or ''}".rstrip(), pool if limit else "empty: all of them"),
    ]


def _objectives(found: Inspection) -> list[str]:
    """Return an objective for classes and one for regression targets, as YAML.

    Several targets are measured by the RMSE of standardized targets.
    """
    objectives = ["{metric: val_accuracy, direction: maximize}"] if found.classes else []
    if found.numbers:
        error = "val_mae" if len(found.numbers) == 1 else "val_rmse"
        objectives.append(f"{{metric: {error}, direction: minimize}}")
    return objectives


def _line(key: str, why: str) -> str:
    """Return a key with its comment at its end, or above it if the key is long."""
    if not why:
        return key
    if len(key) > _KEYS_WIDTH:
        indent = " " * (len(key) - len(key.lstrip()))
        return f"{indent}# {why[0].upper()}{why[1:]}.\n{key}"
    return f"{key.ljust(_KEYS_WIDTH)}  # {why}"


def quoted(text: str) -> str:
    """Return text as a YAML scalar, unquoted where possible."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in _WORDS:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf).strip())


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"}


def _rounded_down(count: int) -> int:
    """Return a count rounded down to two significant digits."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return max(1, count // step * step)


def _with_all_classes(found: Inspection, limit: int | None) -> int | None:
    """Return the limit, raised until every split has all classes."""
    while limit is not None and limit < found.examples["train"]:
        try:
            split_data(found.raw, replace(found.spec, limit=limit))
        except DataError:
            limit *= 2
        else:
            return limit
    return found.spec.limit
