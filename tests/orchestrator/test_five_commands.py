"""From a folder of images to a model that answers: five commands, each printed by the last."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from support.pictures import digits, write_digits

TRAINED, ASKED = range(900), range(1000, 1020)


def archscout(folder: Path, *words: str) -> str:
    """What the command prints; it must end well."""
    command = [str(Path(sys.executable).with_name("archscout")), *words]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.mlflow
def test_five_commands_lead_from_a_folder_of_images_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARCHSCOUT_HOME")
    write_digits(tmp_path / "photos", TRAINED)
    asked = [f"new/{path.name}" for path in _flat(tmp_path / "new")]

    printed = archscout(tmp_path, "init", "photos")
    assert "archscout search study.yaml" in printed
    printed = archscout(tmp_path, "search", "study.yaml", "--trials", "2", "--set", "confirm=null")
    assert "archscout promote photos --model photos" in printed
    printed = archscout(tmp_path, "promote", "photos", "--model", "photos")
    assert "archscout predict photos@champion FILES" in printed
    table = archscout(tmp_path, "predict", "photos@champion", *asked, "--output", "csv")
    said = {row["file"]: row["label"] for row in csv.DictReader(io.StringIO(table))}
    assert list(said) == asked
    targets = digits()[1]
    right = sum(int(label) == targets[int(Path(file).stem)] for file, label in said.items())
    assert right >= 0.8 * len(asked)
    board = archscout(tmp_path, "leaderboard", "photos")
    assert "C24-C48-CT96 gate" in board


def _flat(folder: Path) -> list[Path]:
    """Images of all classes in one folder, nothing in their names telling the class."""
    write_digits(folder, ASKED)
    for path in sorted(folder.rglob("*.png")):
        path.rename(folder / path.name)
    for empty in folder.glob("[0-9]"):
        empty.rmdir()
    return sorted(folder.glob("*.png"))
