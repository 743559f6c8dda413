"""The Ray Tune engine: a study's attempts placed on a cluster, several at once, in warm processes.

Tune is memory-less here: one Tune trial is one attempt, nothing is retried, restored or logged by it.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.engines.ray_tune import cluster as ray_cluster
from orchestrator.engines.ray_tune.attempt import Watch
from orchestrator.engines.ray_tune.cluster import Cluster
from workers.data import Dataset
from workers.job import TrainingJob

if TYPE_CHECKING:
    # Workers import this package too, and must not pay for the study's sampler and ledger.
    from orchestrator.study import Study


class RayTuneEngine:
    """Runs studies on Ray; starts it on loopback at the first run, and ends it on `close`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        cpu: float = 1.0,
        gpu: float = 0.0,
        silence_s: float = 120.0,
        recycle_after: int = 100,
        recycle_growth_bytes: int = 1 << 30,
        trials_per_run: int = 400,
        ray_options: dict[str, Any] | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            address: A running cluster to join; None starts one on this machine alone.
            cpu: CPU cores of one trial.
            gpu: GPUs of one trial; 0.25 places four on each.
            silence_s: Seconds without sign of progress after which an attempt is ended.
            recycle_after: Trials after which a worker's process is replaced.
            recycle_growth_bytes: Growth of a worker's memory after which it is replaced.
            trials_per_run: Attempts after which Tune is started afresh: it forgets none of its
                trials, so its memory grows with each.
            ray_options: Passed on to `ray.init` where a cluster is started.
        """
        self._address = address
        self._cpu = cpu
        self._gpu = gpu
        self._silence_s = silence_s
        self._wear = {"trials": recycle_after, "growth_bytes": recycle_growth_bytes}
        self._trials_per_run = trials_per_run
        self._options = ray_options or {}

    def run(self, study: "Study", dataset: Dataset) -> None:
        """Keep every slot of the cluster busy until the study has nothing left or is stopping.

        Raises:
            EngineLost: The cluster is gone; every open attempt was given back.
            ResourcesTooLarge: One trial asks for more than any node has.
        """
        cluster = ray_cluster.connect(
            address=self._address, cpu=self._cpu, gpu=self._gpu, options=self._options
        )
        folder = Path(tempfile.mkdtemp(prefix="tune-", dir=cluster.scratch))
        try:
            watch = Watch(silence_s=self._silence_s, stacks=folder / "stacks")
            trainable = self._trainable(dataset, watch)
            while not (study.finished or study.stopping):
                self._run_once(study, cluster, trainable, watch, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Disconnect from Ray; a cluster of our own ends with all its processes."""
        ray_cluster.disconnect()

    def _trainable(self, dataset: Dataset, watch: Watch) -> Any:
        """The worker with its data set, put into the object store once."""
        from ray import tune  # noqa: PLC0415 - takes a second; nobody else pays it

        from orchestrator.engines.ray_tune.trainable import Wear, Worker  # noqa: PLC0415

        return tune.with_resources(
            tune.with_parameters(
                Worker, arrays=dataset.to_arrays(), watch=watch, wear=Wear(**self._wear)
            ),
            {"cpu": self._cpu, "gpu": self._gpu},
        )

    def _run_once(
        self, study: "Study", cluster: Cluster, trainable: Any, watch: Watch, folder: Path
    ) -> None:
        from ray import tune  # noqa: PLC0415

        from orchestrator.engines.ray_tune.bridge import Bridge  # noqa: PLC0415
        from orchestrator.engines.ray_tune.scheduler import (  # noqa: PLC0415
            StudyScheduler,
            StudyStopper,
        )
        from orchestrator.engines.ray_tune.searcher import StudySearcher  # noqa: PLC0415

        bridge = Bridge(
            study,
            slots=cluster.slots,
            dress=self._dress,
            watch=watch,
            at_most=self._trials_per_run,
        )
        scheduler = StudyScheduler(bridge)
        try:
            tune.run(
                trainable,
                num_samples=-1,
                search_alg=StudySearcher(bridge),
                scheduler=scheduler,
                stop=StudyStopper(bridge, scheduler, cluster),
                reuse_actors=True,
                storage_path=str(folder),
                verbose=0,
                raise_on_failed_trial=False,
                callbacks=[],
            )
        except Exception as error:
            bridge.fail(error if cluster.alive() else cluster.lost())
        finally:
            bridge.give_back()
        if bridge.error is not None:
            raise bridge.error

    def _dress(self, job: TrainingJob) -> TrainingJob:
        """The job with what this engine grants it."""
        return replace(
            job,
            threads=max(1, int(self._cpu)),
            device="cuda" if self._gpu > 0 else "cpu",
            gpu_share=min(1.0, self._gpu),
        )
