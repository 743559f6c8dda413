"""Schema of a study's configuration: the keys of study.yaml as frozen values.

It has neither files nor lines: `config.load` reads text and turns what is refused here into
messages that name both. Paths of the user's own files and data are absolute once a config was read
from a file (relative ones count from that file's folder), so that a study can be resumed from
anywhere; in a config built in Python they count from the working directory.
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

from orchestrator.objective import Objective
from search_spaces.space import Constraint
from workers.budget import Budget
from workers.data.spec import NO_DATA, DataSpec

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Pattern of the names of studies, models and aliases."""

_CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

SamplerName = Literal["tpe", "random", "nsga2", "nsga3", "gp"]
PrunerName = Literal["halving", "none"]
EngineName = Literal["ray_tune", "in_process"]
Decision = bool | int | float | str | None
"""One decided value of a seed point."""
BY_NAME, BY_PATH = "seed point by name", "seed point by path"
"""Pydantic's tags of the two kinds of seed points."""
SeedPoint = Annotated[
    Annotated[str, Tag(BY_NAME)] | Annotated[dict[str, Decision], Tag(BY_PATH)],
    Discriminator(lambda given: BY_NAME if isinstance(given, str) else BY_PATH),
]
"""A candidate to try first: parameters by path, or the name of a known network."""


def _refuse(message: str) -> PydanticCustomError:
    """Return an error whose whole text is the message."""
    return PydanticCustomError("refused", "{message}", {"message": message})


class StopConfig(BaseModel):
    """Stopping conditions of the search; the first one met ends it."""

    model_config = _CLOSED

    trials: int | None = Field(default=None, ge=1)
    """Limit of searched trials that started, over all resumes."""
    hours: float | None = Field(default=None, gt=0)
    """Limit of hours of search, over all resumes."""
    target: float | None = None
    """Value of the first objective that is good enough."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.hours is None:
            raise _refuse(
                "the search needs an end; give trials or hours (a target may never be reached)"
            )
        return self


class SamplerConfig(BaseModel):
    """Sampler, which proposes the next candidate."""

    model_config = _CLOSED

    name: SamplerName = "tpe"


class PrunerConfig(BaseModel):
    """Pruner, which stops trials before their full budget."""

    model_config = _CLOSED

    name: PrunerName = "halving"


class EngineConfig(BaseModel):
    """Engine, which runs the trials."""

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
    """Cores of a trial."""
    gpu: float | None = Field(default=None, ge=0)
    """GPUs of a trial, shares of one allowed; None is 1 where one is found and 0 elsewhere."""
    gpu_found: bool = Field(default=False, exclude=True)
    """True in the ledger if `gpu` was left open and was found at the last start."""
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
    """Place of the study in MLflow."""

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
    """Confirmation of the best trials with fresh seeds."""

    model_config = _CLOSED

    top: int | None = Field(default=None, ge=1)
    seeds: int | None = Field(default=None, ge=1)


class StudyConfig(BaseModel):
    """Configuration of one study; equal configurations search alike."""

    model_config = _CLOSED

    name: str
    """The study's name, unique in its ledger."""
    space: str
    """A catalog name, or `file.py:name` for a space of the user's own."""
    train: str | None = None
    """The user's own training generator as `file.py:name`; None trains the candidate's network."""
    data: DataSpec = DataSpec()
    """Data; `NO_DATA`, left out of dumps, if a user's own training names none."""
    objectives: Annotated[tuple[Objective, ...], Field(strict=False)] = (
        Objective(metric="val_accuracy", direction="maximize"),
    )
    """Objectives; the first one decides at rungs and targets."""
    constraints: Annotated[tuple[Constraint, ...], Field(strict=False)] = ()
    budget: Budget = Budget()
    stop: StopConfig = StopConfig(trials=40)
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    engine: EngineConfig = EngineConfig()
    resources: ResourcesConfig = ResourcesConfig()
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of everything random in the study."""
    seed_points: Annotated[tuple[SeedPoint, ...], Field(strict=False)] = ()
    """Candidates to try first: parameters by path, or names of known networks."""
    warm_start: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of earlier studies on the same data whose results are used (`warm_start`)."""
    teacher: str | None = None
    """Promoted model, as MODEL/VERSION, that distilling loss terms learn from."""
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
            raise _refuse("names no model and version; write MODEL/VERSION, such as digits/1")
        return value

    @field_validator("gates")
    @classmethod
    def _not_yet(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if value:
            raise _refuse("not available yet; remove the entries")
        return value

    @field_validator("confirm")
    @classmethod
    def _confirm_not_yet(cls, value: ConfirmConfig) -> ConfirmConfig:
        if value != ConfirmConfig():
            raise _refuse("not available yet; remove top and seeds")
        return value

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that `canonical_json` wrote."""
        return cls.model_validate_json(text)

    def canonical_json(self) -> str:
        """Return the canonical encoding of this configuration, kept and compared in the ledger.

        Without the cluster's address, which does not change what is searched.
        """
        kept = self.model_dump(mode="json", exclude={"engine": {"address"}})
        # Studies that began before there were these keys read the same.
        if self.teacher is None:
            del kept["teacher"]
        if self.resources.silence_s is None:
            del kept["resources"]["silence_s"]
        if self.resources.gpu_found:
            kept["resources"]["gpu_found"] = True
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))

    def at_address(self, address: str | None) -> Self:
        """Return the same study on another cluster; None is a private one on this machine."""
        return self.model_copy(
            update={"engine": self.engine.model_copy(update={"address": address})}
        )
