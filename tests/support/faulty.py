"""Studies in which single trials go wrong, each in its own way, among trials that do not."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.engines import Engine
from orchestrator.trial import Trial
from search_spaces.space import DefineByRunSpace
from support.studies import config, opened
from workers.data import DataSpec, load

TRAIN = '''
import ctypes, json, os, random, resource, time
from pathlib import Path


def train(decisions, context):
    """Numbers that depend on the seed alone; goes wrong after one epoch where it is set to."""
    faults = json.loads(Path(__file__).with_name("faults.json").read_text())
    fault = faults.get(str(decisions["number"]))
    chance = random.Random(context.seed)
    for epoch in range(1, context.epochs + 1):
        value = chance.random()
        if epoch > 1 and fault == "nan":
            value = float("nan")
        if epoch > 1 and fault == "exception":
            raise ValueError("shapes differ")
        if epoch > 1 and fault == "sleep":
            time.sleep(1000)
        if epoch > 1 and fault == "busy loop in C":
            ctypes.PyDLL(None).sleep(1000)
        if epoch > 1 and fault == "os._exit":
            os._exit(3)
        if epoch > 1 and fault == "segfault":
            ctypes.string_at(0)
        if epoch > 1 and fault == "out of memory":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), most))
            try:
                bytearray(1 << 30)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
        yield {"val_accuracy": value, "val_loss": chance.random()}
'''

ENDS = {
    "nan": ("PRUNED", "diverged", ["pruned"]),
    "exception": ("FAIL", "user_code", ["fail"]),
    "sleep": ("FAIL", "timeout", ["timeout", "timeout", "fail"]),
    "busy loop in C": ("FAIL", "timeout", ["timeout", "timeout", "fail"]),
    "os._exit": ("FAIL", "infrastructure", ["crash", "crash", "fail"]),
    "segfault": ("FAIL", "infrastructure", ["crash", "crash", "fail"]),
    "out of memory": ("FAIL", "out_of_memory", ["out_of_memory", "fail"]),
}
"""How a trial ends that goes wrong at every attempt: its state, its reason, its attempts."""

Seen = dict[int, list[tuple[int, dict[str, float]]]]
"""Every metric of every epoch, by trial."""


def run(folder: Path, engine: Engine, faults: dict[int, str], trials: int) -> list[Trial]:
    """A study in which the trials of these numbers go wrong; its trials."""
    folder.mkdir()
    (folder / "mine.py").write_text(TRAIN)
    (folder / "faults.json").write_text(json.dumps(faults))
    settled = config(
        train=f"{folder / 'mine.py'}:train",
        stop={"trials": trials},
        budget={"minimum": 3, "maximum": 3, "reduction_factor": 3},
        seed_points=[{"number": number} for number in range(trials)],
    )

    def asked(trial: Any) -> dict[str, Any]:
        return {"number": trial.suggest_int("number", 0, trials - 1)}

    space = DefineByRunSpace(name="faulty", version="1", function=asked)
    with opened(folder, settled, space=space) as study:
        engine.run(study, load(DataSpec(source="surrogate")))
        return list(study.trials)


def outcomes(folder: Path, number: int) -> list[str]:
    """How the attempts of a trial ended, by plain SQL."""
    query = (
        "SELECT attempt.outcome FROM attempt JOIN trial ON trial.uid = attempt.trial_uid"
        " WHERE trial.number = ? ORDER BY attempt.number"
    )
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return [row[0] for row in ledger.execute(query, (number,))]


def measured(trials: list[Trial]) -> Seen:
    """What each trial was seen to do."""
    return {t.number: [(m.fidelity, dict(m.metrics)) for m in t.measurements] for t in trials}


def wrong(folder: Path, engine: Engine, faults: dict[int, str], trials: int) -> list[str]:
    """What is not as promised: the class of each fault, and every metric of its neighbors."""
    calm = measured(run(folder / "calm", engine, {}, trials))
    hurt = run(folder / "hurt", engine, faults, trials)
    seen, found = measured(hurt), []
    for number, fault in faults.items():
        trial = hurt[number]
        ended = (str(trial.state), trial.reason, outcomes(folder / "hurt", number))
        if ended != ENDS[fault]:
            found.append(f"{fault}: ended as {ended}, not {ENDS[fault]}")
    found += [
        f"trial {number}: {seen[number]} with faults, {calm[number]} without"
        for number in sorted(set(range(trials)) - set(faults))
        if seen[number] != calm[number] or str(hurt[number].state) != "COMPLETE"
    ]
    return found
