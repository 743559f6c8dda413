"""The Ray Tune engine: runs attempts in parallel on a cluster, in reused processes.

One Tune trial is one attempt; Tune retries, restores and logs nothing. It runs in a thread of its
own, so that signals and the loss of the cluster are handled at once.
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
    # Workers import this package too, and need neither the sampler nor the ledger.
    from orchestrator.study.driver import StudyDriver


SILENCE_S = 120.0
"""Limit of built-in training without progress, and of any process without a heartbeat."""

STOP_TIMEOUT_S = 8.0
"""Time limit for Tune to end its processes once a run is dropped."""

UNWIND_TIMEOUT_S = 1.0
"""Time limit for an abandoned run to unwind; beyond it, the run is stuck in a call."""


class RayTuneEngine:
    """Runs studies on Ray, which is started on loopback at the first run and ended by `close`.

    Args:
        address: Address of a running cluster; None starts one on this machine.
        cpu: Number of CPU cores of one trial.
        gpu: Number of GPUs of one trial, such as 0.25; None is 1 if the cluster has any.
        code: The user's own Python, sent to the workers; None lets them read it from disk.
        checkpoints: Storage of all checkpoints, which every node must reach.
        silence_s: Seconds without progress after which any attempt is ended; None is
            `SILENCE_S` for built-in training and no limit for the user's own.
        recycle_after: Number of trials after which a worker's process is replaced.
        recycle_growth_bytes: Memory growth after which a worker's process is replaced.
        trials_per_run: Number of attempts after which Tune is restarted: it keeps all its
            trials, so its memory grows.
        ray_options: Arguments of `ray.init` for a cluster of our own.
        tell: Shows a message to the user.

    Examples:
        >>> engine = RayTuneEngine(cpu=2, gpu=0.5)
        >>> engine.run(study, dataset)  # doctest: +SKIP
    """

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
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._cpu = cpu
        self._wanted_gpu = gpu
        self._gpu = gpu or 0.0
        self._code = code
        self._checkpoints = checkpoints
        self._silence_s = silence_s
        self._recycle = {"trials": recycle_after, "growth_bytes": recycle_growth_bytes}
        self._trials_per_run = trials_per_run
        self._options = ray_options or {}
        self._tell = tell
        self._session: Session | None = None
        self._lost = False
        self._threads: list[threading.Thread] = []

    def run(self, study: "StudyDriver", dataset: Dataset) -> None:
        """Keep every slot of the cluster busy until the study is finished or stopping.

        Raises:
            EngineLostError: The cluster is lost; every running attempt was requeued.
            ResourcesTooLargeError: One trial requests more than any node has.
            NodesUnfitError: Nodes cannot reach the checkpoints, or torch finds no GPU there.
        """
        try:
            self._run(study, dataset)
        except EngineLostError:
            self._lost = True
            raise

    def close(self) -> None:
        """Disconnect from Ray; a cluster of our own ends once no engine uses it."""
        if self._session is not None:
            self._session.stuck |= any(thread.is_alive() for thread in self._threads)
            self._session.leave(lost=self._lost)
            self._session = None

    def _run(self, study: "StudyDriver", dataset: Dataset) -> None:
        self._session = self._session or self._enter(dataset)
        from orchestrator.engines.ray_tune import tune_run  # noqa: PLC0415 - ray reads the session's environment

        cluster = Cluster(self._session, cpu=self._cpu, gpu=self._wanted_gpu)
        cluster.require_slot()
        self._gpu = cluster.gpu
        if change := gpu_change(study.settle_gpu(cluster.gpu), cluster.gpu):
            self._tell(change)
        folder = Path(tempfile.mkdtemp(prefix="tune-", dir=cluster.scratch))
        nodes = self._nodes(study, self._session.ray)
        try:
            nodes.require(cluster.nodes, self._tell)
            if self._address is not None:
                self._describe(cluster)
            watch = Watchdog(
                silence_s=self._silence_s or SILENCE_S,
                user_silence_s=self._silence_s,
                stacks=folder / "stacks",
            )
            trainable = tune_run.trainable(
                cluster, dataset, code=self._code, watch=watch, recycle=self._recycle
            )
            while not (study.finished or study.stopping):
                bridge = self._bridge(study, (cluster, nodes), watch)
                heartbeats = Heartbeats(cluster.heartbeats, silence_s=watch.silence_s)
                thread = tune_run.TuneRun(bridge, heartbeats, trainable, folder).thread
                self._threads.append(thread)
                try:
                    _await(thread, bridge, cluster)
                finally:
                    thread.join(UNWIND_TIMEOUT_S)
        finally:
            nodes.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _enter(self, dataset: Dataset) -> Session:
        arrays = dataset.to_arrays().values()
        data_bytes = sum(getattr(values, "nbytes", 0) for values in arrays)
        options = {"object_store_memory": store_bytes(data_bytes), **self._options}
        return Session.enter(self._address, options, self._tell)

    def _describe(self, cluster: Cluster) -> None:
        """Show the resources of the user's cluster, and how many of them are free."""
        self._tell(cluster.describe())
        slots, free = cluster.slots(), cluster.free_slots()
        if free < slots:
            self._tell(f"the cluster is busy: {free} of {slots} slots for trials are free now")

    def _nodes(self, study: "StudyDriver", ray: Any) -> Nodes:
        """Return the checks of the nodes."""
        ours = study.config.train is None and study.config.data.source != "surrogate"
        # On one machine, all processes have the same folder.
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

    def _bridge(
        self, study: "StudyDriver", machines: tuple[Cluster, Nodes], watch: Watchdog
    ) -> Bridge:
        cluster, nodes = machines

        def slots() -> int:
            # Called in Tune's thread: a call to a lost cluster may never return.
            nodes.watch(cluster.nodes(), self._tell)
            return cluster.slots(nodes.accept)

        def has_room(running: Sequence[AttemptKey]) -> bool:
            # One may wait beyond the free slots: it takes the process of an ended attempt.
            waiting = len(running) - len(cluster.heartbeats(running))
            return waiting <= cluster.free_slots(nodes.accept)

        return Bridge(
            study,
            slots=slots,
            # A cluster of our own has no other users.
            has_room=has_room if self._address is not None else lambda _: True,
            with_resources=lambda job: self._with_resources(job, cluster, nodes),
            watch=watch,
            max_attempts=self._trials_per_run,
        )

    def _with_resources(self, job: TrainingJob, cluster: Cluster, nodes: Nodes) -> JobMessage:
        """Return the job with its resources: at most those of a node, and at most one GPU."""
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


def _await(thread: threading.Thread, bridge: Bridge, cluster: Cluster) -> None:
    """Wait for the end of a run, unless the cluster is lost or the run does not stop."""
    stopping_since: float | None = None
    try:
        while thread.is_alive():
            thread.join(0.1)
            if not cluster.alive():
                raise cluster.lost()
            if bridge.stopping:
                stopping_since = stopping_since or time.monotonic()
                if time.monotonic() - stopping_since > STOP_TIMEOUT_S:
                    break
    finally:
        bridge.abandon()
    if bridge.error is not None:
        raise bridge.error
