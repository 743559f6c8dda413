"""A Ray cluster as the engine sees it: how much it holds, and whether it lives."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.config.resources import LEAVE_OPEN
from orchestrator.engines.ray_tune.deadline import CALL_S, NoAnswerError, answers, call
from orchestrator.engines.ray_tune.launch import EngineLostError
from orchestrator.engines.ray_tune.liveness import read
from orchestrator.engines.ray_tune.session import Session
from search_spaces.errors import ArchscoutError, ExitCode
from workers.job import AttemptKey

T = TypeVar("T")
Fits = Callable[[dict[str, Any]], bool]
"""Whether a node, as Ray describes it, may train trials."""

POLL_INTERVAL_S = 2.0
"""How often the cluster is asked what it holds, and whether it is there."""


class ResourcesTooLargeError(ArchscoutError, ValueError):
    """One trial asks for more than any node of the cluster has."""

    exit_code = ExitCode.INPUT


class Cluster:
    """A running Ray that this process is connected to."""

    def __init__(self, session: Session, *, cpu: float, gpu: float | None) -> None:
        import ray  # noqa: PLC0415

        self._ray: Any = ray
        self._session = session
        self._cpu = cpu
        self._looked = float("-inf")
        self._nodes: list[dict[str, Any]] = []
        self._answered = self._tried = time.monotonic()
        self._total = self.call(ray.cluster_resources)
        self.gpu = float(self._total.get("GPU", 0) > 0) if gpu is None else gpu
        """GPUs of a trial; where nothing was said, 1 if the cluster has any."""

    @property
    def scratch(self) -> Path:
        """A folder of this process's own, removed at the session's end."""
        return self._session.scratch

    def call(self, function: Callable[[], T], *, limit_s: float = CALL_S) -> T:
        """Return what a function returns that calls Ray.

        Raises:
            EngineLostError: It has not returned in time.
        """
        try:
            return call(function, limit_s=limit_s)
        except NoAnswerError as error:
            self._session.stuck = True
            raise self.lost() from error

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are there now and hold trials, as Ray describes them."""
        now = time.monotonic()
        if now - self._looked > POLL_INTERVAL_S and answers(self._session.head):
            self._looked = now
            alive = [node for node in self.call(self._ray.nodes) if node["Alive"]]
            self._nodes = [node for node in alive if self._slots_of(node)]
        return self._nodes

    def slots(self, fit: Fits = lambda _: True) -> int:
        """Return how many trials the nodes that are fit for them hold at once."""
        return sum(map(self._slots_of, filter(fit, self.nodes())))

    def free_slots(self, fit: Fits = lambda _: True) -> int:
        """Return how many trials could be placed now, beside whatever runs there."""
        free = self.call(self._ray._private.state.available_resources_per_node)  # noqa: SLF001
        names = [node["NodeID"] for node in self.nodes() if fit(node)]
        return sum(self._slots_in(free.get(name, {})) for name in names)

    def signs(self, running: Sequence[AttemptKey]) -> Mapping[AttemptKey, bytes]:
        """Return the last signs of life of attempts; none where the head does not answer.

        A call to a lost head does not return at its own timeout, and Tune's thread must not stay
        in it.
        """
        return read(running) if answers(self._session.head) else {}

    def describe(self) -> str:
        """Return what the cluster has and what a trial gets of it, in words."""
        cpus, gpus = self._total.get("CPU", 0), self._total.get("GPU", 0)
        idle = "; the GPUs stay idle, as resources.gpu is 0" if gpus and not self.gpu else ""
        return (
            f"cluster    {len(self.nodes())} nodes for trials, {cpus:g} CPUs and {gpus:g} GPUs in "
            f"all: {self.slots()} trials at a time, {self._cpu:g} CPU and {self.gpu:g} GPU each"
            f"{idle}"
        )

    def largest_cpu(self) -> float:
        """The most CPU cores of a node that holds trials."""
        return max((node["Resources"].get("CPU", 0.0) for node in self.nodes()), default=0.0)

    def require_slot(self) -> None:
        """Check that at least one trial fits.

        Raises:
            ResourcesTooLargeError: None does.
        """
        if self.slots() == 0:
            raise ResourcesTooLargeError(
                f"resources: a trial asks for cpu {self._cpu:g} and gpu {self.gpu:g}, and no node "
                f"has as much. The cluster has cpu {self._total.get('CPU', 0):g} and gpu "
                f"{self._total.get('GPU', 0):g} in all. Where nodes start on demand, start one "
                "first: archscout uses nodes that are there, and those that join later"
                + (f". {LEAVE_OPEN}" if self.gpu else "")
            )

    def _slots_of(self, node: dict[str, Any]) -> int:
        return self._slots_in(node["Resources"])

    def _slots_in(self, resources: dict[str, float]) -> int:
        return slots_of(resources, cpu=self._cpu, gpu=self.gpu)

    def alive(self) -> bool:
        """Whether Ray's head and our own node have answered in the last seconds."""
        now = time.monotonic()
        if now - self._tried > POLL_INTERVAL_S / 4:
            self._tried = now
            if self._session.answers():
                self._answered = now
        return now - self._answered < POLL_INTERVAL_S

    def lost(self) -> EngineLostError:
        """The error to raise when it is not."""
        return EngineLostError(
            f"the Ray cluster at {self._session.head} no longer answers. What was measured is "
            "kept: `archscout resume` goes on from there"
        )


def slots_of(node: dict[str, float], *, cpu: float, gpu: float) -> int:
    """How many trials one node holds: a trial's GPU share never spans two GPUs."""
    fits = []
    if cpu > 0:
        fits.append(_times(node.get("CPU", 0.0), cpu))
    if gpu > 0:
        gpus = int(node.get("GPU", 0.0))
        fits.append(gpus * _times(1.0, gpu) if gpu < 1 else _times(gpus, gpu))
    return min(fits, default=1)


def _times(whole: float, part: float) -> int:
    """How often a part fits, forgiving the last bit of 0.1 * 3."""
    return int(whole / part + 1e-9)
