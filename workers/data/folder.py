"""Images in folders: one folder a class, or the parts of a split with such folders in each.

Knows the layout of folders and what it means; `walk` lists them and `images` reads the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data import images
from workers.data.checks import DataError, check_distinct, check_names, composed, format_names
from workers.data.dataset import RawData, Split, limited
from workers.data.images import BrokenImageError, Header
from workers.data.limits import max_array_bytes
from workers.data.preprocessing import MAX_SIDE, Preprocessing, common_size, pictures
from workers.data.spec import DataSpec
from workers.data.walk import Walk

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders of a split are called, in any case of letters."""
SHOWN_FILES = 5
"""Broken files that a message names; its error has all of them."""

_Classes = dict[str, list[Path]]
"""The images of each class, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The images of one part."""

    paths: tuple[Path, ...]
    """In order of class and name."""
    targets: NDArray[np.int64]
    """Class of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """What a folder holds, before any file is opened."""

    root: Path
    class_names: tuple[str, ...]
    parts: dict[str, Files]
    """By part: `train`, and `validation` and `test` where the folder has them."""
    ignored: tuple[str, ...]
    """Hidden files, files that are no images, links that lead out: relative to the root."""
    notes: tuple[str, ...]
    """What a user should know of the layout."""


def read(spec: DataSpec, preprocessing: Preprocessing | None = None) -> RawData:
    """All images of a folder in one size, grey where none has colour.

    Args:
        spec: The folder and its limit.
        preprocessing: How to prepare them; None follows the training images.

    Raises:
        DataError: The folder holds no classes of images, or some cannot be read.
    """
    if spec.path is None:
        raise DataError("data.path: source 'folder' needs the folder with the images")
    found = find(Path(spec.path).expanduser())
    return load(found, limited_to(found, spec), preprocessing)


def limited_to(found: ImageFolder, spec: DataSpec) -> dict[str, Files]:
    """The files of each part that a spec's limit leaves; the others are never opened.

    Raises:
        DataError: It leaves none of a class.
    """
    train = found.parts["train"]
    taken = limited(train.targets, spec, found.class_names, own=set(found.parts))
    chosen = Files(paths=tuple(train.paths[index] for index in taken), targets=train.targets[taken])
    return {**found.parts, "train": chosen}


def find(root: Path) -> ImageFolder:
    """Which images lie where, by name alone.

    Raises:
        DataError: The folder is none, or is not laid out in classes.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        raise DataError(f"{root} {what}; give a folder with one folder of images for each class")
    walk = Walk(root.resolve())
    classes, notes = _layout(walk)
    names = _class_names(walk.root, classes)
    joined, differing = _joined(names, classes)
    return ImageFolder(
        root=walk.root,
        class_names=names,
        parts={part: _files(given, names) for part, given in joined.items()},
        ignored=tuple(sorted(walk.ignored)),
        notes=(*notes, *differing, *walk.notes),
    )


def load(
    found: ImageFolder, parts: dict[str, Files], prepared: Preprocessing | None = None
) -> RawData:
    """The images of these files, prepared alike: as the training part has them unless told how.

    Raises:
        DataError: Some cannot be read, all are the same, or they are too large together.
    """
    seen = {part: images.headers(files.paths) for part, files in parts.items()}
    broken = {
        path: str(header)
        for part, files in parts.items()
        for path, header in zip(files.paths, seen[part], strict=True)
        if isinstance(header, BrokenImageError)
    }
    whole = {
        part: [header for header in headers if isinstance(header, Header)]
        for part, headers in seen.items()
    }
    if not whole["train"]:
        raise _broken(found, broken)
    preprocessing = prepared or preprocessing_of(whole["train"])
    _check_memory(found, sum(len(files.paths) for files in parts.values()), preprocessing)
    read: dict[str, NDArray[Any]] = {}
    for part in sorted(parts, key=lambda part: part != "train"):
        read[part], failed = images.read_all(parts[part].paths, preprocessing)
        broken |= failed
        if part == "train" and prepared is None and _colourless(read[part]):
            read[part] = np.ascontiguousarray(read[part][:, :1])
            preprocessing = replace(preprocessing, channels=1)
    if broken:
        raise _broken(found, broken)
    notes = tuple(_notes([header for headers in whole.values() for header in headers]))
    check_distinct(read["train"], f"{found.root}:", notes)
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
        skipped_files=found.ignored,
        notes=(*found.notes, *notes),
    )


def preprocessing_of(headers: Sequence[Header]) -> Preprocessing:
    """How images are prepared where those of the training split have these headers."""
    height, width = common_size(
        [header.height for header in headers], [header.width for header in headers]
    )
    grey = all(header.grey for header in headers)
    deep = any(header.deep for header in headers)
    return pictures(1 if grey else 3, height, width, deep=deep)


def _layout(walk: Walk) -> tuple[dict[str, _Classes], list[str]]:
    """The images of each class in each part, and what to note of them.

    Raises:
        DataError: These are no classes.
    """
    root, folders = walk.root, walk.folders(walk.root)
    parts = {PARTS[each.name.lower()]: each for each in folders if each.name.lower() in PARTS}
    if "train" in parts and not any(map(walk.is_image, walk.entries(parts["train"]))):
        others = [each for each in folders if each not in parts.values()]
        if twice := [each.name for each in others if each.name.lower() in PARTS]:
            same = parts[PARTS[twice[0].lower()]].name
            raise DataError(f"{root}: {twice[0]!r} and {same!r} are the same part; remove one")
        walk.ignore(others)
        notes = _unlabelled(walk, parts)
        return {part: walk.classes(folder) for part, folder in parts.items()}, notes
    if parts and len(parts) == len(folders):
        raise DataError(
            f"{root} has a folder {format_names(each.name for each in folders)}, but none 'train'; "
            "add one, or give a folder whose folders are the classes"
        )
    return {"train": walk.classes(root)}, []


def _unlabelled(walk: Walk, parts: dict[str, Path]) -> list[str]:
    """Leave a test folder aside whose images have no class, and say so."""
    test = parts.get("test")
    if test is None:
        return []
    entries = walk.entries(test)
    count = sum(map(walk.is_image, entries))
    if not count or any(each.is_dir() and walk.is_inside(each) for each in entries):
        return []
    del parts["test"]
    walk.ignore([test])
    return [
        f"the {count:,} images in '{test.name}' have no class and are left aside: a test part is "
        "split off the others; archscout predict labels these"
    ]


def _class_names(root: Path, classes: dict[str, _Classes]) -> tuple[str, ...]:
    """The classes of the training part, which all others must keep to."""
    names = sorted(classes["train"])
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(
            f"{root} has one class only, {names[0]!r}: nothing to tell apart; "
            "add a folder for each other class"
        )
    known = {composed(name) for name in names}
    folded = {composed(name).casefold(): name for name in names}
    for part, given in classes.items():
        check_names(root, given)
        if unknown := sorted(name for name in given if composed(name) not in known):
            near = folded.get(composed(unknown[0]).casefold())
            way_out = f"rename it to {near!r}" if near else "add images of it there, or remove it"
            if part == "test":
                way_out += "; images of no known class are for archscout predict"
            raise DataError(
                f"{root}: the {part} part has class {format_names(unknown)}, which training lacks; "
                f"{way_out}"
            )
    return tuple(names)


def _joined(
    names: Sequence[str], classes: dict[str, _Classes]
) -> tuple[dict[str, _Classes], list[str]]:
    """The classes of every part by the names of the training part, and notes on differences.

    A name that was written on a Mac may have its accents as characters of their own (NFD).
    """
    known = {composed(name): name for name in names}
    notes = [
        f"the {part} part writes {format_names(differing)} in another Unicode form (NFC, NFD) than "
        "training; both count as the same class"
        for part, given in classes.items()
        if (differing := set(given) - set(names))
    ]
    joined = {
        part: {known[composed(name)]: files for name, files in given.items()}
        for part, given in classes.items()
    }
    return joined, notes


def _files(classes: Mapping[str, Sequence[Path]], names: Sequence[str]) -> Files:
    labelled = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    return Files(
        paths=tuple(path for path, _ in labelled),
        targets=np.array([label for _, label in labelled], dtype=np.int64),
    )


def _check_memory(found: ImageFolder, count: int, preprocessing: Preprocessing) -> None:
    each, most = preprocessing.num_bytes, max_array_bytes()
    if count * each > most:
        raise DataError(
            f"{found.root}: {count:,} images take {count * each / 2**30:.1f} GiB, and there is "
            f"memory for {most / 2**30:.1f}; set data.limit to {most // each:,} or less"
        )


def _colourless(pixels: NDArray[Any]) -> bool:
    """Whether images that were stored in colour show none."""
    if pixels.shape[1] != 3:
        return False
    return all(
        bool((part[:, 1:] == part[:, :1]).all())
        for part in np.array_split(pixels, max(1, len(pixels) // 1024))
    )


def _notes(headers: Sequence[Header]) -> Iterator[str]:
    """What a user should know of how the images are read."""
    count = len(headers)
    if alpha := sum(header.alpha for header in headers):
        yield f"{alpha:,} of {count:,} images have an alpha channel: they are laid over white"
    deep = sum(header.deep for header in headers)
    if 0 < deep < count:
        yield f"{deep:,} of {count:,} images have 16 bits, the others 8, whose white counts 65,535"
    if halved := sum(header.halved for header in headers):
        yield f"{halved:,} of {count:,} images have 16 bits a colour, of which the upper 8 are read"
    if reduced := sum(max(header.height, header.width) > MAX_SIDE for header in headers):
        yield (
            f"{reduced:,} of {count:,} images are reduced to at most {MAX_SIDE} pixels a side; "
            "arrays (.npz) keep their size"
        )


def _broken(found: ImageFolder, broken: Mapping[Path, str]) -> DataError:
    """The error for images that cannot be read; it has the names of all of them."""
    named = {str(path.relative_to(found.root)): reason for path, reason in sorted(broken.items())}
    shown = [f"{name} ({reason})" for name, reason in list(named.items())[:SHOWN_FILES]]
    more = f" and {len(named) - SHOWN_FILES} more" if len(named) > SHOWN_FILES else ""
    return DataError(
        f"{found.root}: {len(named)} of the images cannot be read: {', '.join(shown)}{more}; "
        "repair or remove them",
        files=named,
    )
