"""Whether a cluster's nodes can do what trials need there: asked of each before it is counted on.

A node that cannot reach the checkpoints would train for nothing: its trials could neither be taken
up elsewhere nor be promoted. One without the GPU that it promises would train on its processor.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from orchestrator.engines.ray_tune.deadline import CALL_S, SLOW_S, call, silent
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import UserFileError
from search_spaces.user_code import UserCode
from workers.storage import Storage, storage_at

TIMEOUT_S = 300.0
"""How long a node may take to answer: it starts a process and may load torch, both over a network
file system. One that is gone is not waited for."""
_LARGEST = 64
"""Bytes that a mark has at most."""


class NodesUnfitError(ArchscoutError, ValueError):
    """Nodes of the cluster cannot train what the study asks for."""

    exit_code = ExitCode.INPUT


class Nodes:
    """Asks every node once."""

    def __init__(
        self,
        ray: Any,
        checkpoints: Storage | None,
        *,
        cuda: bool,
        elsewhere: bool = False,
        code: UserCode | None = None,
    ) -> None:
        """Put a mark where checkpoints go; none asked for, and no GPU either, asks nothing.

        Args:
            ray: Connected to the cluster.
            checkpoints: What every node must reach.
            cuda: Whether torch must find a GPU on each.
            elsewhere: Whether nodes are other machines, which need this release of archscout.
            code: The user's own Python, which must run on other machines.
        """
        self._ray = ray
        self._code = code if elsewhere else None
        self._asks = elsewhere or cuda or checkpoints is not None
        self._cuda = cuda
        self._checkpoints = checkpoints
        self._mark = checkpoints and checkpoints / f".seen-by-nodes-{secrets.token_hex(8)}"
        self._asked: dict[str, Any] = {}
        self._fit: set[str] = set()
        self._unfit: set[str] = set()
        if self._mark is not None:
            self._mark.write("driver", b"driver")

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
            NodesUnfitError: They will not do.
        """
        began, told = time.monotonic(), False
        while (reasons := self._look(nodes())) is not None and not reasons:
            waited = time.monotonic() - began
            waiting = [n["NodeManagerAddress"] for n in nodes() if n["NodeID"] not in self._fit]
            if waited > TIMEOUT_S:
                raise NodesUnfitError(f"nodes of the cluster do not answer: {', '.join(waiting)}")
            if waited > SLOW_S and not told:
                told = True
                tell(f"waiting for nodes to load what trials need: {', '.join(waiting)}")
            time.sleep(0.1)
        if reasons:
            raise NodesUnfitError(_told(reasons))

    def watch(
        self, nodes: Iterable[Mapping[str, Any]], tell: Callable[[str], None] = silent
    ) -> None:
        """Ask whoever has joined, without waiting; leave out a node that will not do."""
        for reason in self._look(nodes) or ():
            tell(f"left out: {reason}. Once it will do, stop the search and resume it")

    def accept(self, node: Mapping[str, Any]) -> bool:
        """Return whether a node trains trials: one that is asked has to answer first."""
        return not self._asks or node["NodeID"] in self._fit

    def placement(self) -> dict[str, Any]:
        """Return the arguments of a placement group that keep trials off nodes left out."""
        if not self._unfit:
            return {}
        others = f"!in({','.join(sorted(self._unfit))})"
        return {"bundle_label_selector": [{"ray.io/node-id": others}]}

    def close(self) -> None:
        """Take the mark away."""
        if self._mark is not None and self._checkpoints is not None:
            with suppress(OSError):
                self._mark.remove(self._checkpoints)

    def _look(self, nodes: Iterable[Mapping[str, Any]]) -> list[str] | None:
        """What nodes lack, so far; None once all have answered and lack nothing."""
        reasons: list[str] = []
        waits = False
        for node in nodes:
            name = node["NodeID"]
            if name in self._fit or name in self._unfit or not self._asks:
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
        task = self._ray.remote(_asking(release())).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there
        )
        mark = None if self._mark is None else str(self._mark)
        # Ray exports the function to its head at the first call.
        return call(lambda: task.remote(mark, self._cuda, self._code), limit_s=CALL_S)

    def _answer(self, name: str) -> str | None:
        try:
            reason: str | None = self._ray.get(self._asked.pop(name), timeout=CALL_S)
        except self._ray.exceptions.RayTaskError as error:
            # Most often: archscout, or what it needs, is not installed there.
            reason = str(error).strip().splitlines()[-1]
        except self._ray.exceptions.RayError:
            return None  # gone again before it answered, or asked anew at the next look
        (self._fit if reason is None else self._unfit).add(name)
        return reason


def release() -> str:
    """Return the installed release of archscout; empty where it runs uninstalled."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("archscout")
    return ""


def _asking(here: str) -> Callable[..., str | None]:
    """Return what runs on a node: a function that travels whole, as another release lacks ours."""

    def ask(*wanted: Any) -> str | None:
        from importlib import metadata  # noqa: PLC0415 - it travels with the function

        try:
            there = metadata.version("archscout")
        except metadata.PackageNotFoundError:
            there = ""
        if there != here:
            return (
                f"archscout {there or 'is not installed'} there, {here or 'not installed'} here: "
                "install the same release on both"
            )
        from orchestrator.engines.ray_tune.node_checks import node_problem  # noqa: PLC0415 - of that release

        return node_problem(*wanted)

    return ask


def node_problem(mark: str | None, cuda: bool, code: UserCode | None = None) -> str | None:
    """Runs on a node: what it lacks; None where it will do."""
    if mark is not None:
        try:
            _find(storage_at(mark))
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
    if code is not None:
        try:
            code.run()
        except UserFileError as error:
            return f"your own Python does not run there: {error}. Install what it needs there"
    return None


def _find(mark: Storage) -> None:
    """Reads what the driver left, and writes beside it.

    Raises:
        OSError: It is not there, or nothing can be written.
    """
    mark.read("driver", _LARGEST)
    mark.write(f"{os.getpid()}-{secrets.token_hex(4)}", b"node")


def _told(reasons: Sequence[str]) -> str:
    """The first of several reasons, which are most often alike."""
    more = f" (and {len(reasons) - 1} more nodes)" if len(reasons) > 1 else ""
    return f"engine.address: {reasons[0]}{more}"
