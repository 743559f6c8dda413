"""Parent run of a study in MLflow: its config, state, best values, leaderboard and plots.

Like the child runs it is looked up before it is created, and every write is idempotent.
"""

import getpass
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag, ViewType

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import StudyRow
from orchestrator.tracking.events import BestPoint, StudyChange
from orchestrator.tracking.experiment import LEDGER, Experiment
from orchestrator.tracking.summary import config_params, runs_view
from orchestrator.tracking.trial_runs import metric_key, param_entries, tag_value
from workers.failpoints import fault

STATUS: Mapping[str, str] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "interrupted": "SCHEDULED",
    "broken": "FAILED",
}
"""MLflow status of each study state."""

TABLE = "leaderboard.json"
"""Artifact of the leaderboard as a table."""

CHANGES = "changes.md"
"""Artifact of the changes of the study: what, and when."""

SPACE = "archscout.space"
"""Tag of the study's space and its version now."""

_TAGS_A_CALL = 90
_NOTE = "mlflow.note.content"
_PACKAGES = ("archscout", "torch", "optuna", "ray", "mlflow", "sqlalchemy")


def common_tags(study: StudyRow, git_revision: str | None) -> dict[str, str]:
    """Return the tags of every run of the study."""
    tags = {
        "archscout.study": study.name,
        "archscout.data_digest": study.data_digest,
        "archscout.versions": _versions(),
        "mlflow.source.name": "archscout",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    if git_revision is not None:
        tags["archscout.git_revision"] = git_revision
    return tags


class ParentRun:
    """The parent run of one study in one store."""

    def __init__(
        self, client: MlflowClient, experiment: Experiment, study: StudyRow, ledger: str
    ) -> None:
        """Create a writer; `open` finds or creates the run.

        Args:
            client: The store.
            experiment: The study's.
            study: The study's ledger row.
            ledger: The ledger's identity, kept in a tag of the run.
        """
        self._client = client
        self._experiment = experiment
        self._experiment_id = experiment.id
        self._ledger = ledger
        self._study = study
        self._state = self._status = ""
        self.run_id = ""
        """Empty until `open`."""

    def open(
        self, config: StudyConfig, tags: Mapping[str, str], inputs: list[DatasetInput]
    ) -> bool:
        """Find or create the run and write the study's config.

        Returns:
            True if the run existed.
        """
        found = self._find()
        run = found or self._create({"archscout.seed": str(config.seed), **tags})
        if LEDGER not in run.data.tags:
            self._client.set_tag(run.info.run_id, LEDGER, self._ledger)
        fault("parent.opened")
        self.run_id, self._status = run.info.run_id, run.info.status
        self._state = run.data.tags.get("archscout.state", "")
        if run.info.lifecycle_stage == "deleted":
            self._client.restore_run(self.run_id)
        # MLflow's parameters are immutable; a changed number of GPUs keeps its first value there.
        given = param_entries(config_params(config)).items()
        params = [Param(*entry) for entry in given if entry[0] not in run.data.params]
        self._client.log_batch(self.run_id, params=params)
        if inputs:
            self._client.log_inputs(self.run_id, inputs)
        self._experiment.set_view(runs_view(config))
        return found is not None

    def _find(self) -> Run | None:
        runs = self._client.search_runs(
            [self._experiment_id],
            f"tags.`archscout.study` = '{self._study.name}' and tags.`archscout.kind` = 'study' "
            f"and tags.`archscout.created` = '{self._created}'",
            run_view_type=ViewType.ALL,
            max_results=1,
        )
        return runs[0] if runs else None

    def _create(self, tags: Mapping[str, str]) -> Run:
        return self._client.create_run(
            self._experiment_id,
            start_time=int(self._study.created * 1000),
            run_name=self._study.name,
            tags={
                "archscout.kind": "study",
                SPACE: self._study.space,
                "archscout.created": self._created,
                LEDGER: self._ledger,
                **tags,
            },
        )

    @property
    def _created(self) -> str:
        """Creation time, which distinguishes studies that had the same name one after the other."""
        return repr(self._study.created)

    def set_state(self, state: str, recorded: float) -> None:
        """Write the study's state, entered at `recorded` seconds since the epoch."""
        status = STATUS[state]
        if state != self._state:
            self._client.log_batch(self.run_id, tags=[RunTag("archscout.state", state)])
            self._state = state
        if status == self._status:
            return
        if status in {"FINISHED", "FAILED"}:
            self._client.set_terminated(self.run_id, status, end_time=int(recorded * 1000))
        else:
            self._client.update_run(self.run_id, status=status)
        self._status = status

    def add_best(self, points: Sequence[BestPoint]) -> None:
        """Write the best value so far, by number of the trial that completed."""
        for start in range(0, len(points), 800):
            metrics = [
                Metric(
                    metric_key(f"best_{point.metric}"),
                    point.value,
                    int(point.recorded * 1000),
                    point.number,
                )
                for point in points[start : start + 800]
            ]
            self._client.log_batch(self.run_id, metrics=metrics)

    def set_answer(self, sentence: str) -> None:
        """Write the study's answer in one sentence."""
        self._client.set_tag(self.run_id, "archscout.answer", tag_value(sentence))

    def set_description(self, text: str, experiment_text: str) -> None:
        """Write the descriptions of the run and of the study's own experiment, in markdown."""
        self._experiment.describe(experiment_text)
        self._client.set_tag(self.run_id, _NOTE, tag_value(text))

    def set_changes(self, study: StudyRow, changes: Sequence[StudyChange], text: str) -> None:
        """Write the changes of the study as a text, and the new values, as tags.

        MLflow's parameters are immutable and keep the first values.
        """
        self._study = study
        last = {key: pair[1] for change in changes for key, pair in change.changed.items()}
        tags = {
            f"archscout.{key}": tag_value(value if isinstance(value, str) else json.dumps(value))
            for key, value in last.items()
            if key.startswith("config.")
        }
        tags[SPACE] = study.space
        self._client.log_text(self.run_id, text, CHANGES)
        run_tags = [RunTag(metric_key(key), value) for key, value in tags.items()]
        self._client.log_batch(self.run_id, tags=run_tags[:_TAGS_A_CALL])

    def set_audit(self, text: str) -> None:
        """Write the audit of the study's rungs."""
        self._client.set_tag(self.run_id, "archscout.audit", tag_value(text))

    def set_warm_start(self, text: str) -> None:
        """Write how much the study uses earlier studies on other data."""
        self._client.set_tag(self.run_id, "archscout.warm_start", tag_value(text))

    def set_table(self, table: str) -> None:
        """Write the leaderboard as a table."""
        self._client.log_text(self.run_id, table, TABLE)
        logged = json.dumps([{"path": TABLE, "type": "table"}])
        self._client.set_tag(self.run_id, "mlflow.loggedArtifacts", logged)

    def set_plots(self, plots: Mapping[str, str]) -> None:
        """Write plots, HTML pages by name."""
        for name, html in plots.items():
            self._client.log_text(self.run_id, html, f"plots/{name}.html")


def _versions() -> str:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return json.dumps(versions)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
