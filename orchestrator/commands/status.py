"""`archscout status` and `leaderboard`: show a study, one of its trials, or the best ones."""

import argparse
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.commands import studies
from orchestrator.commands.steer import request_log
from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plateau import plateau
from orchestrator.errors import CommandError, ExitCode, format_path
from orchestrator.formatting import format_duration, format_fields, format_number, format_table
from orchestrator.home import Home
from orchestrator.objective import best, parse_preference
from orchestrator.study.leaderboard import counts, leaderboard
from orchestrator.terminal import Terminal
from orchestrator.trial import PAUSED, Trial, known_numbers, summarize_failure

if TYPE_CHECKING:
    from orchestrator.ledger import AttemptRecord, Ledger, StudyRow

LOG_LINES = 60
"""Number of lines of a trial's log to print; `--json` contains all of them."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print the state of a study, or of one trial with its log."""
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        trials = ledger.trials(row.id)
        if options.trial is None:
            _show_study(ledger, row, trials, home, terminal)
            studies.show_transfer(ledger, row, terminal)
            _show_requests(ledger, row, trials, terminal)
            return ExitCode.DONE
        if options.trial >= len(trials):
            known = known_numbers(trials)
            message = f"study '{row.name}' has no trial {options.trial}. Trials: {known}."
            raise CommandError(message, ExitCode.INPUT)
        trial = trials[options.trial]
        parent = next((t.number for t in trials if t.uid == trial.parent), None)
        _show_trial(row.name, trial, ledger.attempts(trial.uid), home, terminal, parent=parent)
    return ExitCode.DONE


def show_leaderboard(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print the best trials of a study.

    Raises:
        CommandError: There is no such study.
        PreferenceError: The preference cannot be applied.
    """
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, options.name, home)
        config = studies.require_config(row)
        preferred = None
        if options.prefer is not None:
            preferred = parse_preference(options.prefer, config.objectives)
        board = leaderboard(config, row.state, ledger.trials(row.id), preferred, home.program)
        terminal.document |= board.to_dict(options.top)
        terminal.print(board.text(options.top))
        studies.show_transfer(ledger, row, terminal)
    return ExitCode.DONE


def _show_study(
    ledger: "Ledger", row: "StudyRow", trials: list[Trial], home: Home, terminal: Terminal
) -> None:
    config = studies.require_config(row)
    objectives = config.objectives
    winner, flat = best(trials, objectives), plateau(trials, objectives)
    program = None if row.state == "running" else home.program
    found = answer(row.name, trials, objectives, program=program)
    counted, stop = counts(trials), config.stop.model_dump(exclude_none=True)
    lines = {
        "study": row.name,
        "state": request_log.state_of(ledger, row),
        "space": row.space,
        "trials": ", ".join(f"{count} {name}" for name, count in counted.items()) or "none yet",
        "until": ", ".join(f"{name} {value:g}" for name, value in stop.items()),
        "time": format_duration(row.spent_s),
        "started": _when(row.created),
        "home": format_path(home.folder),
    }
    if winner and winner.values:
        pairs = zip(objectives, winner.values, strict=True)
        values = ", ".join(f"{o.metric} {format_number(v)}" for o, v in pairs)
        lines["answer"] = found.sentence
        lines |= {} if flat is None else {"plateau": flat}
        lines["best"] = f"{values} (trial {winner.number}, {winner.describe})"
    failed = [trial for trial in trials if trial.failure is not None]
    if failed:
        text = summarize_failure(failed[-1].failure or {})
        lines["last failure"] = f"trial {failed[-1].number}: {text}"
    terminal.document |= {
        "study": row.name,
        "state": row.state,
        "counts": counted,
        "spent_s": row.spent_s,
        "best": winner and {"trial": winner.number, "values": list(winner.values or ())},
        "answer": found.to_dict(),
        "plateau": flat,
        "config": config.model_dump(mode="json"),
    }
    terminal.print(format_fields(lines))


def _show_requests(
    ledger: "Ledger", row: "StudyRow", trials: list[Trial], terminal: Terminal
) -> None:
    requests = ledger.requests(row.id, only_open=False)
    terminal.document["requests"] = request_log.to_documents(requests)
    if shown := request_log.text(requests, trials):
        terminal.print(f"\n{shown}")


def _show_trial(
    study: str,
    trial: Trial,
    attempts: "list[AttemptRecord]",
    home: Home,
    terminal: Terminal,
    *,
    parent: int | None,
) -> None:
    path = home.logs / study / f"{trial.number}.log"
    log = path.read_text(errors="replace").splitlines() if path.is_file() else []
    terminal.document |= {"study": study, "trial": _as_json(trial), "log": log}
    terminal.print(format_fields(_trial_fields(study, trial, attempts, parent)))
    if trial.measurements:
        metrics = sorted({name for seen in trial.measurements for name in seen.metrics})
        rows = [
            [str(seen.fidelity), *(_cell(seen.metrics.get(name)) for name in metrics)]
            for seen in trial.measurements
        ]
        head = ["epoch", *metrics]
        terminal.print("\n" + format_table(head, rows, right=head))
    params = {name: _parameter(value) for name, value in trial.params.items()}
    terminal.print("\n" + format_fields(params or {"": ""}))
    if trial.failure is not None:
        terminal.print(f"\nfailed: {summarize_failure(trial.failure)}")
        if not log:
            terminal.print(str(trial.failure.get("traceback") or "").rstrip())
    if log:
        end = f", its last {LOG_LINES} of {len(log)} lines" if len(log) > LOG_LINES else ""
        terminal.print("\n".join([f"\nlog {format_path(path)}{end}:", *log[-LOG_LINES:]]))


def _trial_fields(
    study: str, trial: Trial, attempts: "list[AttemptRecord]", parent: int | None
) -> dict[str, str]:
    """Return state and origin of a trial, by name."""
    note = PAUSED if trial.paused else trial.reason
    lines = {
        "trial": f"{trial.number} of '{study}' ({trial.kind}, {trial.uid})",
        "state": f"{trial.state}{f' ({note})' if note else ''}",
        **({} if parent is None else {"parent": f"trial {parent}"}),
        "architecture": trial.describe,
        **({} if trial.space_version is None else {"space version": trial.space_version}),
        **{name: format_number(value) for name, value in trial.cost.items()},
        "seed": str(trial.seed),
        "attempts": ", ".join(f"{a.number} {a.outcome or 'running'}" for a in attempts) or "none",
    }
    over = {name: value for name, value in trial.violations.items() if value > 0}
    if over:
        lines["violated"] = ", ".join(f"{name} by {value:.0%}" for name, value in over.items())
    return lines


def _as_json(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "uid": trial.uid,
        "kind": trial.kind,
        "state": str(trial.state),
        "reason": PAUSED if trial.paused else trial.reason,
        "values": None if trial.values is None else list(trial.values),
        "cost": dict(trial.cost),
        "violations": dict(trial.violations),
        "space_version": trial.space_version,
        "params": dict(trial.params),
        "candidate": dict(trial.candidate),
        "failure": None if trial.failure is None else dict(trial.failure),
        "measurements": [
            {"epoch": seen.fidelity, "metrics": dict(seen.metrics), "elapsed_s": seen.elapsed_s}
            for seen in trial.measurements
        ],
    }


def _parameter(value: object) -> str:
    """Return a parameter's value without the rounding errors of a sampler's grid."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _cell(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
