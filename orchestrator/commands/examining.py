"""Lets the doctor look at a study before it starts, and refuses what cannot work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.clock import Clock
from orchestrator.doctor import diagnosis, report, verdict
from orchestrator.doctor.box import Box
from orchestrator.doctor.diagnosis import Diagnosis
from orchestrator.opening import Opened
from orchestrator.problems import ProblemsError
from orchestrator.progress import SILENT_S
from orchestrator.terminal import Terminal
from search_spaces.space import SearchSpace

QUICK_S = 1.5
"""How long a quick look takes where somebody who meets the limits is found at once."""
PATIENCE_S = 9.0
"""How long it takes at most."""


@contextmanager
def announced(terminal: Terminal) -> Iterator[None]:
    """Say what takes so long, if what is done here does."""
    text = "Checking constraints, costs and training time of the search ..."
    timer = threading.Timer(SILENT_S, terminal.remark, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def quick_look(parts: Opened, terminal: Terminal, clock: Clock | None = None) -> str | None:
    """When the study is expected to end, in a line; None where nobody can say.

    Raises:
        ProblemsError: The search cannot work.
    """
    if not isinstance(parts.space, SearchSpace) or parts.task is None:
        return None
    with announced(terminal):
        found = diagnosis.quick(
            parts,
            parts.space,
            parts.task,
            Box.of(QUICK_S, clock),
            patience=Box.of(PATIENCE_S, clock),
        )
    refuse(parts, found)
    return None if found.forecast is None else report.forecast_line(found)


def warn(parts: Opened, terminal: Terminal) -> None:
    """Warn of a search that can work, but not as its user may expect."""
    if warning := verdict.idle_sampler(parts.config):
        terminal.complain(f"{parts.config.name}: {warning}")


def refuse(parts: Opened, found: Diagnosis) -> None:
    """Refuses a search that cannot work.

    Raises:
        ProblemsError: It cannot.
    """
    problems = verdict.refusals(found, len(parts.dataset.train))
    if problems:
        raise ProblemsError(problems)
