"""Projection of one trial onto its MLflow run.

Every call is idempotent: a run is looked up by its trial's uid before it is created, points carry
the ledger's time, and parameters and tags are the same each time. Only explicit run ids are used.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)

from orchestrator.figures.trial import TrialFigures
from orchestrator.tracking.events import Point, TrialView
from orchestrator.tracking.uploads import UploadQueue
from orchestrator.trial import TrialState, summarize_failure
from search_spaces.errors import ArchscoutError
from workers.budget import Budget
from workers.failpoints import fault

STATUS: Mapping[TrialState, str] = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.FAIL: "FAILED",
}
"""MLflow status of each trial state."""

_METRICS_A_CALL = 800
_PARAMS_A_CALL = 90
_TAGS_A_CALL = 90
# MLflow accepts 1000 metrics, 100 parameters, 100 tags, and 1000 of all together per call.

_KEY_LENGTH = 250
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000
# MLflow 3.17.2 truncates longer parameters silently; ours end in an ellipsis instead.

_RUNS_A_CALL = 1000
_UID = "archscout.trial_uid"
SPACE_VERSION = "archscout.space_version"
"""Tag of the space version that the trial was sampled from."""
_ILLEGAL = re.compile(r"[^\w.\- /]")


class RunMissingError(ArchscoutError):
    """A trial that was shown has no run in this store: the study must be projected again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRuns:
    """Properties common to all runs of a study."""

    experiment_id: str
    parent_run_id: str
    common_tags: Mapping[str, str]
    inputs: list[DatasetInput]
    """The data set; empty if the study has none."""
    budget: Budget
    logs: Path
    """Folder of the trials' logs."""
    figures: TrialFigures
    uploads: UploadQueue


@dataclass(slots=True, kw_only=True)
class _Shown:
    """Contents of a run, so that only changes are sent."""

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    has_params: bool = False


class RunWriter:
    """Writes trials as child runs."""

    def __init__(
        self, client: MlflowClient, study: StudyRuns, *, shown_until: int, may_exist_until: int
    ) -> None:
        """Create a writer that has read nothing yet.

        Args:
            client: The store.
            study: Properties common to the runs.
            shown_until: Trials added by events up to this id must have a run.
            may_exist_until: Trials added by events up to this id may have a run. Later ones cannot:
                their events are younger than this process, the only one that writes runs.
        """
        self._client = client
        self._study = study
        self._shown_until = shown_until
        self._may_exist_until = may_exist_until
        self._shown: dict[str, _Shown] = {}
        self._unconfirmed: set[str] = set()
        self._listed: dict[str, str] | None = None

    def set_budget(self, budget: Budget) -> None:
        """Show from now on the rungs of another budget."""
        self._study = replace(self._study, budget=budget)

    def run_ids(self, uids: Collection[str]) -> dict[str, str]:
        """Return the run ids of trials by uid; a trial without a run is left out."""
        known = {uid: self._shown[uid].run_id for uid in uids if uid in self._shown}
        if len(known) < len(uids):
            if self._listed is None:
                self._listed = self._list()
            known |= {uid: self._listed[uid] for uid in uids if uid in self._listed}
        return known

    def _list(self) -> dict[str, str]:
        """Return all run ids by uid, in few calls."""
        run_ids: dict[str, str] = {}
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [self._study.experiment_id],
                f"tags.`mlflow.parentRunId` = '{self._study.parent_run_id}'",
                run_view_type=ViewType.ALL,
                max_results=_RUNS_A_CALL,
                page_token=token,
            )
            run_ids |= {run.data.tags.get(_UID, ""): run.info.run_id for run in page}
            token = page.token or ""
        return run_ids

    def show(self, view: TrialView, fresh: Sequence[Point]) -> None:
        """Bring the trial's run up to date.

        Args:
            view: The trial's present state.
            fresh: Its points that the run lacks.

        Raises:
            RunMissingError: The run should exist and does not.
            MlflowException: The store refused or did not respond; the call can be repeated.
        """
        trial = view.trial
        shown = self._shown.get(trial.uid) or self._open(view)
        tags = {
            key: value
            for key, value in state_tags(view, self._study.budget).items()
            if shown.tags.get(key) != value
        }
        params: list[Param] = []
        metrics = [metric for point in fresh for metric in _metrics(point)]
        if not shown.has_params:
            params = [Param(*entry) for entry in param_entries(trial.params).items()]
            metrics += [
                Metric(metric_key(name), value, _ms(trial.created), 0)
                for name, value in trial.cost.items()
            ]
        self._send(shown.run_id, metrics, params, tags)
        self._attach(shown, view)
        shown.has_params = True
        self._set_status(shown, view)
        shown.tags.update(tags)

    def _open(self, view: TrialView) -> _Shown:
        uid = view.trial.uid
        may_exist = view.added_event <= self._may_exist_until or uid in self._unconfirmed
        run = self._find(uid) if may_exist else None
        if run is not None:
            shown = _known(run)
        elif view.added_event <= self._shown_until:
            raise RunMissingError(uid)
        else:
            # If the response is lost, the run exists although this process does not know it.
            self._unconfirmed.add(uid)
            shown = self._create(view)
        if self._study.inputs:
            self._client.log_inputs(shown.run_id, self._study.inputs)
        self._unconfirmed.discard(uid)
        self._shown[uid] = shown
        return shown

    def _create(self, view: TrialView) -> _Shown:
        trial, tags = view.trial, self._first_tags(view)
        run = self._client.create_run(
            self._study.experiment_id,
            start_time=_ms(trial.created if trial.started is None else trial.started),
            tags=tags,
            run_name=tag_value(view.name),
        )
        fault("run.created")
        return _Shown(run_id=run.info.run_id, status="RUNNING", tags=tags)

    def _find(self, uid: str) -> Run | None:
        runs = self._client.search_runs(
            [self._study.experiment_id],
            f"tags.`archscout.trial_uid` = '{uid}'",
            run_view_type=ViewType.ALL,
            max_results=1,
        )
        return runs[0] if runs else None

    def _first_tags(self, view: TrialView) -> dict[str, str]:
        trial = view.trial
        # MLflow's pages show tags in this order: those that distinguish trials come first.
        tags = {
            "mlflow.parentRunId": self._study.parent_run_id,
            "archscout.trial": str(trial.number),
            "archscout.kind": trial.kind,
            **state_tags(view, self._study.budget),
            "archscout.seed": str(trial.seed),
        }
        if trial.parent is not None:
            tags["archscout.parent"] = trial.parent
        identity = {"archscout.trial_uid": trial.uid, "archscout.digest": trial.digest}
        if trial.space_version is not None:
            identity[SPACE_VERSION] = trial.space_version
        return {**tags, **identity, **self._study.common_tags}

    def _send(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: Mapping[str, str]
    ) -> None:
        for points, values, tag_list in _split_calls(metrics, params, tags):
            fault("run.unsent")
            self._client.log_batch(run_id, metrics=points, params=values, tags=tag_list)
            fault("run.sent")

    def _set_status(self, shown: _Shown, view: TrialView) -> None:
        status, trial = STATUS[view.trial.state], view.trial
        if status == shown.status:
            return
        if trial.state.is_terminal:
            ended = trial.created if trial.ended is None else trial.ended
            self._client.set_terminated(shown.run_id, status, end_time=_ms(ended))
        else:
            self._client.update_run(shown.run_id, status=status)
        fault("run.ended")
        shown.status = status

    def _attach(self, shown: _Shown, view: TrialView) -> None:
        """Upload files that are due, before the status is set: a kill in between repeats them."""
        trial, figures, run_id = view.trial, self._study.figures, shown.run_id
        uploads: dict[str, Callable[[], None]] = {}
        if not shown.has_params:
            uploads["architecture"] = lambda: self._draw(
                run_id, figures.before_training(trial.number, trial.shapes)
            )
        if trial.state.is_terminal and shown.status != STATUS[trial.state]:
            uploads["curves"] = lambda: self._draw(run_id, figures.after_training(trial.number))
        if trial.state is TrialState.FAIL and shown.status != STATUS[TrialState.FAIL]:
            uploads["log"] = lambda: self._upload_failure(run_id, view)
        for name, upload in uploads.items():
            self._study.uploads.send(f"{name} of trial {trial.number}", upload)

    def _draw(self, run_id: str, figures: Mapping[str, str]) -> None:
        for name, svg in figures.items():
            self._client.log_text(run_id, svg, name)

    def _upload_failure(self, run_id: str, view: TrialView) -> None:
        """Upload the trial's log, or without one the traceback of its failure."""
        log = self._study.logs / f"{view.trial.number}.log"
        failure = view.trial.failure or {}
        if log.is_file():
            self._client.log_artifact(run_id, str(log))
        elif failure.get("traceback"):
            self._client.log_text(run_id, str(failure["traceback"]), "failure.txt")


def _known(run: Run) -> _Shown:
    return _Shown(run_id=run.info.run_id, status=run.info.status, tags=dict(run.data.tags))


def state_tags(view: TrialView, budget: Budget) -> dict[str, str]:
    """Return the tags that change during a trial."""
    trial = view.trial
    tags = {"archscout.state": trial.state.value}
    if trial.reason is not None:
        tags["archscout.reason"] = trial.reason
    reached = [rung for rung in budget.rungs() if rung <= view.epoch]
    if trial.paused or trial.reason == "rung":  # at a rung that `budget.minimum: auto` chose
        reached.append(view.epoch)
    if reached:
        tags["archscout.rung"] = str(reached[-1])
    if view.best_epoch is not None and trial.state is TrialState.COMPLETE:
        tags["archscout.best_epoch"] = str(view.best_epoch)
    if trial.attempts > 1:
        tags["archscout.attempts"] = str(trial.attempts)
    if trial.failure is not None:
        tags["archscout.failure"] = tag_value(summarize_failure(trial.failure))
    for name, violation in trial.violations.items():
        if violation > 0:
            tags[f"archscout.violation.{_key(name)}"] = f"{violation:.6g}"
    return tags


def param_entries(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow accepts them: legal keys, and visibly truncated values."""
    return {_key(name): _truncate(_text(value), _PARAM_LENGTH) for name, value in params.items()}


def metric_key(name: str) -> str:
    """Return the metric's name as MLflow accepts it."""
    return _key(name)


def tag_value(text: str) -> str:
    """Return the text, truncated to the length of a tag."""
    return _truncate(text, _TAG_LENGTH)


def dataset_input(name: str, digest: str, source: Mapping[str, Any]) -> DatasetInput:
    """Return the data set as input of a run; MLflow keeps 36 characters of a digest."""
    dataset = Dataset(
        name=_truncate(name, 500),
        digest=digest[:36],
        source_type="archscout",
        source=json.dumps(dict(source)),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _metrics(point: Point) -> Iterator[Metric]:
    when = _ms(point.recorded)
    for name, value in point.metrics.items():
        yield Metric(metric_key(name), value, when, point.epoch)
    if "elapsed_s" not in point.metrics:
        yield Metric("elapsed_s", point.elapsed_s, when, point.epoch)


def _split_calls(
    metrics: list[Metric], params: list[Param], tags: Mapping[str, str]
) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
    tag_list = [RunTag(*entry) for entry in tags.items()]
    for at in range(max(len(metrics), len(params), len(tag_list))):
        taken = (
            metrics[at * _METRICS_A_CALL : (at + 1) * _METRICS_A_CALL],
            params[at * _PARAMS_A_CALL : (at + 1) * _PARAMS_A_CALL],
            tag_list[at * _TAGS_A_CALL : (at + 1) * _TAGS_A_CALL],
        )
        if not any(taken):
            return
        yield taken


def _key(name: str) -> str:
    """Return the name with illegal characters replaced, and a hash to keep it unique."""
    legal = _ILLEGAL.sub("_", name)
    parts = legal.split("/")
    if legal == name and len(name) <= _KEY_LENGTH and all(part.strip(".") for part in parts):
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{legal.replace('/', '_').strip('.')[: _KEY_LENGTH - 9]}.{mark}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
