"""Judges a finished study by plain SQL on its two databases; shares no code with the product."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any


def rows(database: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """The answer to a question, read without writing."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(question, values).fetchall()
    finally:
        connection.close()


def measured(home: Path) -> int:
    """How many measurements the ledger has acknowledged so far; 0 before there is one."""
    try:
        return int(rows(home / "ledger.db", "SELECT count(*) FROM measurement")[0][0])
    except sqlite3.OperationalError:
        return 0


def violations(home: Path, study: str, *, trials: int, epochs: int) -> list[str]:
    """Everything about the study that is not as promised; empty is good.

    Args:
        home: The folder of both databases.
        study: The study's name.
        trials: How many trials it was to start.
        epochs: The fidelity at which a trial is complete.
    """
    return [*_of_ledger(home / "ledger.db", study, trials, epochs), *_of_mlflow(home, study)]


def _of_ledger(ledger: Path, study: str, trials: int, epochs: int) -> list[str]:
    found = []
    kept = rows(
        ledger,
        "SELECT number, uid, state, attempts, values_json FROM trial WHERE study_id ="
        " (SELECT id FROM study WHERE name = ?) ORDER BY number",
        study,
    )
    if [row[0] for row in kept] != list(range(len(kept))):
        found.append(f"numbers are not dense: {[row[0] for row in kept]}")
    if (started := sum(row[3] > 0 for row in kept)) != trials:
        found.append(f"{started} trials were started, not {trials}")
    for number, uid, state, _, values in kept:
        if state not in {"COMPLETE", "PRUNED", "FAIL"}:
            found.append(f"trial {number} is left {state}")
        seen = [
            row[0]
            for row in rows(
                ledger, "SELECT epoch FROM measurement WHERE trial_uid = ? ORDER BY epoch", uid
            )
        ]
        if seen != list(range(1, len(seen) + 1)):
            found.append(f"trial {number} was measured at {seen}")
        if (state == "COMPLETE") != (len(seen) == epochs and values is not None):
            found.append(f"trial {number} is {state} after {len(seen)} epochs with {values}")
    told = Counter(
        json.loads(row[0])["uid"]
        for row in rows(ledger, "SELECT payload_json FROM event WHERE kind = 'trial_finished'")
    )
    found += [f"trial {row[0]} was told {told[row[1]]} times" for row in kept if told[row[1]] != 1]
    return found


def _of_mlflow(home: Path, study: str) -> list[str]:
    store, ledger = home / "mlflow.db", home / "ledger.db"
    found = []
    tagged = rows(
        store,
        "SELECT value, run_uuid FROM tags WHERE key = 'archscout.trial_uid' AND run_uuid IN"
        " (SELECT run_uuid FROM tags WHERE key = 'archscout.study' AND value = ?)",
        study,
    )
    runs = Counter(uid for uid, _ in tagged)
    known = {
        row[0]: row[1]
        for row in rows(
            ledger,
            "SELECT uid, state FROM trial WHERE study_id = (SELECT id FROM study WHERE name = ?)",
            study,
        )
    }
    found += [f"trial {uid} has {runs[uid]} runs" for uid in known if runs[uid] != 1]
    found += [f"a run shows {uid}, which the ledger does not know" for uid in runs.keys() - known]
    status = dict(rows(store, "SELECT run_uuid, status FROM runs"))
    meant = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
    for uid, run in tagged:
        if status[run] != meant.get(known.get(uid, ""), "SCHEDULED"):
            found.append(f"the run of trial {uid} is {status[run]}, the trial {known.get(uid)}")
        shown = Counter(
            row[0]
            for row in rows(
                store, "SELECT step FROM metrics WHERE key = 'val_accuracy' AND run_uuid = ?", run
            )
        )
        recorded = Counter(
            row[0] for row in rows(ledger, "SELECT epoch FROM measurement WHERE trial_uid = ?", uid)
        )
        if shown != recorded:
            found.append(f"the run of trial {uid} shows {dict(shown)}, measured {dict(recorded)}")
    if left := [run for run, state in status.items() if state == "RUNNING"]:
        found.append(f"runs left RUNNING: {left}")
    return found
