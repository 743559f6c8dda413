"""Trials as a user reads them, with Optuna's names."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.api.tables import definition_list
from orchestrator.figures.architecture import diagram
from orchestrator.formatting import format_number
from orchestrator.objective import Objective
from orchestrator.trial import Trial, TrialState, summarize_failure
from search_spaces.candidate import Candidate, Decisions, candidate_from_dict
from search_spaces.task import Shape, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTrial:
    """One trial of a study, as it is in the ledger at the moment of reading.

    Examples:
        >>> study.best_trial.number, study.best_trial.values
        (3, {'val_accuracy': 0.978})
    """

    number: int
    """Index of the trial in its study, from 0."""
    uid: str
    """Identifier of the trial in the ledger and in MLflow (32 hexadecimal digits)."""
    state: TrialState
    """One of Optuna's five states."""
    reason: str | None
    """Cause of the final state, such as `rung`, `infeasible` or `out_of_memory`."""
    values: Mapping[str, float] | None
    """Objective values by metric, in the study's order; None unless the state is COMPLETE."""
    params: Mapping[str, Any]
    """Sampled decisions by path."""
    history: tuple[Mapping[str, float], ...]
    """Metrics of each epoch, oldest first, with `epoch` and `elapsed_s` (seconds)."""
    cost: Mapping[str, float]
    """Counted before training: `parameters`, `flops` and `activation_bytes` of one example."""
    architecture: str
    """The network in one line."""
    failure: str | None
    """The last attempt's failure in one line."""
    datetime_start: datetime | None
    """Start of the first attempt (UTC)."""
    datetime_complete: datetime | None
    """End of the trial (UTC)."""
    document: Mapping[str, Any]
    """JSON form of the candidate."""
    task: Task | None = None
    """Inputs and outputs of the network; None where the user's own code trains."""

    @property
    def value(self) -> float | None:
        """Value of the only objective; None unless the state is COMPLETE.

        Raises:
            ValueError: The study has several objectives; use `values`.
        """
        if self.values is None:
            return None
        if len(self.values) > 1:
            raise ValueError(f"the study has the objectives {', '.join(self.values)}: use values")
        return next(iter(self.values.values()))

    @property
    def duration(self) -> timedelta | None:
        """Time from the first attempt's start to the trial's end."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start

    @property
    def candidate(self) -> Candidate | Decisions:
        """The network, recipe and loss weights of the trial.

        Raises:
            CandidateError: It contains pieces that only the user's own code can read.
        """
        return candidate_from_dict(self.document)

    def _repr_html_(self) -> str:
        values = self.values or {}
        rows = {
            "state": self.state.value.lower() + (f" ({self.reason})" if self.reason else ""),
            **{metric: format_number(value) for metric, value in values.items()},
            "epochs": str(len(self.history)),
            "parameters": f"{self.cost['parameters']:,.0f}" if "parameters" in self.cost else "",
            "architecture": self.architecture,
            "failure": self.failure or "",
        }
        table = definition_list(f"Trial {self.number}", {k: v for k, v in rows.items() if v})
        return table + self._drawing()

    def _drawing(self) -> str:
        try:
            return diagram(self.document["architecture"], self._shapes(), self.task)
        except (KeyError, TypeError, ValueError):  # decisions or blocks of the user's own
            return ""

    def _shapes(self) -> Mapping[str, Shape]:
        """Return the output shapes of the network's parts; empty for blocks of the user's own."""
        with suppress(ValueError):
            if self.task is not None:
                return self.candidate.shapes(self.task)
        return {}


def frozen(trial: Trial, objectives: Sequence[Objective], task: Task | None) -> FrozenTrial:
    """Return a trial of the ledger as the API shows it."""
    values = None
    if trial.values is not None:
        values = {o.metric: v for o, v in zip(objectives, trial.values, strict=True)}
    return FrozenTrial(
        number=trial.number,
        uid=trial.uid,
        state=trial.state,
        reason=trial.reason,
        values=values,
        params=trial.params,
        history=tuple(
            {"epoch": float(m.fidelity), "elapsed_s": m.elapsed_s, **m.metrics}
            for m in trial.measurements
        ),
        cost=trial.cost,
        architecture=trial.describe,
        failure=None if trial.failure is None else summarize_failure(trial.failure),
        datetime_start=_utc(trial.started),
        datetime_complete=_utc(trial.ended),
        document=trial.candidate,
        task=task,
    )


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
