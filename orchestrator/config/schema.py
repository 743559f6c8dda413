"""Schema of study.yaml: its keys as frozen pydantic models.

`config.load` reads text and turns validation errors into messages with file and line. Loading a
file makes its paths absolute, relative to the file's folder, so that a study can be resumed from
any folder. Paths of a config built in Python are relative to the working directory.
"""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from orchestrator.confirmation.plan import (
    MAX_SEEDS,
    MAX_TOP,
    MIN_SEEDS,
    ConfirmationPlan,
)
from orchestrator.objective import CheckpointName, Objective
from search_spaces.domains.edits import SpaceEdits
from search_spaces.space import Constraint
from workers.budget import Budget
from workers.data.spec import NO_DATA, DataSpec

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Pattern of the names of studies, models and aliases."""

_CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

SamplerName = Literal["auto", "tpe", "random", "nsga2", "nsga3", "gp"]
PrunerName = Literal["halving", "none"]
PrunerType = Literal["promotion", "stopping"]
EngineName = Literal["ray_tune", "in_process"]
Decision = bool | int | float | str | None
"""Value of a decision in a seed point or in an edit of the space."""
BY_NAME, BY_PATH = "seed point by name", "seed point by path"
"""Pydantic's tags of the two kinds of seed points."""
PLAIN, EDITED = "space by name", "space with edits"
"""Pydantic's tags of the two kinds of spaces."""
SeedPoint = Annotated[
    Annotated[str, Tag(BY_NAME)] | Annotated[dict[str, Decision], Tag(BY_PATH)],
    Discriminator(lambda given: BY_NAME if isinstance(given, str) else BY_PATH),
]
"""A candidate to try first: parameters by path, or the name of a known network."""


def _refuse(message: str) -> PydanticCustomError:
    """Return a validation error with a message of its own."""
    return PydanticCustomError("refused", "{message}", {"message": message})


class SpaceConfig(BaseModel):
    """Search space with edits of its decisions."""

    model_config = _CLOSED

    base: str
    """Name in the catalog, or `file.py:name` for a space of the user's own."""
    fix: dict[str, Decision] = {}
    """One value of a decision, by parameter path; `*` is any segment but `count`."""
    narrow: dict[str, Annotated[tuple[Decision, ...], Field(strict=False)]] = {}
    """Bounds of a number, `[low, high]`, or the choices to keep, by parameter path."""
    remove: dict[str, Annotated[tuple[Decision, ...], Field(strict=False)]] = {}
    """Choices to remove, by parameter path."""

    @field_validator("narrow", "remove")
    @classmethod
    def _in_order(cls, value: dict[str, tuple[Decision, ...]]) -> dict[str, tuple[Decision, ...]]:
        return {path: _sorted_choices(values) for path, values in value.items()}

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept: dict[str, Any] = dump(self)
        return {key: value for key, value in kept.items() if value}

    @property
    def edits(self) -> SpaceEdits:
        """Edits of the base."""
        return SpaceEdits(fix=self.fix, narrow=self.narrow, remove=self.remove)

    def __str__(self) -> str:
        """Return the base, and the number of edits."""
        return f"{self.base}{self.edits.describe()}"


Space = Annotated[
    Annotated[str, Tag(PLAIN)] | Annotated[SpaceConfig, Tag(EDITED)],
    Discriminator(lambda given: EDITED if isinstance(given, dict | SpaceConfig) else PLAIN),
]
"""A search space by its name, or with edits."""


def _sorted_choices(values: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """Return choices in a canonical order; two numbers are bounds and keep theirs."""
    numbers = [value for value in values if type(value) in (int, float)]
    return values if len(numbers) == len(values) == 2 else tuple(sorted(values, key=repr))


class StopConfig(BaseModel):
    """Limits of the search; it ends at the first one."""

    model_config = _CLOSED

    trials: int | None = Field(default=None, ge=1)
    """Trials of kind `search` that started, over all resumes."""
    hours: float | None = Field(default=None, gt=0)
    """Limit of hours of search, over all resumes."""
    target: float | None = None
    """Value of the first objective at which the search ends."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.hours is None:
            raise _refuse(
                "the search needs a limit; give trials or hours (a target may never be reached)"
            )
        return self


class SamplerConfig(BaseModel):
    """Sampler that proposes candidates."""

    model_config = _CLOSED

    name: SamplerName = "auto"


class PrunerConfig(BaseModel):
    """Pruner that pauses or stops trials before their maximum budget."""

    model_config = _CLOSED

    name: PrunerName = "halving"
    type: PrunerType = "promotion"
    """Whether trials that a rung does not promote are paused, and may be promoted later, or end."""


class EngineConfig(BaseModel):
    """Engine that runs trials."""

    model_config = _CLOSED

    name: EngineName = "ray_tune"
    address: str | None = None
    """Address of a running Ray cluster; None starts a private one on this machine."""

    @model_validator(mode="after")
    def _address_has_a_cluster(self) -> Self:
        if self.address is not None and self.name != "ray_tune":
            raise _refuse(
                f"engine '{self.name}' runs in this process and takes no address; "
                "remove the address or use engine ray_tune"
            )
        return self


class ResourcesConfig(BaseModel):
    """Resources of each trial."""

    model_config = _CLOSED

    cpu: float = Field(default=1.0, gt=0)
    """CPU cores."""
    gpu: float | None = Field(default=None, ge=0)
    """GPUs, or a share of one; None is 1 if one is found and 0 otherwise."""
    gpu_found: bool = Field(default=False, exclude=True)
    """True if `gpu` was open and was found at the last start; only stored in the ledger."""
    silence_s: float | None = Field(default=None, gt=0, le=1_000_000)
    """Seconds without progress after which an attempt is ended and retried; None is 120 for
    built-in training and no limit for a user's own."""

    @field_validator("gpu")
    @classmethod
    def _whole_gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise _refuse(f"{value} GPUs cannot be had: a share of one, or whole ones")
        return value


class TrackingConfig(BaseModel):
    """MLflow experiment of the study."""

    model_config = _CLOSED

    experiment: str | None = Field(default=None, min_length=1, max_length=250)
    """Experiment name; None is `archscout/NAME`."""

    @field_validator("experiment")
    @classmethod
    def _plain_parts(cls, value: str | None) -> str | None:
        parts = [] if value is None else value.split("/")
        if any(part in {"", ".", ".."} or part != part.strip() for part in parts) or (
            value is not None and not value.isprintable()
        ):
            raise _refuse(
                "not an experiment's name; allowed are printable names with single slashes "
                "between their parts, none of them '.', '..', empty or with blanks around it; "
                "write vision/team-a, or remove the key for archscout/NAME"
            )
        return value


class ConfirmConfig(BaseModel):
    """Confirmation of the best trials with new seeds."""

    model_config = _CLOSED

    top: int | None = Field(default=None, ge=1, le=MAX_TOP)
    """Number of candidates besides the default; None is 3 if `seeds` is given."""
    seeds: int | None = Field(default=None, ge=MIN_SEEDS, le=MAX_SEEDS)
    """Maximum number of seeds of each; None is 10 if `top` is given."""

    @property
    def plan(self) -> ConfirmationPlan | None:
        """Size of the confirmation; None if the search is not confirmed."""
        given = self.model_dump(exclude_none=True)
        return ConfirmationPlan(**given) if given else None


class StudyConfig(BaseModel):
    """Config of one study; equal configs give equal searches.

    Examples:
        >>> StudyConfig(name="mine", space="tiny").budget.rungs()
        (3, 9)
    """

    model_config = _CLOSED

    name: str
    """The study's name, unique in its ledger."""
    space: Space
    """Search space: a name in the catalog or `file.py:name`, also with edits."""
    train: str | None = None
    """The user's own training generator as `file.py:name`; None trains the candidate's network."""
    data: DataSpec = DataSpec()
    """Data set; source `NO_DATA` if a user's own training names none, which dumps leave out."""
    objectives: Annotated[tuple[Objective, ...], Field(strict=False)] = (
        Objective(metric="val_accuracy", direction="maximize"),
    )
    """Metrics to optimize; targets refer to the first one."""
    constraints: Annotated[tuple[Constraint, ...], Field(strict=False)] = ()
    budget: Budget = Budget()
    stop: StopConfig = StopConfig(trials=40)
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    checkpoint: CheckpointName = "last"
    """Epoch that gives a trial its values and its promoted checkpoint; `best` is the best by the
    first trained objective."""
    engine: EngineConfig = EngineConfig()
    resources: ResourcesConfig = ResourcesConfig()
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of all random numbers in the study."""
    seed_points: Annotated[tuple[SeedPoint, ...], Field(strict=False)] = ()
    """Candidates to try first: parameters by path, or names of known networks."""
    warm_start: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of earlier studies on the same data whose results are reused."""
    teacher: str | None = None
    """Promoted model, as MODEL/VERSION, that loss terms distil from."""
    tracking: TrackingConfig = TrackingConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    gates: Annotated[tuple[dict[str, Decision], ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _own_training_claims_no_data(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("train") and given.get("data") is None:
            return {**given, "data": DataSpec(source=NO_DATA)}
        return given

    @model_serializer(mode="wrap")
    def _without_unnamed_data(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept: dict[str, Any] = dump(self)
        if self.data.source == NO_DATA:
            del kept["data"]
        return kept

    @property
    def space_base(self) -> str:
        """Name of the space in the catalog, or `file.py:name`, without edits."""
        return self.space if isinstance(self.space, str) else self.space.base

    @property
    def space_edits(self) -> SpaceEdits:
        """Edits of the space."""
        return SpaceEdits() if isinstance(self.space, str) else self.space.edits

    def with_space_base(self, base: str) -> Self:
        """Return the config with another base of its space."""
        space = self.space
        changed = base if isinstance(space, str) else space.model_copy(update={"base": base})
        return self.model_copy(update={"space": changed})

    @field_validator("space")
    @classmethod
    def _plain_without_edits(cls, value: str | SpaceConfig) -> str | SpaceConfig:
        return value if isinstance(value, str) or value.edits else value.base

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(NAME_PATTERN, value):
            raise _refuse(
                "not a name; allowed are 1 to 100 letters, digits, '.', '_' and '-', "
                "the first a letter or digit"
            )
        return value

    @field_validator("objectives", "constraints")
    @classmethod
    def _each_metric_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[str] = set()
        for entry in value:
            if entry.metric in seen:
                raise _refuse(f"metric '{entry.metric}' is given twice; keep one of them")
            seen.add(entry.metric)
        return value

    @field_validator("objectives")
    @classmethod
    def _aims_at_something(cls, value: tuple[Objective, ...]) -> tuple[Objective, ...]:
        if not value:
            raise _refuse("needs at least one entry")
        return value

    @field_validator("teacher")
    @classmethod
    def _a_version(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(rf"{NAME_PATTERN}/[1-9][0-9]{{0,8}}", value):
            raise _refuse("is not a model and version; write MODEL/VERSION, such as digits/1")
        return value

    @field_validator("gates")
    @classmethod
    def _not_yet(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if value:
            raise _refuse("not available yet; remove the entries")
        return value

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the config that `canonical_json` wrote."""
        return cls.model_validate_json(text)

    def canonical_json(self) -> str:
        """Return the canonical JSON of this config, which the ledger stores and compares.

        The cluster's address is left out, because a study may run on another cluster each time.
        """
        kept = self.model_dump(mode="json", exclude={"engine": {"address"}})
        # Older studies were recorded without these keys.
        if self.teacher is None:
            del kept["teacher"]
        if self.checkpoint == "last":
            del kept["checkpoint"]
        if self.pruner.type == "promotion":
            del kept["pruner"]["type"]
        if self.resources.silence_s is None:
            del kept["resources"]["silence_s"]
        if self.resources.gpu_found:
            kept["resources"]["gpu_found"] = True
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))

    def with_changes(self, before: Self, after: Self) -> Self:
        """Return the config with every key that differs between two other configs as it is after.

        Args:
            before: The one config.
            after: The other one, whose values are taken.
        """
        pairs = {
            name: (getattr(before, name), getattr(after, name)) for name in type(self).model_fields
        }
        return self.model_copy(
            update={name: new for name, (old, new) in pairs.items() if old != new}
        )

    def at_address(self, address: str | None) -> Self:
        """Return the config for another cluster; None is a private one on this machine."""
        return self.model_copy(
            update={"engine": self.engine.model_copy(update={"address": address})}
        )
