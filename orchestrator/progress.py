"""Shows a search while it runs: a moving display for people, plain lines for logs.

Knows what a study says of itself at one moment, and no engine. It asks from a thread of its own,
so a slow terminal holds up no trial.
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
"""How long a step may take without a line of output."""


class Source(Protocol):
    """Whoever can say how the search stands."""

    def snapshot(self) -> Snapshot:
        """The study at this moment."""
        ...


class ProgressDisplay:
    """A display that runs beside the search; use it as a context manager."""

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
        """A line at intervals, none where nothing moved; one at once where a draw takes long."""
        told, waited, looking = "", 0.0, False
        step = min(FRAME_EVERY_S, self._line_every_s)
        while not self._ended.wait(step):
            waited += step
            now = self._source.snapshot()
            begins = not looking and now.rejected_s > SILENT_S
            looking = now.rejected_s > SILENT_S
            if summary(now) == told or (waited < self._line_every_s and not begins):
                continue
            self._terminal.print(
                f"[{format_duration(now.spent_s)}] {summary(now)}{_left(self._first, now)}"
            )
            told, waited = summary(now), 0.0

    def _frames(self) -> None:
        """A display in place, gone at the end."""
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
            cell.show(f"<progress value='{share_done(now):.3f}'></progress> {text}")

    def _frame(self) -> RenderableType:
        now = self._source.snapshot()
        done = share_done(now)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=done, width=30),
            Text(f"{summary(now)}{_left(self._first, now)}"),
        )
        return Group(head, running_table(now))


def summary(now: Snapshot) -> str:
    """The whole study in one line."""
    trials = f"{now.counted}" if now.trials is None else f"{now.counted}/{now.trials}"
    stand = {
        "complete": now.counts.get("COMPLETE", 0),
        "pruned": now.counts.get("PRUNED", 0) - now.infeasible,
        "infeasible": now.infeasible,
        "failed": now.counts.get("FAIL", 0),
        "running": now.counts.get("RUNNING", 0),
    }
    counted = ", ".join(f"{count} {word}" for word, count in stand.items() if count)
    parts = [f"{trials} trials", counted]
    if now.best_values is not None:
        values = ", ".join(format_number(value) for value in now.best_values)
        parts.append(f"best {values} (trial {now.best_number}, {now.best_describe})")
    if now.rejected_s > SILENT_S:
        parts.append(f"{now.rejected:,} candidates refused since the last feasible one")
    if now.stop_reason:
        parts.append(f"stopping: {now.stop_reason}")
    return " · ".join(part for part in parts if part)


def running_table(now: Snapshot) -> Table:
    """The trials under way, one a row."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for name in (
        "trial",
        "architecture",
        "epoch",
        "judged at",
        now.judged_metric or "metric",
        "time",
    ):
        shown.add_column(name, no_wrap=True, overflow="ellipsis")
    for trial in now.running:
        shown.add_row(
            str(trial.number),
            Text(trial.describe),
            str(trial.epoch),
            str(trial.rung),
            "" if trial.metric is None else format_number(trial.metric),
            format_duration(trial.elapsed_s),
        )
    return shown


def share_done(now: Snapshot) -> float:
    """How much of the study's limits is used up, 0 to 1."""
    ended = max(0, now.counted - len(now.running))
    shares = [0.0]
    if now.trials:
        shares.append(ended / now.trials)
    if now.hours:
        shares.append(now.spent_s / (now.hours * 3600))
    return min(1.0, max(shares))


def seconds_left(first: Snapshot, now: Snapshot) -> float | None:
    """What is left at the speed of this run; None while nothing can be said."""
    guesses: list[float] = []
    ended = (now.counted - len(now.running)) - (first.counted - len(first.running))
    spent = now.spent_s - first.spent_s
    if now.trials and ended > 0:
        remaining = now.trials - (now.counted - len(now.running))
        guesses.append(max(0.0, spent / ended * remaining))
    if now.hours:
        guesses.append(max(0.0, now.hours * 3600 - now.spent_s))
    return min(guesses, default=None)


def _left(first: Snapshot | None, now: Snapshot) -> str:
    left = seconds_left(first, now) if first is not None and not now.stop_reason else None
    return "" if left is None else f" · about {format_duration(left)} left"
