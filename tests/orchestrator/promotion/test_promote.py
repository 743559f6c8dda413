"""Promotion: models that reach the registry, refusals, and crashes."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from support.promotions import Dead, a_promoter

from orchestrator.errors import ExitCode, PromotionRefusedError
from orchestrator.ledger import AliasMovedError, Ledger
from orchestrator.promotion import package, winner
from orchestrator.promotion.clean_model import open_clean_model
from orchestrator.promotion.promoter import Promoter
from workers import manifest
from workers.data import DataSpec, load

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
Answer = Callable[..., tuple[int, Any, str]]

PLAIN = """
import json, sys
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(list(model.predict(np.load(sys.argv[2]))["label"])))
"""


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def versions(home: Path, model: str) -> list[Any]:
    return list(client(home).search_model_versions(f"name = '{model}'"))


def alias(home: Path, model: str, name: str = "champion") -> int:
    return int(client(home).get_model_version_by_alias(model, name).version)


def files(home: Path, model: str) -> Path:
    version = versions(home, model)[0]
    return Path(client(home).get_model_version_download_uri(model, version.version)[7:])


def note(home: Path, trial: int) -> str:
    experiment = client(home).get_experiment_by_name("archscout/tiny")
    assert experiment is not None
    runs = client(home).search_runs(
        [experiment.experiment_id], f"tags.`archscout.trial` = '{trial}'"
    )
    return str(runs[0].data.tags.get("archscout.promotion"))


def numbers(home: Path) -> list[int]:
    """Trials, the best first."""
    with Ledger.open(home / "ledger.db") as ledger:
        trials = ledger.trials(ledger.studies()[0].id)
    return [t.number for t in sorted(trials, key=lambda t: (t.values or (0,))[0], reverse=True)]


class TestAPromotedModel:
    def test_is_described_in_the_registry(self, promoted: Path) -> None:
        version = versions(promoted, "digits")[0]
        assert alias(promoted, "digits") == int(version.version) == 1
        for part in ("architecture", "tiny, trial", "validation", "test", "digest"):
            assert part in version.description
        for tag in ("test_accuracy", "val_accuracy", "data_digest", "manifest_sha256"):
            assert version.tags[f"archscout.{tag}"]
        assert version.tags["archscout.test_openings"] == "1"
        folder = files(promoted, "digits")
        written = (folder / "MLmodel").read_text()
        assert '"dtype": "uint8", "shape": [-1, 8,\n    8]' in written
        assert (folder / "input_example.json").is_file()
        assert (folder / "artifacts/model/weights.safetensors").is_file()
        assert "torch==2" in (folder / "requirements.txt").read_text()

    def test_contains_no_pickles(self, promoted: Path) -> None:
        suffixes = {path.suffix for path in files(promoted, "digits").rglob("*") if path.is_file()}
        assert suffixes <= {"", ".py", ".json", ".yaml", ".txt", ".safetensors"}

    def test_reproduces_its_test_accuracy_in_plain_mlflow(
        self, promoted: Path, tmp_path: Path
    ) -> None:
        test = load(DataSpec(source="digits")).open_test()
        np.save(tmp_path / "test.npy", test.inputs["image"][:, 0])
        store = f"sqlite:///{promoted / 'mlflow.db'}"
        environment = {"MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(
            [sys.executable, "-I", "-c", PLAIN, "models:/digits@champion", "test.npy"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        labels = json.loads(done.stdout.splitlines()[-1])
        right = [str(target) for target in test.targets]
        accuracy = np.mean([label == true for label, true in zip(labels, right, strict=True)])
        recorded = float(versions(promoted, "digits")[0].tags["archscout.test_accuracy"])
        assert accuracy == recorded

    def test_is_not_promoted_twice(self, promoted: Path, answer: Answer) -> None:
        code, said, _ = answer("promote", "tiny", "--model", "digits")
        assert (code, said["was_done"], said["version"]) == (0, True, 1)
        assert said["test_openings"] == 1
        assert len(versions(promoted, "digits")) == 1

    def test_is_kept_against_a_worse_challenger(self, promoted: Path, answer: Answer) -> None:
        worst = numbers(promoted)[-1]
        code, said, _ = answer("promote", "tiny", "--model", "digits", "--trial", str(worst))
        assert code == ExitCode.REFUSED
        assert "it is kept" in said["errors"][0]
        assert alias(promoted, "digits") == 1
        assert len(versions(promoted, "digits")) == 1
        assert note(promoted, worst).startswith("refused for digits@champion")

    def test_is_replaced_by_a_challenger_not_worse(self, home: Path, quick_build: None) -> None:
        best, *_, worst = numbers(home)
        assert a_promoter(home, "rising", trial=worst).promote().replaced is None
        assert a_promoter(home, "rising", trial=best).promote().replaced == 1
        assert alias(home, "rising") == 2

    def test_may_contain_a_users_own_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(MINE)
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "smooth.py").write_text(SMOOTH)
        own = tmp_path / "home"
        search = ["tiny", "--name", "mine", "--set", "space=mine.py:space"]
        assert answer("search", *search, "--trials", "1", at=own)[0] == 0
        code, said, _ = answer("promote", "mine", "--model", "mine", at=own)
        assert code == 0, said
        bundled = files(own, "mine") / package.CODE
        assert (bundled / package.USER_CODE).read_text() == MINE
        assert (bundled / "parts" / "smooth.py").read_text() == SMOOTH
        np.save(tmp_path / "one.npy", np.zeros((8, 8), dtype=np.uint8))
        assert answer("predict", "mine@champion", "one.npy", at=own)[0] == 0
        (tmp_path / "mine.py").write_text(MINE + "\n")
        code, said, _ = answer("promote", "mine", "--model", "other", at=own)
        assert code == ExitCode.REFUSED
        assert "is not the file of the search" in said["errors"][0]


SMOOTH = """
from dataclasses import dataclass

from torch import nn

from search_spaces.blocks import register_block


@register_block
@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth:
    kind = "smooth"

    def out_shape(self, shape):
        return shape

    def build(self, shape):
        return nn.AvgPool2d(3, stride=1, padding=1)
"""
MINE = """
from parts.smooth import Smooth

from search_spaces.blocks import ConvolutionStem, Stage
from search_spaces.catalog.parts import classifier
from search_spaces.domains import Const, Repeat
from search_spaces.space import SearchSpace

stage = Const(Stage(width=8, depth=1, block=Smooth()))
space = SearchSpace.of(
    name="mine",
    version="1",
    architecture=classifier(Const(ConvolutionStem(width=8)), Repeat(stage, 1, 1)),
)
"""


def flip_a_byte(folder: Path) -> None:
    path = folder / "artifacts/model/weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def remove_a_file(folder: Path) -> None:
    (folder / "artifacts/model/model.json").unlink()


def swap_the_shim(folder: Path) -> None:
    path = folder / "archscout_model.py"
    path.write_text(path.read_text() + "\nimport os\n")


def swap_the_bundle(folder: Path) -> None:
    path = folder / package.CODE / "search_spaces/__init__.py"
    path.write_text(path.read_text() + "\nimport os\n")


def link_out(folder: Path) -> None:
    path = folder / "artifacts/model/model.json"
    kept = folder / "kept.json"
    path.rename(kept)
    path.symlink_to(kept)


def remake_the_manifest(folder: Path) -> None:
    swap_the_shim(folder)
    (folder / manifest.NAME).unlink()
    manifest.write(folder)


TAMPERED = {
    "a flipped byte": (flip_a_byte, "weights.safetensors has changed"),
    "a removed file": (remove_a_file, "model.json cannot be read"),
    "a swapped shim": (swap_the_shim, "archscout_model.py is larger|has changed"),
    "a swapped bundle": (swap_the_bundle, "__init__.py is larger|has changed"),
    "another manifest": (remake_the_manifest, "manifest.json is not the one"),
}


class Tampering:
    """A registry in which another process changes the files as soon as they are there."""

    def __init__(self, inner: Any, change: Callable[[Path], None]) -> None:
        self._inner = inner
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def upload(self, run: Any, folder: Path, place: str) -> None:
        self._inner.upload(run, folder, place)
        self._change(Path(run.info.artifact_uri.removeprefix("file://")) / place)


@pytest.mark.usefixtures("quick_build")
class TestARefusal:
    @pytest.mark.parametrize("what", TAMPERED)
    def test_meets_files_changed_between_upload_and_check(self, home: Path, what: str) -> None:
        change, reason = TAMPERED[what]
        model = what.replace(" ", "-")
        honest = a_promoter(home, model)
        with pytest.raises(PromotionRefusedError, match=reason) as refused:
            replace(honest, registry=Tampering(honest.registry, change)).promote()
        assert refused.value.exit_code is ExitCode.REFUSED
        assert client(home).get_registered_model(model).aliases == {}
        assert note(home, numbers(home)[0]) == f"refused for {model}@champion: {refused.value}"
        again = honest.promote()
        assert (again.version, again.test_openings > 0) == (1, True)
        assert alias(home, model) == 1

    def test_meets_them_in_the_clean_process_too(self, home: Path) -> None:
        honest = a_promoter(home, "clean")
        changed = Tampering(honest.registry, flip_a_byte)
        store = f"sqlite:///{home / 'mlflow.db'}"
        with pytest.raises(PromotionRefusedError, match=r"weights\.safetensors has changed"):
            replace(
                honest,
                registry=changed,
                open_model=lambda uri, digest, code: open_clean_model(uri, store, digest, code),
            ).promote()

    def test_meets_code_that_is_not_ours_even_under_a_manifest_of_its_own(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = package.expected_code(None)
        monkeypatch.setattr(
            package, "expected_code", lambda _: {**honest, "archscout_model.py": "another"}
        )
        with pytest.raises(PromotionRefusedError, match="is not archscout's own"):
            a_promoter(home, "foreign").promote()

    def test_meets_a_model_that_does_not_reproduce_its_scores(self, home: Path) -> None:
        honest = a_promoter(home, "boasting")
        boasting = replace(honest.winner, scores={"accuracy": 0.999})
        with pytest.raises(PromotionRefusedError, match="differ by more than the tolerance"):
            replace(honest, winner=boasting).promote()
        assert client(home).get_registered_model("boasting").aliases == {}

    def test_meets_other_data_before_anything_is_registered(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
    ) -> None:
        other = replace(load(DataSpec(source="digits")), digest="0" * 64)
        monkeypatch.setattr(winner, "load", lambda _: other)
        code, said, _ = answer("promote", "tiny", "--model", "elsewhere")
        assert code == ExitCode.REFUSED
        assert "the data are not those of the search" in said["errors"][0]
        assert versions(home, "elsewhere") == []
        assert "the data are not those" in note(home, numbers(home)[0])

    def test_meets_a_damaged_checkpoint(self, home: Path, answer: Answer) -> None:
        with Ledger.open(home / "ledger.db") as ledger:
            trial = ledger.trial(ledger.studies()[0].id, numbers(home)[0])
            path = Path(ledger.checkpoints(trial.uid)[0].path) / "tensors.safetensors"
        content = path.read_bytes()
        try:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            code, said, _ = answer("promote", "tiny", "--model", "damaged")
        finally:
            path.write_bytes(content)
        assert code == ExitCode.REFUSED
        assert "has changed since it was recorded" in said["errors"][0]

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["promote", "tinny", "--model", "m"], "Did you mean 'tiny'"),
            (["promote", "tiny", "--model", "m", "--trial", "99"], "has no trial 99"),
            (["promote", "tiny", "--model", "../m"], "--model: '../m' is not a name"),
            (["promote", "tiny", "--model", "m", "--alias", "v1"], "MLflow reserves 'v1'"),
            (["promote", "tiny", "--model", "m", "--trial", "first"], "not a whole number"),
        ],
    )
    def test_does_not_follow_a_typing_mistake(
        self, answer: Answer, words: list[str], text: str
    ) -> None:
        code, said, _ = answer(*words)
        assert code == ExitCode.INPUT
        assert text in said["errors"][0]


@pytest.mark.usefixtures("quick_build")
class TestACrash:
    def test_at_any_step_leaves_the_old_alias_and_a_resumable_promotion(self, home: Path) -> None:
        best, *_, worst = numbers(home)
        old = a_promoter(home, "crash", trial=worst)
        old.promote()
        challenger = a_promoter(home, "crash", trial=best).winner
        for lives in itertools.count(1):
            given: dict[str, Any] = {"winner": challenger, "alias": f"crash-{lives}"}
            old.registry.set_alias("crash", given["alias"], 1)
            dying = a_promoter(home, "crash", **given, lives=lives)
            try:
                dying.promote()
            except Dead:
                promotions = old.ledger.promotions.all()
                row = next(p for p in promotions if p.operation == dying.operation)
                now = alias(home, "crash", given["alias"])
                assert now == 1 or row.state in {"moving", "done"}
            else:
                break
            done = a_promoter(home, "crash", **given).promote()
            assert done.version == alias(home, "crash", given["alias"]) == lives + 1
            assert len(versions(home, "crash")) == lives + 1
            assert versions(home, "crash")[0].tags["archscout.promotion"] == "done"
        assert lives > 14

    def test_during_the_test_evaluation_is_counted(self, home: Path) -> None:
        honest = a_promoter(home, "counted")
        before = sum(p.detail.get("test_openings", 0) for p in honest.ledger.promotions.all())

        @contextmanager
        def open_model(uri: str, digest: str, code: Any) -> Any:
            with honest.open_model(uri, digest, code) as model:
                calls: list[Any] = []

                def predict(images: Any) -> Any:
                    calls.append(images)
                    if len(calls) == 2:
                        raise Dead
                    return model.predict(images)

                yield type("Dying", (), {"predict": staticmethod(predict)})

        with pytest.raises(Dead):
            replace(honest, open_model=open_model).promote()
        assert honest.promote().test_openings == before + 2


@pytest.mark.usefixtures("quick_build")
class TestTwoPromoters:
    def test_at_the_same_moment_one_wins_and_one_loses(self, home: Path) -> None:
        best, *_, worst = numbers(home)
        alone, both = Lock(), Barrier(2, timeout=120)

        def promote(promoter: Promoter) -> int | str:
            @contextmanager
            def open_model(uri: str, digest: str, code: Any) -> Any:
                with promoter.open_model(uri, digest, code) as model:
                    yield model
                alone.release()
                both.wait()

            alone.acquire()  # until both have compared themselves: warnings filters are global
            try:
                return replace(promoter, open_model=open_model).promote().version
            except AliasMovedError as lost:
                return str(lost)

        with ThreadPoolExecutor(2) as pool:
            rivals = [a_promoter(home, "rivals", trial=trial) for trial in (best, worst)]
            first, second = pool.map(promote, rivals)
        won, lost = (first, second) if isinstance(first, int) else (second, first)
        assert won == alias(home, "rivals")
        assert "rivals@champion stays as it is" in str(lost)

    def test_of_a_better_trial_loses_too_if_the_champion_changed_meanwhile(
        self, home: Path
    ) -> None:
        best, *_, worst = numbers(home)
        first, second = (
            a_promoter(home, "behind", trial=worst),
            a_promoter(home, "behind", trial=best),
        )

        @contextmanager
        def overtaken(uri: str, digest: str, code: Any) -> Any:
            with second.open_model(uri, digest, code) as model:
                yield model
            first.promote()

        with pytest.raises(AliasMovedError, match="another promotion has moved it"):
            replace(second, open_model=overtaken).promote()
        assert client(home).get_model_version_by_alias("behind", "champion").tags[
            "archscout.trial"
        ] == str(worst)
        assert second.promote().version == alias(home, "behind")

    def test_of_the_same_trial_do_not_work_at_once(self, home: Path, tmp_path: Path) -> None:
        from orchestrator.ledger import PromotionHeldError

        honest = a_promoter(home, "twice")
        living = replace(honest.holder, pid=os.getppid())
        started = Path(f"/proc/{living.pid}/stat").read_text().rpartition(")")[2].split()[19]
        neighbor = replace(honest, holder=replace(living, process_started=started))

        @contextmanager
        def joined(uri: str, digest: str, code: Any) -> Any:
            with pytest.raises(PromotionHeldError, match="is promoting this trial"):
                neighbor.promote()
            with honest.open_model(uri, digest, code) as model:
                yield model

        assert replace(honest, open_model=joined).promote().version == 1
        shutil.rmtree(tmp_path / "built")
