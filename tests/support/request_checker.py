"""Judges the requests of a study by plain SQL on its ledger; none of the product's code."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from support.checker import Place, rows

_OF_STUDY = "study_id = (SELECT id FROM study WHERE name = ?)"
_CONTINUABLE = {("PRUNED", "rung"), ("COMPLETE", None)}
"""State and reason of a trial that may be continued."""
Requests = Mapping[int, tuple[str, Any, Any]]
"""Kind, payload and answer by id; the answer is None while it is open."""


def of_steering(
    ledger: Place, study: str, requested: int, notes: Iterable[Mapping[str, Any]]
) -> list[str]:
    """What is not as promised of a study's requests, at any moment.

    Args:
        ledger: The ledger.
        study: The study's name.
        requested: Number of trials that were requested in all.
        notes: What its clients noted: `operation`, `kind`, `added` if the ledger acknowledged it,
            and the `answer` they got, if any.
    """
    requests = _requests(ledger, study)
    [(config,)] = rows(ledger, "SELECT config_json FROM study WHERE name = ?", study)
    limit = json.loads(config)["stop"]["trials"]
    return [
        *_edits(json.loads(config), requests),
        *([] if limit == requested else [f"the limit is {limit} trials, requested {requested}"]),
        *_answered_once(ledger, study, requests),
        *_kept(requests, notes),
        *_designs(ledger, study, requests),
        *_stopped(ledger, study, requests),
        *of_continuations(ledger, study),
    ]


def num_requested(ledger: Place, study: str, first: int) -> int:
    """Return the sum of the study's first limit and of all trials that requests added."""
    for kind, payload, answer in _requests(ledger, study).values():
        if kind == "extend" and answer and "refused" not in answer:
            first += payload["trials"]
        elif kind == "enqueue" and answer:
            first += len(answer.get("trials", ()))
    return first


def num_by_kind(ledger: Place, study: str) -> Counter[str]:
    """Return how many requests were carried out and refused, by kind, and continued trials."""
    found = Counter(
        f"{kind} refused" if answer and "refused" in answer else kind
        for kind, _, answer in _requests(ledger, study).values()
    )
    question = f"SELECT count(*) FROM trial WHERE {_OF_STUDY} AND kind = 'continue'"
    [(found["continued trials"],)] = rows(ledger, question, study)
    return found


def ended_trials(ledger: Place, study: str) -> dict[str, Any]:
    """Return rows and measurements of all ended trials, by uid."""
    ended = rows(
        ledger,
        f"SELECT uid, * FROM trial WHERE {_OF_STUDY} AND state IN ('COMPLETE', 'PRUNED', 'FAIL')",
        study,
    )
    question = (
        "SELECT trial_uid, * FROM measurement WHERE trial_uid IN"
        f" (SELECT uid FROM trial WHERE {_OF_STUDY}) ORDER BY epoch"
    )
    measured: dict[str, list[Any]] = {}
    for uid, *row in rows(ledger, question, study):
        measured.setdefault(uid, []).append(row)
    return {uid: (row, measured.get(uid)) for uid, *row in ended}


def of_ended(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed of trials that had ended before."""
    return [
        f"ended trial {uid} has changed: {row} is {now.get(uid)}"
        for uid, row in before.items()
        if now.get(uid) != row
    ]


def of_continuations(ledger: Place, study: str) -> list[str]:
    """Continuations without exactly one earlier, ended parent that has no other."""
    listed = rows(
        ledger,
        f"SELECT number, uid, kind, parent, state, reason, digest, seed, ended, created FROM trial"
        f" WHERE {_OF_STUDY} ORDER BY number",
        study,
    )
    by_uid = {row[1]: row for row in listed}
    parents = Counter(row[3] for row in listed if row[2] == "continue")
    found = [f"trial {uid} was continued {num} times" for uid, num in parents.items() if num > 1]
    for number, _, kind, parent, _, _, digest, seed, _, created in listed:
        if kind != "continue":
            continue
        known = by_uid.get(parent)
        if known is None:
            found.append(f"trial {number} continues {parent}, which is not there")
        elif known[0] >= number or known[8] is None or known[8] > created:
            found.append(f"trial {number} continues trial {known[0]}, which had not ended")
        elif known[4:6] not in _CONTINUABLE or known[6:8] != (digest, seed):
            found.append(f"trial {number} continues another kind of trial: {known}")
    return found


def _answered_once(ledger: Place, study: str, requests: Requests) -> list[str]:
    """Requests without exactly one event of each kind, or with an answer too early."""
    found = []
    answered = {number for number, (_, _, answer) in requests.items() if answer is not None}
    question = f"SELECT payload_json FROM event WHERE {_OF_STUDY} AND kind = ?"
    for event, meant in (("request_added", set(requests)), ("request_answered", answered)):
        times = Counter(
            json.loads(text)["request"] for (text,) in rows(ledger, question, study, event)
        )
        if times != Counter(meant):
            found.append(f"events {event} of requests: {dict(times)}, not one of each of {meant}")
    return found


def _kept(requests: Requests, notes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Operations that were lost or doubled, and answers other than those that a client got."""
    found = []
    by_operation: dict[str, list[Any]] = {}
    for _, payload, answer in requests.values():
        by_operation.setdefault(payload.get("operation", ""), []).append(answer)
    for note in notes:
        answers = by_operation.get(note["operation"], [])
        if note.get("added") and not answers:
            found.append(f"lost: {note['kind']} {note['operation']}")
        if note["operation"] and len(answers) > 1:
            found.append(f"{note['kind']} {note['operation']} is there {len(answers)} times")
        if note.get("answer") is not None and note["answer"] not in answers:
            found.append(f"lost: the answer {note['answer']} to {note['kind']}: {answers}")
    return found


def _edits(config: Any, requests: Requests) -> list[str]:
    """Edited keys that do not have the value of their last edit."""
    newest = {
        key: new
        for _, (kind, payload, answer) in sorted(requests.items())
        if kind == "edit" and answer and "refused" not in answer
        for key, (_, new) in payload["changes"].items()
    }
    found = []
    for key, new in newest.items():
        section, _, name = key.partition(".")
        now = config[section][name] if name else config[section]
        if now != new:
            found.append(f"{key} is {now}, edited to {new}")
    return found


def _designs(ledger: Place, study: str, requests: Requests) -> list[str]:
    """Requested designs that became no trial, or another number of trials than was answered."""
    marked: dict[int, list[int]] = {}
    question = f"SELECT number, sampler_attrs_json FROM trial WHERE {_OF_STUDY} ORDER BY number"
    for number, text in rows(ledger, question, study):
        request = json.loads(text).get("request")
        if request is not None:
            marked.setdefault(request, []).append(number)
    answered = {
        number: answer["trials"]
        for number, (kind, _, answer) in requests.items()
        if kind == "enqueue" and answer and "trials" in answer
    }
    return [] if marked == answered else [f"designs became {marked}, answered were {answered}"]


def _stopped(ledger: Place, study: str, requests: Requests) -> list[str]:
    """Trials that a user stopped, and which others were stopped."""
    question = f"SELECT number, state, reason FROM trial WHERE {_OF_STUDY}"
    listed = rows(ledger, question, study)
    stopped = {number for number, _, reason in listed if reason == "operator"}
    asked, may_end = set(), set()
    for kind, _, answer in requests.values():
        if kind == "stop" and answer and "refused" not in answer:
            asked.add(answer["trial"])
        elif kind == "edit" and answer and "refused" not in answer:
            may_end |= {*answer["trials"]["outside"], *answer["trials"]["infeasible"]}
    found = []
    if not asked <= stopped <= asked | may_end:
        found.append(f"trials {stopped} were stopped, requested were {asked}, edited {may_end}")
    return found + [
        f"stopped trial {number} is {state}"
        for number, state, reason in listed
        if reason == "operator" and state != "PRUNED"
    ]


def _requests(ledger: Place, study: str) -> Requests:
    question = f"SELECT id, kind, payload_json, answer_json FROM request WHERE {_OF_STUDY}"
    return {
        number: (kind, json.loads(payload), None if answer is None else json.loads(answer))
        for number, kind, payload, answer in rows(ledger, question, study)
    }
