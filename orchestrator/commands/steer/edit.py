"""`archscout edit`: change the space, the constraints or the maximum budget of a study."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.argument_types import assignments
from orchestrator.commands import hints, run_search, studies
from orchestrator.commands.steer import requesting
from orchestrator.config.load import Override, changed_config, differences
from orchestrator.config.resources import with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, format_key, sanitize
from orchestrator.home import Home
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.study.limits import exhausted_reason
from orchestrator.study.moved_files import relocate
from orchestrator.study.prepare import StudyInputs, prepare_study
from orchestrator.study.requests.edit import EDIT, EDITABLE, differing_keys, obstacle
from orchestrator.study.requests.trial_classes import TrialClasses, classify
from orchestrator.study.requests.view import StudyView
from orchestrator.terminal import Terminal

_SHOWN = 8
"""Numbers of trials shown of each class."""
_LIMITS = ("stop.trials", "stop.hours")
_OTHER_KEYS = "a study's trials can be compared only if it stays; start another study"
_WORDS = {
    "valid": "stay as they are",
    "outside": "are outside the new space: kept, not proposed again",
    "infeasible": "become infeasible: not ranked, open ones end",
    "to_continue": "are complete below the new maximum: continued by the promotion rule",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEdit:
    """An edit of a study, and what becomes of its earlier trials."""

    differences: tuple[str, ...]
    """Lines such as `budget.maximum: 9 -> 27`; empty if the edit changes nothing."""
    trials: TrialClasses
    """Numbers of the earlier trials by class."""

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as plain data."""
        return {"differences": list(self.differences), "trials": self.trials.to_dict()}

    def text(self) -> str:
        """Return the edit as text."""
        lines = ["Changes:", *(f"  {line}" for line in self.differences), "Earlier trials:"]
        for name, numbers in self.trials.to_dict().items():
            if numbers:
                more = ", ..." if len(numbers) > _SHOWN else ""
                shown = ", ".join(map(str, numbers[:_SHOWN]))
                lines.append(f"  {len(numbers)} {_WORDS[name]} ({shown}{more})")
        return "\n".join(lines if len(lines) > len(self.differences) + 2 else [*lines, "  none"])


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Show what an edit changes, and request it.

    Raises:
        CommandError: There is no such study, or the edit is not possible.
        ProblemsError: A key cannot be read, or the config does not work.
    """
    overrides = Override.parse_all(assignments(options.set))
    edit(options.name, overrides, home, terminal, dry_run=options.dry_run)
    return ExitCode.DONE


def edit(
    name: str, overrides: Sequence[Override], home: Home, terminal: Terminal, *, dry_run: bool
) -> StudyEdit:
    """Change a study.

    Args:
        name: The study's name.
        overrides: New values of keys of its config.
        home: Home of the studies.
        terminal: Shows the differences, the classes of earlier trials and what comes next.
        dry_run: Change nothing.

    Raises:
        CommandError: There is no such study, or the edit is not possible.
        ProblemsError: The config does not work.
    """
    _require_editable(name, overrides, home)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        stored = studies.require_config(row)
        local = relocate(stored, ledger, row, home)
        config = changed_config(local, overrides)
        if (reason := obstacle(stored, config)) is not None:
            raise CommandError(f"study '{row.name}': {reason}", ExitCode.INPUT)
        inputs = _check(config, terminal)
        given = any(override.path[0] == "space" for override in overrides)
        _require_same_code(inputs, row, home, space_given=given)
        payload, found = _prepare(ledger, row, stored, (local, config), inputs)
        terminal.document |= {"study": row.name, **found.to_dict(), "dry_run": dry_run}
        if not found.differences:
            terminal.print(f"'{row.name}' is as requested; nothing to change.")
            return found
        terminal.print(found.text())
        if dry_run:
            terminal.info("\nNothing was changed.")
            return found
        reply = requesting.submit(ledger, row, EDIT, payload)
        terminal.document["answered"] = reply.answer is not None
        terminal.info(f"\n{_next(reply, ledger, row, home)}")
    return found


def _require_editable(name: str, overrides: Sequence[Override], home: Home) -> None:
    """Refuse keys that no edit changes, with the reason.

    Raises:
        CommandError: There is one.
    """
    for override in overrides:
        key = format_key(override.path)
        section = str(override.path[0])
        if key in EDITABLE or section in EDITABLE:
            continue
        fix = f"keys that can be edited: {', '.join(EDITABLE)}"
        if key in _LIMITS:
            option = key.removeprefix("stop.")
            fix = f"add to it: {home.program} extend {name} --{option} +N"
        elif section in StudyConfig.model_fields and section != "stop":
            fix = f"{_OTHER_KEYS}. Keys that can be edited: {', '.join(EDITABLE)}"
        raise CommandError(f"{override.option}: {sanitize(key)}: {fix}", ExitCode.INPUT)


def _check(config: StudyConfig, terminal: Terminal) -> StudyInputs:
    """Return the inputs of the new config, checked as for a new search.

    Raises:
        ProblemsError: The search cannot work.
    """
    with terminal.waiting_for(run_search.INPUTS):
        inputs = prepare_study(with_gpu_decided(config))
    run_search.check(inputs, terminal)
    return inputs


def _require_same_code(
    inputs: StudyInputs, row: StudyRow, home: Home, *, space_given: bool
) -> None:
    """Refuse changed Python files or data, unless the edit names the space.

    Raises:
        CommandError: They have changed.
    """
    if inputs.dataset.digest != row.data_digest:
        raise CommandError(
            f"study '{row.name}': the data have changed since it was started: its trials could "
            "not be compared with new ones. Restore them, or start another study",
            ExitCode.INPUT,
        )
    if inputs.code_digest != row.code_digest and not space_given:
        take_over = f"{home.program} edit {row.name} --set space={inputs.config.space_base}"
        raise CommandError(
            f"study '{row.name}': your own Python files have changed since it was started. "
            f"Restore them, or take them over: {take_over}",
            ExitCode.INPUT,
        )


def _prepare(
    ledger: Ledger,
    row: StudyRow,
    stored: StudyConfig,
    configs: tuple[StudyConfig, StudyConfig],
    inputs: StudyInputs,
) -> tuple[Mapping[str, Any], StudyEdit]:
    """Return the payload of the request, and what it changes."""
    local, config = configs
    if config.space_base == local.space_base:  # the study's files may have moved with its home
        config = config.with_space_base(stored.space_base)
    space, view = inputs.space, StudyView.read(ledger, row.name)
    changes = differing_keys(stored, config)
    payload = {
        "changes": changes,
        "space": [space.name, space.version],
        "code_digest": inputs.code_digest,
    }
    keys = tuple(key.partition(".")[0] for key in changes)
    lines = [line for line in differences(stored, config) if line.startswith(keys)] if keys else []
    for what, old, new in (
        (
            "version of the space",
            f"{row.space_name} {row.space_version}",
            f"{space.name} {space.version}",
        ),
        ("your own Python", row.code_digest, inputs.code_digest),
    ):
        if old != new:
            lines.append(f"{what}: {str(old)[:60]} -> {str(new)[:60]}")
    return payload, StudyEdit(differences=tuple(lines), trials=classify(view.trials, space, config))


def _next(reply: requesting.Reply, ledger: Ledger, row: StudyRow, home: Home) -> str:
    """Return who continues the study with the change."""
    if reply.answer is None:
        return requesting.still_open(row.name)
    if reply.running:
        return f"'{row.name}' is changed. It is running and continues with the change."
    row = ledger.study(row.name) or row
    config, trials = studies.require_config(row), ledger.trials(row.id)
    more = hints.extend_command(config, row.spent_s, trials, home)
    if exhausted_reason(config, row.spent_s, trials) is not None and more is not None:
        return f"'{row.name}' is changed. Give it more to search: {more}"
    return f"'{row.name}' is changed. Continue it: {home.program} resume {row.name}"
