"""Comparison of a study in MLflow with the ledger, difference by difference.

Reads both from scratch: it shares with the projection only the encoding of states and names.
Read-only, except that `restore` undeletes runs for a rebuild.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.utils.rest_utils import http_request, verify_rest_response

from orchestrator.config.schema import StudyConfig
from orchestrator.figures.trial import TrialFigures
from orchestrator.ledger import Promotion, StudyRow
from orchestrator.tracking import study_run
from orchestrator.tracking.deletion import local_path
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.trial_runs import SPACE_VERSION, STATUS, metric_key, param_entries
from orchestrator.trial import Trial

RUNS_A_CALL = 100
POINTS_A_CALL = 25_000
"""Limit of one response of MLflow 3.17.2."""
_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

Points = Mapping[str, Mapping[str, Counter[tuple[int, float]]]]
"""Count of each stored (step, value), by run and metric."""


def points_by_run(client: MlflowClient, runs: Sequence[Run]) -> Points:
    """Return every point of every metric of the runs.

    Raises:
        MlflowException: The store did not respond.
    """
    runs_with_metric: defaultdict[str, list[str]] = defaultdict(list)
    for run in runs:
        for name in run.data.metrics:
            runs_with_metric[name].append(run.info.run_id)
    found: defaultdict[str, defaultdict[str, Counter[tuple[int, float]]]]
    found = defaultdict(lambda: defaultdict(Counter))
    for name, run_ids in runs_with_metric.items():
        for start in range(0, len(run_ids), RUNS_A_CALL):
            for point in _points(client, run_ids[start : start + RUNS_A_CALL], name):
                found[point["run_id"]][name][int(point["step"]), float(point["value"])] += 1
    return found


def _points(client: MlflowClient, run_ids: Sequence[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield all points of one metric; a response at the limit is requested again in halves."""
    response = _request(client, run_ids, name)
    if len(response) < POINTS_A_CALL:
        yield from response
    elif len(run_ids) > 1:
        middle = len(run_ids) // 2
        yield from _points(client, run_ids[:middle], name)
        yield from _points(client, run_ids[middle:], name)
    else:
        for point in client.get_metric_history(run_ids[0], name):
            yield {"run_id": run_ids[0], "step": point.step, "value": point.value}


def _request(client: MlflowClient, run_ids: Sequence[str], name: str) -> list[dict[str, Any]]:
    # MLflow 3.17.2 offers this in its store and its server, but not in its client.
    store = client._tracking_client.store  # noqa: SLF001
    if hasattr(store, "get_metric_history_bulk"):
        points = store.get_metric_history_bulk(run_ids, name, POINTS_A_CALL)
        return [point.to_dict() for point in points]
    query = {"run_id": list(run_ids), "metric_key": name, "max_results": POINTS_A_CALL}
    response = http_request(store.get_host_creds(), _ENDPOINT, "GET", params=query)  # type: ignore[no-untyped-call]
    return list(verify_rest_response(response, _ENDPOINT).json()["metrics"])


_STUDY = "the study"
_FILES = frozenset({"checkpoint", "files"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact on which ledger and MLflow disagree."""

    where: str
    """`trial N`, `the study` or `run ID`."""
    what: str
    """Kind of fact: `run`, `status`, `tag`, `param`, `metric`."""
    recorded: str
    """The ledger's value."""
    shown: str
    """The value in MLflow, or on the disk."""

    def __str__(self) -> str:
        """Return the difference in one line."""
        other = "the disk" if self.what in _FILES else "MLflow"
        return f"{self.where}: {self.what}: the ledger has {self.recorded}, {other} {self.shown}"

    def to_dict(self) -> dict[str, str]:
        """Return the difference as `--json` prints it."""
        return {
            "where": self.where,
            "what": self.what,
            "recorded": self.recorded,
            "shown": self.shown,
        }


def differences(
    client: MlflowClient, study: StudyRow, trials: Sequence[Trial]
) -> Iterator[Difference]:
    """Yield every difference between a study's trials and their runs in the store.

    Args:
        client: The store.
        study: The study's ledger row.
        trials: All its trials, with measurements.

    Raises:
        MlflowException: The store did not respond.
    """
    runs = _runs(client, study)
    own = [run for run in runs if _is_parent_of(run, study)]
    yield from _study_differences(own, study)
    parents = {run.info.run_id for run in own}
    children = defaultdict(list)
    for run in runs:
        uid = run.data.tags.get("archscout.trial_uid")
        if uid is not None and run.data.tags.get("archscout.study") == study.name:
            children[uid].append(run)
    points = points_by_run(client, [run for found in children.values() for run in found])
    for trial in trials:
        shown = children.pop(trial.uid, [])
        if len(shown) != 1:
            yield _difference(f"trial {trial.number}", "run", "one", f"{len(shown)} of them")
        for run in shown:
            yield from _trial_differences(trial, run, points, parents)
    for uid, strays in children.items():
        for run in strays:
            # Runs of an earlier study of this name belong to that study's own parent run.
            if run.data.tags.get("mlflow.parentRunId") in parents:
                yield _difference(f"run {run.info.run_id}", "run", "no such trial", f"one of {uid}")


def missing_files(
    client: MlflowClient, study: StudyRow, trials: Sequence[Trial], promotions: Sequence[Promotion]
) -> Iterator[Difference]:
    """Yield folders of runs and of registered models that MLflow names and this disk lacks.

    Folders that a server or an object store keeps are not checked.

    Raises:
        MlflowException: The store did not respond.
    """
    uids = {trial.uid: trial for trial in trials}
    for run in _runs(client, study):
        trial = uids.get(run.data.tags.get("archscout.trial_uid", ""))
        place = local_path(str(run.info.artifact_uri))
        if trial is not None and _is_missing(place) and _has_drawing(trial):
            yield _difference(f"trial {trial.number}", "files", "a drawing", f"nothing in {place}")
    for promotion in promotions:
        if promotion.trial_uid in uids and promotion.state == "done":
            version = client.get_model_version(promotion.model, str(promotion.version))
            place = local_path(str(version.source))
            if _is_missing(place):
                where = f"model {promotion.model}, version {promotion.version}"
                yield _difference(where, "files", "a model", f"nothing in {place}")


def _has_drawing(trial: Trial) -> bool:
    return bool(TrialFigures(lambda _: trial, None, ()).before_training(trial.number, {}))


def _is_missing(place: Path | None) -> bool:
    return place is not None and not (place.is_dir() and any(place.iterdir()))


def restore(client: MlflowClient, study: StudyRow, trials: Sequence[Trial]) -> int:
    """Undelete the runs of a study's trials.

    Returns:
        The number of runs.

    Raises:
        MlflowException: The store did not respond.
    """
    uids = {trial.uid for trial in trials}
    deleted = [
        run
        for run in _runs(client, study)
        if run.info.lifecycle_stage == "deleted"
        and run.data.tags.get("archscout.trial_uid") in uids
    ]
    for run in deleted:
        client.restore_run(run.info.run_id)
    return len(deleted)


def _runs(client: MlflowClient, study: StudyRow) -> list[Run]:
    """Return all runs of the study's experiment, including deleted ones."""
    name = experiment_name(StudyConfig.from_json(study.config_json))
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return []
    runs: list[Run] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [experiment.experiment_id],
            run_view_type=ViewType.ALL,
            max_results=1000,
            page_token=token,
        )
        runs += page
        token = page.token or ""
    return runs


def _is_parent_of(run: Run, study: StudyRow) -> bool:
    tags = run.data.tags
    return (
        tags.get("archscout.kind") == "study"
        and tags.get("archscout.study") == study.name
        and tags.get("archscout.created") == repr(study.created)
    )


def _study_differences(own: Sequence[Run], study: StudyRow) -> Iterator[Difference]:
    if len(own) != 1:
        yield _difference(_STUDY, "run", "one", f"{len(own)} of them")
    for run in own:
        yield from _lifecycle_differences(_STUDY, run)
        yield from _compare(_STUDY, "status", study_run.STATUS[study.state], run.info.status)
        tag = study_run.SPACE
        yield from _compare(_STUDY, f"tag {tag}", study.space, run.data.tags.get(tag))


def _trial_differences(
    trial: Trial, run: Run, points: Points, parents: set[str]
) -> Iterator[Difference]:
    where, tags = f"trial {trial.number}", run.data.tags
    yield from _lifecycle_differences(where, run)
    yield from _compare(where, "status", STATUS[trial.state], run.info.status)
    if tags.get("mlflow.parentRunId") not in parents:
        shown = str(tags.get("mlflow.parentRunId"))
        yield _difference(where, "parent", "the study's own run", shown)
    expected = {
        "archscout.trial": str(trial.number),
        "archscout.kind": trial.kind,
        "archscout.state": trial.state.value,
        "archscout.reason": trial.reason,
        "archscout.digest": trial.digest,
        "archscout.seed": str(trial.seed),
    }
    if trial.space_version is not None:
        expected[SPACE_VERSION] = trial.space_version
    for name, value in expected.items():
        yield from _compare(where, f"tag {name}", value, tags.get(name))
    yield from _compare_mappings(where, "param", param_entries(trial.params), run.data.params)
    yield from _metric_differences(trial, run, points)


def _metric_differences(trial: Trial, run: Run, points: Points) -> Iterator[Difference]:
    """Yield points that are missing, unknown, repeated or of another value."""
    recorded: defaultdict[str, Counter[tuple[int, float]]] = defaultdict(Counter)
    for name, value in trial.cost.items():
        recorded[metric_key(name)][0, value] += 1
    for seen in trial.own_measurements:
        for name, value in {"elapsed_s": seen.elapsed_s, **seen.metrics}.items():
            recorded[metric_key(name)][seen.fidelity, value] += 1
    for name in sorted({*recorded, *run.data.metrics}):
        shown = points[run.info.run_id][name]
        for point in sorted((recorded[name] - shown).keys()):
            yield _difference(
                f"trial {trial.number}", f"metric {name}", _format_point(point), "no such"
            )
        for point, extra in sorted((shown - recorded[name]).items()):
            seen_more = f"{_format_point(point)} {extra} times more"
            yield _difference(f"trial {trial.number}", f"metric {name}", "no such", seen_more)


def _lifecycle_differences(where: str, run: Run) -> Iterator[Difference]:
    yield from _compare(where, "run", "active", run.info.lifecycle_stage)


def _compare_mappings(
    where: str, what: str, recorded: Mapping[str, str], shown: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted({*recorded, *shown}):
        yield from _compare(where, f"{what} {name}", recorded.get(name), shown.get(name))


def _compare(
    where: str, what: str, recorded: str | None, shown: str | None
) -> Iterator[Difference]:
    if recorded != shown:
        yield _difference(where, what, _format(recorded), _format(shown))


def _difference(where: str, what: str, recorded: str, shown: str) -> Difference:
    return Difference(where=where, what=what, recorded=recorded, shown=shown)


def _format(value: str | None) -> str:
    return "nothing" if value is None else repr(value)


def _format_point(point: tuple[int, float]) -> str:
    return f"{point[1]!r} at epoch {point[0]}"
