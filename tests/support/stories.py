"""A study recorded in a ledger as a driver would, and what MLflow then shows of it."""

import itertools
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Holder, Lease, Ledger, StudyRow
from orchestrator.tracking.client import open_client
from orchestrator.tracking.projection import Projection
from orchestrator.tracking.trial_runs import STATUS
from orchestrator.trial import Trial, TrialState
from search_spaces.task import Task
from workers.job import AttemptKey
from workers.measurement import Measurement

TASK = Task(inputs={"image": (1, 28, 28)}, num_classes=10)
"""What the study's networks are built for."""


class Story:
    """A study recorded in a ledger, as a driver would."""

    def __init__(self, home: Path, store: Path, *, data_mark: str = "d", **config: Any) -> None:
        home.mkdir(exist_ok=True)
        self.data_digest = "sha256:" + data_mark * 64
        shutil.copy(store, home / "mlflow.db")
        self.home = home
        self.ledger_url = f"sqlite:///{home / 'ledger.db'}"
        self.tracking_uri = f"sqlite:///{home / 'mlflow.db'}"
        self.ledger = Ledger.open(self.ledger_url)
        self.config = StudyConfig.model_validate({"name": "mine", "space": "tiny", **config})
        self.study: StudyRow
        self.lease: Lease
        self.open()
        self.keys: dict[str, AttemptKey] = {}
        self._numbers = itertools.count()

    def open(self) -> None:
        self.study, self.lease = self.ledger.open_study(
            name=self.config.name,
            config_json=self.config.canonical_json(),
            space_name="tiny",
            space_version="1",
            data_digest=self.data_digest,
            code_digest=None,
            metadata={"task": TASK.to_dict(), "git_revision": "9" * 40},
            holder=Holder.of_this_process(),
        )

    def reopen(self) -> None:
        """What a resume does to the ledger: running trials wait again."""
        self.ledger.release(self.lease)
        self.open()

    def add(self, **given: Any) -> str:
        fields = {
            "number": next(self._numbers),
            "uid": uuid.uuid4().hex,
            "params": {"recipe.learning_rate": 0.1, "architecture.head": "linear"},
            "distributions": {},
            "candidate": {"schema": 1},
            "digest": "c" * 64,
            "seed": 7,
            **given,
        }
        self.ledger.add_trial(self.lease, Trial(**fields))
        return str(fields["uid"])

    def start(self, uid: str) -> None:
        self.keys[uid] = self.ledger.start_attempt(self.lease, uid, node="here", pid=1)

    def measure(self, uid: str, epoch: int, **metrics: float) -> None:
        seen = Measurement(fidelity=epoch, metrics=metrics, elapsed_s=epoch / 2)
        self.ledger.record(self.lease, self.keys[uid], seen)

    def finish(
        self, uid: str, state: str, *, values: tuple[float, ...] | None = None, **given: Any
    ) -> None:
        key = self.keys.get(uid)
        ends = TrialState(state)
        self.ledger.finish(self.lease, uid, key=key, state=ends, values=values, **given)

    def whole(self, value: float, epochs: int = 3, **given: Any) -> str:
        """A trial from its first to its last day."""
        uid = self.add(**given)
        self.start(uid)
        for epoch in range(1, epochs + 1):
            self.measure(uid, epoch, val_accuracy=value * epoch / epochs, val_loss=1 / epoch)
        self.finish(uid, "COMPLETE", values=(value,))
        return uid

    def trials(self) -> list[Trial]:
        return self.ledger.trials(self.study.id)

    def projection(self) -> Projection:
        return Projection(
            self.ledger,
            self.study,
            lambda: open_client(self.tracking_uri),
            artifacts=self.home / "artifacts",
            logs=self.home / "logs" / "mine",
        )


class Seen:
    """What MLflow shows of a study, read through its own client."""

    def __init__(self, uri: str, study: str = "mine") -> None:
        self.client = open_client(uri)
        experiment = self.client.get_experiment_by_name(f"archscout/{study}")
        assert experiment is not None
        self.experiment = experiment
        runs: list[Run] = []
        token = None
        while token != "":
            found = self.client.search_runs([experiment.experiment_id], page_token=token)
            runs += found
            token = found.token or ""
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(parents) == 1
        self.parent = parents[0]
        self.children = [run for run in runs if run is not self.parent]

    def child(self, uid: str) -> Run:
        found = [run for run in self.children if run.data.tags["archscout.trial_uid"] == uid]
        assert len(found) == 1
        return found[0]

    def points(self, run: Run) -> Mapping[str, list[tuple[int, float]]]:
        """Every point of every metric, as often as it is stored."""
        return {
            key: sorted(
                (point.step, point.value)
                for point in self.client.get_metric_history(run.info.run_id, key)
            )
            for key in run.data.metrics
        }


def assert_shows(seen: Seen, trials: Sequence[Trial]) -> None:
    """What MLflow shows equals what the study recorded: each thing once, nothing else."""
    assert len(seen.children) == len(trials)
    for trial in trials:
        run = seen.child(trial.uid)
        assert run.info.status == STATUS[trial.state]
        assert run.data.tags["mlflow.parentRunId"] == seen.parent.info.run_id
        assert run.data.tags["archscout.state"] == trial.state
        assert run.data.tags["archscout.trial"] == str(trial.number)
        assert run.data.tags.get("archscout.reason") == trial.reason
        shown = seen.points(run)
        expected: dict[str, list[tuple[int, float]]] = {}
        for one in trial.measurements:
            for name, value in {**one.metrics, "elapsed_s": one.elapsed_s}.items():
                expected.setdefault(name, []).append((one.fidelity, value))
        assert shown == expected
        assert set(run.data.params) == set(trial.params)


def project(story: Story) -> Seen:
    """Show all there is."""
    projection = story.projection()
    while projection.step():
        pass
    projection.summarize(plots=False)
    return Seen(story.tracking_uri)
