"""Promotions killed at each failpoint, in races, and during `archscout clean`.

One small study for each database is really searched; each promotion has its own model name. The
outputs of the clean process are recorded once, since hundreds of promotions need the same.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import drivers
from drivers import FINISHED, World
from support import registry_checker
from support.promotions import a_promoter, open_in_process

from orchestrator.cli import main
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import AliasMovedError, Ledger
from orchestrator.promotion import package, winner
from orchestrator.promotion.promoter import Promoter
from workers.storage import LocalFolder

POINTS = (
    "promotion.uploaded",
    "promotion.version_made",
    "promotion.alias_claimed",
    "promotion.alias_moved",
)
_KILLED = -9
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A finished study with two trials to promote, and the outputs of their models."""

    world: World
    better: winner.Winner
    worse: winner.Winner

    @property
    def built(self) -> Path:
        """Folder of the written models, by trial."""
        return self.world.home / "built"

    @property
    def answers(self) -> Path:
        """Folder of the models' outputs, by trial and examples."""
        return self.world.home / "answers"

    @property
    def store(self) -> Path:
        return self.world.home / "mlflow.db"


def play(world: World, *, races: int) -> dict[str, Any]:
    """Run kills, a cleaning and races; return counts and violations."""
    scene = _searched(world)
    kills: Counter[str] = Counter()
    found: list[str] = []
    for point in POINTS:
        found += _killed(scene, point, kills)
    found += _amid_cleaning(scene)
    ended = Counter(_race(scene, f"race-{number}", found) for number in range(races))
    return {
        "kills": dict(kills),
        "violations": found,
        "races": {"started": races, "exactly_one_won": ended["lw"], "both_won": ended["ww"]},
    }


def _searched(world: World) -> Scene:
    """Search the study and promote both trials, which records the outputs."""
    words = ["search", "tiny", "--name", world.name, "--trials", "3"]
    _must(world, lambda _: _command(world, *words, "--set", "pruner.name=none"))
    with Ledger.open(world.url) as ledger:
        row = ledger.study(world.name)
        assert row is not None
        config = StudyConfig.from_json(row.config_json)
        ranked = sorted(ledger.trials(row.id), key=lambda trial: trial.values or ())
        prepared = [
            winner.load_winner(ledger, row, config, trial, LocalFolder(world.home / "checkpoints"))
            for trial in ranked
        ]
    scene = Scene(world=world, better=prepared[-1], worse=prepared[0])
    scene.built.mkdir()
    scene.answers.mkdir()
    for number, chosen in enumerate((scene.worse, scene.better)):
        _must(world, partial(_promote, scene, f"recorded-{number}", chosen, opener=_recording))
    return scene


def _killed(scene: Scene, point: str, kills: Counter[str]) -> list[str]:
    """Promote a champion, then kill the promotion of a better model and repeat it."""
    world, model = scene.world, f"killed-at-{point.partition('.')[2].replace('_', '-')}"
    _must(world, partial(_promote, scene, model, scene.worse))
    fault = f"{point}:1:kill"
    pid = drivers.forked(
        world, partial(_promote, scene, model, scene.better), fault, world.home / "errors.txt"
    )
    code = drivers.ended(pid, timeout_s=_TIMEOUT_S)
    found = [] if code == _KILLED else [f"a promotion that met {fault} ended with {code}"]
    kills[point] += code == _KILLED
    found += registry_checker.of_promotions(scene.store, world.ledger, model)
    _must(world, partial(_promote, scene, model, scene.better))
    return found + _won(scene, model, scene.better, versions=2)


def _amid_cleaning(scene: Scene) -> list[str]:
    """Clean up at each step of a promotion."""
    world, model, refused = scene.world, "cleaned", scene.world.home / "refused.txt"

    def clean(_step: str) -> None:
        assert _command(world, "clean", "--yes") == 0
        assert _command(world, "clean", world.name, "--yes") == 0
        drivers.note(refused, str(_command(world, "delete", world.name, "--yes")))

    _must(world, partial(_promote, scene, model, scene.better, say=clean, opener=_quick))
    codes = refused.read_text().split()
    found = [] if set(codes) == {"3"} and len(codes) > 3 else [f"delete answered {codes}"]
    return found + _won(scene, model, scene.better, versions=1)


def _race(scene: Scene, model: str, found: list[str]) -> str:
    """Race two promotions compared with one champion; `lw` is one lost, one won."""
    ready, go, result = (os.pipe() for _ in range(3))

    @contextmanager
    def together(inner: Any) -> Iterator[Any]:
        with inner as opened:
            yield opened
        os.write(ready[1], b".")
        os.read(go[0], 1)

    def contend(_: World, chosen: winner.Winner) -> None:
        word = b"x"
        try:
            _promote(scene, model, chosen, None, around=together)
            word = b"w"
        except AliasMovedError:
            word = b"l"
        finally:
            os.write(result[1], word)
            os.write(ready[1], b".")  # of one that fell, too

    log = scene.world.home / "errors.txt"
    rivals = [partial(contend, chosen=chosen) for chosen in (scene.better, scene.worse)]
    pids = [drivers.forked(scene.world, rival, None, log) for rival in rivals]
    os.read(ready[0], 1), os.read(ready[0], 1)
    os.write(go[1], b"..")
    outcome = "".join(sorted((os.read(result[0], 1) + os.read(result[0], 1)).decode()))
    for pid in pids:
        drivers.ended(pid)
    for end in (*ready, *go, *result):
        os.close(end)
    found += registry_checker.of_promotions(scene.store, scene.world.ledger, model)
    if outcome != "lw":
        found.append(f"two promotions of {model} came to {outcome}; see {log}")
    return outcome


def _won(scene: Scene, model: str, chosen: winner.Winner, versions: int) -> list[str]:
    found = registry_checker.of_promotions(scene.store, scene.world.ledger, model)
    champion = registry_checker.champion(scene.store, model)
    if champion != chosen.trial.uid:
        found.append(f"{model}: the alias points to {champion}, not to {chosen.trial.uid}")
    if (num := registry_checker.num_versions(scene.store, model)) != versions:
        found.append(f"{model} has {num} versions, not {versions}")
    return found


def _must(world: World, body: Callable[[World], Any]) -> None:
    log = world.home / "errors.txt"
    code = drivers.ended(drivers.forked(world, body, None, log), timeout_s=_TIMEOUT_S)
    assert code == FINISHED, log.read_text() if log.exists() else code


def _promote(
    scene: Scene,
    model: str,
    chosen: winner.Winner,
    _world: World | None,
    *,
    opener: Any = None,
    around: Any = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Continue one promotion to its end, in this process."""
    promoter = _promoter(scene, model, chosen, say)
    opened = (opener or _replaying)(scene, promoter, chosen)

    def open_model(*asked: Any) -> Any:
        return opened(*asked) if around is None else around(opened(*asked))

    with mock.patch.object(package, "build", partial(_build, scene)):
        replace(promoter, open_model=open_model).promote()


def _promoter(
    scene: Scene, model: str, chosen: winner.Winner, say: Callable[[str], None]
) -> Promoter:
    world = scene.world
    return a_promoter(
        world.home,
        model,
        ledger_url=world.url,
        winner=chosen,
        say=say,
    )


_write = package.build


def _build(scene: Scene, folder: Path, contents: Any) -> str:
    """Copy the model's files, which are written once."""
    made = scene.built / str(contents.origin["trial_uid"])
    digest = made.with_suffix(".digest")
    if not digest.exists():
        digest.write_text(_write(made, contents))
    shutil.copytree(made, folder)
    return digest.read_text()


def _quick(_scene: Scene, promoter: Promoter, _chosen: winner.Winner) -> Any:
    return promoter.open_model


def _recording(scene: Scene, promoter: Promoter, chosen: winner.Winner) -> Any:
    """Open models in this process, and record their outputs."""

    @contextmanager
    def opener(*asked: Any) -> Iterator[Any]:
        with open_in_process(promoter.registry)(*asked) as model:

            def predict(examples: Any) -> dict[str, list[Any]]:
                said = {name: list(given) for name, given in model.predict(examples).items()}
                _answer(scene, chosen, examples).write_text(json.dumps(said))
                return said

            yield SimpleNamespace(predict=predict)

    return opener


def _replaying(scene: Scene, _promoter: Promoter, chosen: winner.Winner) -> Any:
    """Replay recorded outputs without loading a model."""

    @contextmanager
    def opener(uri: str, digest: str, code: Mapping[str, str]) -> Iterator[Any]:
        def predict(examples: Any) -> Any:
            return json.loads(_answer(scene, chosen, examples).read_text())

        yield SimpleNamespace(predict=predict)

    return opener


def _answer(scene: Scene, chosen: winner.Winner, examples: Any) -> Path:
    digest = hashlib.sha256(examples.tobytes()).hexdigest()[:16]
    return scene.answers / f"{chosen.trial.uid}-{digest}.json"


def _command(world: World, *words: str) -> int:
    """Run a command silently, and return its exit status."""
    os.environ["ARCHSCOUT_LEDGER"] = world.url
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return main(["--home", str(world.home), *words, "--quiet"])
