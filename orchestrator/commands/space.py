"""`archscout space`: show a search space and check whether a study on it can work."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.commands import run_search
from orchestrator.config.load import load, locating_edits
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ExitCode, format_value
from orchestrator.formatting import format_fields, format_number, format_table
from orchestrator.home import Home
from orchestrator.preflight import diagnosis, report
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.candidates import Space, resolve_candidate
from orchestrator.sampling.screening import Screening, screen
from orchestrator.study.prepare import StudyInputs, prepare_study
from orchestrator.terminal import Terminal
from search_spaces.candidate import Candidate, Decisions
from search_spaces.derivation import default_changes
from search_spaces.domains.suggester import (
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    RandomSuggester,
)
from search_spaces.space import SearchSpace

_SAMPLES = 200
"""Random candidates that show the space's decisions; rare branches may be missed."""
TIMEOUT_S = 8.5
"""Time limit of the command, without the interpreter's start and the last step."""
_UNKNOWN = (
    "A define-by-run space is known only by running it, and only your own code knows the cost\n"
    "and the training time of its networks: there is no check of constraints and no forecast."
)


def run(options: argparse.Namespace, _home: Home, terminal: Terminal) -> ExitCode:
    """Show a space's decisions, sampled candidates, and the full preflight check.

    Raises:
        ProblemsError: A search of the study could not work.
    """
    deadline = Deadline.after(TIMEOUT_S - (time.monotonic() - terminal.started))
    config = load(options.config)
    with terminal.waiting_for(run_search.INPUTS), locating_edits(options.config):
        inputs = prepare_study(config)
    _show_decisions(inputs, terminal)
    run_search.warn(inputs, terminal)
    if not isinstance(inputs.space, SearchSpace) or inputs.task is None:
        _show_unchecked(inputs, options.samples, terminal)
        return ExitCode.DONE
    with terminal.waiting_for(run_search.CHECK):
        found = diagnosis.full_check(
            inputs, inputs.space, inputs.task, deadline, at_least=options.samples
        )
    examples = len(inputs.dataset.train)
    shown = found.counted[: options.samples]
    constraints = [met.limits[0] for met in found.limits]
    _show_samples(
        [sample.candidate for sample in shown],
        [sample.screening(constraints) for sample in shown],
        terminal,
    )
    terminal.document["health"] = report.document(found, examples)
    terminal.print("\n" + report.text(found, examples))
    run_search.refuse(inputs, found)
    return ExitCode.DONE


def _show_decisions(inputs: StudyInputs, terminal: Terminal) -> None:
    """Print the size of the space and the range of each decision."""
    space = inputs.space
    decisions = sampled_decisions(inputs.config, space)
    terminal.document |= {
        "space": {"name": space.name, "version": space.version},
        "size": space.describe_size(),
        "decisions": decisions,
    }
    fields = {
        "space": f"{space.name} {space.version}",
        "size": space.describe_size(),
        "decisions": f"{len(decisions)} in {_SAMPLES} random candidates",
    }
    if inputs.config.space_edits:
        fields |= _edits(inputs, terminal)
    terminal.print(format_fields(fields))
    terminal.print("\n" + format_fields(decisions))


def _edits(inputs: StudyInputs, terminal: Terminal) -> dict[str, str]:
    """Return the base of the space, its edits, and what becomes of the default, as fields."""
    base, config = inputs.base_space, inputs.config
    count = len(sampled_decisions(config, base))
    changes = default_changes(base, inputs.space)
    terminal.document |= {
        "base": {
            "name": base.name,
            "version": base.version,
            "size": base.describe_size(),
            "decisions": count,
        },
        "edits": config.model_dump(mode="json")["space"],
        "default_changes": {name: [*values] for name, values in changes.items()},
    }
    fields = {"base": f"version {base.version}, {base.describe_size()}, {count} decisions"}
    for edit in config.space_edits:
        fields[f"{edit.section} {edit.pattern}"] = ", ".join(map(format_value, edit.values))
    for name, (before, after) in changes.items():
        fields[f"default {name}"] = f"{before} -> {after}"
    return fields


def _show_unchecked(inputs: StudyInputs, count: int, terminal: Terminal) -> None:
    """Print samples of a space whose networks only the user's own code can build."""
    config, space = inputs.config, inputs.space
    candidates = [
        resolve_candidate(config, space, RandomSuggester(config.seed + index))
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
        _as_json(candidate, screening)
        for candidate, screening in zip(candidates, screened, strict=True)
    ]
    terminal.print("\n" + _samples(candidates, screened))


def sampled_decisions(config: StudyConfig, space: Space) -> dict[str, str]:
    """Return each decision's range by path, in the order in which random candidates ask for it."""
    ranges: dict[str, str] = {}
    for seed in range(_SAMPLES):
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
    """Return a table of candidates with their costs."""
    costs = list(dict.fromkeys(name for found in screened for name in found.cost))
    rows = [
        [
            candidate.describe(),
            *(format_number(found.cost[name]) if name in found.cost else "" for name in costs),
            "yes" if found.feasible else "no",
        ]
        for candidate, found in zip(candidates, screened, strict=True)
    ]
    return format_table(["sample", *costs, "feasible"], rows, right=costs)


def _as_json(candidate: Candidate | Decisions, found: Screening) -> dict[str, Any]:
    return {
        "candidate": candidate.to_dict(),
        "describe": candidate.describe(),
        "cost": dict(found.cost),
        "violations": dict(found.violations),
    }
