"""The worker's process: a Tune actor that trains one attempt after another on one data set."""

import os
import resource
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from ray.tune import Trainable

from orchestrator.engines.ray_tune import liveness
from orchestrator.engines.ray_tune.attempt import TRAINING, AttemptRunner, Watchdog
from orchestrator.engines.ray_tune.messages import JobMessage
from search_spaces.user_code import UserCode
from workers.data import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclePolicy:
    """How long a worker's process is used."""

    trials: int
    """Trials after which it is replaced."""
    growth_bytes: int
    """Growth of its memory after which it is replaced."""


class Worker(Trainable):
    """Trains attempts; Tune calls `step` for each report and `reset_config` between attempts."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self,
        config: dict[str, Any],
        *,
        arrays: Mapping[str, Any],
        code: UserCode | None,
        watch: Watchdog,
        wear: RecyclePolicy,
    ) -> None:
        """Begin the first attempt; the data set is shared with every worker of the node."""
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
        self._carried = ExitStack()  # never left: it holds for as long as there is this process
        if code is not None:
            self._carried.enter_context(code.installed())
        # Arrays in Ray's object store are read-only, and nobody writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._dataset = Dataset.from_arrays(arrays)
        self._watch = watch
        self._wear = wear
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=TRAINING)
        self._trials = 0
        self._base_bytes: int | None = None
        self._begin(config["parcel"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the last attempt and begin the next in the same process."""
        self._attempt.close()
        self._base_bytes = self._base_bytes or _memory_bytes()
        self._begin(new_config["parcel"])
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next report."""
        report = self._attempt.advance()
        return {"report": replace(report, should_recycle=self._should_recycle())}

    def cleanup(self) -> None:
        """Leave the last attempt."""
        self._attempt.close()

    def _begin(self, parcel: JobMessage) -> None:
        self._trials += 1
        # Tune sends the configuration back with every result: let there be none.
        self.config = {}
        job = parcel.job
        self._attempt = AttemptRunner(
            job, self._start, self._watch, self._thread, sign=lambda: liveness.leave(job.key)
        )

    def _start(self, job: TrainingJob) -> Iterator[Measurement | Progress]:
        # Imported in the worker: the driver loads this module too, and torch takes a second.
        from workers.run_job import run_job  # noqa: PLC0415

        return iter(run_job(job, self._dataset))

    def _should_recycle(self) -> bool:
        grown = 0 if self._base_bytes is None else _memory_bytes() - self._base_bytes
        return self._trials >= self._wear.trials or grown > self._wear.growth_bytes


def _leave_with(node: int) -> None:
    """End this process once its node has.

    Where nobody reaps the dead node's process, Ray 2.60's workers were seen to train on, though
    their trials had been taken up elsewhere.
    """
    while os.getppid() == node:
        time.sleep(1.0)
    os._exit(1)


def _memory_bytes() -> int:
    """The largest this process has been."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
