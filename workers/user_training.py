"""Training by the user's own generator: their loop, our measurements.

Knows nothing of what they train. The generator is called as `train(decisions, context)` and
yields a mapping of metrics after every epoch.
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
    """What a user's generator may want to know beside the decisions."""

    seed: int
    """The trial's seed."""
    epochs: int
    """Epochs up to the budget's maximum; stopped earlier by closing the generator."""
    device: str
    """Torch device type that the trial was placed on."""
    threads: int
    """CPU threads that it may use."""
    checkpoint_dir: str | None
    """A folder of the trial's own, kept between attempts: a path, or an fsspec URL where
    `ARCHSCOUT_CHECKPOINTS` is one; None where none is kept."""


def measure(job: TrainingJob) -> Iterator[Measurement]:
    """What the user's generator yields, as measurements, up to the budget's maximum.

    It starts anew with every attempt; whoever records drops epochs that were measured before.

    Raises:
        UserCodeError: Their file or generator raised, or yielded something else than metrics.
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
    """Load and call the user's function; the body of a generator runs only when asked."""
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
            # Theirs, loaded by the line above: one trial must not take all cores of its neighbours.
            sys.modules["torch"].set_num_threads(job.threads)
        epochs = train(decisions, context)
        if not isinstance(epochs, Iterator):
            _refuse(f"{job.train} must be a generator function, but returned {epochs!r}")
    except Exception as error:
        raise UserCodeError(f"{job.train} cannot be started: {error}") from error
    return epochs


def _checked(found: Any, epoch: int) -> dict[str, float]:
    if not isinstance(found, Mapping) or not found:
        _refuse(f"epoch {epoch}: a mapping of metrics is wanted, not {found!r}")
    metrics = {}
    for name, value in found.items():
        # Neither MLflow nor PostgreSQL takes others, and one would hide the whole study.
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            _refuse(f"epoch {epoch}: metric names are printable strings, not {name!r}")
        try:
            metrics[name] = float(value)
        except Exception:  # noqa: BLE001 - of their own type, or too large
            _refuse(f"epoch {epoch}: metric {name!r} must be a number, not {value!r}")
    return metrics


def _refuse(message: str) -> NoReturn:
    raise TypeError(message)
