"""Report of the rounds in a folder, with a verdict."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import champions
import ray_rounds
import rounds

_RAY_COVERS = 25
"""Number of kills on Ray from which each failpoint of Ray must have been hit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One kind of parts of a run."""

    part: str
    """Prefix of its file names: kind, seed, and size of the plan."""
    count: int

    @property
    def size(self) -> int:
        """Return the requested number of kills or races."""
        return int(self.part.rpartition("-")[2])


def made(folder: Path, planned: dict[str, Planned]) -> dict[str, Any]:
    """Return the report of all files in the folder.

    Args:
        folder: Where what was played is kept.
        planned: By kind: `rounds`, `steered`, `promotions`, `controls`, `races`, `ray`, `stock`.
    """
    played: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for kind, each in planned.items():
        paths = sorted(folder.glob(f"{each.part}-[0-9][0-9][0-9][0-9].json"))
        played[kind] = [json.loads(path.read_text()) for path in paths]
    kills = _sum(played["rounds"])
    missed, at_random = kills.pop("missed", 0), kills.pop("random", 0)
    errors = {name: count for name, count in kills.items() if ":" in name}
    at_points = {name: count for name, count in kills.items() if ":" not in name}
    ray = _on_ray(played["ray"])
    promoted = _sum(played["promotions"])
    covered = {*at_points, *promoted, *(name.partition(" at ")[2] for name in ray["kills"])}
    return {
        "rounds": len(played["rounds"]),
        "left_to_play": {kind: each.count - len(played[kind]) for kind, each in planned.items()},
        "kills": at_random + sum(at_points.values()),
        "kills_at_random_moments": at_random,
        "kills_at_points": dict(sorted(at_points.items())),
        "errors": errors,
        "ended_before_their_fault": missed,
        "ray": ray,
        "steered": {
            "kills": dict(_sum(played["steered"])),
            "requests": dict(_sum(played["steered"], "requests")),
        },
        "promotions": {
            "kills": dict(promoted),
            "races": {one["database"]: one["races"] for one in played["promotions"]},
        },
        "controls": {one["database"]: one["controls"] for one in played["controls"]},
        "races": {one["database"]: one["races"] for one in played["races"]},
        "stock": played["stock"],
        "points_not_covered": sorted(_expected(planned) - covered),
        "violations": [
            f"{part} {one['number']}: {line}"
            for part in ("rounds", "steered", "ray", "promotions")
            for one in played[part]
            for line in one["violations"]
        ],
    }


def faults_of(report: dict[str, Any]) -> list[str]:
    """Return the failures of the run; empty is good."""
    found = list(report["violations"])
    if report["points_not_covered"] and not any(report["left_to_play"].values()):
        found.append(f"not covered: {', '.join(report['points_not_covered'])}")
    for database, played in report["controls"].items():
        for name, sides in played.items():
            found += [f"{database} {name}, guarded: {line}" for line in sides["guarded"]]
            if not sides["unguarded"]:
                found.append(f"{database} {name}: the checker saw nothing without the guard")
    for database, races in _races(report):
        if races["started"] != races["exactly_one_won"]:
            found.append(f"{database}: {races}")
    if report["stock"] and not any(one["violations"] for one in report["stock"]):
        found.append("stock: the checker saw nothing")
    return found


def table(report: dict[str, Any]) -> str:
    """Return the report as text."""
    ray, promotions, steered = report["ray"], report["promotions"], report["steered"]
    counted = {
        **report["kills_at_points"],
        "at random moments": report["kills_at_random_moments"],
        **report["errors"],
        **{f"on Ray: {name}": count for name, count in sorted(ray["kills"].items())},
        **{f"steered: {name}": count for name, count in sorted(steered["kills"].items())},
        **{f"requests: {name}": count for name, count in sorted(steered["requests"].items())},
        **promotions["kills"],
    }
    lines = [f"{count:5d}  {what}" for what, count in counted.items()]
    lines += [
        f"{what}: median {median(took):.1f} s, at most {max(took):.1f} s, of {len(took)}"
        for what, took in sorted(ray["seconds"].items())
    ]
    for database, played in report["controls"].items():
        for name, sides in played.items():
            seen = len(sides["unguarded"])
            guarded = len(sides["guarded"])
            lines.append(f"{name} on {database}: {guarded} violations, {seen} unguarded")
    for what, races in _races(report):
        lines.append(f"{races['exactly_one_won']} of {races['started']} races: one won, {what}")
    for one in report["stock"]:
        lines.append(f"stock round {one['number']}, {sum(one['kills'].values())} kills:")
        lines += [f"       {line}" for line in one["violations"]]
    left = {part: num for part, num in report["left_to_play"].items() if num}
    lines += [f"{num} of {part} left to play" for part, num in left.items()]
    lines.append(
        f"{report['kills']} kills in {report['rounds']} rounds, "
        f"{sum(steered['kills'].values())} more while a user steers, {sum(ray['kills'].values())} "
        f"through Ray in {ray['rounds']}; {len(report['points_not_covered'])} points not covered; "
        f"{report['took_s']} s"
    )
    lines += [f"VIOLATED {line}" for line in faults_of(report)] or ["0 violations"]
    return "\n".join(lines)


def _races(report: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    drivers = [(f"drivers on {name}", one) for name, one in report["races"].items()]
    promoters = report["promotions"]["races"].items()
    return drivers + [(f"promotions on {name}", one) for name, one in promoters]


def _on_ray(played: list[dict[str, Any]]) -> dict[str, Any]:
    kills = _sum(played)
    missed = kills.pop("missed", 0)
    seconds: dict[str, list[float]] = defaultdict(list)
    for one in played:
        for what, took in one["seconds"].items():
            seconds[what] += took
    return {"rounds": len(played), "kills": dict(kills), "missed": missed, "seconds": dict(seconds)}


def _expected(planned: dict[str, Planned]) -> set[str]:
    """Return the failpoints that a run of this size must hit."""
    points: set[str] = set()
    if "rounds" in planned and planned["rounds"].size >= 2 * len(rounds.POINTS):
        points |= set(rounds.POINTS)
    if "ray" in planned and planned["ray"].size >= _RAY_COVERS:
        points |= set(ray_rounds.POINTS)
    if "promotions" in planned:
        points |= set(champions.POINTS)
    return points


def _sum(played: list[dict[str, Any]], key: str = "kills") -> Counter[str]:
    total: Counter[str] = Counter()
    for each in played:
        total.update(each[key])
    return total
