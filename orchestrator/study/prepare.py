"""Load a study's inputs: its space, its data and the user's own Python, all read-only.

All errors in them are reported here, before the first side effect.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Problem, ProblemsError
from orchestrator.sampling.candidates import Space, resolve_candidate, user_space_error
from orchestrator.sampling.seed_points import SeedPointError, first_points
from orchestrator.study.objective_checks import check_objectives
from search_spaces import catalog
from search_spaces.catalog.task_fit import fit_to_task
from search_spaces.derivation import derive
from search_spaces.domains.edits import SpaceEditError
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.plugins import load_user_object
from search_spaces.space import DefineByRunSpace, SearchSpace
from search_spaces.task import Task
from search_spaces.user_code import UserCode
from workers.data import Dataset, load
from workers.data.spec import NO_DATA, SERVED_STREAMS, DataSpec

if TYPE_CHECKING:
    from orchestrator.promotion.teacher import RegisteredTeacher


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInputs:
    """Inputs of a study, loaded and checked."""

    config: StudyConfig
    space: Space
    """The study's space."""
    base_space: Space
    """The space before the config's edits; the same without edits."""
    dataset: Dataset
    code: UserCode | None
    """The user's own Python; None if the config names none."""
    teacher: "RegisteredTeacher | None" = None
    """Model that loss terms distil from; None without one."""
    confirm_only: bool = False
    """True to confirm the trials that there are, and search no further."""

    @property
    def code_digest(self) -> str | None:
        """SHA-256 over the user's own Python."""
        return None if self.code is None else self.code.digest

    @property
    def teacher_sha256(self) -> str | None:
        """First 16 digits of the SHA-256 of the teacher's manifest; None without a teacher."""
        return None if self.teacher is None else self.teacher.manifest_sha256[:16]

    @property
    def task(self) -> Task | None:
        """Task that networks are built for; None where the user's own code trains."""
        return None if self.config.train is not None else self.dataset.task

    @property
    def metadata(self) -> dict[str, Any]:
        """Data that the ledger records with the study and never compares."""
        return {
            "task": None if self.task is None else self.task.to_dict(),
            "git_revision": _git_revision(self.config),
        }


def prepare_study(config: StudyConfig) -> StudyInputs:
    """Load a config's space and data, and check the user's own files.

    Args:
        config: The study's config.

    Raises:
        ProblemsError: The inputs do not fit together.
        UserFileError: A user's file does not run, or lacks the named object.
        DataError: The data cannot be trained on.
    """
    space = open_space(config)
    if config.train is not None:
        _check_train(config)
    elif isinstance(space, DefineByRunSpace):
        text = "a define-by-run space does not define training; add train: file.py:name"
        raise ProblemsError([Problem(config.name, text=text, path=("space",))])
    dataset = open_data(config)
    base = _fitted(config, space, dataset.task)
    space = _derived(config, base)
    check_space(config, space)
    check_objectives(config, space, dataset.task, dataset.value_names)
    return StudyInputs(
        config=config,
        space=space,
        base_space=base,
        dataset=dataset,
        code=user_code(config),
    )


def open_data(config: StudyConfig) -> Dataset:
    """Return the data of a study; where it names none, a small constant data set.

    Raises:
        DataError: The data cannot be trained on.
    """
    if config.data.source == NO_DATA:
        return replace(load(DataSpec(source="surrogate")), digest=NO_DATA)
    return load(config.data)


def user_code(config: StudyConfig) -> UserCode | None:
    """The user's own Python, as it is now; None where the config names none.

    Raises:
        UserFileError: It cannot be read.
    """
    references = [each for each in (config.space_base, config.train) if user_object(each)]
    return UserCode.read(map(str, references)) if references else None


def _fitted(config: StudyConfig, space: Space, task: Task) -> Space:
    """Return a ready space for the study's task; a user's own is already.

    Raises:
        ProblemsError: It reads what the data does not give.
    """
    if user_object(config.space_base) is not None or not isinstance(space, SearchSpace):
        return space
    fitted = fit_to_task(space, task)
    _check_streams(config, fitted, task)
    return fitted


def _check_streams(config: StudyConfig, space: SearchSpace, task: Task) -> None:
    """Refuse a ready space that reads what the data does not give.

    Raises:
        ProblemsError: It does.
    """
    source, read = config.data.source, {*space.default().architecture.streams}
    missing = sorted(read - {*task.inputs})
    if not missing:
        return
    text = (
        f"'{config.space_base}' reads {' and '.join(sorted(read))}, data source '{source}' gives "
        f"{' and '.join(sorted(task.inputs))}. "
    )
    unserved = [stream for stream in missing if stream not in SERVED_STREAMS]
    if unserved:
        text += f"No data source gives {' or '.join(unserved)} yet: search it with a define-by-run "
        text += "space and your own training (space and train: file.py:name)"
    else:
        text += "Choose a space or data of the other kind"
    raise ProblemsError([Problem(config.name, text=text, path=("space",))])


def _derived(config: StudyConfig, base: Space) -> Space:
    """Return the space with the config's edits.

    Raises:
        ProblemsError: An edit does not fit the space, or the user's own space raised an exception.
    """
    try:
        return derive(base, config.space_edits)
    except SpaceEditError as error:
        raise ProblemsError(
            Problem(config.name, text=found.text, path=("space", found.section, found.pattern))
            for found in error.problems
        ) from error
    except Exception as error:  # the user's own function may raise anything
        if not isinstance(base, DefineByRunSpace):
            raise
        text = str(user_space_error(error))
        raise ProblemsError([Problem(config.name, text=text, path=("space",))]) from error


def check_space(config: StudyConfig, space: Space) -> None:
    """Refuse a space that raises, and seed points that it does not contain.

    Raises:
        ProblemsError: It does.
    """
    resolve_candidate(config, space, RandomSuggester(config.seed))
    if not config.seed_points:
        return
    try:
        first_points(space, config.seed_points, config.seed)
    except SeedPointError as error:
        raise ProblemsError([Problem(config.name, text=str(error))]) from error


def study_space(config: StudyConfig, task: Task | None) -> Space:
    """Return the space of a study, with its edits.

    Args:
        config: The study's config.
        task: Task of its networks; None where the user's own code trains.

    Raises:
        ProblemsError: The user's object is no space, or an edit does not fit it.
        UserFileError: The user's file does not run, or lacks the name.
    """
    space = open_space(config)
    return _derived(config, space if task is None else _fitted(config, space, task))


def open_space(config: StudyConfig) -> Space:
    """The space that the config names, without its edits.

    Raises:
        ProblemsError: The user's object is no space.
        UserFileError: The user's file does not run, or lacks the name.
    """
    if user_object(config.space_base) is None:
        return catalog.load(config.space_base)
    found = load_user_object(config.space_base, Path.cwd())
    if isinstance(found.value, SearchSpace | DefineByRunSpace):
        return found.value
    if callable(found.value):
        function = cast("Callable[[object], dict[str, object] | None]", found.value)
        return DefineByRunSpace(name=found.name, version=found.sha256[:12], function=function)
    text = f"'{found.name}' is neither a SearchSpace nor a function of a trial"
    raise ProblemsError([Problem(config.name, text=text, path=("space",))])


def _check_train(config: StudyConfig) -> None:
    """Refuses a training file that does not run, or whose function is not there."""
    found = load_user_object(config.train or "", Path.cwd())
    if not callable(found.value):
        text = f"'{found.name}' is no function; it must yield metrics an epoch"
        raise ProblemsError([Problem(config.name, text=text, path=("train",))])


def _git_revision(config: StudyConfig) -> str | None:
    """The commit of the user's own Python; None where there is none, or no git around it."""
    own = [found for found in map(user_object, (config.train, config.space_base)) if found]
    if not own:
        return None
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(Path(own[0][0]).parent), "rev-parse", "HEAD"],  # noqa: S607  # The user's own git is the one wanted.
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
