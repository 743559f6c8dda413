"""One walk through a user's folder: which files are read, and which are left aside and why.

Training and prediction share it. Nothing is followed that leads out of the folder.
"""

import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from workers.data import images
from workers.data.checks import DataError, format_names

LINKS = (
    "links that lead out of the folder are not followed; give the folder in which the files are, "
    "or make hard links"
)


class Walk:
    """Lists a folder and remembers what it leaves aside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored: set[str] = set()
        """Relative to the root: hidden files, files that are no images, links that lead out."""
        self.links: set[str] = set()
        """Those of them that are links that lead out."""
        self._listed: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of the links that are left aside."""
        if not self.links:
            return ()
        return (f"{LINKS}: {format_names(self.links)}",)

    def entries(self, folder: Path) -> list[Path]:
        """The contents of a folder, by name.

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
        """The folders in one that has nothing else of interest.

        Raises:
            DataError: It has images instead.
        """
        entries = self.entries(folder)
        chosen = [each for each in entries if each.is_dir() and self.is_inside(each)]
        rest = sorted(set(entries) - set(chosen))
        if not chosen and (stray := [each.name for each in rest if self.is_image(each)]):
            raise DataError(
                f"{len(stray)} images lie directly in {folder}, like {stray[0]!r}: put those of "
                "each class into a folder of their own, named like the class"
            )
        self.ignore(rest)
        return chosen

    def classes(self, folder: Path) -> dict[str, list[Path]]:
        """The images of each class in a folder.

        Raises:
            DataError: There is none, or a class has no images or has them deeper.
        """
        classes = {each.name: self.images(each) for each in self.folders(folder)}
        if not classes:
            raise DataError(
                f"{folder} has no folders; it needs one for each class, with its images"
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
        """The images directly in a folder.

        Raises:
            DataError: It has others, or folders with images.
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

    def below(self, folder: Path, endings: Container[str]) -> Iterator[Path]:
        """All files of these endings in a folder and its folders, relative to the root.

        The others are left aside, and links to folders that are listed anyway.

        Raises:
            DataError: A folder may not be read.
        """
        self._listed.add(os.path.realpath(folder))
        # Folders before links to them, so that files keep their own names.
        for each in sorted(self.entries(folder), key=Path.is_symlink):
            if each.is_dir() and self.is_inside(each) and not self._is_listed(each):
                yield from self.below(each, endings)
            elif each.is_file() and self.is_inside(each) and each.suffix.lower() in endings:
                yield each.relative_to(self.root)
            else:
                self.ignore([each])

    def is_image(self, path: Path) -> bool:
        """Whether a file is read as an image, by its name."""
        return path.suffix.lower() in images.SUFFIXES and path.is_file() and self.is_inside(path)

    def is_inside(self, path: Path) -> bool:
        """Whether a path is no hidden one, nor a link that leads out of the folder or round."""
        hidden = path.name.startswith((".", "__MACOSX"))
        return not hidden and not self._leads_out(path) and not self._leads_round(path)

    def ignore(self, paths: Iterable[Path]) -> None:
        """Remember what is left aside."""
        for path in paths:
            name = str(path.relative_to(self.root))
            self.ignored.add(name)
            if self._leads_out(path):
                self.links.add(name)

    def _leads_out(self, path: Path) -> bool:
        # Path.resolve raises where a link leads to itself.
        return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(self.root)

    def _leads_round(self, path: Path) -> bool:
        """Whether a link leads to a folder that it lies in."""
        return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(
            os.path.realpath(path)
        )

    def _is_listed(self, folder: Path) -> bool:
        return os.path.realpath(folder) in self._listed

    def _because_of_links(self, folder: Path) -> str:
        return f"; {LINKS}" if any(map(self._leads_out, self.entries(folder))) else ""

    def _refuse_unread(self, folder: Path, rest: Iterable[Path]) -> None:
        """Leaving these aside would lose examples."""
        others, misnamed = [], []
        for each in rest:
            if not self.is_inside(each) or not each.is_file():
                continue
            found = images.content(each)
            if found in images.FORMATS:
                misnamed.append(f"{each.name!r} ({found} inside)")
            elif found or each.suffix.lower() in images.OTHER_SUFFIXES:
                others.append(each.name)
        if others:
            raise DataError(
                f"{folder} has {len(others)} images that are neither PNG nor JPEG, like "
                f"{others[0]!r}: convert or remove them"
            )
        if misnamed:
            raise DataError(
                f"{folder} has {len(misnamed)} images whose names do not say so, like "
                f"{misnamed[0]}: rename them .png or .jpg, or remove them"
            )

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
