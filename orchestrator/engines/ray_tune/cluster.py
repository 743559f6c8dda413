"""A Ray cluster as the engine uses it: number of slots, and availability."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.config.resources import LEAVE_OPEN
from orchestrator.engines.ray_tune.launch import CALL_TIMEOUT_S, EngineLostError, is_listening
from orchestrator.engines.ray_tune.liveness import read
from orchestrator.engines.ray_tune.session import Session
from orchestrator.timeouts import NoAnswerError, call_with_timeout
from search_spaces.errors import ArchscoutError, ExitCode
from workers.job import AttemptKey

T = TypeVar("T")
Fits = Callable[[dict[str, Any]], bool]
"""Returns True if a node, as Ray describes it, may train trials."""

POLL_INTERVAL_S = 2.0
"""Seconds between two checks of the nodes, and of the head."""


class ResourcesTooLargeError(ArchscoutError, ValueError):
    """One trial requests more than any node of the cluster has."""

    exit_code = ExitCode.INPUT


class Cluster:
    """A running Ray cluster that this process is connected to."""

    def __init__(self, session: Session, *, cpu: float, gpu: float | None) -> None:
        self._ray = session.ray
        self._session = session
        self._cpu = cpu
        self._checked = float("-inf")
        self._nodes: list[dict[str, Any]] = []
        self._answered = self._tried = time.monotonic()
        self._total = self.call(self._ray.cluster_resources)
        self.gpu = float(self._total.get("GPU", 0) > 0) if gpu is None else gpu
        """Number of GPUs of a trial; by default 1 if the cluster has any."""

    @property
    def scratch(self) -> Path:
        """Private folder of this process, removed at the end of the session."""
        return self._session.scratch

    def call(self, function: Callable[[], T], *, timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Return the result of a function that calls Ray.

        Raises:
            EngineLostError: It has not returned in time.
        """
        try:
            return call_with_timeout(function, timeout_s=timeout_s)
        except NoAnswerError as error:
            self._session.stuck = True
            raise self.lost() from error

    def nodes(self) -> list[dict[str, Any]]:
        """Return the present nodes that can run trials, as Ray describes them."""
        now = time.monotonic()
        if now - self._checked > POLL_INTERVAL_S and is_listening(self._session.head):
            self._checked = now
            alive = [node for node in self.call(self._ray.nodes) if node["Alive"]]
            self._nodes = [node for node in alive if self._slots_of(node)]
        return self._nodes

    def slots(self, fit: Fits = lambda _: True) -> int:
        """Return how many trials the accepted nodes can run at once."""
        return sum(map(self._slots_of, filter(fit, self.nodes())))

    def free_slots(self, fit: Fits = lambda _: True) -> int:
        """Return how many trials could be placed now, in addition to what runs there."""
        free = self.call(self._ray._private.state.available_resources_per_node)  # noqa: SLF001
        names = [node["NodeID"] for node in self.nodes() if fit(node)]
        return sum(self._slots_in(free.get(name, {})) for name in names)

    def heartbeats(self, running: Sequence[AttemptKey]) -> Mapping[AttemptKey, bytes]:
        """Return the last heartbeats of attempts; empty if the head does not answer.

        A call to a lost head ignores its own timeout, and would block Tune's thread.
        """
        return read(running) if is_listening(self._session.head) else {}

    def describe(self) -> str:
        """Return the resources of the cluster and of a trial as text."""
        cpus, gpus = self._total.get("CPU", 0), self._total.get("GPU", 0)
        idle = "; the GPUs stay idle, as resources.gpu is 0" if gpus and not self.gpu else ""
        return (
            f"cluster    {len(self.nodes())} nodes for trials, {cpus:g} CPUs and {gpus:g} GPUs in "
            f"all: {self.slots()} trials at a time, {self._cpu:g} CPU and {self.gpu:g} GPU each"
            f"{idle}"
        )

    def largest_cpu(self) -> float:
        """Return the largest number of CPU cores of a node that can run trials."""
        return max((node["Resources"].get("CPU", 0.0) for node in self.nodes()), default=0.0)

    def require_slot(self) -> None:
        """Require that at least one trial fits.

        Raises:
            ResourcesTooLargeError: None does.
        """
        if self.slots() == 0:
            raise ResourcesTooLargeError(
                f"resources: a trial requests cpu {self._cpu:g} and gpu {self.gpu:g}, and no node "
                f"has as much. The cluster has cpu {self._total.get('CPU', 0):g} and gpu "
                f"{self._total.get('GPU', 0):g} in all. Where nodes start on demand, start one "
                "first: archscout uses the present nodes, and those that join later"
                + (f". {LEAVE_OPEN}" if self.gpu else "")
            )

    def _slots_of(self, node: dict[str, Any]) -> int:
        return self._slots_in(node["Resources"])

    def _slots_in(self, resources: dict[str, float]) -> int:
        return slots_of(resources, cpu=self._cpu, gpu=self.gpu)

    def alive(self) -> bool:
        """Return True if Ray's head and our own node have answered in the last seconds."""
        now = time.monotonic()
        if now - self._tried > POLL_INTERVAL_S / 4:
            self._tried = now
            if self._session.is_alive():
                self._answered = now
        return now - self._answered < POLL_INTERVAL_S

    def lost(self) -> EngineLostError:
        """Return the error to raise for a lost cluster."""
        return EngineLostError(
            f"the Ray cluster at {self._session.head} no longer answers. All measurements are "
            "kept: `archscout resume` continues from there"
        )


def slots_of(node: dict[str, float], *, cpu: float, gpu: float) -> int:
    """Return how many trials one node can run; a fraction of a GPU never spans two GPUs."""
    fits = []
    if cpu > 0:
        fits.append(_times(node.get("CPU", 0.0), cpu))
    if gpu > 0:
        gpus = int(node.get("GPU", 0.0))
        fits.append(gpus * _times(1.0, gpu) if gpu < 1 else _times(gpus, gpu))
    return min(fits, default=1)


def _times(total: float, share: float) -> int:
    """Return how often a share fits, tolerating the rounding error of 0.1 * 3."""
    return int(total / share + 1e-9)
