"""Training by the user's own generator.

It is called as `train(decisions, context)` and yields a mapping of metrics after every epoch.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from search_spaces.plugins import as_script, load_user_object
from workers.failures import UserCodeError
from workers.job import TrainingJob
from workers.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class UserContext:
    """Context of a user's generator, in addition to the decisions.

    Examples:
        >>> def train(decisions, context):
        ...     for epoch in range(context.epochs):
        ...         yield {"val_accuracy": 0.5}
    """

    seed: int
    """Random seed of the trial."""
    epochs: int
    """Maximum number of epochs; the generator is closed if the trial stops earlier."""
    device: str
    """Torch device type that the trial was placed on."""
    threads: int
    """Number of CPU threads that it may use."""
    checkpoint_dir: str | None
    """Folder of the trial, kept between attempts: a path, or an fsspec URL where
    `ARCHSCOUT_CHECKPOINTS` is one; None if none is kept."""


def measure(job: TrainingJob) -> Iterator[Measurement]:
    """Run the user's generator and yield its metrics as measurements, up to the budget's maximum.

    Every attempt starts from the first epoch; the driver drops epochs that were measured before.

    Raises:
        UserCodeError: The user's file or generator raised, or yielded something else than metrics.
    """
    started = time.monotonic()
    file = str(job.train).rpartition(":")[0]
    with as_script(file):
        epochs = _start(job)
    try:
        for epoch in range(1, job.budget.maximum + 1):
            try:
                with as_script(file):
                    found = next(epochs, None)
                if found is None:
                    return
                metrics = _checked(found, epoch)
            except Exception as error:
                raise UserCodeError(f"the user's train generator failed: {error}") from error
            yield Measurement(fidelity=epoch, metrics=metrics, elapsed_s=time.monotonic() - started)
    finally:
        if hasattr(epochs, "close"):
            epochs.close()


def _start(job: TrainingJob) -> Iterator[Any]:
    """Load and call the user's function; its body runs at the first `next`."""
    context = UserContext(
        seed=job.seed,
        epochs=job.budget.maximum,
        device=job.device,
        threads=job.threads,
        checkpoint_dir=job.checkpoint_dir,
    )
    decisions = dict(job.candidate.get("decisions", job.candidate))
    try:
        train: Callable[[Mapping[str, Any], UserContext], Any]
        train = load_user_object(str(job.train), Path.cwd()).value
        if "torch" in sys.modules:
            # Loaded by the user's file: one trial must not use all cores.
            sys.modules["torch"].set_num_threads(job.threads)
        epochs = train(decisions, context)
        if not isinstance(epochs, Iterator):
            _refuse(f"{job.train} must be a generator function, but returned {epochs!r}")
    except Exception as error:
        raise UserCodeError(f"{job.train} cannot be started: {error}") from error
    return epochs


def _checked(found: Any, epoch: int) -> dict[str, float]:
    if not isinstance(found, Mapping) or not found:
        _refuse(f"epoch {epoch}: expected a mapping of metrics, not {found!r}")
    metrics = {}
    for name, value in found.items():
        # MLflow and PostgreSQL refuse other names, and one would block the study's projection.
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            _refuse(f"epoch {epoch}: metric names must be printable strings, not {name!r}")
        try:
            metrics[name] = float(value)
        except Exception:  # noqa: BLE001 - a type of the user, or too large
            _refuse(f"epoch {epoch}: metric {name!r} must be a number, not {value!r}")
    return metrics


def _refuse(message: str) -> NoReturn:
    raise TypeError(message)
