"""The Ray Tune engine: a study's attempts placed on a cluster, many at once, in warm processes.

Tune is memory-less here: one Tune trial is one attempt; it retries, restores and logs nothing. It
runs in a thread of its own, so that neither a signal nor the loss of the cluster waits for it.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config.resources import gpu_change
from orchestrator.engines.ray_tune.attempt import Watchdog
from orchestrator.engines.ray_tune.bridge import Bridge
from orchestrator.engines.ray_tune.cluster import Cluster
from orchestrator.engines.ray_tune.deadline import silent
from orchestrator.engines.ray_tune.launch import EngineLostError, store_bytes
from orchestrator.engines.ray_tune.liveness import Heartbeats
from orchestrator.engines.ray_tune.messages import JobMessage
from orchestrator.engines.ray_tune.node_checks import Nodes
from orchestrator.engines.ray_tune.session import Session
from search_spaces.user_code import UserCode
from workers.data import Dataset
from workers.job import AttemptKey, TrainingJob
from workers.storage import Storage

if TYPE_CHECKING:
    # Workers import this package too, and must not pay for the study's sampler and ledger.
    from orchestrator.study.driver import StudyDriver


SILENCE_S = 120.0
"""How long built-in training may go without progress, and any process without a heartbeat."""

PUT_S = 3600.0
"""How long the data set may take into the object store, which is a disk where memory is short."""

STOP_S = 8.0
"""How long Tune may take to end its processes once a run is dropped."""


UNWIND_S = 1.0
"""How long an abandoned run may take to notice; longer, and it is stuck in a call."""


class RayTuneEngine:
    """Runs studies on Ray; starts it on loopback at the first run, and ends it on `close`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        cpu: float = 1.0,
        gpu: float | None = 0.0,
        code: UserCode | None = None,
        checkpoints: Storage | None = None,
        silence_s: float | None = None,
        recycle_after: int = 250,
        recycle_growth_bytes: int = 1 << 30,
        trials_per_run: int = 400,
        ray_options: dict[str, Any] | None = None,
        tell: Callable[[str], None] = silent,
    ) -> None:
        """Nothing is started yet.

        Args:
            address: A running cluster to join; None starts one on this machine alone.
            cpu: CPU cores of one trial.
            gpu: GPUs of one trial; 0.25 places four on each, None is 1 if the cluster has any.
            code: The user's own Python, carried to the workers; None lets them read it from disk.
            checkpoints: Where those of all studies go, which every node must reach.
            silence_s: Seconds without progress after which any attempt is ended; None is
                `SILENCE_S` for built-in training and no limit for a user's own.
            recycle_after: Trials after which a worker's process is replaced.
            recycle_growth_bytes: Growth of a worker's memory after which it is replaced.
            trials_per_run: Attempts after which Tune is started afresh: it forgets none of its
                trials, so its memory grows with each.
            ray_options: Passed on to `ray.init` where a cluster is started.
            tell: Shows the user what is waited for.
        """
        self._address = address
        self._cpu = cpu
        self._wanted_gpu = gpu
        self._gpu = gpu or 0.0
        self._code = code
        self._checkpoints = checkpoints
        self._silence_s = silence_s
        self._wear = {"trials": recycle_after, "growth_bytes": recycle_growth_bytes}
        self._trials_per_run = trials_per_run
        self._options = ray_options or {}
        self._tell = tell
        self._session: Session | None = None
        self._lost = False
        self._threads: list[threading.Thread] = []

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Keep every slot of the cluster busy until the study has nothing left or is stopping.

        Raises:
            EngineLostError: The cluster is gone; every open attempt was given back.
            ResourcesTooLargeError: One trial asks for more than any node has.
            NodesUnfitError: Nodes cannot reach the checkpoints, or lack the GPU that they promise.
        """
        try:
            self._run(study, dataset)
        except EngineLostError:
            self._lost = True
            raise

    def close(self) -> None:
        """Leave Ray; a cluster of our own ends with all its processes once no engine uses it."""
        if self._session is not None:
            self._session.stuck |= any(thread.is_alive() for thread in self._threads)
            self._session.leave(lost=self._lost)
            self._session = None

    def _run(self, study: "StudyDriver", dataset: Dataset) -> None:
        self._session = self._session or self._enter(dataset)
        cluster = Cluster(self._session, cpu=self._cpu, gpu=self._wanted_gpu)
        cluster.require_slot()
        self._gpu = cluster.gpu
        if change := gpu_change(study.settle_gpu(cluster.gpu), cluster.gpu):
            self._tell(change)
        folder = Path(tempfile.mkdtemp(prefix="tune-", dir=cluster.scratch))
        nodes = self._nodes(study)
        try:
            nodes.require(cluster.nodes, self._tell)
            if self._address is not None:
                self._introduce(cluster)
            watch = Watchdog(
                silence_s=self._silence_s or SILENCE_S,
                user_silence_s=self._silence_s,
                stacks=folder / "stacks",
            )
            trainable = self._trainable(dataset, watch, cluster)
            while not (study.finished or study.stopping):
                bridge = self._bridge(study, (cluster, nodes), watch)
                signs = Heartbeats(cluster.signs, silence_s=watch.silence_s)
                tune_run = TuneRun(bridge, signs, trainable, folder)
                self._threads.append(tune_run.thread)
                try:
                    _await(tune_run.thread, bridge, cluster)
                finally:
                    tune_run.thread.join(UNWIND_S)
        finally:
            nodes.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _enter(self, dataset: Dataset) -> Session:
        arrays = dataset.to_arrays().values()
        data_bytes = sum(getattr(values, "nbytes", 0) for values in arrays)
        options = {"object_store_memory": store_bytes(data_bytes), **self._options}
        return Session.enter(self._address, options, self._tell)

    def _introduce(self, cluster: Cluster) -> None:
        """Tell the user what a cluster of theirs has, and how much of it others hold."""
        self._tell(cluster.describe())
        slots, free = cluster.slots(), cluster.free_slots()
        if free < slots:
            self._tell(f"the cluster is busy: {free} of {slots} places for trials are free now")

    def _nodes(self, study: "StudyDriver") -> Nodes:
        """What nodes must be able to do."""
        import ray  # noqa: PLC0415 - see the package's docstring

        ours = study.config.train is None and study.config.data.source != "surrogate"
        # On this machine alone, a folder is the same for all.
        shared = self._address is not None or bool(
            self._checkpoints and self._checkpoints.is_remote
        )
        return Nodes(
            ray,
            self._checkpoints if ours and shared else None,
            cuda=ours and self._gpu > 0,
            elsewhere=self._address is not None,
            code=self._code,
        )

    def _trainable(self, dataset: Dataset, watch: Watchdog, cluster: Cluster) -> Any:
        """The worker with its data set, put into the object store once."""
        from ray import tune  # noqa: PLC0415 - takes a second; nobody else pays it

        from orchestrator.engines.ray_tune.trainable import RecyclePolicy, Worker  # noqa: PLC0415

        worker = cluster.call(
            lambda: tune.with_parameters(
                Worker,
                arrays=dataset.to_arrays(),
                code=self._code,
                watch=watch,
                wear=RecyclePolicy(**self._wear),
            ),
            limit_s=PUT_S,
        )
        # Tune pickles this function with the worker's class: it must hold nothing of ours.
        return tune.with_resources(
            worker,
            lambda config: tune.PlacementGroupFactory(
                [dict(config["parcel"].resources)], **config["parcel"].placement
            ),
        )

    def _bridge(
        self, study: "StudyDriver", there: tuple[Cluster, Nodes], watch: Watchdog
    ) -> Bridge:
        cluster, nodes = there

        def slots() -> int:
            # From Tune's thread: a call to a lost cluster may never return.
            nodes.watch(cluster.nodes(), self._tell)
            return cluster.slots(nodes.accept)

        def has_place(running: Sequence[AttemptKey]) -> bool:
            # One may wait beyond the free places: it takes the warm process of one that ended.
            waiting = len(running) - len(cluster.signs(running))
            return waiting <= cluster.free_slots(nodes.accept)

        return Bridge(
            study,
            slots=slots,
            # Nobody else uses a cluster of our own.
            has_place=has_place if self._address is not None else lambda _: True,
            dress=lambda job: self._with_resources(job, cluster, nodes),
            watch=watch,
            at_most=self._trials_per_run,
        )

    def _with_resources(self, job: TrainingJob, cluster: Cluster, nodes: Nodes) -> JobMessage:
        """The job with what this engine grants it: never more than a node has, or than one GPU."""
        slots = min(job.shares, int(1 / self._gpu)) if self._gpu else job.shares
        cpu = max(self._cpu, min(slots * self._cpu, cluster.largest_cpu()))
        gpu = max(self._gpu, min(1.0, job.shares * self._gpu))
        granted = replace(
            job,
            threads=max(1, int(self._cpu)),
            device="cuda" if self._gpu > 0 else "cpu",
            gpu_share=min(1.0, gpu),
        )
        return JobMessage(
            job=granted,
            resources={"CPU": cpu, "GPU": gpu},
            slots=slots,
            placement=nodes.placement(),
        )


class TuneRun:
    """One run of Tune, in a thread."""

    def __init__(self, bridge: Bridge, signs: Heartbeats, trainable: Any, folder: Path) -> None:
        """Begin it."""
        self._bridge = bridge
        self._signs = signs
        self._trainable = trainable
        self._folder = folder
        self.thread = threading.Thread(target=self._run, name="ray-tune", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        from ray import tune  # noqa: PLC0415 - see the package's docstring

        from orchestrator.engines.ray_tune import scheduler as schedulers  # noqa: PLC0415
        from orchestrator.engines.ray_tune.searcher import StudySearcher  # noqa: PLC0415

        scheduler = schedulers.StudyScheduler(self._bridge, self._signs)
        try:
            tune.run(
                self._trainable,
                num_samples=-1,
                search_alg=StudySearcher(self._bridge),
                scheduler=scheduler,
                stop=schedulers.StudyStopper(self._bridge, scheduler),
                reuse_actors=True,
                storage_path=str(self._folder),
                verbose=0,
                raise_on_failed_trial=False,
                callbacks=[],
            )
        except schedulers.Abandoned:
            return
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            self._bridge.fail(error)


def _await(thread: threading.Thread, bridge: Bridge, cluster: Cluster) -> None:
    """Wait for a run's end, but neither for a lost cluster nor for one that will not stop."""
    stopping_since: float | None = None
    try:
        while thread.is_alive():
            thread.join(0.1)
            if not cluster.alive():
                raise cluster.lost()
            if bridge.over:
                stopping_since = stopping_since or time.monotonic()
                if time.monotonic() - stopping_since > STOP_S:
                    break
    finally:
        bridge.abandon()
    if bridge.error is not None:
        raise bridge.error
