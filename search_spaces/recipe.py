"""Training recipes: all settings of training except the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from search_spaces.domains import (
    Const,
    Domain,
    FloatRange,
    OneOf,
    Record,
    choice,
)
from search_spaces.domains.priors import likely_first
from search_spaces.plugins import did_you_mean

Optimizer = Literal["sgd_nesterov", "adamw"]
Schedule = Literal["one_cycle", "cosine", "linear", "constant"]
Augmentation = Literal["none", "shift", "cutout", "flip_shift", "erasing"]
Mixing = Literal["none", "mixup", "cutmix"]
AccumulationRule = Literal["fixed", "variance", "forecast"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Training settings; the defaults are the recipe that every study tries first."""

    optimizer: Optimizer = "sgd_nesterov"
    """`sgd_nesterov`: SGD with Nesterov momentum; `adamw`: Adam with decoupled weight decay."""
    learning_rate: float = 0.15
    """Maximum learning rate of the schedule."""
    momentum: float = 0.9
    """Momentum of SGD, or first beta of AdamW."""
    weight_decay: float = 5e-4
    """Weight decay of the layers' weights; biases, normalization, scales and positions have
    none."""
    schedule: Schedule = "linear"
    """Schedule after the warm-up: `one_cycle` and `cosine` decay along a cosine (the former cycles
    momentum inversely), `linear` decays to zero, `constant` does not decay."""
    warmup: float = 0.2
    """Fraction of all steps with rising learning rate, in [0, 1)."""
    augmentation: Augmentation = "shift"
    """Augmentation of training images: `shift` translates them, `cutout` also blanks a random
    square, `flip_shift` also mirrors half of them horizontally, `erasing` also fills a random
    rectangle of half of them with noise."""
    batch_size: int = 64
    """Examples per forward pass."""
    accumulation: int = 1
    """Forward passes whose gradients are averaged before each optimizer step."""
    precision: Precision = "auto"
    """Precision of the forward pass; `auto` is bfloat16 where the device computes it faster than
    float32. A trial keeps its precision when it resumes."""
    gradient_clip: float | None = None
    """Maximum norm of the gradient of all parameters; None disables clipping."""
    mixing: Mixing = "none"
    """Mixing of two examples and their labels: `mixup` interpolates, `cutmix` pastes a
    rectangle."""
    accumulation_rule: AccumulationRule = "fixed"
    """Policy of gradient accumulation: `fixed` uses `accumulation`; `variance` uses more batches
    while the measured variance of the gradient is high, `forecast` while a small LSTM predicts it.
    """
    weight_average: float | None = None
    """Decay per step of the EMA of the weights that is evaluated instead of them."""

    def __post_init__(self) -> None:
        """Reject impossible recipes.

        Raises:
            ValueError: A name is unknown or a number is out of range.
        """
        for field, names in _NAMES.items():
            if getattr(self, field) not in names:
                allowed = ", ".join(names)
                raise ValueError(f"recipe.{field}: {getattr(self, field)!r} is none of {allowed}")
        for field, fits in (
            ("learning_rate", self.learning_rate > 0),
            ("momentum", 0 <= self.momentum < 1),
            ("weight_decay", self.weight_decay >= 0),
            ("warmup", 0 <= self.warmup < 1),
            ("batch_size", self.batch_size >= 1),
            ("accumulation", self.accumulation >= 1),
            ("weight_average", self.weight_average is None or 0 < self.weight_average < 1),
            ("gradient_clip", self.gradient_clip is None or self.gradient_clip > 0),
        ):
            if not fits:
                raise ValueError(f"recipe.{field}: {getattr(self, field)!r} is out of range")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`.

        Fields that were added later are omitted while they have their default, so recipes stored
        before keep their digest.
        """
        plain = asdict(self)
        defaults = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in plain.items() if k not in _ADDED or v != defaults[k]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the recipe from the data of `to_dict`; missing fields have their default.

        Raises:
            ValueError: A field is unknown, or its value is impossible.
        """
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise ValueError(f"recipe: no field {name!r}.{did_you_mean(name, known)}")
        return cls(**data)


_NAMES = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "augmentation": get_args(Augmentation),
    "precision": get_args(Precision),
    "mixing": get_args(Mixing),
    "accumulation_rule": get_args(AccumulationRule),
}
_ADDED = ("mixing", "accumulation_rule", "weight_average")
_OF_OPTIMIZER = ("learning_rate", "momentum", "weight_decay")


def recipe_domain(
    *,
    augmentations: Sequence[Augmentation] = ("shift", "none", "cutout"),
    batch_sizes: Sequence[int] = (64, 32, 128),
    accumulations: Sequence[int] = (1, 2),
    precisions: Sequence[Precision] = ("auto",),
    optimizers: Sequence[Optimizer] = ("sgd_nesterov", "adamw"),
    mixings: Sequence[Mixing] = ("none",),
    accumulation_rules: Sequence[AccumulationRule] = ("fixed",),
    weight_averages: Sequence[float | None] = (None,),
) -> Domain[Recipe]:
    """Return recipes for small images; the first of each list is the default and its prior.

    Most decisions have a weak prior: the default recipe was tuned on small images, and good recipes
    for other networks are near it.

    Mirroring is not included by default, since a mirrored digit is another digit, or none. Spaces
    for objects that look alike from both sides add `flip_shift`.
    """
    return Record(
        _joined,
        {
            "optimizer": OneOf(
                {name: _OPTIMIZERS[name]() for name in optimizers},
                prior=optimizers[0],
                confidence="low",
            ),
            "schedule": likely_first("linear", "one_cycle", "cosine", "constant"),
            "warmup": FloatRange(0.0, 0.5, step=0.05, prior=0.2, confidence="low"),
            "augmentation": likely_first(*augmentations),
            "batch_size": likely_first(*batch_sizes),
            "accumulation": likely_first(*accumulations),
            "precision": choice(*precisions),
            "gradient_clip": OneOf({"off": Const(None), "on": Const(1.0)}),
            "mixing": choice(*mixings),
            "accumulation_rule": choice(*accumulation_rules),
            "weight_average": choice(*weight_averages),
        },
        take=_parted,
    )


def _adamw() -> Domain[dict[str, Any]]:
    return Record(
        dict,
        {
            "name": Const("adamw"),
            "learning_rate": FloatRange(3e-4, 2e-2, log=True, prior=3e-3),
            "momentum": Const(0.9),
            "weight_decay": FloatRange(1e-4, 0.3, log=True, prior=1e-2, confidence="low"),
        },
    )


def _sgd_nesterov() -> Domain[dict[str, Any]]:
    return Record(
        dict,
        {
            "name": Const("sgd_nesterov"),
            "learning_rate": FloatRange(0.01, 1.0, log=True, prior=0.15),
            "momentum": FloatRange(0.8, 0.95, step=0.05, prior=0.9, confidence="low"),
            "weight_decay": FloatRange(1e-5, 1e-2, log=True, prior=5e-4, confidence="low"),
        },
    )


_OPTIMIZERS: Mapping[str, Callable[[], Domain[dict[str, Any]]]] = {
    "adamw": _adamw,
    "sgd_nesterov": _sgd_nesterov,
}


def _joined(*, optimizer: Mapping[str, Any], **rest: Any) -> Recipe:
    """Return the recipe whose optimizer's fields were decided together."""
    numbers = {name: optimizer[name] for name in _OF_OPTIMIZER}
    return Recipe(optimizer=optimizer["name"], **numbers, **rest)


def _parted(recipe: Recipe) -> dict[str, Any]:
    """Invert `_joined`."""
    rest = asdict(recipe)
    optimizer = {"name": rest.pop("optimizer")}
    return {"optimizer": optimizer | {name: rest.pop(name) for name in _OF_OPTIMIZER}, **rest}
