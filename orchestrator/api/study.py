"""Studies as objects: create one, run it, read its trials, promote the best."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.api.model import Model, load_model
from orchestrator.api.tables import board_rows, definition_list, html_table, trials_frame
from orchestrator.api.trial import FrozenTrial, frozen
from orchestrator.commands import confirm, promote, run_search, studies
from orchestrator.commands.steer import edit, enqueue, extend, pause, stop
from orchestrator.commands.steer.edit import StudyEdit
from orchestrator.config.load import Override
from orchestrator.config.resources import with_open_gpu
from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import Answer
from orchestrator.confirmation.plan import ConfirmationPlan
from orchestrator.errors import CommandError, ExitCode
from orchestrator.figures.study_plots import study_figures
from orchestrator.file_permissions import private_files
from orchestrator.home import Home
from orchestrator.objective import pareto_front, parse_preference
from orchestrator.run import RunOutcome
from orchestrator.study.leaderboard import Leaderboard, leaderboard
from orchestrator.terminal import Terminal
from orchestrator.trial import Trial
from search_spaces.task import Task

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SHOWN = 10
"""Rows of the leaderboard in a notebook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A study in the ledger at one moment; by default one that has not run yet."""

    state: str = "new"
    trials: tuple[Trial, ...] = ()
    task: Task | None = None
    """Task of its networks; None where the user's own code trains."""


class Study:
    """One study: its configuration, and the trials that the ledger has of it.

    Holds no connection: every property reads the ledger again, so that a study which another
    process runs can be watched. Made by `create_study` and `load_study`.

    Examples:
        >>> study = create_study("digits", stop={"trials": 20})
        >>> study.run()
        >>> study.best_trial.values
        {'val_accuracy': 0.981}
        >>> model = study.promote("digits")
    """

    def __init__(self, config: StudyConfig, home: Home) -> None:
        self._config = config
        self._home = home

    @property
    def name(self) -> str:
        """Name of the study, unique in its home."""
        return self._config.name

    @property
    def config(self) -> StudyConfig:
        """Configuration of the study."""
        return self._config

    @property
    def state(self) -> str:
        """`new`, `running`, `finished`, `interrupted` or `broken` (too many failures)."""
        return self._read().state

    @property
    def trials(self) -> tuple[FrozenTrial, ...]:
        """All trials by number."""
        record = self._read()
        return self._frozen(record.trials, record.task)

    @property
    def best_trial(self) -> FrozenTrial:
        """The best complete trial of a study with one objective.

        Raises:
            CommandError: No trial is complete, or there are several objectives.
        """
        if len(self._config.objectives) > 1:
            raise CommandError(
                f"study '{self.name}' has several objectives: use best_trials, or "
                "leaderboard(prefer=...)",
                ExitCode.INPUT,
            )
        record = self._read()
        rows = self._board(record).rows
        if not rows:
            raise CommandError(
                f"study '{self.name}' has no complete trial yet: run it", ExitCode.INPUT
            )
        best = record.trials[rows[0].trial]
        return frozen(best, self._config.objectives, record.task)

    @property
    def best_trials(self) -> tuple[FrozenTrial, ...]:
        """The Pareto front: complete trials that no other trial dominates."""
        record = self._read()
        front = pareto_front(record.trials, self._config.objectives)
        return self._frozen(sorted(front, key=lambda trial: trial.number), record.task)

    @property
    def answer(self) -> Answer:
        """Whether a candidate beats the default and by how much, from confirmation trials alone."""
        return self._board(self._read()).answer

    def confirm(self, *, top: int = 3, seeds: int = 10, progress: bool = True) -> Answer:
        """Train the best candidates and the default with more seeds, and compare them.

        Blocks. Stops as soon as the comparison is decided; an interrupted one continues.

        Args:
            top: Number of candidates besides the default, at most 10.
            seeds: Maximum number of seeds of each, from 3.
            progress: Print how it proceeds.

        Raises:
            KeyboardInterrupt: Interrupted (Ctrl-C); what is recorded stays.
            ArchscoutError: There is nothing to compare, or the confirmation stopped early.
        """
        plan = ConfirmationPlan(top=top, seeds=seeds)
        terminal = Terminal(quiet=not progress, json=not progress)
        with private_files():
            outcome = confirm.confirm(self.name, plan, self._home, terminal)
        self._require_done(outcome)
        return self.answer

    def run(self, *, progress: bool = True) -> None:
        """Search until a limit of `stop` is reached; continues an interrupted study.

        Blocks. A study that is finished returns at once.

        Args:
            progress: Print what is searched and how it proceeds.

        Raises:
            KeyboardInterrupt: Interrupted (Ctrl-C); what is recorded stays, and `run` continues.
            ArchscoutError: The search cannot start, or stopped before its limits; the message
                names the reason and what to do.
        """
        terminal = Terminal(quiet=not progress, json=not progress)
        self._take_stored(terminal)
        state = self._read().state
        if state != "finished":
            self._continue(terminal, resumed=state != "new")

    def extend(
        self, *, trials: int | None = None, hours: float | None = None, progress: bool = True
    ) -> None:
        """Add trials or hours to the limits of `stop`, and continue the search.

        Blocks, unless another process runs the study: that one continues it.

        Args:
            trials: Trials to add.
            hours: Hours to add.
            progress: Print the new limits and how the search proceeds.

        Raises:
            KeyboardInterrupt: Interrupted (Ctrl-C); what is recorded stays, and `run` continues.
            ArchscoutError: The study would start no more trials, or stopped before its limits.
        """
        terminal = Terminal(quiet=not progress, json=not progress)
        config = extend.extend(self.name, self._home, terminal, trials=trials, hours=hours)
        self._take_stored(terminal)
        if config is not None:
            self._continue(terminal, resumed=True)

    def edit(self, changes: Mapping[str, Any], *, dry_run: bool = False) -> StudyEdit:
        """Change the space, the constraints, the maximum budget, the target or the confirmation.

        A process that runs the study continues with the change; otherwise `run` does.

        Args:
            changes: New values by key of study.yaml, such as `{"budget.maximum": 27}` or
                `{"space.fix.recipe.optimizer": "adamw"}`.
            dry_run: Change nothing.

        Returns:
            The differences, and the numbers of the earlier trials by what becomes of them.

        Raises:
            ArchscoutError: The change is not possible; the message gives the reason.
        """
        terminal = Terminal(quiet=True, json=True)
        overrides = [Override.of(key, value, "edit") for key, value in changes.items()]
        found = edit.edit(self.name, overrides, self._home, terminal, dry_run=dry_run)
        if not dry_run:
            self._take_stored(terminal)
        return found

    def enqueue(
        self, params: Mapping[str, Any] | None = None, *, like: int | None = None
    ) -> int | None:
        """Add a trial of your own design, and one to `stop.trials`.

        Args:
            params: Decisions by path, or a candidate's JSON form; the study's sampler makes those
                that are left open.
            like: Number of a trial whose decisions apply where `params` makes none.

        Returns:
            Number of the trial; None if no process runs the study: `run` trains it first.

        Raises:
            ArchscoutError: The design is outside the space, exceeds a constraint, or equals a
                trial that exists.
        """
        reply = enqueue.enqueue(self.name, [params or {}], self._home, like=like, changes={})
        return None if reply.answer is None else int(reply.answer["trials"][0])

    def pause(self) -> bool:
        """Stop the process that runs the study; its trials wait, and `run` continues them.

        Returns:
            True if one has stopped; False if none ran.
        """
        return pause.pause(self.name, self._home)

    def stop(self, trial: int) -> None:
        """End one trial, running or not; what it has measured counts.

        Args:
            trial: Number of the trial.

        Raises:
            ArchscoutError: There is no such trial, or it has ended.
        """
        stop.stop_trial(self.name, trial, self._home)

    def _take_stored(self, terminal: Terminal) -> None:
        """Give the study in the ledger the limits of this object, or take over its own."""
        with studies.open_ledger(self._home) as ledger:
            row = None if ledger is None else ledger.study(self.name)
            if ledger is None or row is None:
                return
            if extend.raise_limits(ledger, row, self._config, self._home, terminal) is None:
                stored = with_open_gpu(studies.locate_config(ledger, row, self._home))
                self._config = stored.at_address(self._config.engine.address)

    def _continue(self, terminal: Terminal, *, resumed: bool) -> None:
        with private_files():
            outcome = run_search.launch(self._config, self._home, terminal, resumed=resumed)
        self._require_done(outcome)

    def _require_done(self, outcome: RunOutcome | None) -> None:
        """Raise the error of a run that stopped before its end."""
        if outcome is None or outcome.code is ExitCode.DONE:
            return
        message = run_search.unfinished(self._config, self._home, outcome)
        if outcome.reason == "signal":
            raise KeyboardInterrupt(message)
        raise CommandError(message, outcome.code)

    def trials_dataframe(self) -> pd.DataFrame:
        """Return one row a trial, with the columns of Optuna's `trials_dataframe`."""
        return trials_frame(self.trials, [o.metric for o in self._config.objectives])

    def leaderboard(self, *, prefer: str | None = None, top: int | None = None) -> pd.DataFrame:
        """Return complete trials, best first.

        Args:
            prefer: Weights of the objectives, such as `val_accuracy=0.7,latency_ms=0.3`; orders
                the Pareto front by the weighted distance from the best of all.
            top: Number of rows; None for all.

        Raises:
            PreferenceError: A weight names no objective, or is no number from 0.
        """
        return pd.DataFrame(board_rows(self._board(self._read(), prefer), top))

    def plot_history(self) -> "go.Figure":
        """Plot objective values by trial, with the best so far."""
        return self._figure("history", "a trial with a measurement")

    def plot_importance(self) -> "go.Figure":
        """Plot the share of the objectives' variance that each decision explains (fANOVA)."""
        return self._figure("importance", "4 complete trials with different values")

    def plot_parallel(self) -> "go.Figure":
        """Plot the most important decisions and the first objective as parallel coordinates."""
        return self._figure("parallel", "4 complete trials with different values")

    def plot_pareto(self) -> "go.Figure":
        """Plot the Pareto front of the first two or three objectives."""
        return self._figure("pareto", "several objectives and a complete trial")

    def plot_size(self) -> "go.Figure":
        """Plot the objective against the number of parameters."""
        return self._figure("size", "one objective and a complete trial with counted parameters")

    def plot_loss_weights(self) -> "go.Figure":
        """Plot complete trials on the simplex of loss weights."""
        return self._figure("weights", "complete trials with losses of several terms")

    def plot_confirmation(self) -> "go.Figure":
        """Plot each candidate's gain over the default with its 95 % interval."""
        return self._figure("confirmation", "a confirmation that has compared candidates")

    def promote(
        self,
        model: str,
        *,
        alias: str = "champion",
        trial: int | None = None,
        force_reason: str | None = None,
        progress: bool = True,
    ) -> Model:
        """Register a trial's model, after verifying it in a clean process.

        Args:
            model: Name in the registry.
            alias: Alias that points to the new version.
            trial: Number of the trial; None for the best one.
            force_reason: Replace the champion whatever the comparison says, for this reason.
            progress: Print the steps.

        Returns:
            The registered model, loaded and ready to predict.

        Raises:
            PromotionRefusedError: A gate refused it.
            ArchscoutError: There is no such trial, or another promotion won.
        """
        target = promote.Target(model=model, alias=alias)
        terminal = Terminal(quiet=not progress, json=not progress)
        with private_files():
            promote.promote(self.name, trial, target, self._home, terminal, forced=force_reason)
        return load_model(str(target), home=self._home.folder)

    def __repr__(self) -> str:
        return f"<Study '{self.name}' in {self._home.folder}>"

    def _repr_html_(self) -> str:
        board = self._board(self._read())
        counted = ", ".join(f"{count} {what}" for what, count in board.counts.items())
        entries = {
            "state": board.state,
            "space": str(self._config.space),
            "data": self._config.data.source,
            "objectives": ", ".join(f"{o.metric} ({o.direction})" for o in board.objectives),
            "trials": counted or "none",
        }
        return definition_list(f"Study {self.name}", entries) + html_table(
            board_rows(board, _SHOWN)
        )

    def _read(self) -> "_Record":
        """Return what the ledger has of the study, by one read."""
        with studies.open_ledger(self._home) as ledger:
            row = None if ledger is None else ledger.study(self.name)
            if ledger is None or row is None:
                return _Record()
            reopened = row.state == "finished" and bool(ledger.requests(row.id))
            task = ledger.metadata(row.id).get("task")
            return _Record(
                state="interrupted" if reopened else row.state,
                trials=tuple(ledger.trials(row.id)),
                task=None if task is None else Task.from_dict(task),
            )

    def _board(self, record: "_Record", prefer: str | None = None) -> Leaderboard:
        objectives = self._config.objectives
        weights = None if prefer is None else parse_preference(prefer, objectives)
        return leaderboard(self._config, record.state, record.trials, weights)

    def _frozen(self, trials: Iterable[Trial], task: Task | None) -> tuple[FrozenTrial, ...]:
        return tuple(frozen(trial, self._config.objectives, task) for trial in trials)

    def _figure(self, name: str, needs: str) -> "go.Figure":
        trials = self._read().trials
        names = {trial.uid: trial.describe for trial in trials}
        figures = study_figures(
            trials, self._config.objectives, names, title=self.name, only={name}
        )
        if name not in figures:
            raise CommandError(
                f"study '{self.name}' cannot be plotted by {name} yet: it needs {needs}",
                ExitCode.INPUT,
            )
        return figures[name]
