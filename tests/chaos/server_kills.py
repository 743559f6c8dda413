"""How soon a writer continues after its PostgreSQL server was killed and restarted.

    PYTHONPATH=.:tests python tests/chaos/server_kills.py

Exit 1 if a measurement that was acknowledged is not there, or is there twice.
"""

import sys
import threading
import time

from support.servers import Server, server

from orchestrator.ledger import Holder, Ledger
from orchestrator.trial import Trial
from workers.measurement import Measurement

_AWAY_S = (0, 1, 3, 5, 10)


def main() -> int:
    """Print, for each outage, the seconds from the restart to the next acknowledged write."""
    with server() as ours, Ledger.open(ours.url, max_outage_s=120) as ledger:
        _, lease = ledger.open_study(name="s", config_json="{}", holder=Holder.of_this_process())
        given = {"params": {}, "distributions": {}, "candidate": {}}
        ledger.add_trial(lease, Trial(number=0, uid="u", digest="d", seed=0, **given))
        key = ledger.start_attempt(lease, "u")
        acknowledged: list[int] = []
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                epoch = len(acknowledged) + 1
                seen = Measurement(fidelity=epoch, metrics={"a": 1.0}, elapsed_s=1.0)
                ledger.record(lease, key, seen)
                acknowledged.append(epoch)

        writer = threading.Thread(target=write)
        writer.start()
        for away_s in _AWAY_S:
            print(f"away for {away_s:2d} s: back after {_back_s(ours, acknowledged, away_s):.2f} s")
        stop.set()
        writer.join()
        kept = [seen.fidelity for seen in ledger.trial(lease.study_id, 0).measurements]
    print(f"{len(acknowledged)} writes acknowledged, {len(kept)} kept")
    return int(kept != acknowledged)


def _back_s(ours: Server, acknowledged: list[int], away_s: float) -> float:
    time.sleep(1)
    ours.kill()
    before = len(acknowledged)
    time.sleep(away_s)
    ours.start()
    accepts = time.monotonic()
    while len(acknowledged) == before:
        time.sleep(0.005)
    return time.monotonic() - accepts


if __name__ == "__main__":
    sys.exit(main())
