"""Typical faults of a user's data: one message each, a suggested fix, nothing created."""

import errno
import json
import os
import shutil
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import pictures

from orchestrator.cli import main

Spoil = Callable[[Path], None]


def spoiled(change: Spoil) -> Spoil:
    """A valid folder of images in three classes, then changed."""

    def make(path: Path) -> None:
        pictures.write_digits(path, range(60), classes=3)
        change(path)

    return make


def arrays(**given: object) -> Spoil:
    """A valid pair of arrays with replacements; None removes one."""

    def make(path: Path) -> None:
        images, targets = pictures.digits()
        sound = {"x": images[:60], "y": targets[:60] % 3}
        kept = {name: value for name, value in {**sound, **given}.items() if value is not None}
        with path.open("wb") as file:
            np.savez(file, **{name: np.asarray(value) for name, value in kept.items()})

    return make


def digit(path: Path, index: int = 0) -> Path:
    return sorted(path.iterdir())[index]


def truncate(path: Path) -> None:
    for index in range(7):
        file = digit(path / "0", index) if index < 6 else digit(path / "1")
        file.write_bytes(file.read_bytes()[:60] if index else b"")


def empty_class(path: Path) -> None:
    (path / "dogs").mkdir()
    (path / "dogs" / "notes.txt").write_text("later")


def in_one_folder(path: Path) -> None:
    for file in list(path.rglob("*.png")):
        shutil.move(file, path / file.name)
    for folder in [each for each in path.iterdir() if each.is_dir()]:
        folder.rmdir()


def only_one_class(path: Path) -> None:
    shutil.rmtree(path / "1")
    shutil.rmtree(path / "2")


def into(part: str) -> Spoil:
    def move(path: Path) -> None:
        (path / part).mkdir()
        for name in "012":
            shutil.move(path / name, path / part / name)

    return move


def alien_class_in_test(path: Path) -> None:
    into("train")(path)
    shutil.copytree(path / "train" / "0", path / "test" / "0")
    shutil.copytree(path / "train" / "1", path / "test" / "eleven")


def same_but_for_case(path: Path) -> None:
    shutil.copytree(path / "0", path / "Cat")
    shutil.copytree(path / "1", path / "cat")


def other_format(path: Path) -> None:
    Image.new("L", (8, 8)).save(path / "0" / "b.gif")
    Image.new("L", (8, 8)).save(path / "0" / "a.TIF", format="TIFF")


def disguised(path: Path) -> None:
    Image.new("L", (8, 8)).save(path / "0" / "0000.png", format="GIF")


def huge(path: Path) -> None:
    Image.new("1", (12_000, 12_000)).save(path / "0" / "0000.png")


def bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path / "0" / "0000.png")


def links_out(path: Path) -> None:
    outside = path.parent / "outside"
    shutil.move(path / "1", outside)
    (path / "1").mkdir()
    for file in outside.iterdir():
        (path / "1" / file.name).symlink_to(file)


def all_white(path: Path) -> None:
    for file in path.rglob("*.png"):
        Image.new("RGBA", (8, 8), (255, 255, 255, int(file.stem) % 256)).save(file)


def both_forms(path: Path) -> None:
    for form, name in (("NFC", "0"), ("NFD", "1")):
        (path / name).rename(path / unicodedata.normalize(form, "café"))


def renamed(suffix: str) -> Spoil:
    def rename(path: Path) -> None:
        for file in sorted((path / "0").iterdir())[:6]:
            file.rename(file.with_suffix(suffix))

    return rename


def hidden_format(path: Path) -> None:
    Image.new("L", (8, 8)).save(path / "0" / "a.pic", format="WEBP")


def linked_classes(path: Path) -> None:
    outside = path.parent / "outside"
    shutil.move(path, outside)
    path.mkdir()
    for folder in outside.iterdir():
        (path / folder.name).symlink_to(folder)


def two_validations(path: Path) -> None:
    into("train")(path)
    for name in ("val", "validation"):
        shutil.copytree(path / "train", path / name)


def other_case(path: Path) -> None:
    into("train")(path)
    (path / "train" / "0").rename(path / "train" / "a")
    shutil.copytree(path / "train" / "a", path / "test" / "A")


def pipe(path: Path) -> None:
    shutil.rmtree(path / "1")
    (path / "1").mkdir()
    os.mkfifo(path / "1" / "endless.png")


def cut_in_half(path: Path) -> None:
    arrays()(path)
    path.write_bytes(path.read_bytes()[:3000])


def lying_header(path: Path) -> None:
    arrays()(path)
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (900000000000, 8, 8)}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header + text.ljust(117).encode() + b"\n" + b"\0" * 64)
        archive.writestr("y.npy", header + text.replace("8, 8", "").ljust(117).encode() + b"\n")


def no_header(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", np.lib.format.magic(1, 0) + b"\x76\0")


def pickled(path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(path.parent / "executed"),)

    arrays(x=np.array([Evil()] * 60, dtype=object))(path)


ONES = np.zeros((60, 8, 8))
LABELS = np.arange(60) % 3

MISTAKES: dict[str, tuple[str, Spoil, str]] = {
    "nothing there": ("data", lambda path: None, "there is nothing at"),
    "an empty folder": ("data", Path.mkdir, "needs one"),
    "a file instead of a folder": ("data", lambda path: path.write_text("x") and None, "file"),
    "broken images": (
        "data", spoiled(truncate),
        "7 of the images cannot be read: 0/0000.png (empty), 0/0010.png (",
    ),
    "more broken images than are named": ("data", spoiled(truncate), " and 2 more; repair or"),
    "a picture that is no PNG": ("data", spoiled(disguised), "(GIF inside, not PNG or JPEG)"),
    "a huge picture": ("data", spoiled(huge), "(12000 x 12000 pixels, more than 89,478,485)"),
    "a decompression bomb": ("data", spoiled(bomb), "(more than 89,478,485 pixels)"),
    "an empty class": ("data", spoiled(empty_class), "of class 'dogs'; add some or remove"),
    "only one class": ("data", spoiled(only_one_class), "only one class, '0': a classifier"),
    "no class folders": ("data", spoiled(in_one_folder), "are directly in"),
    "images too deep": (
        "data", spoiled(into("more")), "'more/0/0000.png' is one folder too deep",
    ),
    "a test part without a training part": ("data", spoiled(into("test")), "but no 'train'"),
    "a class that training lacks": (
        "data", spoiled(alien_class_in_test),
        "the test split has class 'eleven', which training lacks; add images of it there",
    ),
    "classes that differ in case": (
        "data", spoiled(same_but_for_case), "'Cat' and 'cat' differ only in upper and lower case",
    ),
    "a class with one image": (
        "data", spoiled(lambda p: [f.unlink() for f in sorted((p / "1").iterdir())[1:]] and None),
        "too few examples to split (at most 1 each) of class '1'",
    ),
    "an unsupported format": (
        "data", spoiled(other_format), "2 images that are neither PNG nor JPEG, such as 'a.TIF'",
    ),
    "a class of links that lead out": ("data", spoiled(links_out), "that lead out of the fol"),
    "a class that is a pipe": ("data", spoiled(pipe), "no images (PNG, JPEG) of class '1'"),
    "a class name with a line break": (
        "data", spoiled(lambda p: (p / "1").rename(p / "a\nb") and None), r"'a\nb' cannot be print",
    ),
    "an unknown kind of file": ("data.csv", lambda p: p.write_text("1,2") and None, "file"),
    "one array without labels": ("x.npy", lambda p: np.save(p, ONES), "x.npy is one array; give"),
    "no labels": ("d.npz", arrays(y=None), "'x' has no counterpart among 'x'; it needs x and y"),
    "unknown names": ("d.npz", arrays(x=None, y=None, a=[1], b=[2]), "contains 'a', 'b'; it needs"),
    "two of the same": ("d.npz", arrays(images=ONES), "'x' and 'images' have the same role"),
    "more examples than labels": (
        "d.npz", arrays(y=LABELS[:50]), "'x' has 60 examples, but 'y' has 50 labels",
    ),
    "NaN": ("d.npz", arrays(x=np.where(LABELS == 2, np.nan, 1.5)[:, None, None] * np.ones((8, 8))),
            "'x' cannot be used: NaN or infinity in example 2"),
    "constant values": ("d.npz", arrays(x=ONES - 7.5), "every value is -7.5: nothing to learn"),
    "objects": ("d.npz", pickled, "'x' contains Python objects, which are never loaded; save"),
    "a list": ("d.npz", arrays(x=np.zeros(60)), "'x' has the shape (60,); images are (N, height"),
    "empty vectors": ("d.npz", arrays(x=np.zeros((60, 4))), "every example is the same: nothing"),
    "no examples": ("d.npz", arrays(x=np.zeros((0, 8, 8)), y=LABELS[:0]), "contains no examples"),
    "text for pixels": ("d.npz", arrays(x=np.full((60, 8, 8), "a")), "'x' is of type <U1;"),
    "numbers twice": ("d.npz", arrays(y=LABELS + 0.5, values=LABELS), "'y' contains fractions"),
    "a constant number": ("d.npz", arrays(values=LABELS * 0 + 1), "nothing to predict; remove it"),
    "negative labels": ("d.npz", arrays(y=LABELS - 1), "'y' contains -1; labels count from 0"),
    "NaN among labels": ("d.npz", arrays(y=np.where(LABELS, 1.0, np.nan)), "'y' contains NaN"),
    "labels out of range": (
        "d.npz", arrays(class_names=["a", "b"]), "'y' contains 2, but 'class_names' names 2",
    ),
    "several labels an example": (
        "d.npz", arrays(y=np.eye(3)[LABELS] + np.eye(3)[0]), "or one-hot rows of 0 and 1",
    ),
    "labels of which several are 1": (
        "d.npz", arrays(y=np.maximum(np.eye(3)[LABELS], np.eye(3)[0])),
        "several labels or none, which no loss here supports: call the array 'values' to predict",
    ),
    "series": (
        "d.npz", arrays(x=np.ones((60, 64, 3))),
        "64 steps of 3 features, or images of 64 x 3? Series are not read yet. Images need a",
    ),
    "amounts as labels": (
        "d.npz", arrays(y=1000.0 * np.arange(60)), "or call the array 'values' if these are amoun",
    ),
    "shares of 1 next to bytes": (
        "d.npz", arrays(x=None, y=None, x_train=ONES + 7 + LABELS[:, None, None], y_train=LABELS,
                        x_test=ONES + 0.5, y_test=LABELS),
        "range from 0.5 to 0.5, those of training from 0 to 255; multiply them by 255",
    ),
    "pictures that are all the same once they are on white": (
        "data", spoiled(all_white), " images have an alpha channel",
    ),
    "a folder of classes in two Unicode forms": (
        "data", spoiled(both_forms), "look the same: one is composed (NFC), the other decomposed",
    ),
    "images with other suffixes": (
        "data", spoiled(renamed(".image")), "6 images with other suffixes, such as '0000.image'",
    ),
    "formats that are not read, whatever their names": (
        "data", spoiled(hidden_format), "1 images that are neither PNG nor JPEG, such as 'a.pic'",
    ),
    "classes of links that lead out": (
        "data", spoiled(linked_classes), "links that lead out of the folder are not followed; give",
    ),
    "two folders for one part": (
        "data", spoiled(two_validations), "'val' and 'validation' are the same split; remove one",
    ),
    "a class that is written otherwise": (
        "data", spoiled(other_case), "class 'A', which training lacks; rename it to 'a'",
    ),
    "a class with two images": (
        "data", spoiled(lambda p: [f.unlink() for f in sorted((p / "1").iterdir())[2:]] and None),
        "too few examples to split (at most 2 each) of class '1', which need 3, one per split",
    ),
    "one class of labels": ("d.npz", arrays(y=LABELS * 0), "'y' has only one class, '0'"),
    "labels unknown to training": (
        "d.npz", arrays(x=None, y=None,
                                 x_train=ONES, y_train=LABELS, x_test=ONES, y_test=LABELS+1),
        "'y_test' has class '3', which 'y_train' lacks",
    ),
    "as many classes as examples": (
        "d.npz", arrays(y=np.arange(60)), "too few examples to split (at most 1 each) of class",
    ),
    "a damaged archive": ("d.npz", cut_in_half, "is damaged ("),
    "a false header": ("d.npz", lying_header, "bytes in its header, more than the"),
    "a damaged header": ("d.npz", no_header, "'y' is damaged (EOF: reading array header, expected"),
    "no archive at all": ("d.npz", lambda p: p.write_text("hello") and None, "is damaged ("),
}  # fmt: skip


@pytest.fixture(params=["init", "search"])
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def refusal(
    command: str, path: Path, capsys: pytest.CaptureFixture[str], more: str = "", code: int = 2
) -> str:
    """Return the one line that a command prints about the data at a path; nothing is created."""
    study = path.parent / "study.yaml"
    if command == "search":
        source = "npz" if path.suffix.startswith(".np") else "folder"
        data = json.dumps(str(path))
        study.write_text(f"space: tiny\ndata: {{source: {source}, path: {data}{more}}}\n")
    before = {*path.parent.rglob("*")}
    words = ["search", str(study)] if command == "search" else ["init", str(path)]
    output = ["--output", str(study)] if command == "init" else []
    assert main([*words, *output]) == code
    assert {*path.parent.rglob("*")} == before
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert len(line) < 600
    assert any(sign in line for sign in (";", ":"))
    return line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_in_the_data_is_one_message_with_a_suggested_fix(
    mistake: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, spoil, message = MISTAKES[mistake]
    spoil(tmp_path / name)
    assert message in refusal(command, tmp_path / name, capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (", limit: 2", "data.limit: 2 of 60 examples have none of class '1'; there are 3 classes"),
        (", split: {validation: 59}", "data.split.validation takes 59 of 54 examples"),
        (", split: {validation: 0.001}", "data.split.validation takes 0 of 60 examples"),
        (", split: {validation: 0.9, test: 0.2}", "leave nothing to train on"),
    ],
)
def test_splits_and_limits_that_leave_no_examples_are_one_message(
    more: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays()(tmp_path / "d.npz")
    assert message in refusal("search", tmp_path / "d.npz", capsys, more)


def test_a_folder_that_may_not_be_read_is_one_message(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures.write_digits(tmp_path / "data", range(60), classes=3)
    scan = os.scandir

    def forbidden(path: str) -> Iterator[object]:
        if Path(path).name == "1":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("workers.data.walk.os.scandir", forbidden)
    given = tmp_path / "data" / "1"
    message = refusal(command, tmp_path / "data", capsys)
    assert f"{given} cannot be read: Permission denied; grant yourself permission" in message


def test_init_overwrites_nothing_and_names_an_unwritable_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays()(tmp_path / "d.npz")
    (tmp_path / "mine.yaml").write_text("precious")
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    for output, message in {
        "mine.yaml": "exists already and is not overwritten; remove it, or give another file",
        "dangling.yaml": "exists already",
        "no/where.yaml": "there is no folder",
    }.items():
        words = ["init", str(tmp_path / "d.npz"), "--output", str(tmp_path / output)]
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_full_disk_leaves_no_half_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays()(tmp_path / "d.npz")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("orchestrator.commands.init.os.fsync", full)
    output = tmp_path / "study.yaml"
    assert main(["init", str(tmp_path / "d.npz"), "--output", str(output)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{output} cannot be written: No space left on device; free some space"
    assert not output.exists()
