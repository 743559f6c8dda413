"""Listing of a user's folder: the files to read, and the skipped files.

Training and prediction share it. Links that lead out of the folder are not followed.
"""

import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from workers.data import images
from workers.data.checks import DataError, format_names

LINKS = (
    "links that lead out of the folder are not followed; give the folder that contains the files, "
    "or make hard links"
)


class Walk:
    """Listing of a folder that records the skipped files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored: set[str] = set()
        """Skipped paths, relative to the root: hidden files, other files, links that lead out."""
        self.links: set[str] = set()
        """Skipped links that lead out of the folder."""
        self._listed: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on skipped links."""
        if not self.links:
            return ()
        return (f"{LINKS}: {format_names(self.links)}",)

    def entries(self, folder: Path) -> list[Path]:
        """Return the entries of a folder, sorted by name.

        Raises:
            DataError: It cannot be read.
        """
        try:
            with os.scandir(folder) as listing:
                return sorted(Path(entry.path) for entry in listing)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be read: {error.strerror}; grant yourself permission to read it"
            ) from error

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder; other entries are skipped.

        Raises:
            DataError: It has images instead of folders.
        """
        entries = self.entries(folder)
        chosen = [each for each in entries if each.is_dir() and self.is_inside(each)]
        rest = sorted(set(entries) - set(chosen))
        if not chosen and (stray := [each.name for each in rest if self.is_image(each)]):
            raise DataError(
                f"{len(stray)} images are directly in {folder}, such as {stray[0]!r}: put those of "
                "each class into a folder named after the class"
            )
        self.ignore(rest)
        return chosen

    def classes(self, folder: Path) -> dict[str, list[Path]]:
        """Return the images of a folder by class.

        Raises:
            DataError: There are no classes, or one has no images or has them in subfolders.
        """
        classes = {each.name: self.images(each) for each in self.folders(folder)}
        if not classes:
            raise DataError(
                f"{folder} has no folders; it needs one per class, with its images"
                + self._because_of_links(folder)
            )
        if empty := [name for name, files in classes.items() if not files]:
            linked = next(filter(None, (self._because_of_links(folder / n) for n in empty)), "")
            raise DataError(
                f"{folder}: no images (PNG, JPEG) of class {format_names(empty)}; add some or "
                f"remove the folder{linked}"
            )
        return classes

    def images(self, folder: Path) -> list[Path]:
        """Return the images directly in a folder.

        Raises:
            DataError: It has images of other formats, or folders with images.
        """
        entries = self.entries(folder)
        chosen = [each for each in entries if self.is_image(each)]
        rest = sorted(set(entries) - set(chosen))
        self._refuse_unread(folder, rest)
        for each in rest:
            if each.is_dir() and self.is_inside(each):
                self._check_shallow(each)
        self.ignore(rest)
        return chosen

    def below(self, folder: Path, suffixes: Container[str]) -> Iterator[Path]:
        """Yield all files with these suffixes below a folder, relative to the root.

        Other files are skipped, and so are links to folders that are listed anyway.

        Raises:
            DataError: A folder cannot be read.
        """
        self._listed.add(os.path.realpath(folder))
        # Folders before links to them, so that files are listed under their own paths.
        for each in sorted(self.entries(folder), key=Path.is_symlink):
            if each.is_dir() and self.is_inside(each) and not self._is_listed(each):
                yield from self.below(each, suffixes)
            elif each.is_file() and self.is_inside(each) and each.suffix.lower() in suffixes:
                yield each.relative_to(self.root)
            else:
                self.ignore([each])

    def is_image(self, path: Path) -> bool:
        """Return whether a file is read as an image, by its name."""
        return path.suffix.lower() in images.SUFFIXES and path.is_file() and self.is_inside(path)

    def is_inside(self, path: Path) -> bool:
        """Return whether a path is neither hidden nor a link that leads out or to a parent."""
        hidden = path.name.startswith((".", "__MACOSX"))
        return not hidden and not self._leads_out(path) and not self._leads_to_parent(path)

    def ignore(self, paths: Iterable[Path]) -> None:
        """Record skipped paths."""
        for path in paths:
            name = str(path.relative_to(self.root))
            self.ignored.add(name)
            if self._leads_out(path):
                self.links.add(name)

    def _leads_out(self, path: Path) -> bool:
        # Path.resolve raises where a link leads to itself.
        return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(self.root)

    def _leads_to_parent(self, path: Path) -> bool:
        """Return whether a link leads to a folder that contains it."""
        return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(
            os.path.realpath(path)
        )

    def _is_listed(self, folder: Path) -> bool:
        return os.path.realpath(folder) in self._listed

    def _because_of_links(self, folder: Path) -> str:
        return f"; {LINKS}" if any(map(self._leads_out, self.entries(folder))) else ""

    def _refuse_unread(self, folder: Path, rest: Iterable[Path]) -> None:
        """Refuse images that would be skipped: that would lose examples."""
        others, misnamed = [], []
        for each in rest:
            if not self.is_inside(each) or not each.is_file():
                continue
            found = images.detect_format(each)
            if found in images.FORMATS:
                misnamed.append(f"{each.name!r} ({found} inside)")
            elif found or each.suffix.lower() in images.OTHER_SUFFIXES:
                others.append(each.name)
        if others:
            raise DataError(
                f"{folder} has {len(others)} images that are neither PNG nor JPEG, such as "
                f"{others[0]!r}: convert or remove them"
            )
        if misnamed:
            raise DataError(
                f"{folder} has {len(misnamed)} images with other suffixes, such as "
                f"{misnamed[0]}: rename them to .png or .jpg, or remove them"
            )

    def _check_shallow(self, folder: Path) -> None:
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                if self.is_image(Path(parent, name)):
                    deep = Path(parent, name).relative_to(self.root)
                    raise DataError(
                        f"{self.root}: '{deep}' is one folder too deep; images must be directly in "
                        "the folder of their class. Move them, or give the folder whose folders "
                        "are the classes"
                    )
