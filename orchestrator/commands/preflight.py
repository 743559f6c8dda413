"""Lets the doctor look at a study before it starts, and refuses what cannot work."""

from orchestrator.clock import Clock
from orchestrator.errors import ProblemsError
from orchestrator.preflight import diagnosis, report
from orchestrator.preflight.deadline import Deadline
from orchestrator.preflight.diagnosis import Diagnosis
from orchestrator.study.prepare import StudyInputs
from orchestrator.terminal import Terminal
from search_spaces.space import SearchSpace

QUICK_S = 1.5
"""How long a quick look takes where somebody who meets the limits is found at once."""
TIMEOUT_S = 9.0
"""How long it takes at most."""


LOOK = "the check of constraints, costs and training time"
"""What a user waits for meanwhile."""


def quick_look(parts: StudyInputs, terminal: Terminal, clock: Clock | None = None) -> str | None:
    """When the study is expected to end, in a line; None where nobody can say.

    Raises:
        ProblemsError: The search cannot work.
    """
    if not isinstance(parts.space, SearchSpace) or parts.task is None:
        return None
    with terminal.waiting_for(LOOK):
        found = diagnosis.quick_check(
            parts,
            parts.space,
            parts.task,
            Deadline.after(QUICK_S, clock),
            extended=Deadline.after(TIMEOUT_S, clock),
        )
    refuse(parts, found)
    return None if found.forecast is None else report.forecast_line(found)


def warn(parts: StudyInputs, terminal: Terminal) -> None:
    """Warn of a search that can work, but not as its user may expect."""
    if warning := report.idle_sampler(parts.config):
        terminal.error(f"{parts.config.name}: {warning}")


def refuse(parts: StudyInputs, found: Diagnosis) -> None:
    """Refuses a search that cannot work.

    Raises:
        ProblemsError: It cannot.
    """
    problems = report.refusals(found, len(parts.dataset.train))
    if problems:
        raise ProblemsError(problems)
