"""Judges a study by plain SQL on its two databases; shares no code with the product."""

import json
import math
import sqlite3
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import psycopg

Place = Path | str
"""A database: an SQLite file, or a PostgreSQL URL."""


def rows(database: Place, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """The answer to a question, read without writing."""
    if isinstance(database, str):
        with psycopg.connect(database, autocommit=True) as server:
            return server.execute(question.replace("?", "%s").encode(), values).fetchall()
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


def num_measured(ledger: Place, study: str) -> int:
    """How many measurements of a study are kept in a ledger that has its tables."""
    question = (
        "SELECT count(*) FROM measurement WHERE trial_uid IN (SELECT uid FROM trial"
        " WHERE study_id = (SELECT id FROM study WHERE name = ?))"
    )
    return int(rows(ledger, question, study)[0][0])


def state_of(ledger: Place, uid: str) -> tuple[Any, ...]:
    """How far a trial has come: its newest epoch, and whether it is over."""
    [(newest,)] = rows(ledger, "SELECT max(epoch) FROM measurement WHERE trial_uid = ?", uid)
    [(state,)] = rows(ledger, "SELECT state FROM trial WHERE uid = ?", uid)
    return newest, state not in {"WAITING", "RUNNING"}


def num_attempts(ledger: Place, study: str, outcomes: Iterable[str]) -> int:
    """How many attempts of a study ended in one of these ways."""
    question = (
        "SELECT outcome FROM attempt WHERE trial_uid IN (SELECT uid FROM trial"
        " WHERE study_id = (SELECT id FROM study WHERE name = ?))"
    )
    wanted = set(outcomes)
    return sum(outcome in wanted for (outcome,) in rows(ledger, question, study))


def losses(ledger: Place, study: str) -> int:
    """The most drivers in a row that died in one open trial before it came to a new epoch."""
    worst = 0
    try:
        kept = _trials(ledger, study, "uid, state")
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):  # killed before it had any
        return 0
    for uid, state in kept:
        attempts = rows(
            ledger,
            "SELECT outcome, (SELECT count(*) FROM measurement"
            " WHERE trial_uid = attempt.trial_uid AND attempt = attempt.number)"
            " FROM attempt WHERE trial_uid = ? ORDER BY number DESC",
            uid,
        )
        if state in {"WAITING", "RUNNING"}:
            alike = (outcome in {None, "lost"} and not epochs for outcome, epochs in attempts)
            worst = max(worst, sum(takewhile(bool, alike)))
    return worst


def violations(home: Path, study: str, *, trials: int, epochs: int) -> list[str]:
    """Everything about a finished study that is not as promised; empty is good.

    Args:
        home: The folder of both databases.
        study: The study's name.
        trials: How many trials it was to start.
        epochs: The fidelity at which a trial is complete.
    """
    ledger = home / "ledger.db"
    return [
        *of_ledger(ledger, study, trials, epochs),
        *of_mlflow(home / "mlflow.db", ledger, study),
    ]


def of_ledger(ledger: Place, study: str, trials: int, epochs: int) -> list[str]:
    """What is not as promised in the ledger alone."""
    found = []
    kept = _trials(ledger, study, "number, uid, state, attempts, values_json, kind, parent")
    if [row[0] for row in kept] != list(range(len(kept))):
        found.append(f"numbers are not dense: {[row[0] for row in kept]}")
    if (started := sum(row[3] > 0 and row[5] != "continue" for row in kept)) != trials:
        found.append(f"{started} trials were started, not {trials}")
    continued = {row[6] for row in kept if row[5] == "continue"}
    if len(continued) != sum(row[5] == "continue" for row in kept):
        found.append("a trial was continued twice")
    curves: dict[str, list[int]] = {}
    for number, uid, state, _, values, kind, parent in kept:
        if state not in {"COMPLETE", "PRUNED", "FAIL"}:
            found.append(f"trial {number} is left {state}")
        seen = _epochs(ledger, uid)
        if kind == "continue":
            seen = [epoch for epoch in curves[parent] if not seen or epoch < seen[0]] + seen
        curves[uid] = seen
        if seen != list(range(1, len(seen) + 1)):
            found.append(f"trial {number} was measured at {seen}")
        if (state == "COMPLETE") != (len(seen) == epochs and values is not None):
            found.append(f"trial {number} is {state} after {len(seen)} epochs with {values}")
    finished = Counter(
        payload["uid"] for _, kind, payload, _ in _events(ledger, study) if kind == "trial_finished"
    )
    found += [
        f"trial {row[0]} ended {finished[row[1]]} times" for row in kept if finished[row[1]] != 1
    ]
    return [*found, *of_events(ledger, study), *of_numbers(ledger, study)]


def of_events(ledger: Place, study: str) -> list[str]:
    """What the order of events shows: writes of drivers or attempts that were replaced."""
    found: list[str] = []
    newest = 0
    open_attempt: dict[str, int | None] = {}
    for number, kind, payload, generation in _events(ledger, study):
        if generation < newest:
            found.append(f"event {number}: generation {generation} wrote after {newest}")
        newest = max(newest, generation)
        uid, attempt = payload.get("uid"), payload.get("attempt")
        if kind == "attempt_started":
            open_attempt[uid] = attempt
        elif kind == "measurement" and open_attempt.get(uid) != attempt:
            found.append(
                f"event {number}: attempt {attempt} wrote, {open_attempt.get(uid)} is open"
            )
        elif kind in {"trial_given_back", "trial_finished"}:
            open_attempt[uid] = None
    return found


def of_leases(ledger: Place, study: str) -> list[str]:
    """Leases that overlapped, where no driver died: each must be released before the next."""
    found, held = [], False
    for number, kind, _, _ in _events(ledger, study):
        if kind == "lease_acquired":
            if held:
                found.append(f"event {number}: the lease was taken while another driver held it")
            held = True
        elif kind == "lease_released":
            held = False
    return found


def of_numbers(ledger: Place, study: str) -> list[str]:
    """Numbers that are not finite, wherever they may be."""
    found = []
    for number, uid, values in _trials(ledger, study, "number, uid, values_json"):
        stored = [values] + [
            row[0]
            for row in rows(ledger, "SELECT metrics_json FROM measurement WHERE trial_uid = ?", uid)
        ]
        if any(not _is_finite(json.loads(text)) for text in stored if text):
            found.append(f"trial {number} holds a number that is not finite")
    return found


def of_acknowledged(ledger: Place, acknowledged: Iterable[dict[str, Any]]) -> list[str]:
    """What was acknowledged to a driver and is not in the ledger."""
    found = []
    for said in acknowledged:
        uid = said["uid"]
        if said["what"] == "record":
            kept = rows(
                ledger,
                "SELECT metrics_json FROM measurement WHERE trial_uid = ? AND epoch = ?",
                uid,
                said["epoch"],
            )
            # An epoch that was there before stays as it is: the first wins.
            if not kept or (said["fresh"] and json.loads(kept[0][0]) != said["metrics"]):
                found.append(f"lost: epoch {said['epoch']} of trial {uid}: {kept}")
        else:
            kept = rows(ledger, "SELECT state FROM trial WHERE uid = ?", uid)
            if not kept or (said["what"] == "finish" and kept[0][0] != said["state"]):
                found.append(f"lost: {said['what']} of trial {uid}: {kept}")
    return found


def of_requests(ledger: Place, study: str) -> list[str]:
    """What was asked of a study that has ended, and was never answered."""
    question = (
        "SELECT id, kind FROM request WHERE answered IS NULL AND"
        " study_id = (SELECT id FROM study WHERE name = ?)"
    )
    return [f"{kind} {number} was never answered" for number, kind in rows(ledger, question, study)]


def story(ledger: Place, study: str) -> list[Any]:
    """What a study has come to, without uids, times and attempts."""
    columns = "number, uid, params_json, digest, seed, state, reason, values_json, violations_json"
    return [
        (
            number,
            *rest,
            rows(
                ledger,
                "SELECT epoch, metrics_json FROM measurement WHERE trial_uid = ? ORDER BY epoch",
                uid,
            ),
        )
        for number, uid, *rest in _trials(ledger, study, columns)
    ]


def of_mlflow(store: Path, ledger: Place, study: str) -> list[str]:
    """Where MLflow does not show what the ledger holds."""
    found = []
    tagged = rows(
        store,
        "SELECT value, run_uuid FROM tags WHERE key = 'archscout.trial_uid' AND run_uuid IN"
        " (SELECT run_uuid FROM tags WHERE key = 'archscout.study' AND value = ?)",
        study,
    )
    runs = Counter(uid for uid, _ in tagged)
    known = dict(_trials(ledger, study, "uid, state"))
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
        recorded = Counter(_epochs(ledger, uid))
        if shown != recorded:
            found.append(f"the run of trial {uid} shows {dict(shown)}, measured {dict(recorded)}")
    if left := [run for run, state in status.items() if state == "RUNNING"]:
        found.append(f"runs left RUNNING: {left}")
    return found


def _trials(ledger: Place, study: str, columns: str) -> list[tuple[Any, ...]]:
    return rows(
        ledger,
        f"SELECT {columns} FROM trial WHERE study_id = (SELECT id FROM study WHERE name = ?)"
        " ORDER BY number",
        study,
    )


def _events(ledger: Place, study: str) -> Iterator[tuple[int, str, dict[str, Any], int]]:
    for number, kind, payload, generation in rows(
        ledger,
        "SELECT id, kind, payload_json, generation FROM event WHERE study_id ="
        " (SELECT id FROM study WHERE name = ?) AND kind <> 'promotion' ORDER BY id",
        study,
    ):
        yield number, kind, json.loads(payload), generation


def _epochs(ledger: Place, uid: str) -> list[int]:
    return [
        row[0]
        for row in rows(
            ledger, "SELECT epoch FROM measurement WHERE trial_uid = ? ORDER BY epoch", uid
        )
    ]


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def of_mlflow_over_rest(url: str, ledger: Place, study: str) -> list[str]:
    """Where a server of MLflow does not show what the ledger holds: runs, ends, every metric."""
    runs = _runs_over_rest(url, study)
    by_uid = Counter(run["tags"].get("archscout.trial_uid") for run in runs)
    known = dict(_trials(ledger, study, "uid, state"))
    found = [f"trial {uid} has {by_uid[uid]} runs" for uid in known if by_uid[uid] != 1]
    found += [f"a run shows {uid}, unknown to the ledger" for uid in by_uid.keys() - known]
    meant = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED", "RUNNING": "RUNNING"}
    for run in runs:
        uid = run["tags"].get("archscout.trial_uid")
        if uid in known and run["status"] != meant.get(known[uid], "SCHEDULED"):
            found.append(f"the run of trial {uid} is {run['status']}, the trial {known[uid]}")
    shown = shown_over_rest(url, study)
    for point in recorded(ledger, study):
        if shown[point] != 1:
            found.append(f"{point} is shown {shown[point]} times")
    return found


def recorded(ledger: Place, study: str) -> list[tuple[str, int, str, float]]:
    """Every metric that the ledger has: trial, epoch, name, value."""
    return [
        (uid, epoch, name, value)
        for (uid,) in _trials(ledger, study, "uid")
        for epoch, text in rows(
            ledger, "SELECT epoch, metrics_json FROM measurement WHERE trial_uid = ?", uid
        )
        for name, value in json.loads(text).items()
    ]


def shown_over_rest(url: str, study: str) -> "Counter[tuple[str, int, str, float]]":
    """Every metric that a server of MLflow shows, and how often: trial, epoch, name, value."""
    runs = {run["id"]: run for run in _runs_over_rest(url, study)}
    seen: Counter[tuple[str, int, str, float]] = Counter()
    for name in {name for run in runs.values() for name in run["metrics"]}:
        having = [identity for identity, run in runs.items() if name in run["metrics"]]
        for start in range(0, len(having), 100):
            asked = [("metric_key", name), ("max_results", "25000")]
            asked += [("run_id", identity) for identity in having[start : start + 100]]
            path = f"ajax-api/2.0/mlflow/metrics/get-history-bulk?{urllib.parse.urlencode(asked)}"
            for point in _rest(url, path)["metrics"]:
                uid = runs[point["run_id"]]["tags"].get("archscout.trial_uid")
                seen[uid, int(point["step"]), name, float(point["value"])] += 1
    return seen


def _runs_over_rest(url: str, study: str) -> list[dict[str, Any]]:
    """The runs of a study's trials, deleted ones too."""
    name = urllib.parse.quote(f"archscout/{study}", safe="")
    place = f"api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    experiment = _rest(url, place)["experiment"]["experiment_id"]
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        asked = {"experiment_ids": [experiment], "run_view_type": "ALL", "max_results": 1000}
        answer = _rest(url, "api/2.0/mlflow/runs/search", {**asked, "page_token": token})
        for run in answer.get("runs", []):
            tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
            names = {metric["key"] for metric in run["data"].get("metrics", [])}
            info = run["info"]
            found.append(
                {"id": info["run_id"], "status": info["status"], "tags": tags, "metrics": names}
            )
        token = answer.get("next_page_token", "")
        if not token:
            return [run for run in found if "archscout.trial_uid" in run["tags"]]


def _rest(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}/{path}", data=sent, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
