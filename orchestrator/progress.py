"""Progress of a running search: a live display on a terminal, a notebook cell, lines in a log.

The display polls snapshots of the study from its own thread, so that a slow terminal delays no
trial.
"""

import threading
from html import escape
from typing import Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.formatting import format_duration, format_number
from orchestrator.notebook import NotebookCell, in_notebook
from orchestrator.snapshot import Snapshot
from orchestrator.terminal import Terminal

LINE_EVERY_S = 10.0
FRAME_EVERY_S = 0.5
SILENT_S = 2.0
"""Longest search for a feasible candidate without a line of output."""
_MAX_METRIC = 24
"""Characters of the metric's name in the live table."""


class Source(Protocol):
    """Source of snapshots: the driver of a study."""

    def snapshot(self) -> Snapshot:
        """Return the current state of the study."""
        ...


class ProgressDisplay:
    """Display that runs during the body of a `with` statement.

    Example:
        >>> with ProgressDisplay(driver, Terminal()):
        ...     engine.run(driver, dataset)
    """

    def __init__(
        self, source: Source, terminal: Terminal, *, line_every_s: float = LINE_EVERY_S
    ) -> None:
        self._source = source
        self._terminal = terminal
        self._line_every_s = line_every_s
        self._first: Snapshot | None = None
        self._ended = threading.Event()
        follow = self._lines
        if in_notebook():
            follow = self._cell
        elif terminal.interactive:
            follow = self._frames
        self._thread = threading.Thread(target=follow, name="archscout-progress", daemon=True)

    def __enter__(self) -> "ProgressDisplay":
        self._first = self._source.snapshot()
        if not (self._terminal.quiet or self._terminal.json):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    def _lines(self) -> None:
        """Print a line at intervals if anything changed; at once if sampling takes long."""
        printed, waited, searching = "", 0.0, False
        step = min(FRAME_EVERY_S, self._line_every_s)
        while not self._ended.wait(step):
            waited += step
            now = self._source.snapshot()
            begins = not searching and now.rejected_s > SILENT_S
            searching = now.rejected_s > SILENT_S
            if summary(now) == printed or (waited < self._line_every_s and not begins):
                continue
            self._terminal.print(
                f"[{format_duration(now.spent_s)}] {summary(now)}{_left(self._first, now)}"
            )
            printed, waited = summary(now), 0.0

    def _frames(self) -> None:
        """Redraw the display in place; remove it at the end."""
        with Live(self._frame(), refresh_per_second=4, transient=True) as live:
            while not self._ended.wait(FRAME_EVERY_S):
                live.update(self._frame())

    def _cell(self) -> None:
        """A bar and a line in a notebook's cell, which stay at the end."""
        cell = NotebookCell()
        ended = False
        while not ended:
            ended = self._ended.wait(FRAME_EVERY_S)
            now = self._source.snapshot()
            left = "" if ended else _left(self._first, now)
            text = escape(f"{summary(now)}{left}")
            cell.show(f"<progress value='{fraction_done(now):.3f}'></progress> {text}")

    def _frame(self) -> RenderableType:
        now = self._source.snapshot()
        done = fraction_done(now)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=done, width=30),
            Text(f"{summary(now)}{_left(self._first, now)}"),
        )
        return Group(head, running_table(now))


def summary(now: Snapshot) -> str:
    """Return the state of the study in one line."""
    trials = f"{now.counted}" if now.trials is None else f"{now.counted}/{now.trials}"
    states = {
        "complete": now.counts.get("COMPLETE", 0),
        "pruned": now.counts.get("PRUNED", 0) - now.infeasible,
        "infeasible": now.infeasible,
        "failed": now.counts.get("FAIL", 0),
        "running": now.counts.get("RUNNING", 0),
        "paused": now.counts.get("PAUSED", 0),
    }
    counted = ", ".join(f"{count} {word}" for word, count in states.items() if count)
    parts = [f"{trials} trials", counted]
    if now.confirmations or now.confirming:
        running = f" ({now.confirming} running)" if now.confirming else ""
        parts.append(f"confirming: {now.confirmations} trainings ended{running}")
    if now.best_values is not None:
        values = ", ".join(format_number(value) for value in now.best_values)
        parts.append(f"best {values} (trial {now.best_number}, {now.best_describe})")
    if now.rejected_s > SILENT_S:
        parts.append(f"{now.rejected:,} candidates refused since the last feasible one")
    if now.stop_reason:
        parts.append(f"stopping: {now.stop_reason}")
    return " · ".join(part for part in parts if part)


def running_table(now: Snapshot) -> Table:
    """Return a table of the running trials."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    metric = now.judged_metric or "metric"
    for name in ("trial", "architecture", "epoch", "next rung", metric, "time"):
        # Only columns that may wrap give way to the others; the cell itself does not wrap.
        gives_way = name == "architecture"
        most = _MAX_METRIC if name == metric else None
        shown.add_column(name, no_wrap=not gives_way, overflow="ellipsis", max_width=most)
    for trial in now.running:
        shown.add_row(
            str(trial.number),
            Text(trial.describe, no_wrap=True, overflow="ellipsis"),
            str(trial.epoch),
            str(trial.rung),
            "" if trial.metric is None else format_number(trial.metric),
            format_duration(trial.elapsed_s),
        )
    return shown


def fraction_done(now: Snapshot) -> float:
    """Return the used fraction of the study's limits, 0 to 1."""
    ended = max(0, now.counted - now.searching)
    shares = [0.0]
    if now.trials:
        shares.append(ended / now.trials)
    if now.hours:
        shares.append(now.spent_s / (now.hours * 3600))
    return min(1.0, max(shares))


def seconds_left(first: Snapshot, now: Snapshot) -> float | None:
    """Return the remaining time of the search at the speed of this run; None while it is unknown.

    A confirmation ends once it is decided, at no time that could be predicted.
    """
    if now.confirming:
        return None
    guesses: list[float] = []
    ended = (now.counted - now.searching) - (first.counted - first.searching)
    spent = now.spent_s - first.spent_s
    if now.trials and ended > 0:
        remaining = now.trials - (now.counted - now.searching)
        guesses.append(max(0.0, spent / ended * remaining))
    if now.hours:
        guesses.append(max(0.0, now.hours * 3600 - now.spent_s))
    return min(guesses, default=None)


def _left(first: Snapshot | None, now: Snapshot) -> str:
    left = seconds_left(first, now) if first is not None and not now.stop_reason else None
    return "" if left is None else f" · about {format_duration(left)} left"
