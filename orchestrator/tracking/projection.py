"""Projection of a study's ledger events onto MLflow, at least once each and idempotent.

The ledger keeps a cursor: all events up to it are shown. A crash before the cursor moves writes the
same values again, which changes nothing.
"""

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plan import KIND
from orchestrator.confirmation.plateau import plateau
from orchestrator.figures.trial import TrialFigures
from orchestrator.ledger import Event, Ledger, StudyRow
from orchestrator.pruning.audit import audit_pruning
from orchestrator.sampling.transfer.report import transfer_report
from orchestrator.tracking import summary
from orchestrator.tracking.addresses import run_page, runs_page
from orchestrator.tracking.errors import FINAL, reason
from orchestrator.tracking.events import EventFold, TrialView
from orchestrator.tracking.experiment import Experiment, experiment_name
from orchestrator.tracking.study_run import TABLE, ParentRun, common_tags
from orchestrator.tracking.trial_runs import RunMissingError, RunWriter, StudyRuns, dataset_input
from orchestrator.tracking.uploads import UploadQueue
from search_spaces.task import Task
from workers.data.spec import NO_DATA
from workers.failpoints import fault

_log = logging.getLogger(__name__)

_PAGE = 2000
"""Events per read; when far behind, many points of a trial are sent together."""

_COMMIT_INTERVAL_S = 10.0

_MAX_NAMED = 3
"""Number of names in a message; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """The study's experiment and runs in one MLflow store."""

    experiment: Experiment
    parent: ParentRun
    runs: RunWriter

    def link(self, run_id: str) -> str:
        """Return the path of the run's page."""
        return run_page(self.experiment.id, run_id)


class Projection:
    """Projection of one study onto one MLflow store.

    Examples:
        >>> projection = Projection(ledger, row, connect, artifacts=None, logs=logs)
        >>> while projection.step():
        ...     pass
        >>> projection.summarize(plots=True, final=True)
    """

    def __init__(
        self,
        ledger: Ledger,
        study: StudyRow,
        connect: Callable[[], MlflowClient],
        *,
        artifacts: Path | None,
        logs: Path,
    ) -> None:
        """Create a projection; `step` opens the store.

        Args:
            ledger: The ledger that has the events.
            study: The study's row.
            connect: Opens the store; called again after each failure.
            artifacts: Folder of the artifacts; None leaves the choice to a server.
            logs: Folder of the study's trial logs.
        """
        self._ledger = ledger
        self._study = study
        self._config = StudyConfig.from_json(study.config_json)
        self._objectives = self._config.objectives
        self._connect = connect
        self._artifacts = artifacts
        self._logs = logs
        self._fold = EventFold(self._objectives, self._config.checkpoint)
        self._store: _Store | None = None
        self._from_start = False
        self._read = 0
        self._shown = 0
        self._committed = 0
        self._committed_at = time.monotonic()
        self._described = -1
        self._plotted = self._table_shown = -1
        self._has_offline_plots = False
        self._changes_shown = 0
        self._table = ""
        self._uploads = UploadQueue()
        self._refused: dict[str, str] = {}

    @property
    def shown(self) -> int:
        """Id of the last event shown; 0 before the store was reached."""
        return self._shown

    @property
    def plots_are_stale(self) -> bool:
        """True if events were shown since the last plots."""
        return self._plotted != self._shown

    def missing(self) -> str:
        """Return what the store rejected or has not accepted yet, and why; empty if nothing."""
        parts = [f"{name} is refused: {why}" for name, why in self._refused.items()]
        parts = [*parts[:_MAX_NAMED], f"{len(parts) - _MAX_NAMED} more trials"][: len(parts)]
        if pending := self._uploads.pending:
            more = f" and {len(pending) - _MAX_NAMED} more" if len(pending) > _MAX_NAMED else ""
            named = ", ".join(pending[:_MAX_NAMED])
            parts.append(f"files ({named}{more}) are not uploaded: {reason(self._uploads.error)}")
        return "; ".join(parts)

    def last_event(self) -> int:
        """Return the id of the last event; 0 before the first."""
        return max((event.id for event in self._events(self._read)), default=self._read)

    def remaining(self) -> int:
        """Return the number of events that are not shown."""
        after = self._shown if self._store else self._ledger.cursor(self._study.id)
        return sum(1 for _ in self._events(after))

    def step(self) -> int:
        """Show the next events.

        Returns:
            The number of events shown; 0 if all were.

        Raises:
            MlflowException: The store did not respond; the step can be repeated.
            LedgerError: The ledger did not respond; the step can be repeated.
        """
        store = self._store or self._open()
        before = self._shown
        self._uploads.retry()
        if self._shown == self._read:
            events = self._ledger.events(self._study.id, self._read, _PAGE)
            if not events:
                self.commit_cursor()
                return 0
            self._fold.apply(events, shown=False)
            self._read = events[-1].id
            if any(event.kind == "study_changed" for event in events):
                self._reread_study()
        try:
            with self._reopened_after_refusal():
                self._flush(store)
        except RunMissingError as lost:
            _log.warning("trial %s has no run in this store; projecting the study again", lost)
            self._store, self._from_start = None, True
            return 1
        fault("events.shown")
        self._shown = self._read
        if time.monotonic() - self._committed_at > _COMMIT_INTERVAL_S:
            self.commit_cursor()
        return self._shown - before

    def _reread_study(self) -> None:
        """Take over the study's config and space, which a request has changed."""
        self._study = self._ledger.study(self._study.name) or self._study
        self._config = StudyConfig.from_json(self._study.config_json)
        if self._store is not None:
            self._store.runs.set_budget(self._config.budget)

    def summarize(self, *, plots: bool, table: bool = True, final: bool = False) -> None:
        """Write the description, table and plots, as far as events were shown since the last ones.

        Args:
            plots: Whether to draw the plots.
            table: Whether to upload the full leaderboard.
            final: Whether the search has ended: plots then open without a network, which makes each
                of them 5 MB large, and failed uploads are retried.

        Raises:
            MlflowException: The store did not respond.
        """
        store = self._store or self._open()
        table = table and self._table_shown != self._shown
        if table or self._described != self._shown:
            with self._reopened_after_refusal():
                self._describe(store, table=table)
            self._described = self._shown
        if plots and (self.plots_are_stale or (final and not self._has_offline_plots)):
            self._plot(store, offline=final)
        if final:
            self._uploads.retry(ignore_pause=True)

    def _plot(self, store: _Store, *, offline: bool) -> None:
        from orchestrator.figures.study_plots import study_plots  # noqa: PLC0415 - loads plotly

        shown = self._shown
        trials = self._ledger.trials(self._study.id)
        config = self._config
        audit = audit_pruning(
            trials, config.budget, self._objectives, seed=config.seed, checkpoint=config.checkpoint
        )
        if audit is not None:
            store.parent.set_audit(audit.text())
        if found := transfer_report(self._ledger, self._study):
            store.parent.set_warm_start("; ".join(each.describe() for each in found))
        names = {uid: view.name for uid, view in self._fold.trials.items()}
        title = self._study.name
        pages = study_plots(trials, self._objectives, names, title=title, offline=offline)
        for name, text in pages.items():
            upload = functools.partial(store.parent.set_plots, {name: text})
            self._uploads.send(f"plots/{name}.html", upload)
        self._plotted, self._has_offline_plots = shown, offline

    def _open(self) -> _Store:
        """Open the store, find or create the study's runs, and fold the events shown before."""
        client, config, study = self._connect(), self._config, self._study
        ledger = self._ledger.identity
        experiment = Experiment.open(
            client, experiment_name(config), self._artifacts, ledger=ledger, study=study.name
        )
        metadata = self._ledger.metadata(study.id)
        tags = common_tags(study, metadata.get("git_revision"))
        inputs = self._dataset_inputs()
        parent = ParentRun(client, experiment, study, ledger)
        existed = parent.open(config, tags, inputs)
        self._table, self._changes_shown = "", 0
        self._read = self._shown = 0
        may_exist_until = self.last_event()
        start = self._ledger.cursor(study.id) if existed and not self._from_start else 0
        self._fold = EventFold(self._objectives, self._config.checkpoint)
        self._fold.apply(
            itertools.takewhile(lambda event: event.id <= start, self._events(0)), shown=True
        )
        self._read = self._shown = start
        figures = TrialFigures(
            lambda number: self._ledger.trial(study.id, number),
            Task.from_dict(metadata["task"]) if metadata.get("task") else None,
            [objective.metric for objective in self._objectives],
        )
        runs = StudyRuns(
            experiment_id=experiment.id,
            parent_run_id=parent.run_id,
            common_tags=tags,
            inputs=inputs,
            budget=config.budget,
            logs=self._logs,
            figures=figures,
            uploads=self._uploads,
        )
        writer = RunWriter(client, runs, shown_until=start, may_exist_until=may_exist_until)
        self._store = _Store(experiment=experiment, parent=parent, runs=writer)
        return self._store

    def _dataset_inputs(self) -> list[DatasetInput]:
        data = self._config.data
        if data.source == NO_DATA:
            return []
        source = {"source": data.source, "split": asdict(data.split)}
        return [dataset_input(data.source, self._study.data_digest, source)]

    @contextlib.contextmanager
    def _reopened_after_refusal(self) -> Iterator[None]:
        """Let the next step restore the parent run or the experiment, if a user deleted it."""
        try:
            yield
        except MlflowException as refused:
            if refused.error_code in FINAL:
                self._store = None
            raise

    def commit_cursor(self) -> None:
        """Move the ledger's cursor to the last event shown.

        Rare, because with SQLite the driver and this process share one write lock, which a busy
        driver rarely releases. After a kill some events are shown again.
        """
        if self._committed != self._shown:
            self._ledger.advance(self._study.id, self._shown)
        self._committed, self._committed_at = self._shown, time.monotonic()

    def _flush(self, store: _Store) -> None:
        fold = self._fold
        for uid in list(fold.changed):
            trial = f"trial {fold.trials[uid].trial.number}"
            try:
                store.runs.show(fold.trials[uid], fold.fresh.get(uid, ()))
                self._refused.pop(trial, None)
            except MlflowException as refused:
                if refused.error_code not in FINAL:
                    raise
                _log.warning("%s is not shown: %s", trial, reason(refused))
                self._refused[trial] = reason(refused)
            del fold.changed[uid]
            fold.fresh.pop(uid, None)
        if len(fold.changes) > self._changes_shown:
            text = summary.changes_markdown(fold.changes)
            store.parent.set_changes(self._study, fold.changes, text)
            self._changes_shown = len(fold.changes)
        if fold.fresh_best:
            store.parent.add_best(fold.fresh_best)
            fold.fresh_best.clear()
        store.parent.set_state(fold.state, fold.state_recorded)

    def _describe(self, store: _Store, *, table: bool) -> None:
        views = list(self._fold.trials.values())
        rows = summary.rank_trials(views, self._config)
        sentence, flat = self._answer(views)
        run_ids = store.runs.run_ids([row.trial.uid for row in rows])
        links = {uid: store.link(run_id) for uid, run_id in run_ids.items()}

        def description(parent_link: str | None) -> str:
            return summary.study_description(
                self._config,
                views,
                rows,
                answer=sentence if flat is None else f"{sentence}; {flat}",
                links=links,
                parent_link=parent_link,
                board_link=runs_page(store.experiment.id),
            )

        if self._described != self._shown:
            store.parent.set_answer(sentence)
            store.parent.set_description(
                description(None), description(store.link(store.parent.run_id))
            )
        whole = summary.leaderboard_table(rows, self._objectives, run_ids)
        if not table:
            return
        self._table_shown = self._shown
        if whole != self._table:
            self._table = whole
            self._uploads.send(TABLE, lambda: store.parent.set_table(whole))

    def _answer(self, views: Sequence[TrialView]) -> tuple[str, str | None]:
        """Return the study's answer, and why more search is not worth it.

        Events carry no measurements, so trials are read for confirmations and at the end.
        """
        trials = [view.trial for view in views]
        if self._fold.state != "running" or any(trial.kind == KIND for trial in trials):
            trials = self._ledger.trials(self._study.id)
        sentence = answer(self._study.name, trials, self._objectives).sentence
        return sentence, plateau(trials, self._objectives)

    def _events(self, after: int) -> Iterator[Event]:
        while events := self._ledger.events(self._study.id, after, _PAGE):
            yield from events
            after = events[-1].id
