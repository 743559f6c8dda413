"""Heartbeats of worker processes, stored with Ray's head.

A worker itself notices that its trial is silent. A process that is suspended (SIGSTOP, a frozen
cgroup, a call that never leaves the kernel) notices nothing, and neither does Ray 2.60: the driver
must.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from workers.job import AttemptKey

GRACE_S = 10.0
"""Seconds without a heartbeat beyond the limit of the attempt's own watchdog."""

_ANSWER_S = 2.0

Read = Callable[[Sequence[AttemptKey]], Mapping[AttemptKey, bytes]]
"""Returns the last heartbeat of each attempt that has sent one."""


class Heartbeats:
    """The driver's view: when each attempt last sent a heartbeat, by the driver's clock."""

    def __init__(
        self, read: Read, *, silence_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a view without any heartbeat.

        Args:
            read: Reads the last heartbeats.
            silence_s: Limit of the attempts' own watchdogs, in seconds.
            now: Monotonic clock.
        """
        self._read = read
        self._limit_s = silence_s + GRACE_S
        self._now = now
        self._seen: dict[AttemptKey, tuple[bytes, float]] = {}
        self._next = 0.0

    def expired(self, running: Sequence[AttemptKey]) -> list[AttemptKey]:
        """Return attempts whose last heartbeat is too old; reads four times per limit."""
        now = self._now()
        if now < self._next:
            return []
        self._next = now + self._limit_s / 4
        # An attempt without any heartbeat yet is not watched: its process is still starting.
        self._seen = {
            key: (heartbeat, self._since(key, heartbeat, now))
            for key, heartbeat in self._read(running).items()
        }
        return [key for key, (_, since) in self._seen.items() if now - since > self._limit_s]

    def _since(self, key: AttemptKey, heartbeat: bytes, now: float) -> float:
        last, since = self._seen.get(key, (b"", now))
        return since if heartbeat == last else now


def send(key: AttemptKey) -> None:
    """Send a heartbeat from the worker's process; a head that does not answer is ignored."""
    with suppress(Exception):  # the driver notices a lost head itself
        _key_value_store()._internal_kv_put(_name(key), str(time.monotonic_ns()))  # noqa: SLF001


def read(running: Sequence[AttemptKey]) -> dict[AttemptKey, bytes]:
    """Return the last heartbeats by attempt; empty if the head does not answer at once."""
    names = {_name(key).encode(): key for key in running}
    found: dict[bytes, bytes] = {}
    with suppress(Exception):  # the driver notices a lost head itself
        head = _key_value_store().internal_kv_get_gcs_client()
        found = head.internal_kv_multi_get(list(names), None, timeout=_ANSWER_S)
    return {names[name]: heartbeat for name, heartbeat in found.items()}


def _key_value_store() -> Any:
    from ray.experimental import internal_kv  # noqa: PLC0415 - loading ray takes a second

    return internal_kv


def _name(key: AttemptKey) -> str:
    return f"archscout-heartbeat-{key.trial_uid}-{key.number}"
