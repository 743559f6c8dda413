"""Controls: the same faults with one guard removed, which the checker must notice.

A harness that cannot fail proves nothing. Each control injects its fault twice, with and without
the guard, and returns the violations of both.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import drivers
from drivers import EPOCHS, TRIALS, World
from support import checker, request_checker
from support.studies import curve

import orchestrator.study.attempts
from orchestrator.ledger import (
    Effect,
    Holder,
    Lease,
    LeaseHeldError,
    Ledger,
    LedgerError,
    leases,
    requests,
    rows,
    transitions,
)
from orchestrator.study.requests.extend import EXTEND
from orchestrator.trial import Trial
from workers.job import AttemptKey
from workers.measurement import Measurement


def _nothing(*_: Any) -> None:
    """Replace a guard; accept everything."""


def _yes(*_: Any) -> bool:
    return True


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_: answer


def everything(world: World) -> list[str]:
    """Return the violations in a study that should be finished."""
    return checker.of_ledger(world.ledger, world.name, TRIALS, EPOCHS)


@contextmanager
def without(*patches: Any) -> Iterator[None]:
    """Remove guards, in this process and those forked from it."""
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def killed_and_resumed(world: World, guard: bool) -> list[str]:
    """F2: RUNNING trials of a killed driver must be requeued."""
    patches = [] if guard else [mock.patch.object(transitions, "requeue_all", _nothing)]
    log = world.home / "log"
    with without(*patches):
        for fault in ("recorded.committed:3:kill", None):
            drivers.ended(drivers.forked(world, drivers.search, fault, log))
    return everything(world)


def replaced_attempt(world: World, guard: bool) -> list[str]:
    """F9: an attempt that was suspended, replaced and continued may not write."""
    with Ledger.open(world.url) as ledger:
        lease = _opened(ledger, world)
        first, uid = _started(ledger, lease)
        ledger.requeue(lease, first, "timeout")
        second = ledger.start_attempt(lease, uid)
        patches = [] if guard else [mock.patch.object(transitions, "_check_newest", _nothing)]
        with without(*patches), suppress(LedgerError):
            ledger.record(lease, first, _measured(1))
        ledger.record(lease, second, _measured(2))
    return checker.of_events(world.ledger, world.name)


def replaced_driver(world: World, guard: bool) -> list[str]:
    """F10: a driver that slept beyond its lease may write nothing after its successor."""
    with Ledger.open(world.url) as ledger, Ledger.open(world.url) as other:
        gone = Holder(host="elsewhere", pid=1, process_started="", boot_id="another")
        lease = _opened(ledger, world, gone)
        key, _ = _started(ledger, lease)
        with mock.patch.object(leases, "_is_free", _yes):  # its 30 s are over
            _opened(other, world)
        patches = [] if guard else [mock.patch.object(leases, "require", _nothing)]
        if not guard:
            patches.append(mock.patch.object(transitions, "_check_fence", _nothing))
        with without(*patches), suppress(LedgerError):
            ledger.record(lease, key, _measured(1))
    return checker.of_events(world.ledger, world.name)


def two_drivers(world: World, guard: bool) -> list[str]:
    """F11: of two drivers that start at once, exactly one runs the study."""
    outcome = race(world, guard=guard)
    found = checker.of_leases(world.ledger, world.name)
    return found + ([] if outcome == "lw" else [f"two drivers at once came to {outcome}"])


def race(world: World, *, guard: bool = True) -> str:
    """Start two drivers at once; return `lw` if one lost and one won.

    Both wait with an open ledger before the lease, and the winner runs until both know: otherwise
    the slower one could start after the end of the faster one, and rightly win too.
    """
    ready, go, result, stop = (os.pipe() for _ in range(4))

    def contend(world: World) -> None:
        with Ledger.open(world.url) as ledger:
            os.write(ready[1], b".")
            os.read(go[0], 1)
            lease, word = None, b"x"
            try:
                lease = _opened(ledger, world)
                word = b"w"
            except LeaseHeldError:
                word = b"l"
            finally:
                os.write(result[1], word)
            os.read(stop[0], 1)
            if lease is not None:
                with suppress(LedgerError):
                    ledger.release(lease)

    patches = [] if guard else [mock.patch.object(leases, "_is_free", _yes)]
    with Ledger.open(world.url):
        pass  # its tables are made before, so that the race is for the lease
    with without(*patches):
        pids = [drivers.forked(world, contend, None, world.home / "log") for _ in range(2)]
        os.read(ready[0], 1), os.read(ready[0], 1)
        os.write(go[1], b"..")
        outcome = os.read(result[0], 1) + os.read(result[0], 1)
        os.write(stop[1], b"..")
        for pid in pids:
            drivers.ended(pid)
    for end in (*ready, *go, *result, *stop):
        os.close(end)
    return "".join(sorted(outcome.decode()))


def not_a_number(world: World, guard: bool) -> list[str]:
    """F14: only finite numbers are stored."""

    def diverging(job: Any, dataset: Any) -> Iterator[Measurement]:
        for seen in curve(job, dataset):
            bad = job.trial_number == 1 and seen.fidelity == 2
            worse = {"val_loss": math.nan, "val_accuracy": math.inf}
            metrics = {**seen.metrics, **worse} if bad else seen.metrics
            yield Measurement(fidelity=seen.fidelity, metrics=metrics, elapsed_s=seen.elapsed_s)

    patches = [mock.patch.object(drivers, "trained", _always(diverging))]
    if not guard:
        patches += [
            mock.patch.object(orchestrator.study.attempts, "divergence", _nothing),
            mock.patch.object(orchestrator.study.attempts, "split_finite", lambda seen: (seen, {})),
            mock.patch.object(transitions, "finite", lambda _, value: value),
            mock.patch.object(transitions, "to_json", json.dumps),
            mock.patch("orchestrator.ledger.database.to_json", json.dumps),
        ]
    with without(*patches):
        drivers.ended(drivers.forked(world, drivers.search, None, world.home / "log"))
    return everything(world)


def killed_as_it_answers(world: World, guard: bool) -> list[str]:
    """F31: a request's answer and its effect are one transaction."""
    with Ledger.open(world.url) as ledger:
        lease = _opened(ledger, world)
        ledger.add_request(lease.study_id, EXTEND, {"trials": 2, "operation": "once"})
        ledger.release(lease)
    patches = [] if guard else [mock.patch.object(Ledger, "carry_out", _carry_out_in_two)]
    with without(*patches):
        for fault in ("answered.committed:1:kill", None):
            drivers.ended(drivers.forked(world, drivers.search, fault, world.home / "log"))
    requested = request_checker.num_requested(world.ledger, world.name, TRIALS)
    return [
        *checker.of_ledger(world.ledger, world.name, requested, EPOCHS),
        *request_checker.of_steering(world.ledger, world.name, requested, []),
    ]


def _carry_out_in_two(ledger: Ledger, lease: Lease, request_id: int, effect: Effect) -> bool:
    """Record the effect, and then the answer."""
    ledger._write("answered", lambda tx: rows.change_study(tx, lease, request_id, effect.changes))
    return ledger._write(
        "answered",
        lambda tx: requests.carry_out(tx, lease, request_id, Effect(answer=effect.answer)),
    )


def _opened(ledger: Ledger, world: World, holder: Holder | None = None) -> Any:
    return drivers.open_study(ledger, world, holder)[1]


def _started(ledger: Ledger, lease: Any) -> tuple[AttemptKey, str]:
    uid = os.urandom(16).hex()
    new = Trial(number=0, uid=uid, params={}, distributions={}, candidate={}, digest="d", seed=1)
    ledger.add_trial(lease, new)
    return ledger.start_attempt(lease, uid), uid


def _measured(epoch: int) -> Measurement:
    return Measurement(fidelity=epoch, metrics={"val_accuracy": 0.5}, elapsed_s=1.0)


CONTROLS: dict[str, Callable[[World, bool], list[str]]] = {
    "F2": killed_and_resumed,
    "F9": replaced_attempt,
    "F10": replaced_driver,
    "F11": two_drivers,
    "F14": not_a_number,
    "F31": killed_as_it_answers,
}


def play(make: Callable[[str], World]) -> dict[str, dict[str, list[str]]]:
    """Run each control with and without its guard."""
    return {
        name: {
            "guarded": control(make(f"{name}-guarded"), True),
            "unguarded": control(make(f"{name}-unguarded"), False),
        }
        for name, control in CONTROLS.items()
    }
