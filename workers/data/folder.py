"""Source `folder`: images in one folder per class, or in split folders with such folders in each.

Interprets the layout; `walk` lists the folders and `images` reads the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data import images
from workers.data.checks import DataError, check_distinct, check_names, format_names, to_nfc
from workers.data.dataset import RawData, Split, as_pool, limited
from workers.data.images import Header
from workers.data.limits import max_array_bytes
from workers.data.preprocessing import MAX_SIDE, Preprocessing, common_size, picture_preprocessing
from workers.data.spec import DataSpec
from workers.data.walk import Walk

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Split by the name of its folder, in lower case."""
SHOWN_FILES = 5
"""Number of broken files that a message names; the error has all of them."""

_Classes = dict[str, list[Path]]
"""Images by class name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Image files of one split."""

    paths: tuple[Path, ...]
    """Sorted by class and name."""
    targets: NDArray[np.int64]
    """Class index of each, (N,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """Contents of a folder, before any file is opened."""

    root: Path
    class_names: tuple[str, ...]
    splits: dict[str, ImageFiles]
    """By split: `train`, and `validation` and `test` where the folder has them."""
    ignored: tuple[str, ...]
    """Skipped paths, relative to the root: hidden files, other files, links that lead out."""
    notes: tuple[str, ...]
    """Remarks for the user on the layout."""


def read(spec: DataSpec, preprocessing: Preprocessing | None = None) -> RawData:
    """Read all images of a folder in one size, as grayscale if none has color.

    Args:
        spec: Folder and limit.
        preprocessing: Preprocessing of the images; None follows the training images.

    Raises:
        DataError: The folder contains no classes of images, or some cannot be read.
    """
    if spec.path is None:
        raise DataError("data.path: source 'folder' needs the folder with the images")
    found = find(Path(spec.path).expanduser())
    return load(found, limited_to(found, spec), preprocessing)


def limited_to(found: ImageFolder, spec: DataSpec) -> dict[str, ImageFiles]:
    """Return the files of each split within a spec's limit; the others are never opened.

    Raises:
        DataError: A class would have no file.
    """
    train = found.splits["train"]
    taken = limited(train.targets, spec, found.class_names, own=set(found.splits))
    paths = tuple(train.paths[index] for index in taken)
    chosen = ImageFiles(paths=paths, targets=train.targets[taken])
    return {**found.splits, "train": chosen}


def find(root: Path) -> ImageFolder:
    """Find the images of a folder by their names.

    Raises:
        DataError: It is not a folder, or has no folders for classes.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}; give a folder with one folder of images per class")
    walk = Walk(root.resolve())
    classes, notes = _layout(walk)
    names = _class_names(walk.root, classes)
    merged, differing = _merge_names(names, classes)
    return ImageFolder(
        root=walk.root,
        class_names=names,
        splits={split: _files(given, names) for split, given in merged.items()},
        ignored=tuple(sorted(walk.ignored)),
        notes=(*notes, *differing, *walk.notes),
    )


def load(
    found: ImageFolder, splits: dict[str, ImageFiles], prepared: Preprocessing | None = None
) -> RawData:
    """Read image files with one preprocessing.

    Args:
        found: Folder and class names.
        splits: Files of each split.
        prepared: Preprocessing of the images; None follows the training images.

    Raises:
        DataError: Some cannot be read, all are equal, or together they are too large.
    """
    valid, broken = _read_headers(found, splits)
    preprocessing = prepared or preprocessing_of(valid["train"])
    _check_memory(found, sum(len(files.paths) for files in splits.values()), preprocessing)
    read: dict[str, NDArray[Any]] = {}
    for split in sorted(splits, key=lambda split: split != "train"):
        read[split], failed = images.read_all(splits[split].paths, preprocessing)
        broken |= failed
        if split == "train" and prepared is None and _is_colorless(read[split]):
            read[split] = np.ascontiguousarray(read[split][:, :1])
            preprocessing = replace(preprocessing, channels=1)
    if broken:
        raise _broken(found, broken)
    notes = tuple(_notes([header for headers in valid.values() for header in headers]))
    check_distinct(read["train"], f"{found.root}:", notes)
    loaded = {
        split: Split(inputs={"image": read[split]}, targets=files.targets)
        for split, files in splits.items()
    }
    return RawData(
        **as_pool(loaded),
        class_names=found.class_names,
        preprocessing=preprocessing,
        skipped_files=found.ignored,
        notes=(*found.notes, *notes),
    )


def _read_headers(
    found: ImageFolder, splits: Mapping[str, ImageFiles]
) -> tuple[dict[str, list[Header]], dict[Path, str]]:
    """Return the valid headers by split, and the reason by broken file.

    Raises:
        DataError: No training image is valid.
    """
    valid: dict[str, list[Header]] = {}
    broken: dict[Path, str] = {}
    for split, files in splits.items():
        valid[split] = []
        for path, header in zip(files.paths, images.headers(files.paths), strict=True):
            if isinstance(header, Header):
                valid[split].append(header)
            else:
                broken[path] = str(header)
    if not valid["train"]:
        raise _broken(found, broken)
    return valid, broken


def preprocessing_of(headers: Sequence[Header]) -> Preprocessing:
    """Return the preprocessing of a data set whose training images have these headers."""
    height, width = common_size(
        [header.height for header in headers], [header.width for header in headers]
    )
    grayscale = all(header.grayscale for header in headers)
    deep = any(header.deep for header in headers)
    return picture_preprocessing(1 if grayscale else 3, height, width, deep=deep)


def _layout(walk: Walk) -> tuple[dict[str, _Classes], list[str]]:
    """Return the images by split and class, and remarks on the layout.

    Raises:
        DataError: The folders are not classes.
    """
    root, folders = walk.root, walk.folders(walk.root)
    named = [each for each in folders if each.name.lower() in SPLIT_NAMES]
    splits = {SPLIT_NAMES[each.name.lower()]: each for each in named}
    if "train" in splits and not any(map(walk.is_image, walk.entries(splits["train"]))):
        others = [each for each in folders if each not in splits.values()]
        if twice := [each.name for each in others if each.name.lower() in SPLIT_NAMES]:
            same = splits[SPLIT_NAMES[twice[0].lower()]].name
            raise DataError(f"{root}: {twice[0]!r} and {same!r} are the same split; remove one")
        walk.ignore(others)
        notes = _skip_unlabelled(walk, splits)
        return {split: walk.classes(folder) for split, folder in splits.items()}, notes
    if splits and len(splits) == len(folders):
        raise DataError(
            f"{root} has a folder {format_names(each.name for each in folders)}, but no 'train'; "
            "add one, or give a folder whose folders are the classes"
        )
    return {"train": walk.classes(root)}, []


def _skip_unlabelled(walk: Walk, splits: dict[str, Path]) -> list[str]:
    """Skip a test folder whose images have no class; return a remark if so."""
    test = splits.get("test")
    if test is None:
        return []
    entries = walk.entries(test)
    count = sum(map(walk.is_image, entries))
    if not count or any(each.is_dir() and walk.is_inside(each) for each in entries):
        return []
    del splits["test"]
    walk.ignore([test])
    return [
        f"the {count:,} images in '{test.name}' have no class and are skipped: a test split is "
        "sampled from the others; archscout predict labels these"
    ]


def _class_names(root: Path, classes: dict[str, _Classes]) -> tuple[str, ...]:
    """Return the classes of the training split; other splits may have no others."""
    names = sorted(classes["train"])
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(
            f"{root} has only one class, {names[0]!r}: a classifier needs at least two; "
            "add a folder for each other class"
        )
    known = {to_nfc(name) for name in names}
    folded = {to_nfc(name).casefold(): name for name in names}
    for split, given in classes.items():
        check_names(root, given)
        if unknown := sorted(name for name in given if to_nfc(name) not in known):
            near = folded.get(to_nfc(unknown[0]).casefold())
            fix = f"rename it to {near!r}" if near else "add images of it there, or remove it"
            if split == "test":
                fix += "; images without a known class are for archscout predict"
            raise DataError(
                f"{root}: the {split} split has class {format_names(unknown)}, which training "
                f"lacks; {fix}"
            )
    return tuple(names)


def _merge_names(
    names: Sequence[str], classes: dict[str, _Classes]
) -> tuple[dict[str, _Classes], list[str]]:
    """Rename the classes of every split to the names of training; return remarks on differences.

    A name written on a Mac may have its accents as separate characters (NFD).
    """
    known = {to_nfc(name): name for name in names}
    notes = [
        f"the {split} split writes {format_names(differing)} in another Unicode form (NFC, NFD) "
        "than training; both count as the same class"
        for split, given in classes.items()
        if (differing := set(given) - set(names))
    ]
    merged = {
        split: {known[to_nfc(name)]: files for name, files in given.items()}
        for split, given in classes.items()
    }
    return merged, notes


def _files(classes: Mapping[str, Sequence[Path]], names: Sequence[str]) -> ImageFiles:
    labeled = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    return ImageFiles(
        paths=tuple(path for path, _ in labeled),
        targets=np.array([label for _, label in labeled], dtype=np.int64),
    )


def _check_memory(found: ImageFolder, count: int, preprocessing: Preprocessing) -> None:
    each, limit = preprocessing.num_bytes, max_array_bytes()
    if count * each > limit:
        raise DataError(
            f"{found.root}: {count:,} images take {count * each / 2**30:.1f} GiB, and memory is "
            f"available for {limit / 2**30:.1f}; set data.limit to {limit // each:,} or less"
        )


def _is_colorless(pixels: NDArray[Any]) -> bool:
    """Return whether images that are stored in color are all gray."""
    if pixels.shape[1] != 3:
        return False
    return all(
        bool((chunk[:, 1:] == chunk[:, :1]).all())
        for chunk in np.array_split(pixels, max(1, len(pixels) // 1024))
    )


def _notes(headers: Sequence[Header]) -> Iterator[str]:
    """Yield remarks on how the images are read."""
    count = len(headers)
    if alpha := sum(header.alpha for header in headers):
        yield f"{alpha:,} of {count:,} images have an alpha channel: they are composed over white"
    deep = sum(header.deep for header in headers)
    if 0 < deep < count:
        yield f"{deep:,} of {count:,} images have 16 bits, the others 8; their white becomes 65,535"
    if halved := sum(header.halved for header in headers):
        yield f"{halved:,} of {count:,} images have 16 bits per color; the upper 8 are read"
    if reduced := sum(max(header.height, header.width) > MAX_SIDE for header in headers):
        yield (
            f"{reduced:,} of {count:,} images are reduced to at most {MAX_SIDE} pixels per side; "
            "arrays (.npz) keep their size"
        )


def _broken(found: ImageFolder, broken: Mapping[Path, str]) -> DataError:
    """Return the error for images that cannot be read; it has the names of all of them."""
    named = {str(path.relative_to(found.root)): reason for path, reason in sorted(broken.items())}
    shown = [f"{name} ({reason})" for name, reason in list(named.items())[:SHOWN_FILES]]
    more = f" and {len(named) - SHOWN_FILES} more" if len(named) > SHOWN_FILES else ""
    return DataError(
        f"{found.root}: {len(named)} of the images cannot be read: {', '.join(shown)}{more}; "
        "repair or remove them",
        files=named,
    )
