"""Images in folders: one folder a class, or the parts of a split with such folders in each.

Knows where files lie and what that means; what is inside them is for `images` to say. Nothing is
followed that leads out of the folder.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.data import images
from workers.data.dataset import DataError, RawData, Split, check_names, limited, listed
from workers.data.images import BrokenImageError, Header
from workers.data.memory import most_bytes
from workers.data.preprocessing import Preprocessing, common_size
from workers.data.spec import DataSpec

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders of a split are called, in any case of letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The images of one part."""

    paths: tuple[Path, ...]
    """In order of class and name."""
    targets: NDArray[np.int64]
    """Class of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a folder holds, before any file is opened."""

    root: Path
    class_names: tuple[str, ...]
    parts: dict[str, Files]
    """By part: `train`, and `validation` and `test` where the folder has them."""
    ignored: tuple[str, ...]
    """Hidden files, files that are no images, links that lead out: relative to the root."""


def read(spec: DataSpec) -> RawData:
    """All images of a folder as bytes of one size, grey where none has colour.

    Raises:
        DataError: The folder holds no classes of images, or some cannot be read.
    """
    if spec.path is None:
        raise DataError("data.path: source 'folder' needs the folder with the images")
    found = find(Path(spec.path).expanduser())
    return load(found, limited_to(found, spec))


def limited_to(found: Found, spec: DataSpec) -> dict[str, Files]:
    """The files of each part that a spec's limit leaves; the others are never opened.

    Raises:
        DataError: It leaves none of a class.
    """
    train = found.parts["train"]
    taken = limited(train.targets, spec, found.class_names)
    chosen = Files(paths=tuple(train.paths[index] for index in taken), targets=train.targets[taken])
    return {**found.parts, "train": chosen}


def find(root: Path) -> Found:
    """Which images lie where, by name alone.

    Raises:
        DataError: The folder is none, or is not laid out in classes.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        raise DataError(f"{root} {what}; give a folder with one folder of images for each class")
    root = root.resolve()
    walk = _Walk(root)
    folders = walk.folders(root)
    parts = {PARTS[each.name.lower()]: each for each in folders if each.name.lower() in PARTS}
    if "train" in parts and not any(map(walk.is_image, walk.entries(parts["train"]))):
        walk.ignore(each for each in folders if each not in parts.values())
        classes = {part: walk.classes(folder) for part, folder in parts.items()}
    elif parts and len(parts) == len(folders):
        raise DataError(
            f"{root} has a folder {listed(each.name for each in folders)}, but none 'train'; "
            "add one, or give a folder whose folders are the classes"
        )
    else:
        classes = {"train": walk.classes(root)}
    names = _class_names(root, classes)
    return Found(
        root=root,
        class_names=names,
        parts={part: _files(given, names) for part, given in classes.items()},
        ignored=tuple(sorted(walk.ignored)),
    )


def load(found: Found, parts: dict[str, Files]) -> RawData:
    """The images of these files, prepared alike: size and colour as the training part has them.

    Raises:
        DataError: Some cannot be read, or all of them together are too large.
    """
    seen = {part: images.headers(files.paths) for part, files in parts.items()}
    broken = {
        path: str(header)
        for part, files in parts.items()
        for path, header in zip(files.paths, seen[part], strict=True)
        if isinstance(header, BrokenImageError)
    }
    whole = [header for header in seen["train"] if isinstance(header, Header)]
    if not whole:
        raise DataError(_broken(found, broken))
    preprocessing = _preprocessing(whole)
    _check_memory(found, sum(len(files.paths) for files in parts.values()), preprocessing)
    read: dict[str, NDArray[np.uint8]] = {}
    for part in sorted(parts, key=lambda part: part != "train"):
        read[part], failed = images.read_all(parts[part].paths, preprocessing)
        broken |= failed
        if part == "train" and _colourless(read[part]):
            read[part] = np.ascontiguousarray(read[part][:, :1])
            preprocessing = Preprocessing(
                channels=1, height=preprocessing.height, width=preprocessing.width
            )
    if broken:
        raise DataError(_broken(found, broken))
    splits = {
        part: Split(inputs={"image": read[part]}, targets=files.targets)
        for part, files in parts.items()
    }
    return RawData(
        pool=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        class_names=found.class_names,
        preprocessing=preprocessing,
    )


class _Walk:
    """One look through a folder: keeps inside it and remembers what it left aside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored: set[str] = set()

    def entries(self, folder: Path) -> list[Path]:
        """What lies in a folder, by name.

        Raises:
            DataError: It may not be read.
        """
        try:
            with os.scandir(folder) as listing:
                return sorted(Path(entry.path) for entry in listing)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be read: {error.strerror}; give yourself the right to read it"
            ) from error

    def folders(self, folder: Path) -> list[Path]:
        """The folders in one that holds nothing else of interest."""
        entries = self.entries(folder)
        chosen = [each for each in entries if each.is_dir() and self._inside(each)]
        stray = [each.name for each in entries if each not in chosen and self.is_image(each)]
        if stray and not chosen:
            raise DataError(
                f"{len(stray)} images lie directly in {folder}, like {stray[0]!r}: put those of "
                "each class into a folder of their own, named like the class"
            )
        self.ignore(each for each in entries if each not in chosen)
        return chosen

    def classes(self, folder: Path) -> dict[str, list[Path]]:
        """The images of each class in a folder.

        Raises:
            DataError: There is none, or a class has no images or hides them deeper.
        """
        classes = {each.name: self._images(each) for each in self.folders(folder)}
        if not classes:
            raise DataError(
                f"{folder} holds no folders; it needs one for each class, with its images"
            )
        if empty := [name for name, files in classes.items() if not files]:
            linked = any(
                each.is_symlink() for name in empty for each in self.entries(folder / name)
            )
            raise DataError(
                f"{folder}: no images (PNG, JPEG) of class {listed(empty)}; "
                + ("links that lead out of the folder are not followed: " if linked else "")
                + "add some or remove the folder"
            )
        return classes

    def is_image(self, path: Path) -> bool:
        """Whether a file is read as an image, by its name."""
        return (
            path.suffix.lower() in images.ENDINGS
            and not path.name.startswith(".")
            and path.is_file()
            and self._inside(path)
        )

    def ignore(self, paths: Iterator[Path]) -> None:
        """Remembers what is left aside."""
        self.ignored |= {str(path.relative_to(self.root)) for path in paths}

    def _images(self, folder: Path) -> list[Path]:
        entries = self.entries(folder)
        chosen = [each for each in entries if self.is_image(each)]
        taken = set(chosen)
        rest = [each for each in entries if each not in taken]
        other = [each.name for each in rest if each.suffix.lower() in images.OTHER_ENDINGS]
        if other:
            raise DataError(
                f"{folder} holds {len(other)} images that are neither PNG nor JPEG, like "
                f"{other[0]!r}: convert or remove them"
            )
        for each in rest:
            if each.is_dir() and self._inside(each):
                self._check_shallow(each)
        self.ignore(iter(rest))
        return chosen

    def _check_shallow(self, folder: Path) -> None:
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                if self.is_image(Path(parent, name)):
                    deep = Path(parent, name).relative_to(self.root)
                    raise DataError(
                        f"{self.root}: '{deep}' lies a folder too deep; images lie directly in "
                        "the folder of their class. Move them, or give the folder whose folders "
                        "are the classes"
                    )

    def _inside(self, path: Path) -> bool:
        """Whether a path is no hidden one, nor a link that leads out of the folder."""
        if path.name.startswith((".", "__MACOSX")):
            return False
        return not path.is_symlink() or path.resolve().is_relative_to(self.root)


def _class_names(root: Path, classes: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
    """The classes of the training part, which all others must keep to."""
    names = sorted(classes["train"])
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(
            f"{root} has one class only, {names[0]!r}: nothing to tell apart; "
            "add a folder for each other class"
        )
    check_names(root, names)
    for part, given in classes.items():
        if unknown := sorted(set(given) - set(names)):
            raise DataError(
                f"{root}: the {part} part has class {listed(unknown)}, which training lacks; "
                "add images of it there, or remove it"
            )
    return tuple(names)


def _files(classes: dict[str, list[Path]], names: Sequence[str]) -> Files:
    labelled = [(path, names.index(name)) for name in names for path in classes.get(name, ())]
    return Files(
        paths=tuple(path for path, _ in labelled),
        targets=np.array([label for _, label in labelled], dtype=np.int64),
    )


def _preprocessing(headers: Sequence[Header]) -> Preprocessing:
    height, width = common_size(
        [header.height for header in headers], [header.width for header in headers]
    )
    grey = all(header.grey for header in headers)
    return Preprocessing(channels=1 if grey else 3, height=height, width=width)


def _check_memory(found: Found, count: int, preprocessing: Preprocessing) -> None:
    each = preprocessing.channels * preprocessing.height * preprocessing.width
    most = most_bytes()
    if count * each > most:
        raise DataError(
            f"{found.root}: {count:,} images take {count * each / 2**30:.1f} GiB, and there is "
            f"memory for {most / 2**30:.1f}; set data.limit to {most // each:,} or less"
        )


def _colourless(pixels: NDArray[np.uint8]) -> bool:
    """Whether images that were stored in colour show none."""
    if pixels.shape[1] != 3:
        return False
    return all(
        bool((part[:, 1:] == part[:, :1]).all())
        for part in np.array_split(pixels, max(1, len(pixels) // 1024))
    )


def _broken(found: Found, broken: dict[Path, str]) -> str:
    shown = [
        f"{path.relative_to(found.root)} ({reason})" for path, reason in sorted(broken.items())[:5]
    ]
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
    return (
        f"{found.root}: {len(broken)} of the images cannot be read: {', '.join(shown)}{more}; "
        "repair or remove them"
    )
