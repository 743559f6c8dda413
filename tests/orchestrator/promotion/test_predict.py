"""Predictions: by the command on files, by MLflow's server over HTTP, and by nothing unproved."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from orchestrator.cli import main
from orchestrator.errors import ExitCode
from workers import manifest
from workers.data import DataSpec, load

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
Answer = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="session")
def digits() -> Any:
    """Images of the validation split, (N, 8, 8)."""
    return load(DataSpec(source="digits")).validation.inputs["image"][:, 0]


def stored(home: Path) -> Path:
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}", f"sqlite:///{home / 'mlflow.db'}")
    return Path(client.get_model_version_download_uri("digits", "1")[7:])


@contextlib.contextmanager
def changed(home: Path) -> Iterator[Path]:
    """The promoted files, for changing; put back afterwards."""
    folder = stored(home)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


@pytest.fixture
def odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of files that are no good for an answer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile("huge.npz", "w") as archive:
        header = io.BytesIO()
        described = {"descr": "|u1", "fortran_order": False, "shape": (10**13, 8, 8)}
        np.lib.format.write_array_header_1_0(header, described)
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    for name in ("text.txt", "broken.png", "cut.npz"):
        (tmp_path / name).write_bytes(b"nonsense")
    np.save("x.npy", np.zeros((1, 8, 8), dtype=np.uint8))
    np.save("objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save("wide.npy", np.zeros((2, 8, 9), dtype=np.uint8))
    np.save("shares.npy", np.random.default_rng(0).random((2, 8, 8)))
    np.savez("many.npz", a=np.zeros((1, 8, 8)), b=np.zeros(2))


class TestPredictions:
    def test_are_the_same_from_images_arrays_and_folders(
        self, promoted: Path, answer: Answer, digits: Any, tmp_path: Path
    ) -> None:
        folder = tmp_path / "images"
        folder.mkdir()
        for index in range(3):
            Image.fromarray(digits[index]).save(folder / f"{index}.png")
        np.save(tmp_path / "three.npy", digits[:3])
        np.savez(tmp_path / "three.npz", x=digits[:3, None], y=np.zeros(3))
        np.save(tmp_path / "one.npy", digits[0].astype(np.float64))
        given = [str(tmp_path / name) for name in ("images", "three.npy", "three.npz", "one.npy")]
        code, said, _ = answer("predict", "digits@champion", *given)
        assert (code, said["version"]) == (0, 1)
        rows = said["predictions"]
        answers = [row["probabilities"] for row in rows]
        assert answers[:3] == answers[3:6] == answers[6:9]
        assert answers[9] == pytest.approx(answers[0])
        assert [row["index"] for row in rows] == [None] * 3 + [0, 1, 2] * 2 + [0]
        for row in rows:
            assert sum(row["probabilities"].values()) == pytest.approx(1)
            assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
            assert row["probability"] == max(row["probabilities"].values())

    def test_are_printed_as_a_table_or_csv(
        self, promoted: Path, digits: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "two.npy"
        np.save(path, digits[:2])
        asked = ["--home", str(promoted), "predict", "digits@champion", str(path)]
        assert main(asked) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["file", "label", "probability", "second"]
        assert len(lines) == 3
        assert main([*asked, "--output", "csv"]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [row["file"] for row in rows] == [f"{path}[0]", f"{path}[1]"]
        assert sum(float(rows[0][f"probability_{name}"]) for name in range(10)) == pytest.approx(1)
        assert main([*asked, "--output", "json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["predictions"]) == 2

    @pytest.mark.usefixtures("promoted", "odd_files")
    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["digitz@champion", "x.npy"], "there is no model 'digitz'. Models: "),
            (["digits@champian", "x.npy"], "Aliases: champion. Did you mean 'champion'?"),
            (["digits", "x.npy"], "write MODEL@ALIAS, such as digits@champion"),
            (["digits@champion", "nothing.png"], "nothing.png does not exist"),
            (["digits@champion", "text.txt"], "text.txt cannot be read. Allowed: PNG"),
            (["digits@champion", "empty"], "empty contains none of"),
            (["digits@champion", "broken.png"], "broken.png cannot be read: no PNG or JPEG"),
            (["digits@champion", "objects.npy"], "objects.npy cannot be used: Array can't"),
            (["digits@champion", "wide.npy"], "wide.npy cannot be used: examples have the shape"),
            (["digits@champion", "shares.npy"], "multiply them by 255"),
            (["digits@champion", "many.npz"], "name the array of examples x"),
            (["digits@champion", "cut.npz"], "cut.npz cannot be used"),
            (["digits@champion", "huge.npz"], "huge.npz does not fit into memory"),
        ],
    )
    def test_are_refused_for_invalid_arguments(
        self, answer: Answer, words: list[str], text: str
    ) -> None:
        code, said, _ = answer("predict", *words)
        assert code == ExitCode.INPUT
        assert text in said["errors"][0]

    @pytest.mark.usefixtures("promoted", "odd_files")
    def test_of_readable_files_are_given_with_the_errors_of_others(self, answer: Answer) -> None:
        asked = ["broken.png", "x.npy", "wide.npy", "x.npy", "cut.npz", "broken.png"]
        code, said, printed = answer("predict", "digits@champion", *asked)
        assert code == ExitCode.INPUT
        assert [row["file"] for row in said["predictions"]] == ["x.npy", "x.npy"]
        named = [message.partition(" ")[0] for message in said["errors"]]
        assert named == ["broken.png", "wide.npy", "cut.npz", "broken.png"]
        assert "4 of 6 files have no prediction" in printed

    def test_need_a_model(self, answer: Answer, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((1, 8, 8)))
        code, said, _ = answer("predict", "m@champion", str(tmp_path / "x.npy"), at=tmp_path)
        assert code == ExitCode.INPUT
        assert "archscout promote" in said["errors"][0]
        assert not (tmp_path / "mlflow.db").exists()


class TestAModelThatChanged:
    @pytest.fixture
    def one(self, tmp_path: Path) -> str:
        np.save(tmp_path / "one.npy", np.zeros((8, 8), dtype=np.uint8))
        return str(tmp_path / "one.npy")

    @pytest.mark.parametrize(
        "name", ["artifacts/model/weights.safetensors", "archscout_model.py", "MLmodel"]
    )
    def test_is_not_loaded(self, promoted: Path, answer: Answer, one: str, name: str) -> None:
        with changed(promoted) as folder:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            code, said, _ = answer("predict", "digits@champion", one)
        assert code == ExitCode.REFUSED
        assert f"{name} has changed since it was recorded" in said["errors"][0]

    def test_is_not_loaded_by_plain_mlflow_either(self, promoted: Path, tmp_path: Path) -> None:
        with changed(promoted) as folder:
            path = folder / "artifacts/model/weights.safetensors"
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            program = f"import mlflow.pyfunc as p; p.load_model({str(folder)!r})"
            done = subprocess.run(
                [sys.executable, "-c", program],
                check=False,
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
        assert done.returncode != 0
        assert "is not what was promoted" in done.stderr

    def test_is_loaded_with_our_code_if_the_ledger_has_no_record(
        self,
        promoted: Path,
        answer: Answer,
        one: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("ARCHSCOUT_LEDGER", f"sqlite:///{tmp_path}/other.db")
        assert answer("predict", "digits@champion", one)[0] == 0

    def test_with_unknown_code_is_not_run_even_if_the_registry_has_its_digest(
        self,
        promoted: Path,
        answer: Answer,
        one: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("ARCHSCOUT_LEDGER", f"sqlite:///{tmp_path}/other.db")
        store = f"sqlite:///{promoted / 'mlflow.db'}"
        client = MlflowClient(store, store)
        tag = "archscout.manifest_sha256"
        honest = client.get_model_version("digits", "1").tags[tag]
        with changed(promoted) as folder:
            harm = f"\nopen({str(tmp_path / 'harm')!r}, 'w')\n"
            path = folder / "archscout_model.py"
            path.write_text(path.read_text() + harm)
            (folder / manifest.NAME).unlink()
            client.set_model_version_tag("digits", "1", tag, manifest.write(folder))
            try:
                code, said, _ = answer("predict", "digits@champion", one)
            finally:
                client.set_model_version_tag("digits", "1", tag, honest)
        assert code == ExitCode.REFUSED
        assert "contains code that this archscout does not know" in said["errors"][0]
        assert not (tmp_path / "harm").exists()


class TestMlflowsServer:
    def test_predicts_the_same_as_the_command(
        self, promoted: Path, answer: Answer, digits: Any, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "two.npy", digits[:2])
        _, said, _ = answer("predict", "digits@champion", str(tmp_path / "two.npy"))
        with served(promoted, tmp_path) as address:
            request = urllib.request.Request(
                f"{address}/invocations",
                data=json.dumps({"inputs": digits[:2].tolist()}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                rows = json.load(response)["predictions"]
        for row, expected in zip(rows, said["predictions"], strict=True):
            assert row["label"] == expected["label"]
            for name, share in expected["probabilities"].items():
                assert row[f"probability_{name}"] == pytest.approx(share, abs=1e-6)


@contextlib.contextmanager
def served(home: Path, folder: Path) -> Iterator[str]:
    """`mlflow models serve` on loopback, ended with all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/digits@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "-w", "1"]
    # MLflow starts its server by the name `python` on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    store = f"sqlite:///{home / 'mlflow.db'}"
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": store}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/ping", timeout=2).close()
                break
            time.sleep(0.2)
        else:
            pytest.fail((folder / "server.log").read_text()[-2000:])
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
