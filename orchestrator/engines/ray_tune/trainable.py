"""The worker process: a Tune actor that trains one attempt after another on one data set."""

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
from orchestrator.engines.ray_tune.attempt import TRAINING_THREAD, AttemptRunner, Watchdog
from orchestrator.engines.ray_tune.messages import JobMessage
from search_spaces.user_code import UserCode
from workers.data import Dataset
from workers.job import TrainingJob
from workers.measurement import Measurement, Progress
from workers.run_job import run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclePolicy:
    """Limits after which a worker process is replaced."""

    trials: int
    """Number of trials."""
    growth_bytes: int
    """Growth of its memory, in bytes."""


class Worker(Trainable):
    """Trains attempts; Tune calls `step` for each report and `reset_config` between attempts."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self,
        config: dict[str, Any],
        *,
        arrays: Mapping[str, Any],
        code: UserCode | None,
        watch: Watchdog,
        recycle: RecyclePolicy,
    ) -> None:
        """Start the first attempt; all workers of the node share the data set."""
        threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
        self._code_stack = ExitStack()  # never closed: the code is needed until the process exits
        if code is not None:
            self._code_stack.enter_context(code.installed())
        # Arrays in Ray's object store are read-only, which is intended.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._dataset = Dataset.from_arrays(arrays)
        self._watch = watch
        self._recycle = recycle
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=TRAINING_THREAD)
        self._trials = 0
        self._base_bytes: int | None = None
        self._begin(config["message"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Close the last attempt and start the next one in the same process."""
        self._attempt.close()
        self._base_bytes = self._base_bytes or _memory_bytes()
        self._begin(new_config["message"])
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next report."""
        report = self._attempt.advance()
        return {"report": replace(report, should_recycle=self._should_recycle())}

    def cleanup(self) -> None:
        """Close the last attempt."""
        self._attempt.close()

    def _begin(self, message: JobMessage) -> None:
        self._trials += 1
        # Tune sends the configuration back with every result: leave it empty.
        self.config = {}
        job = message.job
        self._attempt = AttemptRunner(
            job, self._start, self._watch, self._thread, lambda: liveness.send(job.key)
        )

    def _start(self, job: TrainingJob) -> Iterator[Measurement | Progress]:
        return iter(run_job(job, self._dataset))

    def _should_recycle(self) -> bool:
        grown = 0 if self._base_bytes is None else _memory_bytes() - self._base_bytes
        return self._trials >= self._recycle.trials or grown > self._recycle.growth_bytes


def _exit_with(node: int) -> None:
    """Exit once the process of the node has exited.

    If the dead node's process is not reaped, workers of Ray 2.60 continue training, though their
    trials have been requeued.
    """
    while os.getppid() == node:
        time.sleep(1.0)
    os._exit(1)


def _memory_bytes() -> int:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
