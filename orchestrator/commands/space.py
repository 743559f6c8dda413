"""`archscout space`: what a search space holds, and whether a study on it can work."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.config.load import load
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ExitCode
from orchestrator.formatting import format_fields, format_number, format_table
from orchestrator.home import Home
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.candidates import Space, resolve_candidate
from orchestrator.sampling.screening import Screening, screen
from orchestrator.study.prepare import StudyInputs, prepare_study
from orchestrator.terminal import Terminal
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import (
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    RandomSuggester,
)
from search_spaces.space import SearchSpace

_PROBES = 200
"""Candidates drawn to meet the space's decisions; rarer branches may stay unseen."""
BOX_S = 8.5
"""Time for the whole answer but Python's own start and the last step under way."""
_UNKNOWN = (
    "What a define-by-run space holds is known only by running it, and what its networks cost, or\n"
    "how long they train, only to your own code: neither share that builds, nor constraints, nor\n"
    "a forecast can be told."
)


def run(options: argparse.Namespace, _home: Home, terminal: Terminal) -> ExitCode:
    """Shows a space's decisions, sampled candidates, and what the doctor finds, within seconds.

    Raises:
        ProblemsError: A search of the study could not work.
    """
    box = Deadline.after(BOX_S - (time.monotonic() - terminal.started))
    config = load(options.config)
    with terminal.waiting_for("the space and the data to be read"):
        parts = prepare_study(config)
    _show_decisions(parts, terminal)
    from orchestrator.commands import preflight  # noqa: PLC0415 - loads torch, in the box

    preflight.warn(parts, terminal)
    if not isinstance(parts.space, SearchSpace) or parts.task is None:
        _show_undiagnosed(parts, options.samples, terminal)
        return ExitCode.DONE
    from orchestrator.preflight import diagnosis, report  # noqa: PLC0415 - loads torch

    with terminal.waiting_for(preflight.LOOK):
        found = diagnosis.full_check(parts, parts.space, parts.task, box, at_least=options.samples)
    examples = len(parts.dataset.train)
    shown = found.counted[: options.samples]
    met = [met.limits[0] for met in found.limits]
    _show_samples([p.candidate for p in shown], [p.screening(met) for p in shown], terminal)
    terminal.document["health"] = report.document(found, examples)
    terminal.print("\n" + report.text(found, examples))
    preflight.refuse(parts, found)
    return ExitCode.DONE


def _show_decisions(parts: StudyInputs, terminal: Terminal) -> None:
    """What the space is, and each of its decisions."""
    decisions = met_decisions(parts.config, parts.space)
    terminal.document |= {
        "space": {"name": parts.space.name, "version": parts.space.version},
        "size": parts.space.describe_size(),
        "decisions": decisions,
    }
    terminal.print(
        format_fields(
            {
                "space": f"{parts.space.name} {parts.space.version}",
                "size": parts.space.describe_size(),
                "decisions": f"{len(decisions)} met in {_PROBES} random candidates",
            }
        )
    )
    terminal.print("\n" + format_fields(decisions))


def _show_undiagnosed(parts: StudyInputs, count: int, terminal: Terminal) -> None:
    """Samples of what only the user's own code understands, and that nothing is known of it."""
    candidates = [
        resolve_candidate(parts.config, parts.space, RandomSuggester(parts.config.seed + index))
        for index in range(count)
    ]
    _show_samples(candidates, [screen(candidate, None, ()) for candidate in candidates], terminal)
    terminal.document["health"] = None
    terminal.print(f"\n{_UNKNOWN}")


def _show_samples(
    candidates: Sequence[Candidate | Decisions],
    screened: Sequence[Screening],
    terminal: Terminal,
) -> None:
    terminal.document["samples"] = [
        _as_json(c, s) for c, s in zip(candidates, screened, strict=True)
    ]
    terminal.print("\n" + _samples(candidates, screened))


def met_decisions(config: StudyConfig, space: Space) -> dict[str, str]:
    """Return each decision's range by path, in the order in which random candidates ask for it."""
    ranges: dict[str, str] = {}
    for seed in range(_PROBES):
        suggester = RandomSuggester(seed)
        resolve_candidate(config, space, suggester)
        for name, question in suggester.questions.items():
            ranges.setdefault(name, _range(question))
    return ranges


def _range(question: Question) -> str:
    match question:
        case ChoiceQuestion(choices):
            return " | ".join(map(str, choices))
        case IntQuestion(low, high, step, log):
            return f"{low} to {high}" + _spacing(log, None if step == 1 else step)
        case FloatQuestion(low, high, step, log):
            return f"{low:g} to {high:g}" + _spacing(log, step)


def _spacing(log: bool, step: float | None) -> str:
    return " log" if log else f" in steps of {step:g}" if step else ""


def _samples(candidates: Sequence[Candidate | Decisions], screened: Sequence[Screening]) -> str:
    """Candidates with their cost, one a line."""
    costs = list(dict.fromkeys(name for found in screened for name in found.cost))
    rows = [
        [
            candidate.describe(),
            *(format_number(found.cost[name]) if name in found.cost else "" for name in costs),
            "yes" if found.feasible else "no",
        ]
        for candidate, found in zip(candidates, screened, strict=True)
    ]
    return format_table(["sample", *costs, "fits"], rows, right=costs)


def _as_json(candidate: Candidate | Decisions, found: Screening) -> dict[str, Any]:
    return {
        "candidate": candidate.to_dict(),
        "describe": candidate.describe(),
        "cost": dict(found.cost),
        "violations": dict(found.violations),
    }
