"""`archscout search --dry-run`: what would run, and nothing of it."""

from orchestrator.commands.preflight import quick_look, warn
from orchestrator.commands.run_search import print_notes
from orchestrator.config.load import flatten
from orchestrator.config.resources import check_resources, with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ExitCode
from orchestrator.formatting import format_fields, format_number
from orchestrator.sampling.candidates import resolve_candidate
from orchestrator.sampling.screening import Screening, screen
from orchestrator.study.prepare import prepare_study
from orchestrator.terminal import Terminal
from search_spaces.domains.suggester import RandomSuggester

_EMPTY = {"[]", "nothing"}


def show(config: StudyConfig, terminal: Terminal) -> ExitCode:
    """Opens everything that the search would open, and shows its first candidate."""
    check_resources(config)
    with terminal.waiting_for("the space and the data to be read"):
        parts = prepare_study(config)
    first = parts.space.default() or resolve_candidate(
        config, parts.space, RandomSuggester(config.seed)
    )
    screened = screen(first, parts.task, config.constraints)
    expected = quick_look(parts, terminal)
    warn(parts, terminal)
    decided = flatten(with_gpu_decided(config).model_dump(mode="json", exclude_none=True))
    terminal.document |= {
        "config": config.model_dump(mode="json"),
        "space": {"name": parts.space.name, "version": parts.space.version},
        "first": {
            "candidate": first.to_dict(),
            "describe": first.describe(),
            "cost": dict(screened.cost),
            "violations": dict(screened.violations),
        },
    }
    terminal.print(
        format_fields({key: value for key, value in decided.items() if value not in _EMPTY})
    )
    terminal.print()
    cost = ", ".join(f"{name} {format_number(value)}" for name, value in screened.cost.items())
    terminal.print(
        format_fields(
            {
                "space": f"{parts.space.name} {parts.space.version}, {parts.space.describe_size()}",
                "first candidate": first.describe(),
                "its cost": cost or "known only to your own code",
                "forecast": expected or "not known",
                "fits": "yes" if screened.feasible else f"no: {_why(screened)}",
            }
        )
    )
    print_notes(parts, terminal)
    terminal.info("\nNothing was started or written.")
    return ExitCode.DONE


def _why(screened: Screening) -> str:
    """Why a candidate would not be trained."""
    if screened.failure is not None:
        return screened.failure.message
    over = [name for name, violation in screened.violations.items() if violation > 0]
    return f"over the limit of {', '.join(over)}"
