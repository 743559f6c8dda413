"""One driver a study: who gets the lease, when, and what a driver that lost it can still do."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import LEASE_S, Holder, LeaseHeldError, LeaseLostError, Ledger
from orchestrator.trial import TrialState
from workers.measurement import Measurement


def test_a_living_driver_of_this_host_keeps_its_study(scene: Any) -> None:
    _, lease = scene.open()
    with pytest.raises(LeaseHeldError, match=rf"run by process {os.getpid()} on") as caught:
        scene.open()
    assert caught.value.pid == os.getpid()
    assert caught.value.until == lease.until
    assert caught.value.holder == str(Holder.of_this_process())


def test_a_dead_driver_of_this_host_is_replaced_at_once(scene: Any, dead: Holder) -> None:
    row, first = scene.open(dead)
    running = scene.start(first)
    waiting = scene.add(first)
    _, second = scene.open()
    assert second.generation == first.generation + 1
    assert [t.state for t in scene.ledger.trials(row.id)] == ["WAITING", "WAITING"]
    assert [a.outcome for a in scene.ledger.attempts(running.trial_uid)] == ["lost"]
    assert scene.ledger.attempts(waiting.uid) == []
    assert scene.kinds(row.id)[-2:] == ["lease_acquired", "trial_given_back"]


def test_a_reused_pid_is_not_taken_for_the_driver(scene: Any) -> None:
    scene.open(replace(Holder.of_this_process(), process_started="1"))
    assert scene.open()[1].generation == 2


def test_a_driver_in_another_container_of_this_host_keeps_its_study(
    scene: Any, dead: Holder
) -> None:
    boot, _, namespace = dead.boot_id.partition(":")
    assert namespace == str(Path("/proc/self/ns/pid").readlink())
    scene.open(replace(dead, boot_id=f"{boot}:pid:[1]"))
    with pytest.raises(LeaseHeldError):
        scene.open()


def test_a_driver_that_is_hidden_from_this_account_keeps_its_study(
    scene: Any, dead: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    scene.open(dead)
    with monkeypatch.context() as hidden:
        hidden.setattr(os, "kill", refuse)
        with pytest.raises(LeaseHeldError):
            scene.open()
    assert scene.open()[1].generation == 2


def test_a_killed_driver_is_gone_also_as_a_zombie(scene: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat").read_text()
        started = stat.rpartition(")")[2].split()[19]
        holder = replace(Holder.of_this_process(), pid=child.pid, process_started=started)
        assert not holder.is_gone()
        scene.open(holder)
        with pytest.raises(LeaseHeldError):
            scene.open()
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert holder.is_gone()
        assert scene.open()[1].generation == 2
        child.communicate()


def test_the_lease_of_a_driver_on_another_host_is_waited_for(scene: Any, far: Holder) -> None:
    _, lease = scene.open(far)
    if scene.on_postgresql:
        scene.clock.pass_by(10 * LEASE_S)  # not this clock: the database's
    else:
        scene.clock.pass_by(LEASE_S - 0.1)
    with pytest.raises(LeaseHeldError, match="on elsewhere"):
        scene.open()
    if scene.on_postgresql:
        scene.sql(f"UPDATE lease SET until = until - {LEASE_S} WHERE study_id = {lease.study_id}")
    else:
        scene.clock.pass_by(0.1)
    assert scene.open()[1].generation == 2


def test_a_lease_lasts_30_s_from_its_renewal(scene: Any, far: Holder) -> None:
    _, lease = scene.open(far)
    if scene.on_postgresql:
        scene.sql(f"UPDATE lease SET until = until - 20 WHERE study_id = {lease.study_id}")
    scene.clock.pass_by(20)
    renewed = scene.ledger.renew(lease)
    assert renewed.generation == lease.generation
    assert renewed.until >= lease.until
    scene.clock.pass_by(20)
    with pytest.raises(LeaseHeldError):
        scene.open()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_setting_the_wall_clock_neither_ends_nor_prolongs_a_lease_of_this_boot(
    scene: Any, jump: float
) -> None:
    scene.open()
    scene.clock.time += jump
    with pytest.raises(LeaseHeldError):
        scene.open()
    if not scene.on_postgresql:
        scene.clock.span += LEASE_S
        assert scene.open()[1].generation == 2


def test_a_driver_that_lost_its_lease_writes_nothing(
    scene: Any, dead: Holder, measure: Callable[..., Measurement]
) -> None:
    row, lost = scene.open(dead)
    key, waiting = scene.start(lost), scene.add(lost)
    _, held = scene.open()
    before = (scene.ledger.trials(row.id), scene.ledger.events(row.id, 0))
    writes: list[Callable[[], object]] = [
        lambda: scene.ledger.renew(lost),
        lambda: scene.ledger.release(lost),
        lambda: scene.ledger.set_study_state(lost, "finished"),
        lambda: scene.ledger.add_spent(lost, 1.0),
        lambda: scene.add(lost),
        lambda: scene.ledger.start_attempt(lost, waiting.uid),
        lambda: scene.ledger.record(lost, key, measure(1)),
        lambda: scene.ledger.requeue(lost, key, "interrupted"),
        lambda: scene.ledger.finish(lost, key.trial_uid, key=key, state=TrialState.FAIL),
    ]
    for write in writes:
        with pytest.raises(LeaseLostError, match="now generation 2"):
            write()
    assert (scene.ledger.trials(row.id), scene.ledger.events(row.id, 0)) == before
    scene.ledger.start_attempt(held, waiting.uid)


def test_a_released_lease_is_free_and_writes_no_more(scene: Any) -> None:
    row, lease = scene.open()
    scene.ledger.release(lease)
    with pytest.raises(LeaseLostError, match="released"):
        scene.add(lease, number=0)
    assert scene.kinds(row.id)[-1] == "lease_released"
    assert scene.open()[1].generation == 2


_RACER = """
import sys
from orchestrator.ledger import Holder, LeaseHeldError, Ledger
url, name = sys.argv[1], sys.argv[2]
holder = Holder.of_this_process()
# On a server both have the ledger open already; a file both must first create.
shared = Ledger.open(url) if "postgresql" in url else None
print("ready", flush=True)
for turn, _ in enumerate(sys.stdin):
    ledger = shared or Ledger.open(f"{url}.{turn}")
    try:
        ledger.open_study(name=f"{name}-{turn}", config_json="{}", holder=holder)
        print("won", flush=True)
    except LeaseHeldError:
        print("held", flush=True)
    if ledger is not shared:
        ledger.close()
if shared:
    shared.close()
"""


def test_of_two_drivers_started_at_once_exactly_one_wins(
    url: str, child_environment: dict[str, str]
) -> None:
    Ledger.open(url).close()
    name = f"race-{uuid.uuid4().hex}"
    racers = [_racer(url, name, child_environment) for _ in range(2)]
    assert [_told(racer) for racer in racers] == ["ready", "ready"]
    turns = []
    for _ in range(20):
        for racer in racers:
            print("go", file=racer.stdin, flush=True)
        turns.append(sorted(_told(racer) for racer in racers))
    for racer in racers:
        racer.communicate()
    assert turns == [["held", "won"]] * 20


def _racer(url: str, name: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _RACER, url, name],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _told(racer: subprocess.Popen[str]) -> str:
    assert racer.stdout is not None
    return racer.stdout.readline().strip()
