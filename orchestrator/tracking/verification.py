"""Compares what MLflow shows of a study with what the ledger holds, and names every difference.

Reads both afresh and believes neither: it shares with the projection only the words for states and
the spelling of names. Changes nothing, except that `restore` undeletes runs for a rebuild.
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
from orchestrator.figures.trial import Pictures
from orchestrator.ledger import Promotion, StudyRow
from orchestrator.tracking import study_run
from orchestrator.tracking.deletion import local_path
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.trial_runs import STATUS, metric_key, param_entries
from orchestrator.trial import Trial

RUNS_A_CALL = 100
POINTS_A_CALL = 25_000
"""What one answer of MLflow 3.17.2 holds at most."""
_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

Points = Mapping[str, Mapping[str, Counter[tuple[int, float]]]]
"""By run and by metric: each step and value, and how often it is stored."""


def points_of(client: MlflowClient, runs: Sequence[Run]) -> Points:
    """Every point of every metric of the runs.

    Raises:
        MlflowException: The store did not answer.
    """
    having: defaultdict[str, list[str]] = defaultdict(list)
    for run in runs:
        for name in run.data.metrics:
            having[name].append(run.info.run_id)
    found: defaultdict[str, defaultdict[str, Counter[tuple[int, float]]]]
    found = defaultdict(lambda: defaultdict(Counter))
    for name, run_ids in having.items():
        for start in range(0, len(run_ids), RUNS_A_CALL):
            for point in _asked(client, run_ids[start : start + RUNS_A_CALL], name):
                found[point["run_id"]][name][int(point["step"]), float(point["value"])] += 1
    return found


def _asked(client: MlflowClient, run_ids: Sequence[str], name: str) -> Iterator[dict[str, Any]]:
    """All points of one metric; an answer that is full is asked for again in parts."""
    answer = _answer(client, run_ids, name)
    if len(answer) < POINTS_A_CALL:
        yield from answer
    elif len(run_ids) > 1:
        middle = len(run_ids) // 2
        yield from _asked(client, run_ids[:middle], name)
        yield from _asked(client, run_ids[middle:], name)
    else:
        for point in client.get_metric_history(run_ids[0], name):
            yield {"run_id": run_ids[0], "step": point.step, "value": point.value}


def _answer(client: MlflowClient, run_ids: Sequence[str], name: str) -> list[dict[str, Any]]:
    # MLflow 3.17.2 has this on its store and on its server, and not on its client.
    store = client._tracking_client.store  # noqa: SLF001
    if hasattr(store, "get_metric_history_bulk"):
        held = store.get_metric_history_bulk(run_ids, name, POINTS_A_CALL)
        return [point.to_dict() for point in held]
    asked = {"run_id": list(run_ids), "metric_key": name, "max_results": POINTS_A_CALL}
    answer = http_request(store.get_host_creds(), _ENDPOINT, "GET", params=asked)  # type: ignore[no-untyped-call]
    return list(verify_rest_response(answer, _ENDPOINT).json()["metrics"])


_STUDY = "the study"
_FILES = frozenset({"checkpoint", "files"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing on which ledger and MLflow do not agree."""

    where: str
    """`trial N`, `the study` or `run ID`."""
    what: str
    """What differs, in one word: `run`, `status`, `tag`, `param`, `metric`."""
    recorded: str
    """What the ledger holds."""
    shown: str
    """What MLflow shows, or what lies on the disk."""

    def __str__(self) -> str:
        """One line for people."""
        other = "the disk" if self.what in _FILES else "MLflow"
        return f"{self.where}: {self.what}: the ledger has {self.recorded}, {other} {self.shown}"

    def to_dict(self) -> dict[str, str]:
        """For `--json`."""
        return {
            "where": self.where,
            "what": self.what,
            "recorded": self.recorded,
            "shown": self.shown,
        }


def differences(
    client: MlflowClient, study: StudyRow, trials: Sequence[Trial]
) -> Iterator[Difference]:
    """Every difference between a study's trials and what the store shows of them.

    Args:
        client: The store.
        study: The study as the ledger has it.
        trials: All its trials, with measurements.

    Raises:
        MlflowException: The store did not answer.
    """
    runs = _runs(client, study)
    own = [run for run in runs if _is_of(run, study)]
    yield from _of_study(own, study)
    parents = {run.info.run_id for run in own}
    children = defaultdict(list)
    for run in runs:
        uid = run.data.tags.get("archscout.trial_uid")
        if uid is not None and run.data.tags.get("archscout.study") == study.name:
            children[uid].append(run)
    points = points_of(client, [run for found in children.values() for run in found])
    for trial in trials:
        shown = children.pop(trial.uid, [])
        if len(shown) != 1:
            yield _differs(f"trial {trial.number}", "run", "one", f"{len(shown)} of them")
        for run in shown:
            yield from _of_trial(trial, run, points, parents)
    for uid, strays in children.items():
        for run in strays:
            # Runs of an earlier study of this name stand under that study's own parent.
            if run.data.tags.get("mlflow.parentRunId") in parents:
                yield _differs(f"run {run.info.run_id}", "run", "no such trial", f"one of {uid}")


def missing_files(
    client: MlflowClient, study: StudyRow, trials: Sequence[Trial], promotions: Sequence[Promotion]
) -> Iterator[Difference]:
    """Yield folders of runs and of registered models that MLflow names and this disk lacks.

    Those that a server or a store keeps are not looked at.

    Raises:
        MlflowException: The store did not answer.
    """
    uids = {trial.uid: trial for trial in trials}
    for run in _runs(client, study):
        trial = uids.get(run.data.tags.get("archscout.trial_uid", ""))
        place = local_path(str(run.info.artifact_uri))
        if trial is not None and _lacks(place) and _has_drawing(trial):
            yield _differs(f"trial {trial.number}", "files", "a drawing", f"nothing in {place}")
    for promotion in promotions:
        if promotion.trial_uid in uids and promotion.state == "done":
            version = client.get_model_version(promotion.model, str(promotion.version))
            place = local_path(str(version.source))
            if _lacks(place):
                where = f"model {promotion.model}, version {promotion.version}"
                yield _differs(where, "files", "a model", f"nothing in {place}")


def _has_drawing(trial: Trial) -> bool:
    return bool(Pictures(lambda _: trial, None, ()).at_first(trial.number))


def _lacks(place: Path | None) -> bool:
    return place is not None and not (place.is_dir() and any(place.iterdir()))


def restore(client: MlflowClient, study: StudyRow, trials: Sequence[Trial]) -> int:
    """Undelete the runs of a study's trials.

    Returns:
        How many there were.

    Raises:
        MlflowException: The store did not answer.
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
    """All runs of the study's experiment, deleted ones too."""
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


def _is_of(run: Run, study: StudyRow) -> bool:
    tags = run.data.tags
    return (
        tags.get("archscout.kind") == "study"
        and tags.get("archscout.study") == study.name
        and tags.get("archscout.created") == repr(study.created)
    )


def _of_study(own: Sequence[Run], study: StudyRow) -> Iterator[Difference]:
    if len(own) != 1:
        yield _differs(_STUDY, "run", "one", f"{len(own)} of them")
    for run in own:
        yield from _life(_STUDY, run)
        yield from _equal(_STUDY, "status", study_run.STATUS[study.state], run.info.status)


def _of_trial(trial: Trial, run: Run, points: Points, parents: set[str]) -> Iterator[Difference]:
    where, tags = f"trial {trial.number}", run.data.tags
    yield from _life(where, run)
    yield from _equal(where, "status", STATUS[trial.state], run.info.status)
    if tags.get("mlflow.parentRunId") not in parents:
        shown = str(tags.get("mlflow.parentRunId"))
        yield _differs(where, "parent", "the study's own run", shown)
    meant = {
        "archscout.trial": str(trial.number),
        "archscout.kind": trial.kind,
        "archscout.state": trial.state.value,
        "archscout.reason": trial.reason,
        "archscout.digest": trial.digest,
        "archscout.seed": str(trial.seed),
    }
    for name, value in meant.items():
        yield from _equal(where, f"tag {name}", value, tags.get(name))
    yield from _mappings(where, "param", param_entries(trial.params), run.data.params)
    yield from _of_curves(trial, run, points)


def _of_curves(trial: Trial, run: Run, points: Points) -> Iterator[Difference]:
    """Every point of every metric: missing, foreign, doubled, or of another value."""
    told: defaultdict[str, Counter[tuple[int, float]]] = defaultdict(Counter)
    for name, value in trial.cost.items():
        told[metric_key(name)][0, value] += 1
    for seen in trial.measurements:
        for name, value in {"elapsed_s": seen.elapsed_s, **seen.metrics}.items():
            told[metric_key(name)][seen.fidelity, value] += 1
    for name in sorted({*told, *run.data.metrics}):
        shown = points[run.info.run_id][name]
        for point in sorted((told[name] - shown).keys()):
            yield _differs(f"trial {trial.number}", f"metric {name}", _point(point), "no such")
        for point, extra in sorted((shown - told[name]).items()):
            seen_more = f"{_point(point)} {extra} times more"
            yield _differs(f"trial {trial.number}", f"metric {name}", "no such", seen_more)


def _life(where: str, run: Run) -> Iterator[Difference]:
    yield from _equal(where, "run", "active", run.info.lifecycle_stage)


def _mappings(
    where: str, what: str, recorded: Mapping[str, str], shown: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted({*recorded, *shown}):
        yield from _equal(where, f"{what} {name}", recorded.get(name), shown.get(name))


def _equal(where: str, what: str, recorded: str | None, shown: str | None) -> Iterator[Difference]:
    if recorded != shown:
        yield _differs(where, what, _said(recorded), _said(shown))


def _differs(where: str, what: str, recorded: str, shown: str) -> Difference:
    return Difference(where=where, what=what, recorded=recorded, shown=shown)


def _said(value: str | None) -> str:
    return "nothing" if value is None else repr(value)


def _point(point: tuple[int, float]) -> str:
    return f"{point[1]!r} at epoch {point[0]}"
