"""Whether a cluster's nodes can do what trials need there: asked of each before it is counted on.

A node that cannot reach the checkpoints would train for nothing: its trials could neither be taken
up elsewhere nor be promoted. One without the GPU that it promises would train on its processor.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.engines.ray_tune.deadline import CALL_S, SLOW_S, call, silent
from workers.folders import Folder, RemoteFolder, folder_at

PATIENCE_S = 300.0
"""How long a node may take to answer: it starts a process and may load torch, both over a network
file system. One that is gone is not waited for."""
_LARGEST = 64
"""Bytes that a mark has at most."""


class NodesUnfit(ValueError):  # noqa: N818 - says what is wrong
    """Nodes of the cluster cannot train what the study asks for."""


class UnfitNodeJoined(RuntimeError):  # noqa: N818 - says what is wrong
    """The same of a node that came in mid-search; the study can be resumed."""


class Nodes:
    """Asks every node once."""

    def __init__(self, ray: Any, checkpoints: Folder | None, *, cuda: bool) -> None:
        """Put a mark where checkpoints go; none asked for, and no GPU either, asks nothing.

        Args:
            ray: Connected to the cluster.
            checkpoints: What every node must reach.
            cuda: Whether torch must find a GPU on each.
        """
        self._ray = ray
        self._cuda = cuda
        self._mark = checkpoints and checkpoints / f".seen-by-nodes-{secrets.token_hex(8)}"
        self._asked: dict[str, Any] = {}
        self._fit: set[str] = set()
        if self._mark is not None:
            _leave(self._mark, "driver")

    def require(
        self,
        nodes: Callable[[], Sequence[Mapping[str, Any]]],
        tell: Callable[[str], None] = silent,
    ) -> None:
        """Wait for the answers of nodes that are there from the start.

        Args:
            nodes: Says which are there now.
            tell: Shows the user what is waited for.

        Raises:
            NodesUnfit: They will not do.
        """
        began, told = time.monotonic(), False
        while (reasons := self._look(nodes())) is not None and not reasons:
            waited = time.monotonic() - began
            waiting = [n["NodeManagerAddress"] for n in nodes() if n["NodeID"] not in self._fit]
            if waited > PATIENCE_S:
                raise NodesUnfit(f"nodes of the cluster do not answer: {', '.join(waiting)}")
            if waited > SLOW_S and not told:
                told = True
                tell(f"waiting for nodes to load what trials need: {', '.join(waiting)}")
            time.sleep(0.1)
        if reasons:
            raise NodesUnfit(_told(reasons))

    def watch(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Ask whoever has joined, without waiting.

        Raises:
            UnfitNodeJoined: One will not do.
        """
        if reasons := self._look(nodes):
            raise UnfitNodeJoined(f"{_told(reasons)}; then go on with `archscout resume`")

    def close(self) -> None:
        """Take the mark away."""
        if isinstance(self._mark, Path):
            shutil.rmtree(self._mark, ignore_errors=True)
        elif self._mark is not None:
            with suppress(OSError):
                self._mark.remove()

    def _look(self, nodes: Iterable[Mapping[str, Any]]) -> list[str] | None:
        """What nodes lack, so far; None once all have answered and lack nothing."""
        reasons: list[str] = []
        waits = False
        for node in nodes:
            name = node["NodeID"]
            if name in self._fit or (self._mark is None and not self._cuda):
                continue
            if name not in self._asked:
                self._asked[name] = self._ask(name)
            ready, _ = self._ray.wait([self._asked[name]], timeout=0)
            waits |= not ready
            if ready:
                reason = self._answer(name)
                waits |= reason is None and name not in self._fit
                reasons += [f"node {node['NodeManagerAddress']}: {reason}"] if reason else []
        return None if not waits and not reasons else reasons

    def _ask(self, name: str) -> Any:
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - see the package's docstring
            NodeAffinitySchedulingStrategy,
        )

        there = NodeAffinitySchedulingStrategy(name, soft=False)
        task = self._ray.remote(lacking).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there
        )
        mark = None if self._mark is None else str(self._mark)
        # Ray exports the function to its head at the first call.
        return call(lambda: task.remote(mark, self._cuda), limit_s=CALL_S)

    def _answer(self, name: str) -> str | None:
        try:
            reason: str | None = self._ray.get(self._asked.pop(name), timeout=CALL_S)
        except self._ray.exceptions.RayTaskError as error:
            # Most often: archscout, or what it needs, is not installed there.
            return str(error).strip().splitlines()[-1]
        except self._ray.exceptions.RayError:
            return None  # gone again before it answered, or asked anew at the next look
        if reason is None:
            self._fit.add(name)
        return reason


def lacking(mark: str | None, cuda: bool) -> str | None:
    """Runs on a node: what it lacks; None where it will do."""
    if mark is not None:
        try:
            _find(folder_at(mark))
        except OSError as error:
            return (
                f"cannot read and write {mark.rpartition('/')[0]} ({error}). Checkpoints must lie "
                "where every node has them: name a folder that all nodes share, or an fsspec URL, "
                "in ARCHSCOUT_CHECKPOINTS (the home itself stays on a disk of the driver's machine)"
            )
    if cuda:
        import torch  # noqa: PLC0415 - only where there should be a GPU

        if not torch.cuda.is_available():
            return (
                f"torch {torch.__version__} finds no GPU there: install the build that fits its "
                "driver, or search with --set resources.gpu=0"
            )
    return None


def _find(mark: Folder) -> None:
    """Reads what the driver left, and writes beside it.

    Raises:
        OSError: It is not there, or nothing can be written.
    """
    if isinstance(mark, RemoteFolder):
        mark.read("driver", _LARGEST)
    else:
        (mark / "driver").read_bytes()
    _leave(mark, f"{os.getpid()}-{secrets.token_hex(4)}")


def _leave(mark: Folder, name: str) -> None:
    if isinstance(mark, RemoteFolder):
        mark.write(name, name.encode())
        return
    mark.mkdir(mode=0o700, parents=True, exist_ok=True)
    (mark / name).write_bytes(name.encode())


def _told(reasons: Sequence[str]) -> str:
    """The first of several reasons, which are most often alike."""
    more = f" (and {len(reasons) - 1} more nodes)" if len(reasons) > 1 else ""
    return f"engine.address: {reasons[0]}{more}"
