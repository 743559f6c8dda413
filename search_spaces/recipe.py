"""Recipe: how a network is trained, apart from what it minimises.

Knows names and numbers only; the trainer gives them meaning.
"""

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
from search_spaces.plugins import did_you_mean

Optimizer = Literal["sgd_nesterov", "adamw"]
Schedule = Literal["one_cycle", "cosine", "linear", "constant"]
Augmentation = Literal["none", "shift", "cutout", "flip_shift", "erasing"]
Mixing = Literal["none", "mixup", "cutmix"]
AccumulationRule = Literal["fixed", "variance", "forecast"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained; the defaults are the recipe that every study tries first."""

    optimizer: Optimizer = "sgd_nesterov"
    """`sgd_nesterov`: momentum that looks ahead; `adamw`: Adam, weight decay decoupled."""
    learning_rate: float = 0.15
    """The highest learning rate of the schedule."""
    momentum: float = 0.9
    """Momentum of SGD, or the first beta of AdamW."""
    weight_decay: float = 5e-4
    """Weight decay as the optimizer defines it, of the weights of layers; biases, normalisation,
    scales and positions are spared."""
    schedule: Schedule = "linear"
    """How the learning rate goes after the warm-up: `one_cycle` and `cosine` fall along a cosine
    (the former moves momentum the other way), `linear` falls evenly to zero, `constant` stays."""
    warmup: float = 0.2
    """Share of all steps in which the learning rate rises to its highest, 0 to below 1."""
    augmentation: Augmentation = "shift"
    """What is done to training images: `shift` moves them a little at random, `cutout` also blanks
    a random square, `flip_shift` also mirrors half of them left to right, `erasing` also puts noise
    on a random rectangle of half of them."""
    batch_size: int = 64
    """Examples in one forward pass."""
    accumulation: int = 1
    """Forward passes whose gradients are averaged before one step of the optimizer."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the device computes it faster
    than float32. A trial keeps what it began in."""
    gradient_clip: float | None = None
    """Largest norm of the gradient of all parameters together; None leaves it as it is."""
    mixing: Mixing = "none"
    """What is made of two examples and learnt as both: `mixup` adds them in a random proportion,
    `cutmix` puts a rectangle of one into the other."""
    accumulation_rule: AccumulationRule = "fixed"
    """Whether `accumulation` is all there is, or the fewest batches a step: `variance` takes more
    while the gradient's measured variance is high, `forecast` while a small LSTM expects it."""
    weight_average: float | None = None
    """Decay, a step, of the running average of the weights that is judged in their place."""

    def __post_init__(self) -> None:
        """Refuse recipes that no trainer could follow.

        Raises:
            ValueError: A name is unknown or a number outside its range.
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
        """Plain data; `from_dict` undoes it.

        What recipes learnt later stays out while it has its default: recipes that were written
        before keep their digest.
        """
        plain = asdict(self)
        defaults = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in plain.items() if k not in _ADDED or v != defaults[k]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The recipe that `to_dict` wrote; what is not said has its default.

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
    """Recipes for small images; of each list the first is the default, and what is expected.

    Most decisions have a modest prior: the recipe that every study tries first was tuned on small
    images, and good ones for other networks lie about it.

    Mirroring is left out by default: a mirrored digit is another digit, or none. Spaces for objects
    that look alike from both sides add `flip_shift`.
    """
    return Record(
        _joined,
        {
            "optimizer": OneOf(
                {name: _OPTIMIZERS[name]() for name in optimizers},
                prior=optimizers[0],
                confidence="low",
            ),
            "schedule": _expected("linear", "one_cycle", "cosine", "constant"),
            "warmup": FloatRange(0.0, 0.5, step=0.05, prior=0.2, confidence="low"),
            "augmentation": _expected(*augmentations),
            "batch_size": _expected(*batch_sizes),
            "accumulation": _expected(*accumulations),
            "precision": choice(*precisions),
            "gradient_clip": OneOf({"off": Const(None), "on": Const(1.0)}),
            "mixing": choice(*mixings),
            "accumulation_rule": choice(*accumulation_rules),
            "weight_average": choice(*weight_averages),
        },
        take=_parted,
    )


def _expected(*values: Any) -> Domain[Any]:
    """One of several plain values, the first of which is somewhat likelier."""
    return choice(*values, prior=values[0], confidence="low")


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
    """The recipe whose optimizer's fields were decided together."""
    numbers = {name: optimizer[name] for name in _OF_OPTIMIZER}
    return Recipe(optimizer=optimizer["name"], **numbers, **rest)


def _parted(recipe: Recipe) -> dict[str, Any]:
    """Undoes `_joined`."""
    rest = asdict(recipe)
    optimizer = {"name": rest.pop("optimizer")}
    return {"optimizer": optimizer | {name: rest.pop(name) for name in _OF_OPTIMIZER}, **rest}
