"""The heartbeat beats on through errors that pass, and ends when told."""

import threading

from orchestrator.heartbeat import Heartbeat


def test_a_forgiven_error_does_not_end_the_beat() -> None:
    beats: list[int] = []
    thrice = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            thrice.set()
        raise OSError("passing")

    heartbeat = Heartbeat(beat, every_s=0.001, forgives=OSError)
    heartbeat.start()
    assert thrice.wait(10)
    heartbeat.stop()
    after = len(beats)
    assert not threading.Event().wait(0.02)
    assert len(beats) == after
