"""Runs of Tune with the worker of a study."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator.engines.ray_tune.attempt import Watchdog
from orchestrator.engines.ray_tune.bridge import Bridge
from orchestrator.engines.ray_tune.cluster import Cluster
from orchestrator.engines.ray_tune.liveness import Heartbeats
from orchestrator.engines.ray_tune.scheduler import (
    RunAbandonedError,
    StudyScheduler,
    StudyStopper,
)
from orchestrator.engines.ray_tune.searcher import StudySearcher
from orchestrator.engines.ray_tune.trainable import RecyclePolicy, Worker
from search_spaces.user_code import UserCode
from workers.data import Dataset

PUT_TIMEOUT_S = 3600.0
"""Time limit for the data set into the object store, which spills to disk if memory is short."""


def trainable(
    cluster: Cluster,
    dataset: Dataset,
    *,
    code: UserCode | None,
    watch: Watchdog,
    recycle: Mapping[str, int],
) -> Any:
    """Return the worker with its data set, which is put into the object store once.

    Args:
        cluster: Cluster to run on.
        dataset: Data of all attempts.
        code: The user's own Python; None lets workers read it from disk.
        watch: Limits of an attempt without progress.
        recycle: Arguments of `RecyclePolicy`.
    """
    worker = cluster.call(
        lambda: tune.with_parameters(
            Worker,
            arrays=dataset.to_arrays(),
            code=code,
            watch=watch,
            recycle=RecyclePolicy(**recycle),
        ),
        timeout_s=PUT_TIMEOUT_S,
    )
    # Tune pickles this function with the worker's class: it must not refer to our modules.
    return tune.with_resources(
        worker,
        lambda config: tune.PlacementGroupFactory(
            [dict(config["message"].resources)], **config["message"].placement
        ),
    )


class TuneRun:
    """One run of Tune, in a thread."""

    def __init__(
        self, bridge: Bridge, heartbeats: Heartbeats, trainable: Any, folder: Path
    ) -> None:
        """Start the thread."""
        self._bridge = bridge
        self._heartbeats = heartbeats
        self._trainable = trainable
        self._folder = folder
        self.thread = threading.Thread(target=self._run, name="ray-tune", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        scheduler = StudyScheduler(self._bridge, self._heartbeats)
        try:
            tune.run(
                self._trainable,
                num_samples=-1,
                search_alg=StudySearcher(self._bridge),
                scheduler=scheduler,
                stop=StudyStopper(self._bridge, scheduler),
                reuse_actors=True,
                storage_path=str(self._folder),
                verbose=0,
                raise_on_failed_trial=False,
                callbacks=[],
            )
        except RunAbandonedError:
            return
        except Exception as error:  # noqa: BLE001 - raised in the waiting thread
            self._bridge.fail(error)
