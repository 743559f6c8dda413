"""Signs of life that workers leave with Ray's head, for processes that are stopped, not dead.

A worker notices by itself that its trial is silent. One whose process is stopped (SIGSTOP, a frozen
cgroup, a call that never leaves the kernel) notices nothing, and neither does Ray 2.60: the driver
must.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from workers.job import AttemptKey

GRACE_S = 10.0
"""How much longer than its own watch an attempt's process may be without a sign."""


_ANSWER_S = 2.0

Read = Callable[[Sequence[AttemptKey]], Mapping[AttemptKey, bytes]]
"""The last signs of those attempts that left any."""


class Heartbeats:
    """The driver's side: when each attempt's process was last seen alive, by the driver's clock."""

    def __init__(
        self, read: Read, *, silence_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Has seen nobody yet.

        Args:
            read: Where signs are found.
            silence_s: How long an attempt's own watch lets it be silent.
            now: The clock.
        """
        self._read = read
        self._limit_s = silence_s + GRACE_S
        self._now = now
        self._seen: dict[AttemptKey, tuple[bytes, float]] = {}
        self._next = 0.0

    def stopped(self, running: Sequence[AttemptKey]) -> list[AttemptKey]:
        """Attempts whose process gave signs once and has not for too long; looks now and then."""
        now = self._now()
        if now < self._next:
            return []
        self._next = now + self._limit_s / 4
        # Who is not among the answers is not under watch yet.
        self._seen = {
            key: (sign, self._since(key, sign, now)) for key, sign in self._read(running).items()
        }
        return [key for key, (_, since) in self._seen.items() if now - since > self._limit_s]

    def _since(self, key: AttemptKey, sign: bytes, now: float) -> float:
        last, since = self._seen.get(key, (b"", now))
        return since if sign == last else now


def leave(key: AttemptKey) -> None:
    """A sign from the worker's process; no harm where the head does not answer."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - takes a second; nobody else pays it

    with suppress(Exception):  # whatever Ray raises, the driver notices a lost head itself
        internal_kv._internal_kv_put(_name(key), str(time.monotonic_ns()))  # noqa: SLF001


def read(running: Sequence[AttemptKey]) -> dict[AttemptKey, bytes]:
    """The last signs of those that left any; nobody's where the head does not answer at once."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - as above

    names = {_name(key).encode(): key for key in running}
    found: dict[bytes, bytes] = {}
    with suppress(Exception):  # as above
        head = internal_kv.internal_kv_get_gcs_client()  # type: ignore[no-untyped-call]
        found = head.internal_kv_multi_get(list(names), None, timeout=_ANSWER_S)
    return {names[name]: sign for name, sign in found.items()}


def _name(key: AttemptKey) -> str:
    return f"archscout-sign-{key.trial_uid}-{key.number}"
