"""Parts of a driver, made from the ledger at its start and after each change of its study."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.clock import Clock
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Lease, Ledger, StudyRow
from orchestrator.sampling.candidates import Space
from orchestrator.sampling.warm_start import StudyIdentity, load_warm_start
from orchestrator.study.agenda import Agenda
from orchestrator.study.attempts import Attempts
from orchestrator.study.confirming import Confirmer
from orchestrator.study.jobs import JobFactory
from orchestrator.study.limits import SearchLimits
from orchestrator.study.prepare import study_space
from orchestrator.study.state import StudyState
from search_spaces.task import Task
from workers.job import TeacherRef
from workers.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverContext:
    """What stays the same while a driver runs."""

    ledger: Ledger
    lease: Lease
    task: Task | None
    """Task that networks are built for; None counts no costs."""
    checkpoints: Storage
    """Storage of the study's checkpoints, with a folder for each trial uid."""
    logs: Path | None
    """Folder of the study's logs; None keeps none."""
    teacher: TeacherRef | None
    """Model that loss terms distil from; None without one."""
    confirm_only: bool
    """Confirm the trials that there are, and search no further."""
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyParts:
    """State, limits, attempts and agenda of one study, which belong together."""

    state: StudyState
    limits: SearchLimits
    attempts: Attempts
    agenda: Agenda


def make_parts(
    context: DriverContext,
    record: StudyRow,
    config: StudyConfig,
    space: Space,
    before: StudyParts | None = None,
) -> StudyParts:
    """Return the parts of a driver, as functions of the ledger.

    Args:
        context: What stays the same while the driver runs.
        record: The study's row now.
        config: The study's config now.
        space: The study's space now.
        before: Parts that these replace: their running attempts continue, and a driver that was
            stopped stays stopped.

    Raises:
        SeedPointError: A seed point does not fit the space.
        WarmStartError: An earlier study is missing, or its results are not comparable.
    """
    ledger, lease = context.ledger, context.lease
    state = _make_state(context, record, config, space)
    limits = SearchLimits(context.clock, spent_s=record.spent_s, hours=config.stop.hours)
    jobs = JobFactory(
        config, checkpoints=context.checkpoints, logs=context.logs, teacher=context.teacher
    )
    attempts = Attempts(ledger, lease, state, jobs, limits)
    if before is not None:
        limits.stay_stopped(before.limits)
        attempts.take_over(before.attempts, outdated=before.state.config.budget != config.budget)
    confirmer = Confirmer(config, ledger, lease, space.default_params() is not None)
    agenda = Agenda(state, attempts, limits, confirmer, confirm_only=context.confirm_only)
    return StudyParts(state=state, limits=limits, attempts=attempts, agenda=agenda)


def _make_state(
    context: DriverContext, record: StudyRow, config: StudyConfig, space: Space
) -> StudyState:
    return StudyState(
        config=config,
        space=space,
        task=context.task,
        trials=context.ledger.trials(record.id),
        checkpoints=context.checkpoints,
        clock=context.clock,
        warm_start=load_warm_start(context.ledger, config, StudyIdentity.from_row(record)),
    )


def after_change(
    context: DriverContext, before: StudyRow, now: StudyRow, config: StudyConfig, space: Space
) -> tuple[StudyConfig, Space]:
    """Return the config and the space of a running driver after a change of its study.

    Args:
        context: What stays the same while the driver runs.
        before: The study's row before the change.
        now: The study's row now.
        config: The driver's config before it.
        space: The driver's space before it.
    """
    config = _with_changes(config, before, now)
    same = before.space == now.space
    return config, space if same else study_space(config, context.task)


def _with_changes(config: StudyConfig, before: StudyRow, now: StudyRow) -> StudyConfig:
    """Return the config of a running driver with the changes that the ledger has recorded.

    What a start decides stays: paths of moved files, GPUs, the address of the cluster.

    Args:
        config: The driver's config.
        before: The study's row before the changes.
        now: The study's row now.
    """
    old, new = StudyConfig.from_json(before.config_json), StudyConfig.from_json(now.config_json)
    changed = config.with_changes(old, new)
    same = old.space_base == new.space_base
    return changed.with_space_base(config.space_base) if same else changed
