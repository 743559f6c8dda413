"""One trial onto one MLflow run, again and again without harm.

Every call can be repeated: a run is looked up by its trial's uid before it is created, a point
carries the ledger's time, parameters and tags say the same each time. Only explicit run ids.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

from orchestrator.figures.trial import Pictures
from orchestrator.tracking.events import Point, TrialView
from orchestrator.tracking.files import Files
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
"""MLflow's word for each state."""

_METRICS_A_CALL = 800
_PARAMS_A_CALL = 90
_TAGS_A_CALL = 90
# A call takes 1000 metrics, 100 parameters, 100 tags and 1000 of all together; ours stay below.

_KEY_LENGTH = 250
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000
# MLflow 3.17.2 cuts longer parameters without a word; ours end in a sign that they were cut.

_RUNS_A_CALL = 1000
_UID = "archscout.trial_uid"
_FOREIGN = re.compile(r"[^\w.\- /]")


class RunMissingError(ArchscoutError):
    """A trial that was shown before has no run in this store: the study must be shown anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRuns:
    """What all runs of a study have in common."""

    experiment_id: str
    parent_run_id: str
    common_tags: Mapping[str, str]
    inputs: list[DatasetInput]
    """The data set, unless the study names none."""
    budget: Budget
    logs: Path
    """Folder of the trials' logs."""
    pictures: Pictures
    """What is drawn of a trial."""
    files: Files
    """Uploads them."""


@dataclass(slots=True, kw_only=True)
class _Shown:
    """What a run shows already, so that nothing is sent twice for nothing."""

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    has_params: bool = False


class RunWriter:
    """Shows trials as child runs."""

    def __init__(
        self, client: MlflowClient, study: StudyRuns, *, shown_until: int, may_exist_until: int
    ) -> None:
        """Start from nothing known.

        Args:
            client: The store.
            study: What the runs have in common.
            shown_until: Trials added by events up to this one must have a run.
            may_exist_until: Those added by events up to this one may have one; later ones cannot,
                because the events are younger than this, the only process that shows them.
        """
        self._client = client
        self._study = study
        self._shown_until = shown_until
        self._may_exist_until = may_exist_until
        self._shown: dict[str, _Shown] = {}
        self._doubtful: set[str] = set()
        self._earlier: dict[str, str] | None = None

    def run_ids(self, uids: Collection[str]) -> dict[str, str]:
        """The runs of trials that have been shown, by uid, without those that somebody removed."""
        known = {uid: self._shown[uid].run_id for uid in uids if uid in self._shown}
        if len(known) < len(uids):
            if self._earlier is None:
                self._earlier = self._list()
            known |= {uid: self._earlier[uid] for uid in uids if uid in self._earlier}
        return known

    def _list(self) -> dict[str, str]:
        """The runs that the store has, in few calls."""
        found: dict[str, str] = {}
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [self._study.experiment_id],
                f"tags.`mlflow.parentRunId` = '{self._study.parent_run_id}'",
                run_view_type=ViewType.ALL,
                max_results=_RUNS_A_CALL,
                page_token=token,
            )
            found |= {run.data.tags.get(_UID, ""): run.info.run_id for run in page}
            token = page.token or ""
        return found

    def show(self, story: TrialView, fresh: Sequence[Point]) -> None:
        """Bring the trial's run up to date.

        Args:
            story: The trial as it stands.
            fresh: Its points that are not shown yet.

        Raises:
            RunMissingError: The run should exist and does not.
            MlflowException: The store refused or did not answer; the call can be repeated.
        """
        trial = story.trial
        shown = self._shown.get(trial.uid) or self._open(story)
        tags = {
            key: value
            for key, value in state_tags(story, self._study.budget).items()
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
        self._attach(shown, story)
        shown.has_params = True
        self._set_status(shown, story)
        shown.tags.update(tags)

    def _open(self, story: TrialView) -> _Shown:
        uid = story.trial.uid
        may_exist = story.added_event <= self._may_exist_until or uid in self._doubtful
        run = self._find(uid) if may_exist else None
        if run is not None:
            shown = _known(run)
        elif story.added_event <= self._shown_until:
            raise RunMissingError(uid)
        else:
            # An answer that is lost on its way leaves a run that this process knows nothing of.
            self._doubtful.add(uid)
            shown = self._create(story)
        if self._study.inputs:
            self._client.log_inputs(shown.run_id, self._study.inputs)
        self._doubtful.discard(uid)
        self._shown[uid] = shown
        return shown

    def _create(self, story: TrialView) -> _Shown:
        trial, tags = story.trial, self._first_tags(story)
        run = self._client.create_run(
            self._study.experiment_id,
            start_time=_ms(trial.created if trial.started is None else trial.started),
            tags=tags,
            run_name=tag_value(story.name),
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

    def _first_tags(self, story: TrialView) -> dict[str, str]:
        trial = story.trial
        # MLflow's pages show tags in this order: what tells trials apart comes first.
        tags = {
            "mlflow.parentRunId": self._study.parent_run_id,
            "archscout.trial": str(trial.number),
            "archscout.kind": trial.kind,
            **state_tags(story, self._study.budget),
            "archscout.seed": str(trial.seed),
        }
        if trial.parent is not None:
            tags["archscout.parent"] = trial.parent
        identity = {"archscout.trial_uid": trial.uid, "archscout.digest": trial.digest}
        return {**tags, **identity, **self._study.common_tags}

    def _send(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: Mapping[str, str]
    ) -> None:
        for points, values, words in _calls(metrics, params, tags):
            fault("run.unsent")
            self._client.log_batch(run_id, metrics=points, params=values, tags=words)
            fault("run.sent")

    def _set_status(self, shown: _Shown, story: TrialView) -> None:
        status, trial = STATUS[story.trial.state], story.trial
        if status == shown.status:
            return
        if trial.state.is_terminal:
            ended = trial.created if trial.ended is None else trial.ended
            self._client.set_terminated(shown.run_id, status, end_time=_ms(ended))
        else:
            self._client.update_run(shown.run_id, status=status)
        fault("run.ended")
        shown.status = status

    def _attach(self, shown: _Shown, story: TrialView) -> None:
        """Upload what is due; before the status is set, so that a kill in between repeats it."""
        trial, pictures, run_id = story.trial, self._study.pictures, shown.run_id
        uploads: dict[str, Callable[[], None]] = {}
        if not shown.has_params:
            uploads["architecture"] = lambda: self._draw(run_id, pictures.at_first(trial.number))
        if trial.state.is_terminal and shown.status != STATUS[trial.state]:
            uploads["curves"] = lambda: self._draw(run_id, pictures.at_last(trial.number))
        if trial.state is TrialState.FAIL and shown.status != STATUS[TrialState.FAIL]:
            uploads["log"] = lambda: self._upload_failure(run_id, story)
        for what, upload in uploads.items():
            self._study.files.send(f"{what} of trial {trial.number}", upload)

    def _draw(self, run_id: str, pictures: Mapping[str, str]) -> None:
        for name, svg in pictures.items():
            self._client.log_text(run_id, svg, name)

    def _upload_failure(self, run_id: str, story: TrialView) -> None:
        """The trial's log, or where there is none what the failure itself tells."""
        log = self._study.logs / f"{story.trial.number}.log"
        failure = story.trial.failure or {}
        if log.is_file():
            self._client.log_artifact(run_id, str(log))
        elif failure.get("traceback"):
            self._client.log_text(run_id, str(failure["traceback"]), "failure.txt")


def _known(run: Run) -> _Shown:
    return _Shown(run_id=run.info.run_id, status=run.info.status, tags=dict(run.data.tags))


def state_tags(story: TrialView, budget: Budget) -> dict[str, str]:
    """The tags that change while a trial lives."""
    trial = story.trial
    tags = {"archscout.state": trial.state.value}
    if trial.reason is not None:
        tags["archscout.reason"] = trial.reason
    reached = [rung for rung in budget.rungs() if rung <= story.epoch]
    if reached:
        tags["archscout.rung"] = str(reached[-1])
    if trial.attempts > 1:
        tags["archscout.attempts"] = str(trial.attempts)
    if trial.failure is not None:
        tags["archscout.failure"] = tag_value(summarize_failure(trial.failure))
    for name, violation in trial.violations.items():
        if violation > 0:
            tags[f"archscout.violation.{_key(name)}"] = f"{violation:.6g}"
    return tags


def param_entries(params: Mapping[str, Any]) -> dict[str, str]:
    """Decisions as MLflow keeps them: legal keys, values that are not cut in silence."""
    return {_key(name): _cut(_text(value), _PARAM_LENGTH) for name, value in params.items()}


def metric_key(name: str) -> str:
    """The metric's name as MLflow takes it."""
    return _key(name)


def tag_value(text: str) -> str:
    """The text, short enough for a tag."""
    return _cut(text, _TAG_LENGTH)


def dataset_input(name: str, digest: str, source: Mapping[str, Any]) -> DatasetInput:
    """The data set as MLflow's input of a run; MLflow keeps 36 characters of a digest."""
    dataset = Dataset(
        name=_cut(name, 500),
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


def _calls(
    metrics: list[Metric], params: list[Param], tags: Mapping[str, str]
) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
    words = [RunTag(*entry) for entry in tags.items()]
    for at in range(max(len(metrics), len(params), len(words))):
        taken = (
            metrics[at * _METRICS_A_CALL : (at + 1) * _METRICS_A_CALL],
            params[at * _PARAMS_A_CALL : (at + 1) * _PARAMS_A_CALL],
            words[at * _TAGS_A_CALL : (at + 1) * _TAGS_A_CALL],
        )
        if not any(taken):
            return
        yield taken


def _key(name: str) -> str:
    """The name with foreign characters replaced, told apart by a hash where that changed it."""
    legal = _FOREIGN.sub("_", name)
    parts = legal.split("/")
    if legal == name and len(name) <= _KEY_LENGTH and all(part.strip(".") for part in parts):
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{legal.replace('/', '_').strip('.')[: _KEY_LENGTH - 9]}.{mark}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
