"""Check a study, run it or show what would run, and print the result."""

from dataclasses import replace

from orchestrator.clock import Clock
from orchestrator.commands import hints, studies
from orchestrator.config.load import flatten
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
from orchestrator.formatting import format_duration, format_fields, format_number
from orchestrator.home import Home
from orchestrator.ledger import StudyConflictError
from orchestrator.preflight import diagnosis, report
from orchestrator.preflight.deadline import Deadline
from orchestrator.preflight.diagnosis import Diagnosis
from orchestrator.preflight.storage_check import require_checkpoints
from orchestrator.run import RunOutcome, run_study
from orchestrator.sampling.candidates import resolve_candidate
from orchestrator.sampling.screening import Screening, screen
from orchestrator.sampling.warm_start import (
    NO_WARM_START,
    StudyIdentity,
    WarmStart,
    WarmStartError,
    load_warm_start,
)
from orchestrator.study.leaderboard import leaderboard
from orchestrator.study.limits import exhausted_reason
from orchestrator.study.prepare import StudyInputs, prepare_study
from orchestrator.study.requests.pause import PAUSE
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import require_usable
from orchestrator.tracking.environment import prepare_process
from search_spaces.derivation import default_changes
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.space import SearchSpace
from search_spaces.task import Task
from workers.data.dataset import format_names
from workers.data.spec import NO_DATA

CHECK_S = 1.5
"""Time limit of the check before a search, once a feasible candidate was found."""
TIMEOUT_S = 9.0
"""Time limit of that check without a feasible candidate."""
CHECK = "the check of constraints, costs and training time"
INPUTS = "the space and the data"
_ENDED = {
    "finished": "Finished.",
    "hours": "Finished: the time limit is reached.",
    "target": "Finished: the target is reached.",
}
_EMPTY = {"[]", "nothing"}


def search(config: StudyConfig, home: Home, terminal: Terminal, *, resumed: bool) -> ExitCode:
    """Run a search and print its leaderboard.

    Raises:
        CommandError: The search stopped before its limits.
    """
    outcome = launch(config, home, terminal, resumed=resumed)
    board = leaderboard(config, outcome.state, outcome.trials, program=home.program)
    terminal.document |= board.to_dict()
    terminal.info()
    terminal.print(board.text(10))
    terminal.document["mlflow"] = {"complete": outcome.shown, "reason": outcome.not_shown}
    if outcome.code is not ExitCode.DONE:
        if outcome.not_shown:
            terminal.info(studies.incomplete_mlflow(config.name, home, outcome.not_shown))
        raise CommandError(unfinished(config, home, outcome), outcome.code)
    terminal.info(f"\n{_ENDED[outcome.reason or outcome.state]}")
    if not outcome.shown:
        terminal.info(studies.incomplete_mlflow(config.name, home, outcome.not_shown))
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, config.name, home)
        studies.show_transfer(ledger, row, terminal)
        terminal.info(hints.next_steps(ledger, row, home, board))
    return ExitCode.DONE


def launch(
    config: StudyConfig,
    home: Home,
    terminal: Terminal,
    *,
    resumed: bool,
    confirm_only: bool = False,
) -> RunOutcome:
    """Check a study's inputs, print a header, and run the study.

    Args:
        config: The study; its name may exist already with the same configuration.
        home: Stores of ledger, checkpoints and MLflow.
        terminal: Shows header, notes and progress.
        resumed: The study exists already; it is not forecast again.
        confirm_only: Confirm the trials that there are, and search no further.

    Raises:
        CommandError: The study exists with other inputs.
        ProblemsError: The search cannot work.
    """
    check_resources(config)
    require_checkpoints(home)
    require_usable(home.tracking_uri)
    with terminal.waiting_for(INPUTS):
        inputs = prepare_study(config)
    inputs = _with_teacher(inputs, home)
    warm_start = _load_warm_start(inputs, home)
    forecast = None if resumed else check(inputs, terminal)
    warn(inputs, terminal)
    terminal.info(header(inputs, home, resumed=resumed))
    print_notes(inputs, terminal)
    for name, text in (("warm start", warm_start.describe()), ("forecast", forecast)):
        if text:
            terminal.info(f"{name:<10} {sanitize(text, 500)}")
    try:
        return run_study(replace(inputs, confirm_only=confirm_only), home, terminal)
    except StudyConflictError as error:
        text = studies.describe_changes(config, error.differing, _names(home), home)
        raise CommandError(text, ExitCode.INPUT) from error


def dry_run(config: StudyConfig, terminal: Terminal) -> ExitCode:
    """Open all inputs of a search and print its config and first candidate.

    Raises:
        ProblemsError: The search cannot work.
    """
    check_resources(config)
    with terminal.waiting_for(INPUTS):
        inputs = prepare_study(config)
    space = inputs.space
    first = space.default() or resolve_candidate(config, space, RandomSuggester(config.seed))
    screened = screen(first, inputs.task, config.constraints)
    forecast = check(inputs, terminal)
    warn(inputs, terminal)
    decided = flatten(with_gpu_decided(config).model_dump(mode="json", exclude_none=True))
    terminal.document |= {
        "config": config.model_dump(mode="json"),
        "space": {"name": space.name, "version": space.version},
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
    cost = ", ".join(f"{name} {format_number(value)}" for name, value in screened.cost.items())
    fields = {
        "space": f"{space.name} {space.version}, {space.describe_size()}",
        "first candidate": first.describe(),
        "its cost": cost or "known only to your own code",
        "forecast": forecast or "not known",
        "feasible": "yes" if screened.feasible else f"no: {_infeasibility(screened)}",
    }
    terminal.print("\n" + format_fields(fields))
    print_notes(inputs, terminal)
    terminal.info("\nNothing was started or written.")
    return ExitCode.DONE


def _infeasibility(screened: Screening) -> str:
    """Return the reason for which a candidate would not be trained."""
    if screened.failure is not None:
        return screened.failure.message
    over = [name for name, violation in screened.violations.items() if violation > 0]
    return f"over the limit of {', '.join(over)}"


def check(inputs: StudyInputs, terminal: Terminal, clock: Clock | None = None) -> str | None:
    """Check a study on random candidates and forecast its end.

    Returns:
        The forecast in one line; None if the study cannot be forecast.

    Raises:
        ProblemsError: The search cannot work.
    """
    if not isinstance(inputs.space, SearchSpace) or inputs.task is None:
        return None
    with terminal.waiting_for(CHECK):
        found = diagnosis.quick_check(
            inputs,
            inputs.space,
            inputs.task,
            Deadline.after(CHECK_S, clock),
            extended=Deadline.after(TIMEOUT_S, clock),
        )
    refuse(inputs, found)
    return None if found.forecast is None else report.forecast_line(found)


def warn(inputs: StudyInputs, terminal: Terminal) -> None:
    """Warn of a sampler that will not learn within the study."""
    if warning := report.idle_sampler(inputs.config):
        terminal.error(f"{inputs.config.name}: {warning}")


def refuse(inputs: StudyInputs, found: Diagnosis) -> None:
    """Refuse a search that cannot work.

    Raises:
        ProblemsError: The diagnosis found a reason.
    """
    problems = report.refusals(found, len(inputs.dataset.train))
    if problems:
        raise ProblemsError(problems)


def _with_teacher(inputs: StudyInputs, home: Home) -> StudyInputs:
    """Return the inputs with the study's teacher, downloaded and verified.

    Raises:
        CommandError: There is no such model, its files changed since its promotion, or it does not
            fit the data.
    """
    if inputs.config.teacher is None:
        return inputs
    prepare_process()
    from orchestrator.promotion.teacher import fetch  # noqa: PLC0415 - loads mlflow, rarely needed

    with studies.open_ledger(home) as ledger:
        try:
            teacher = fetch(inputs.config.teacher, home, ledger)
            teacher.require_fit(inputs.dataset, inputs.code_digest)
        except PromotionRefusedError as error:
            raise CommandError(str(error), ExitCode.INPUT) from error
    return replace(inputs, teacher=teacher)


def _load_warm_start(inputs: StudyInputs, home: Home) -> WarmStart:
    """Return the results of the earlier studies.

    Raises:
        ProblemsError: One does not exist, or is not comparable.
    """
    if not inputs.config.warm_start:
        return NO_WARM_START
    identity = StudyIdentity(
        data_digest=inputs.dataset.digest,
        code_digest=inputs.code_digest,
        space=(inputs.space.name, inputs.space.version),
        teacher_sha256=inputs.teacher_sha256,
    )
    with studies.open_ledger(home) as ledger:
        try:
            return load_warm_start(ledger, inputs.config, identity)
        except WarmStartError as error:
            raise ProblemsError([Problem(inputs.config.name, text=str(error))]) from error


def print_notes(inputs: StudyInputs, terminal: Terminal) -> None:
    """Print what happened to the data and to the default of the space, and ignored files."""
    data = inputs.dataset
    notes = [*data.notes]
    if changes := default_changes(inputs.base_space, inputs.space):
        changed = (f"{name}: {old} -> {new}" for name, (old, new) in changes.items())
        notes.append(f"edits of the space change its default: {', '.join(changed)}")
    if data.skipped_files:
        notes.insert(
            0, f"{len(data.skipped_files)} files ignored: {format_names(data.skipped_files)}"
        )
    terminal.document["notes"] = notes
    for note in notes:
        terminal.info(f"note: {sanitize(note, 500)}")


def header(inputs: StudyInputs, home: Home, *, resumed: bool) -> str:
    """Return a summary of the study and of its stores."""
    config = with_gpu_decided(inputs.config)
    data, stop = inputs.dataset, config.stop
    limits = [
        f"{stop.trials} trials" if stop.trials else "",
        format_duration(stop.hours * 3600) if stop.hours else "",
        f"{config.objectives[0].metric} {stop.target:g}" if stop.target is not None else "",
    ]
    gpu = f", {config.resources.gpu:g} GPU" if config.resources.gpu else ""
    idle = idle_gpu(inputs.config)
    budget = config.budget
    return format_fields(
        {
            "study": f"{config.name}{' (resumed)' if resumed else ''}",
            "space": f"{inputs.space.name}{config.space_edits.describe()}, "
            f"{inputs.space.describe_size()}",
            "data": "read by your own training"
            if config.data.source == NO_DATA
            else f"{config.data.source}: {len(data.train):,} training and "
            f"{len(data.validation):,} validation examples, {describe_targets(data.task)}",
            "objective": ", ".join(f"{o.metric} ({o.direction})" for o in config.objectives),
            "trials": f"{budget.possible_rungs()[0]} to {budget.maximum} epochs each, "
            f"sampler {config.sampler.name}"
            f"{' (random proposals)' if report.idle_sampler(config) else ''}, "
            f"pruner {config.pruner.name}",
            "until": " or ".join(limit for limit in limits if limit),
            "engine": f"{config.engine.name}, {config.resources.cpu:g} CPU{gpu} per trial"
            + (", and 1 GPU if the cluster has any" if config.resources.gpu is None else "")
            + (f" ({idle})" if idle else ""),
            "home": format_path(home.folder),
        }
    )


def describe_targets(task: Task) -> str:
    """Return the number of classes and of regression targets in words."""
    plural = "s" if task.num_values > 1 else ""
    classes = f"{task.num_classes} classes" if task.num_classes else ""
    values = f"{task.num_values} regression target{plural}" if task.num_values else ""
    return " and ".join(filter(None, [classes, values]))


def unfinished(config: StudyConfig, home: Home, outcome: RunOutcome) -> str:
    """Return the reason why a search stopped early, and the command that continues it."""
    name = config.name
    resume = f"{home.program} resume {name}"
    if outcome.code is ExitCode.ABORTED:
        return _aborted(config, home, outcome, resume)
    if outcome.code is ExitCode.REFUSED:
        return f"study '{name}': {outcome.reason}; no result is lost"
    if outcome.reason == PAUSE:
        return f"study '{name}' was paused by `archscout pause`; resume it: {resume}"
    if outcome.reason != "signal":
        return f"study '{name}' stopped: {outcome.reason}\nThen resume it: {resume}"
    return f"study '{name}' was interrupted; resume it: {resume}"


def _aborted(config: StudyConfig, home: Home, outcome: RunOutcome, resume: str) -> str:
    name, trials = config.name, outcome.trials
    lines = [f"study '{name}' was aborted: {outcome.reason}"]
    failed = [trial for trial in trials if trial.failure is not None]
    if failed:
        status = f"{home.program} status {name} --trial {failed[-1].number}"
        lines.append(f"Show a failed trial: {status}")
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        names = [known.name for known in ledger.studies()]
    if exhausted_reason(config, row.spent_s, trials) is None:
        lines.append(f"After fixing the cause: {resume}")
    elif retries := hints.retry_commands(name, trials, home):  # `resume` alone would start nothing
        lines.append(f"After fixing the cause: {' or '.join(retries)}; then: {resume}")
    other = hints.search_command(config, names, home, warm=False)
    lines.append(f"With another config, or once your files have changed: {other}")
    return "\n".join(lines)


def _names(home: Home) -> list[str]:
    """Return the names of all studies."""
    with studies.open_ledger(home) as ledger:
        return [known.name for known in ledger.studies()] if ledger else []
