"""`archscout init`: inspect your data and write a study file for it."""

import argparse
import errno
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import starter
from orchestrator.config.checks import absolute, exists
from orchestrator.config.load import presets
from orchestrator.config.starter import Limits, Machine
from orchestrator.errors import CommandError, ExitCode, format_path, sanitize
from orchestrator.formatting import format_duration, format_fields, format_number, format_table
from orchestrator.home import Home
from orchestrator.terminal import Terminal
from workers.data.dataset import Dataset, split_data
from workers.data.inspection import Inspection, Spread, inspect
from workers.data.limits import usable_cores
from workers.data.preprocessing import MAX_SIDE

_SHOWN_CLASSES = 20
_SHOWN_FILES = 5
_SHOWN_NUMBERS = 8
_UNEVEN = 3.0


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print a summary of the data, write the study file, and print the command that runs it."""
    output = Path(options.output)
    _check_output(output)
    path = absolute(options.path, Path.cwd())
    if not exists(path) or not str(path).isprintable():
        what = "there is nothing at" if not exists(path) else "rename"
        raise CommandError(
            f"{what} {format_path(path)}; archscout init takes a folder of images, an .npz "
            "file, or a "
            "folder of .npy or IDX files",
            ExitCode.INPUT,
        )
    path = path.resolve()
    found = inspect(path)
    dataset = split_data(found.raw, found.spec)
    notes = [*_warnings(found), *dataset.notes]
    terminal.document["found"] = {**_plain(found), "notes": notes}
    terminal.print(_described(found))
    for note in notes:
        terminal.print(f"note: {sanitize(note, 500)}")
    gpu, example_s = _time_training(dataset, found, notes, terminal)
    machine = Machine(cores=usable_cores(), gpu=gpu, example_s=example_s)
    held = starter.limits(found, machine)
    _write(output, starter.compose_yaml(found, _from(output, path), machine, held))
    # A file named like a preset would start the preset.
    here = "./" if str(output) in presets() else ""
    command = f"{home.program} search {here}{_argument(output)}"
    terminal.document |= {"study": str(output.absolute()), "next": command}
    terminal.document["limits"] = {
        "limit": held.limit, "hours": held.hours, "full_training_s": held.full_s, "gpu": int(gpu)
    }  # fmt: skip
    terminal.print(_written(output, held, found))
    terminal.info(f"\nNext step:\n  {command}")
    return ExitCode.DONE


def _time_training(
    dataset: Dataset, found: Inspection, notes: list[str], terminal: Terminal
) -> tuple[bool, float | None]:
    """Return whether a GPU is used, and the seconds of training per example; None if it failed."""
    terminal.info("\nTiming a short training on this machine ...")
    from orchestrator.preflight import timing  # noqa: PLC0415 - loads torch, once the data are valid

    gpu = timing.usable_gpu()
    try:
        return gpu, timing.example_s(dataset, found.spec, gpu=gpu)
    except timing.NotTimedError as error:
        reason = f"the short training failed ({sanitize(str(error), 200)}): the limits are guesses"
        notes.append(reason)
        terminal.print(f"note: {reason}")
        return gpu, None


def _check_output(output: Path) -> None:
    """Refuse an output that exists or has no folder.

    Raises:
        CommandError: The file exists, or its folder does not.
    """
    if output.exists() or output.is_symlink():
        raise CommandError(
            f"{format_path(output)} exists already and is not overwritten; remove it, or "
            "give another "
            "file with --output",
            ExitCode.INPUT,
        )
    if not output.parent.is_dir():
        raise CommandError(
            f"{format_path(output)} cannot be written: there is no folder "
            f"{format_path(output.parent)}; "
            "make it, or give another file with --output",
            ExitCode.INPUT,
        )


def _write(output: Path, text: str) -> None:
    """Write the whole file, or nothing.

    Raises:
        CommandError: The file cannot be written.
    """
    try:
        with output.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                output.unlink()
                raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}
        raise CommandError(
            f"{format_path(output)} cannot be written: {reason}; "
            + ("free some space" if full else "give another file with --output"),
            ExitCode.INTERRUPTED if full else ExitCode.INPUT,
        ) from error


def _from(output: Path, path: Path) -> str:
    """Return the data's path for the study file; relative to its folder if that is shorter."""
    relative = os.path.relpath(path, output.resolve().parent)
    shorter = min(relative, str(path), key=len)
    return f"./{shorter}" if shorter.startswith("~") else shorter


def _argument(path: Path) -> str:
    """Return a path quoted for a shell."""
    return shlex.quote(str(path))


def _described(found: Inspection) -> str:
    """Return a summary of the data in two tables."""
    facts = {
        "data": f"{sanitize(str(found.spec.path), 200)} (source {found.spec.source})",
        "examples": ", ".join(
            f"{count:,} {'' if len(found.examples) == 1 else part}".rstrip()
            for part, count in found.examples.items()
        ),
        **_examples(found),
        **_targets(found),
        "duplicates": _duplicates(found),
        "ignored": _first_names(found.raw.skipped_files) or "nothing",
    }
    return "\n".join([format_fields(facts), *(["", *_class_table(found)] if found.classes else [])])


def _examples(found: Inspection) -> dict[str, str]:
    """Return the properties of one example."""
    if found.heights is None or found.widths is None:
        return {"vectors": f"{found.shape[0]} values each"}
    channels, height, width = found.shape
    color = {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels")
    (examples,) = found.raw.pool.inputs.values()
    floats = "" if examples.dtype == "uint8" else ", not scaled (float32)"
    largest = f", at most {MAX_SIDE} pixels a side" if found.spec.source == "folder" else ""
    return {
        "sizes": f"height {_spread(found.heights)}, width {_spread(found.widths)}",
        "prepared": f"{color}, {height} x {width}{largest}{floats}",
    }


def _targets(found: Inspection) -> dict[str, str]:
    """Return the classes and the regression targets."""
    facts = {}
    if found.classes:
        largest = f"the largest {found.imbalance:.1f} times the smallest"
        facts["classes"] = f"{len(found.classes)}, {largest}"
    if found.numbers:
        spans = [
            f"{sanitize(name)}: {format_number(least)} to {format_number(most)} "
            f"(mean {format_number(mean)})"
            for name, (least, mean, most) in list(found.numbers.items())[:_SHOWN_NUMBERS]
        ]
        more = len(found.numbers) - len(spans)
        facts["targets"] = "; ".join(spans) + (f"; and {more} more" if more > 0 else "")
    return facts


def _class_table(found: Inspection) -> list[str]:
    parts = list(found.examples)
    rows = [
        [sanitize(name), *(f"{counts[part]:,}" for part in parts)]
        for name, counts in list(found.classes.items())[:_SHOWN_CLASSES]
    ]
    more = len(found.classes) - len(rows)
    shown = [format_table(["class", *parts], rows, right=parts)]
    return [*shown, f"and {more} more"] if more > 0 else shown


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.median}"
    return f"{spread.least} to {spread.most} (median {spread.median})"


def _first_names(names: tuple[str, ...]) -> str:
    """Return the first names and the number of all."""
    if not names:
        return ""
    shown = ", ".join(sanitize(name) for name in names[:_SHOWN_FILES])
    more = ", ..." if len(names) > _SHOWN_FILES else ""
    return f"{len(names)}: {shown}{more}"


def _duplicates(found: Inspection) -> str:
    given = found.duplicates
    words = [f"{count:,} within {part}" for part, count in given.within.items() if count]
    words += [
        f"{count:,} of {other} also in {one}"
        for (one, other), count in given.between.items()
        if count
    ]
    return ", ".join(words) or "none"


def _warnings(found: Inspection) -> Iterator[str]:
    """Yield problems of the data that may spoil a search, with a suggested fix."""
    given = found.duplicates
    if given.within["train"] and len(found.examples) < 3:
        yield (
            f"{given.within['train']:,} examples are duplicates; once split, some are in "
            "both the training "
            "and the validation split: remove them"
        )
    if any(given.between.values()):
        yield "splits share examples, so that scores are too good: remove them"
    if given.contradicting and found.classes:
        yield f"{given.contradicting:,} examples equal one of another class: fix their labels"
    if found.imbalance > _UNEVEN:
        yield "the classes are imbalanced: always predicting the largest one gives a high accuracy"
    if found.spec.limit is not None:
        read, there = found.spec.limit, found.examples["train"]
        yield f"{read:,} of {there:,} examples were read: more do not fit into memory"


def _written(output: Path, held: Limits, found: Inspection) -> str:
    taken = f"{held.limit:,} of {found.examples['train']:,}" if held.limit else "all"
    timed = (
        ""
        if held.full_s is None
        else f", a full training takes about {format_duration(held.full_s)}"
    )
    return (
        f"\nWrote {format_path(output)}: {taken} examples{timed}, the search up to "
        f"{format_duration(held.hours * 3600)}."
    )


def _plain(found: Inspection) -> Mapping[str, Any]:
    """Return the summary as JSON data."""
    spreads = {"height": found.heights, "width": found.widths}
    return {
        "source": found.spec.source,
        "path": found.spec.path,
        "examples": dict(found.examples),
        "sizes": {
            name: {"min": spread.least, "median": spread.median, "max": spread.most}
            for name, spread in spreads.items()
            if spread is not None
        },
        "shape": list(found.shape),
        "classes": {name: dict(counts) for name, counts in found.classes.items()},
        "numbers": {
            name: {"min": least, "mean": mean, "max": most}
            for name, (least, mean, most) in found.numbers.items()
        },
        "duplicates": {
            "within": dict(found.duplicates.within),
            "between": {"/".join(two): n for two, n in found.duplicates.between.items()},
            "contradicting": found.duplicates.contradicting,
        },
        "ignored": list(found.raw.skipped_files),
    }
