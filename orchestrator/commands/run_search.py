"""Runs a search under the eyes of its user: what is searched, how it goes, what it found."""

from dataclasses import replace

from orchestrator.commands import hints, studies
from orchestrator.commands.preflight import quick_look, warn
from orchestrator.config.resources import check_resources, idle_gpu, with_gpu_decided
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import (
    CommandError,
    ExitCode,
    Problem,
    ProblemsError,
    PromotionRefusedError,
    format_path,
    sanitize,
)
from orchestrator.formatting import format_duration, format_fields
from orchestrator.home import Home
from orchestrator.preflight.report import idle_sampler
from orchestrator.preflight.storage_check import require_checkpoints
from orchestrator.run import RunOutcome, run_study
from orchestrator.study.leaderboard import leaderboard
from orchestrator.study.prepare import StudyInputs, prepare_study
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_usable
from orchestrator.tracking.environment import prepare_process
from search_spaces.task import Task
from workers.data.dataset import format_names
from workers.data.spec import NO_DATA

_ENDED = {
    "finished": "Finished.",
    "hours": "Finished: its time is used up.",
    "target": "Finished: the target is reached.",
}


def search(config: StudyConfig, home: Home, terminal: Terminal, *, resumed: bool) -> ExitCode:
    """Run a search and show its leaderboard.

    Raises:
        CommandError: The search stopped before its limits.
    """
    outcome = launch(config, home, terminal, resumed=resumed)
    board = leaderboard(config, outcome.state, outcome.trials)
    terminal.document |= board.to_dict()
    terminal.info()
    terminal.print(board.text(10))
    terminal.document["mlflow"] = {"complete": outcome.shown, "reason": outcome.not_shown}
    if outcome.code is not ExitCode.DONE:
        if outcome.not_shown:
            terminal.info(_not_shown(config.name, home, outcome.not_shown))
        raise CommandError(unfinished(config, home, outcome), outcome.code)
    terminal.info(f"\n{_ENDED[outcome.reason or outcome.state]}")
    if not outcome.shown:
        terminal.info(_not_shown(config.name, home, outcome.not_shown))
    with studies.open_ledger(home) as opened:
        terminal.info(hints.next_steps(*studies.find_study(opened, config.name, home), home, board))
    return ExitCode.DONE


def launch(config: StudyConfig, home: Home, terminal: Terminal, *, resumed: bool) -> RunOutcome:
    """Check a study's inputs, print what is about to be searched, and run it.

    Args:
        config: The study; its name may exist already with the same configuration.
        home: Stores of ledger, checkpoints and MLflow.
        terminal: Shows header, notes and progress.
        resumed: Whether the study exists; its forecast is left out then.

    Raises:
        CommandError: The study exists with other inputs.
        ProblemsError: The search cannot work.
    """
    from orchestrator.ledger import StudyConflictError  # noqa: PLC0415 - not for --dry-run

    check_resources(config)
    require_checkpoints(home)
    require_usable(home.tracking_uri)
    with terminal.waiting_for("the space and the data to be read"):
        parts = prepare_study(config)
    parts = _with_teacher(parts, home)
    _check_earlier(parts, home)
    expected = None if resumed else quick_look(parts, terminal)
    warn(parts, terminal)
    terminal.info(header(parts, home, resumed=resumed))
    print_notes(parts, terminal)
    if expected is not None:
        terminal.info(f"forecast   {expected}")
    try:
        return run_study(parts, home, terminal)
    except StudyConflictError as error:
        text = studies.describe_changes(config, error.differing, _names(home), home)
        raise CommandError(text, ExitCode.INPUT) from error


def _not_shown(name: str, home: Home, reason: str) -> str:
    """What MLflow lacks of a finished study, and the command that shows it."""
    sync = f"{home.program} sync {name}"
    if not reason:
        return f"MLflow does not show all of it yet. Show the rest: {sync}"
    return f"MLflow does not show all of it yet: {reason}\nAfter mending: {sync}"


def _with_teacher(parts: StudyInputs, home: Home) -> StudyInputs:
    """The parts with the teacher that the study names, fetched and proved.

    Raises:
        CommandError: There is no such model, it is not what was promoted, or it cannot teach this.
    """
    if parts.config.teacher is None:
        return parts
    prepare_process()
    from orchestrator.promotion.teacher import fetch  # noqa: PLC0415 - loads mlflow

    with studies.open_ledger(home) as ledger:
        try:
            teacher = fetch(parts.config.teacher, home, ledger)
            teacher.require_fit(parts.dataset, parts.code_digest)
        except PromotionRefusedError as error:
            raise CommandError(str(error), ExitCode.INPUT) from error
    return replace(parts, teacher=teacher)


def _check_earlier(parts: StudyInputs, home: Home) -> None:
    """Refuses earlier studies that a new one cannot start from.

    Raises:
        ProblemsError: One does not exist, or its results do not hold here.
    """
    if not parts.config.warm_start:
        return
    from orchestrator.sampling.warm_start import StudyIdentity, WarmStartError, load_warm_start  # noqa: PLC0415

    basis = StudyIdentity(
        data_digest=parts.dataset.digest,
        code_digest=parts.code_digest,
        space=(parts.space.name, parts.space.version),
        teacher_sha256=parts.teacher_sha256,
    )
    with studies.open_ledger(home) as ledger:
        try:
            load_warm_start(ledger, parts.config, basis)
        except WarmStartError as error:
            raise ProblemsError([Problem(parts.config.name, text=str(error))]) from error


def print_notes(parts: StudyInputs, terminal: Terminal) -> None:
    """What of the data is left aside, and what happened to it while it was read."""
    data = parts.dataset
    notes = [*data.notes]
    if data.skipped_files:
        notes.insert(
            0, f"{len(data.skipped_files)} files left aside: {format_names(data.skipped_files)}"
        )
    terminal.document["notes"] = notes
    for note in notes:
        terminal.info(f"note: {sanitize(note, 500)}")


def header(parts: StudyInputs, home: Home, *, resumed: bool) -> str:
    """What is about to be searched, and where."""
    config = with_gpu_decided(parts.config)
    data, stop = parts.dataset, config.stop
    limits = [
        f"{stop.trials} trials" if stop.trials else "",
        format_duration(stop.hours * 3600) if stop.hours else "",
        f"{config.objectives[0].metric} {stop.target:g}" if stop.target is not None else "",
    ]
    gpu = f", {config.resources.gpu:g} GPU" if config.resources.gpu else ""
    idle = idle_gpu(parts.config)
    budget = config.budget
    return format_fields(
        {
            "study": f"{config.name}{' (goes on)' if resumed else ''}",
            "space": f"{parts.space.name}, {parts.space.describe_size()}",
            "data": "read by your own training"
            if config.data.source == NO_DATA
            else f"{config.data.source}: {len(data.train):,} training and "
            f"{len(data.validation):,} validation examples, {describe_targets(data.task)}",
            "objective": ", ".join(f"{o.metric} ({o.direction})" for o in config.objectives),
            "trials": f"{budget.minimum} to {budget.maximum} epochs each, "
            f"{config.sampler.name} proposes{' by chance' if idle_sampler(config) else ''}, "
            f"pruner {config.pruner.name}",
            "until": " or ".join(limit for limit in limits if limit),
            "engine": f"{config.engine.name}, {config.resources.cpu:g} CPU{gpu} a trial"
            + (", and 1 GPU where the cluster has any" if config.resources.gpu is None else "")
            + (f" ({idle})" if idle else ""),
            "kept in": format_path(home.folder),
        }
    )


def describe_targets(task: Task) -> str:
    """What there is to tell of each example, in words."""
    numbers = f"{task.num_values} number{'s' if task.num_values > 1 else ''} to foretell"
    parts = [f"{task.num_classes} classes" if task.num_classes else ""]
    return " and ".join(filter(None, [*parts, numbers if task.num_values else ""]))


def _names(home: Home) -> list[str]:
    """Names of all studies."""
    with studies.open_ledger(home) as ledger:
        return [known.name for known in ledger.studies()] if ledger else []


def unfinished(config: StudyConfig, home: Home, outcome: RunOutcome) -> str:
    """Return why the search ended before its end, and what helps."""
    name = config.name
    resume = f"{home.program} resume {name}"
    if outcome.code is ExitCode.ABORTED:
        return _broken_off(config, home, outcome, resume)
    if outcome.code is ExitCode.REFUSED:
        return f"study '{name}': {outcome.reason}; nothing of it is lost"
    if outcome.reason != "signal":
        return f"study '{name}' stopped: {outcome.reason}\nThen continue with: {resume}"
    return f"study '{name}' was interrupted; continue with: {resume}"


def _broken_off(config: StudyConfig, home: Home, outcome: RunOutcome, resume: str) -> str:
    """Return the same of a study that was broken off."""
    name, trials = config.name, outcome.trials
    lines = [f"study '{name}' was broken off: {outcome.reason}"]
    failed = [trial for trial in trials if trial.failure is not None]
    if failed:
        look = f"{home.program} status {name} --trial {failed[-1].number}"
        lines.append(f"Look at one: {look}")
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        names = [known.name for known in ledger.studies()]
    if hints.exhausted_reason(config, row.spent_s, trials) is None:
        lines.append(f"After mending: {resume}")
    elif again := hints.retry_commands(name, trials, home):  # a resume alone would start nothing
        lines.append(f"After mending: {' or '.join(again)}; then: {resume}")
    other = hints.search_command(config, names, home, warm=False)
    lines.append(f"With another config, or once your files have changed: {other}")
    return "\n".join(lines)
