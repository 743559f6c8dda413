"""Checks of a cluster's nodes: each is checked before it trains trials.

Without access to the checkpoints, the trials of a node could neither be resumed elsewhere nor be
promoted. If torch finds no GPU on it, a node would train on its CPU.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from orchestrator.engines.ray_tune.launch import CALL_TIMEOUT_S
from orchestrator.timeouts import SLOW_S, call_with_timeout
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import UserFileError
from search_spaces.user_code import UserCode
from workers.storage import Storage, storage_at

TIMEOUT_S = 300.0
"""Time limit of a node's answer: it starts a process and may load torch from a network file system.
A node that left the cluster is not waited for."""
_MAX_MARK_BYTES = 64


class NodesUnfitError(ArchscoutError, ValueError):
    """Nodes of the cluster cannot train the study's trials."""

    exit_code = ExitCode.INPUT


class Nodes:
    """Checks every node once."""

    def __init__(
        self,
        ray: Any,
        checkpoints: Storage | None,
        *,
        cuda: bool,
        elsewhere: bool = False,
        code: UserCode | None = None,
    ) -> None:
        """Write a mark to the storage of checkpoints, which nodes must read.

        Args:
            ray: The module, connected to the cluster.
            checkpoints: Storage that every node must reach; None checks none.
            cuda: True if torch must find a GPU on each node.
            elsewhere: True if nodes are other machines, which need this release of archscout.
            code: The user's own Python, which must run on other machines.
        """
        self._ray = ray
        self._code = code if elsewhere else None
        self._has_checks = elsewhere or cuda or checkpoints is not None
        self._cuda = cuda
        self._checkpoints = checkpoints
        self._mark = checkpoints and checkpoints / f".node-check-{secrets.token_hex(8)}"
        self._pending: dict[str, Any] = {}
        self._fit: set[str] = set()
        self._unfit: set[str] = set()
        if self._mark is not None:
            self._mark.write("driver", b"driver")

    def require(
        self,
        nodes: Callable[[], Sequence[Mapping[str, Any]]],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Wait for the checks of the nodes that are present at the start.

        Args:
            nodes: Returns the present nodes.
            tell: Shows a message to the user.

        Raises:
            NodesUnfitError: One of them cannot train trials.
        """
        began, reported = time.monotonic(), False
        while (reasons := self._check(nodes())) is not None and not reasons:
            waited = time.monotonic() - began
            waiting = [n["NodeManagerAddress"] for n in nodes() if n["NodeID"] not in self._fit]
            if waited > TIMEOUT_S:
                raise NodesUnfitError(f"nodes of the cluster do not answer: {', '.join(waiting)}")
            if waited > SLOW_S and not reported:
                reported = True
                tell(f"waiting for nodes to load what trials need: {', '.join(waiting)}")
            time.sleep(0.1)
        if reasons:
            raise NodesUnfitError(_message(reasons))

    def watch(
        self, nodes: Iterable[Mapping[str, Any]], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Check new nodes without waiting; exclude those that cannot train trials."""
        for reason in self._check(nodes) or ():
            tell(f"excluded: {reason}. Once this is fixed, stop the search and resume it")

    def accept(self, node: Mapping[str, Any]) -> bool:
        """Return True for a node that may train trials: one that has passed its checks."""
        return not self._has_checks or node["NodeID"] in self._fit

    def placement(self) -> dict[str, Any]:
        """Return the arguments of a placement group that keep trials off excluded nodes."""
        if not self._unfit:
            return {}
        others = f"!in({','.join(sorted(self._unfit))})"
        return {"bundle_label_selector": [{"ray.io/node-id": others}]}

    def close(self) -> None:
        """Remove the mark."""
        if self._mark is not None and self._checkpoints is not None:
            with suppress(OSError):
                self._mark.remove(self._checkpoints)

    def _check(self, nodes: Iterable[Mapping[str, Any]]) -> list[str] | None:
        """Return the problems found so far; None once all nodes have passed."""
        reasons: list[str] = []
        waits = False
        for node in nodes:
            name = node["NodeID"]
            if name in self._fit or name in self._unfit or not self._has_checks:
                continue
            if name not in self._pending:
                self._pending[name] = self._ask(name)
            ready, _ = self._ray.wait([self._pending[name]], timeout=0)
            waits |= not ready
            if ready:
                reason = self._answer(name)
                waits |= reason is None and name not in self._fit
                reasons += [f"node {node['NodeManagerAddress']}: {reason}"] if reason else []
        return None if not waits and not reasons else reasons

    def _ask(self, name: str) -> Any:
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - loads ray
            NodeAffinitySchedulingStrategy,
        )

        on_node = NodeAffinitySchedulingStrategy(name, soft=False)
        task = self._ray.remote(_node_check(release())).options(
            num_cpus=0, max_retries=0, scheduling_strategy=on_node
        )
        mark = None if self._mark is None else str(self._mark)
        # Ray exports the function to its head at the first call.
        return call_with_timeout(
            lambda: task.remote(mark, self._cuda, self._code), timeout_s=CALL_TIMEOUT_S
        )

    def _answer(self, name: str) -> str | None:
        try:
            reason: str | None = self._ray.get(self._pending.pop(name), timeout=CALL_TIMEOUT_S)
        except self._ray.exceptions.RayTaskError as error:
            # Usually archscout or one of its dependencies is not installed there.
            reason = str(error).strip().splitlines()[-1]
        except self._ray.exceptions.RayError:
            return None  # the node left; if it is present at the next check, it is checked again
        (self._fit if reason is None else self._unfit).add(name)
        return reason


def release() -> str:
    """Return the installed release of archscout; empty if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("archscout")
    return ""


def _node_check(here: str) -> Callable[..., str | None]:
    """Return the function that runs on a node; it is sent whole, as another release lacks ours."""

    def check(*requirements: Any) -> str | None:
        from importlib import metadata  # noqa: PLC0415 - sent with the function

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

        return node_problem(*requirements)

    return check


def node_problem(mark: str | None, cuda: bool, code: UserCode | None = None) -> str | None:
    """Check the node that this runs on.

    Args:
        mark: Storage with the driver's mark, to read and to write; None without checkpoints.
        cuda: True if torch must find a GPU.
        code: The user's own Python, which must run.

    Returns:
        The problem; None for a node that may train trials.
    """
    if mark is not None:
        try:
            _find(storage_at(mark))
        except OSError as error:
            return (
                f"cannot read and write {mark.rpartition('/')[0]} ({error}). Every node needs "
                "access to the checkpoints: name a folder that all nodes share, or an fsspec URL, "
                "in ARCHSCOUT_CHECKPOINTS (the home itself stays on a disk of the driver's machine)"
            )
    if cuda:
        import torch  # noqa: PLC0415 - loads torch only if a GPU is needed

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
    """Read the driver's mark, and write another file next to it.

    Raises:
        OSError: The mark is not there, or nothing can be written.
    """
    mark.read("driver", _MAX_MARK_BYTES)
    mark.write(f"{os.getpid()}-{secrets.token_hex(4)}", b"node")


def _message(reasons: Sequence[str]) -> str:
    """Return the first of several reasons, which are usually alike."""
    more = f" (and {len(reasons) - 1} more nodes)" if len(reasons) > 1 else ""
    return f"engine.address: {reasons[0]}{more}"
