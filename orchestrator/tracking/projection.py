"""The ledger's events, followed onto MLflow: at least once each, with the effect of once.

The ledger keeps a cursor: everything up to it is shown. A crash between showing and moving the
cursor shows the same again, which changes nothing.
"""

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from orchestrator.config.schema import StudyConfig
from orchestrator.figures.trial import Pictures
from orchestrator.ledger import Event, Ledger, StudyRow
from orchestrator.tracking import summary
from orchestrator.tracking.addresses import run_page, runs_page
from orchestrator.tracking.events import EventFold
from orchestrator.tracking.experiment import Experiment, experiment_name
from orchestrator.tracking.files import Files
from orchestrator.tracking.refusals import FINAL, reason
from orchestrator.tracking.study_run import TABLE, ParentRun, common_tags
from orchestrator.tracking.trial_runs import RunMissingError, RunWriter, StudyRuns, dataset_input
from search_spaces.task import Task
from workers.data.spec import NO_DATA
from workers.failpoints import fault

_log = logging.getLogger(__name__)

_PAGE = 2000
"""Events read at once: when far behind, all points of a trial go out together."""

_KEEP_PLACE_EVERY_S = 10.0

_NAMED = 3
"""How many of many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """The study's places in one MLflow store."""

    experiment: Experiment
    parent: ParentRun
    runs: RunWriter

    def link(self, run_id: str) -> str:
        """Where MLflow's pages show the run, from any of them."""
        return run_page(self.experiment.id, run_id)


class Projection:
    """One study's projection onto one MLflow store."""

    def __init__(
        self,
        ledger: Ledger,
        study: StudyRow,
        connect: Callable[[], MlflowClient],
        *,
        artifacts: Path | None,
        logs: Path,
    ) -> None:
        """Remember who follows what; the store is first asked in `step`.

        Args:
            ledger: Whose events are followed.
            study: The study.
            connect: Opens the store; called again after each failure to.
            artifacts: Folder of the artifacts; None leaves the choice to a server.
            logs: Folder of the study's trial logs.
        """
        self._ledger = ledger
        self._study = study
        self._config = StudyConfig.from_json(study.config_json)
        self._objectives = summary.objectives_of(self._config)
        self._connect = connect
        self._artifacts = artifacts
        self._logs = logs
        self._history = EventFold(self._objectives)
        self._store: _Store | None = None
        self._anew = False
        self._read = 0
        self._shown = 0
        self._kept = 0
        self._kept_at = time.monotonic()
        self._noted = -1
        self._drawn = self._tabled = -1
        self._has_offline_plots = False
        self._table = ""
        self._files = Files()
        self._refused: dict[str, str] = {}

    @property
    def shown(self) -> int:
        """The newest event that is shown; 0 before the store was reached."""
        return self._shown

    @property
    def has_news_to_draw(self) -> bool:
        """Whether anything was shown since the last plots."""
        return self._drawn != self._shown

    def lacking(self) -> str:
        """What the store refused for good, or did not take so far, and why; empty if nothing."""
        parts = [f"{what} is refused: {why}" for what, why in self._refused.items()]
        parts = [*parts[:_NAMED], f"{len(parts) - _NAMED} more trials"][: len(parts)]
        if waiting := self._files.waiting:
            more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
            named = ", ".join(waiting[:_NAMED])
            parts.append(f"files ({named}{more}) are not uploaded: {reason(self._files.reason)}")
        return "; ".join(parts)

    def last_event(self) -> int:
        """Id of the newest event; 0 before the first."""
        return max((event.id for event in self._events(self._read)), default=self._read)

    def left(self) -> int:
        """How many events are recorded and not shown."""
        after = self._shown if self._store else self._ledger.cursor(self._study.id)
        return sum(1 for _ in self._events(after))

    def step(self) -> int:
        """Show the next events.

        Returns:
            How many; 0 when nothing was left.

        Raises:
            MlflowException: The store did not answer. Nothing is lost: step again.
            LedgerError: The same of the ledger.
        """
        store = self._store or self._open()
        before = self._shown
        self._files.retry()
        if self._shown == self._read:
            events = self._ledger.events(self._study.id, self._read, _PAGE)
            if not events:
                self.commit_cursor()
                return 0
            self._history.apply(events, shown=False)
            self._read = events[-1].id
        try:
            with self._reopened_after_refusal():
                self._flush(store)
        except RunMissingError as lost:
            _log.warning("trial %s has no run in this store; showing the study anew", lost)
            self._store, self._anew = None, True
            return 1
        fault("events.shown")
        self._shown = self._read
        if time.monotonic() - self._kept_at > _KEEP_PLACE_EVERY_S:
            self.commit_cursor()
        return self._shown - before

    def summarise(self, *, plots: bool, table: bool = True, final: bool = False) -> None:
        """Show the description and, if asked, what is drawn of it; without news it does nothing.

        Args:
            plots: Whether to draw the plots.
            table: Whether to upload the whole leaderboard.
            final: Whether nothing follows: plots then open without a network, which makes each of
                them 5 MB large, and files that failed are tried again.

        Raises:
            MlflowException: The store did not answer.
        """
        store = self._store or self._open()
        table = table and self._tabled != self._shown
        if table or self._noted != self._shown:
            with self._reopened_after_refusal():
                self._note(store, table=table)
            self._noted = self._shown
        if plots and (self.has_news_to_draw or (final and not self._has_offline_plots)):
            self._draw(store, offline=final)
        if final:
            self._files.retry(at_once=True)

    def _draw(self, store: _Store, *, offline: bool) -> None:
        # Optuna and plotly are loaded when there is something to draw, not before.
        from orchestrator.figures.study_plots import study_plots  # noqa: PLC0415

        shown = self._shown
        trials = self._ledger.trials(self._study.id)
        names = {uid: story.name for uid, story in self._history.trials.items()}
        title = self._study.name
        pages = study_plots(trials, self._objectives, names, title=title, offline=offline)
        for name, text in pages.items():
            upload = functools.partial(store.parent.set_plots, {name: text})
            self._files.send(f"plots/{name}.html", upload)
        self._drawn, self._has_offline_plots = shown, offline

    def _open(self) -> _Store:
        """Find or make the study's places; fold what was shown before."""
        client, config, study = self._connect(), self._config, self._study
        ledger = self._ledger.identity
        experiment = Experiment.open(
            client, experiment_name(config), self._artifacts, ledger=ledger, study=study.name
        )
        about = self._about()
        tags = common_tags(study, about.get("git_revision"))
        source = {"source": config.data.source, "split": asdict(config.data.split)}
        inputs = [dataset_input(config.data.source, study.data_digest, source)]
        if config.data.source == NO_DATA:
            inputs = []
        parent = ParentRun(client, experiment, study, ledger)
        was_there = parent.open(config, tags, inputs)
        self._history = EventFold(self._objectives)
        self._table = ""
        self._read = self._shown = 0
        may_exist_until = self.last_event()
        start = self._ledger.cursor(study.id) if was_there and not self._anew else 0
        self._history.apply(
            itertools.takewhile(lambda event: event.id <= start, self._events(0)), shown=True
        )
        self._read = self._shown = start
        runs = StudyRuns(
            experiment_id=experiment.id,
            parent_run_id=parent.run_id,
            common_tags=tags,
            inputs=inputs,
            budget=config.budget,
            logs=self._logs,
            pictures=Pictures(
                lambda number: self._ledger.trial(study.id, number),
                Task.from_dict(about["task"]) if about.get("task") else None,
                [objective.metric for objective in self._objectives],
            ),
            files=self._files,
        )
        writer = RunWriter(client, runs, shown_until=start, may_exist_until=may_exist_until)
        self._store = _Store(experiment=experiment, parent=parent, runs=writer)
        return self._store

    @contextlib.contextmanager
    def _reopened_after_refusal(self) -> Iterator[None]:
        """Let the next step restore the study's own run or experiment, which somebody deleted."""
        try:
            yield
        except MlflowException as refused:
            if refused.error_code in FINAL:
                self._store = None
            raise

    def _about(self) -> dict[str, Any]:
        """What its first event says of the study beside its row."""
        first = next(self._events(0), None)
        return dict(first.payload.get("about") or {}) if first else {}

    def commit_cursor(self) -> None:
        """Move the ledger's cursor.

        Done in quiet moments: with SQLite the driver and this process share one write lock, which
        a busy driver hardly lets go. A kill before it costs showing some events again.
        """
        if self._kept != self._shown:
            self._ledger.advance(self._study.id, self._shown)
        self._kept, self._kept_at = self._shown, time.monotonic()

    def _flush(self, store: _Store) -> None:
        history = self._history
        for uid in list(history.changed):
            trial = f"trial {history.trials[uid].trial.number}"
            try:
                store.runs.show(history.trials[uid], history.fresh.get(uid, ()))
                self._refused.pop(trial, None)
            except MlflowException as refused:
                if refused.error_code not in FINAL:
                    raise
                _log.warning("%s is not shown: %s", trial, reason(refused))
                self._refused[trial] = reason(refused)
            del history.changed[uid]
            history.fresh.pop(uid, None)
        if history.fresh_best:
            store.parent.add_best(history.fresh_best)
            history.fresh_best.clear()
        store.parent.set_state(history.state, history.state_recorded)

    def _note(self, store: _Store, *, table: bool) -> None:
        stories = list(self._history.trials.values())
        rows = summary.ranked(stories, self._objectives)
        run_ids = store.runs.run_ids([row.trial.uid for row in rows])
        links = {uid: store.link(run_id) for uid, run_id in run_ids.items()}

        def note(parent_link: str | None) -> str:
            return summary.study_note(
                self._config,
                stories,
                rows,
                links=links,
                parent_link=parent_link,
                board_link=runs_page(store.experiment.id),
            )

        if self._noted != self._shown:
            store.parent.set_note(note(None), note(store.link(store.parent.run_id)))
        whole = summary.leaderboard_table(rows, self._objectives, run_ids)
        if not table:
            return
        self._tabled = self._shown
        if whole != self._table:
            self._table = whole
            self._files.send(TABLE, lambda: store.parent.set_table(whole))

    def _events(self, after: int) -> Iterator[Event]:
        while events := self._ledger.events(self._study.id, after, _PAGE):
            yield from events
            after = events[-1].id
