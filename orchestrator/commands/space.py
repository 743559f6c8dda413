"""`archscout space`: what a search space holds, with a few candidates drawn from it."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.commands.searching import size
from orchestrator.config import StudyConfig
from orchestrator.config_file import load
from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.home import Home
from orchestrator.opening import Space, drawn, open_parts
from orchestrator.screening import Screened, screen
from orchestrator.terminal import Terminal, number, pairs, table
from search_spaces.candidate import Candidate, Decisions
from search_spaces.constraints import Constraint
from search_spaces.suggester import RandomSuggester, Suggester

_PROBES = 200
"""Candidates drawn to meet the space's decisions; rarer branches may stay unseen."""


def run(options: argparse.Namespace, _home: Home, terminal: Terminal) -> ExitCode:
    """Shows a space's decisions and sampled candidates with their cost.

    Raises:
        CommandError: A sampled candidate does not build.
    """
    config = load(options.config)
    parts = open_parts(config)
    limits = [Constraint(metric=c.metric, at_most=c.at_most) for c in config.constraints]
    candidates = [
        drawn(config, parts.space, RandomSuggester(config.seed + index))
        for index in range(options.samples)
    ]
    screened = [screen(candidate, parts.task, limits) for candidate in candidates]
    decisions = met_decisions(config, parts.space)
    terminal.answer |= {
        "space": {"name": parts.space.name, "version": parts.space.version},
        "size": size(parts.space),
        "decisions": decisions,
        "samples": [_as_json(c, s) for c, s in zip(candidates, screened, strict=True)],
    }
    terminal.tell(
        pairs(
            {
                "space": f"{parts.space.name} {parts.space.version}",
                "size": size(parts.space),
                "decisions": f"{len(decisions)} met in {_PROBES} random candidates",
            }
        )
    )
    terminal.tell("\n" + pairs(decisions))
    terminal.tell("\n" + _samples(candidates, screened))
    broken = [found.failure.message for found in screened if found.failure]
    if broken:
        raise CommandError(
            f"{len(broken)} of {len(candidates)} candidates do not build: {broken[0]}",
            ExitCode.INPUT,
        )
    return ExitCode.DONE


def met_decisions(config: StudyConfig, space: Space) -> dict[str, str]:
    """Each decision's range by path, in the order in which they are met."""
    met = _Listening(RandomSuggester(0))
    for seed in range(_PROBES):
        met.inner = RandomSuggester(seed)
        drawn(config, space, met)
    return met.ranges


@dataclass(slots=True)
class _Listening:
    """A suggester that remembers what it was asked."""

    inner: Suggester
    ranges: dict[str, str] = field(default_factory=dict)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        more = " log" if log else f" in steps of {step}" if step != 1 else ""
        self.ranges.setdefault(name, f"{low} to {high}{more}")
        return self.inner.suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        more = " log" if log else f" in steps of {step:g}" if step else ""
        self.ranges.setdefault(name, f"{low:g} to {high:g}{more}")
        return self.inner.suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.ranges.setdefault(name, " | ".join(map(str, choices)))
        return self.inner.suggest_categorical(name, choices)


def _samples(candidates: Sequence[Candidate | Decisions], screened: Sequence[Screened]) -> str:
    """Candidates with their cost, one a line."""
    costs = list(dict.fromkeys(name for found in screened for name in found.cost))
    rows = [
        [
            candidate.describe(),
            *(number(found.cost[name]) if name in found.cost else "" for name in costs),
            "yes" if found.feasible else "no",
        ]
        for candidate, found in zip(candidates, screened, strict=True)
    ]
    return table(["sample", *costs, "fits"], rows, right=costs)


def _as_json(candidate: Candidate | Decisions, found: Screened) -> dict[str, Any]:
    return {
        "candidate": candidate.to_dict(),
        "describe": candidate.describe(),
        "cost": dict(found.cost),
        "violations": dict(found.violations),
    }
