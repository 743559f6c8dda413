"""`archscout enqueue`: put designs into a study; its sampler completes them."""

import argparse
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.commands import studies
from orchestrator.commands.steer import requesting
from orchestrator.config import strict_yaml
from orchestrator.errors import CommandError, ExitCode, ProblemsError, format_path, sanitize
from orchestrator.home import Home
from orchestrator.ledger import Ledger
from orchestrator.study.moved_files import relocate
from orchestrator.study.prepare import study_space, user_code
from orchestrator.study.requests.enqueue import ENQUEUE, problem, to_payload
from orchestrator.study.requests.view import StudyView
from orchestrator.terminal import Terminal
from orchestrator.trial import Trial, known_numbers
from search_spaces.derivation import Space
from search_spaces.designs import Design


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Request the trials; the running driver adds them, or the next one does first.

    Raises:
        CommandError: There is no such study or trial, or a design cannot be trained.
    """
    given = _assignments(options.set)
    documents = [] if options.file is None else _read(Path(options.file))
    reply = enqueue(options.name, documents or [{}], home, like=options.like, changes=given)
    numbers = None if reply.answer is None else reply.answer["trials"]
    terminal.document |= {"study": options.name, "trials": numbers}
    resume = f"{home.program} resume {options.name}"
    if numbers is None and reply.running:
        terminal.print(requesting.still_open(options.name))
    elif numbers is None:
        terminal.print(f"Requested; no driver runs '{options.name}'. Train it first: {resume}")
    else:
        for number in numbers:
            terminal.print(f"trial {number} is added and starts next")
        terminal.info(f"Show it: {home.program} status {options.name} --trial {numbers[0]}")
    return ExitCode.DONE


def enqueue(
    name: str,
    documents: Sequence[Mapping[str, Any]],
    home: Home,
    *,
    like: int | None = None,
    changes: Mapping[str, Any],
) -> requesting.Reply:
    """Check designs as far as possible without a driver, and request their trials.

    Args:
        name: Name of the study.
        documents: Decisions by path, a candidate, or what `status --trial --json` prints, of each.
        home: Home of the study.
        like: Number of a trial whose decisions each design starts from; None for none.
        changes: Decisions by path that replace those of each document.

    Raises:
        CommandError: There is no such study or trial, or a design cannot be trained.
    """
    if not (changes or any(documents)) and like is None:
        text = "nothing to enqueue: give decisions by path, a candidate, or a trial to start from"
        raise CommandError(text, ExitCode.INPUT)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        requesting.require_time(ledger, row, studies.require_config(row), home)
        view = StudyView.read(ledger, row.name)
        designs, space = list[Design](), _space(ledger, view, home)
        base = {} if like is None else _known(view, like).params
        for index, document in enumerate(documents):
            where = f"design {index}: " if len(documents) > 1 else ""
            try:
                own = Design.of_document(space, document)
                designs.append(Design(params={**own.params, **changes}, base={**base, **own.base}))
                found = problem(view, space, designs[-1])
            except ValueError as error:
                found = str(error)
            if found is not None:
                requesting.require_accepted(row, {"refused": sanitize(where + found, 400)})
        return requesting.submit(ledger, row, ENQUEUE, to_payload(designs, uuid.uuid4().hex, like))


def _assignments(options: Iterable[str]) -> dict[str, Any]:
    """Return the decisions of `--set PATH=VALUE`, whose values are YAML.

    Raises:
        CommandError: One cannot be read.
    """
    found: dict[str, Any] = {}
    for option in options:
        path, equals, text = option.partition("=")
        if not (path and equals):
            raise CommandError(
                f"--set {sanitize(option)}: write --set PATH=VALUE, such as "
                "--set recipe.optimizer=adamw",
                ExitCode.INPUT,
            )
        document = strict_yaml.parse(text.encode(errors="surrogateescape"), f"--set {path}")
        if document.problems:
            raise ProblemsError(document.problems)
        found[path] = document.value
    return found


def _read(path: Path) -> list[Mapping[str, Any]]:
    """Return the documents of a JSON file: an object, or a list of them.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(strict_yaml.MAX_BYTES + 1)
        found = json.loads(raw) if len(raw) <= strict_yaml.MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"{format_path(path)}: {error}", ExitCode.INPUT) from error
    if found is None:
        limit = strict_yaml.MAX_BYTES // 1024
        raise CommandError(f"{format_path(path)}: larger than {limit} KB", ExitCode.INPUT)
    listed = found if isinstance(found, list) else [found]
    if not listed or not all(isinstance(each, dict) for each in listed):
        text = "not an object of decisions by path, a candidate, or a list of them"
        raise CommandError(f"{format_path(path)}: {text}", ExitCode.INPUT)
    return listed


def _space(ledger: Ledger, view: StudyView, home: Home) -> Space:
    """Return the study's space.

    Raises:
        CommandError: The user's own Python has changed since the study was started.
    """
    config = relocate(view.config, ledger, view.row, home)
    code = user_code(config)
    if code is not None and code.digest != view.row.code_digest:
        names = [known.name for known in ledger.studies()]
        text = studies.describe_changes(config, ["code_digest"], names, home)
        raise CommandError(text, ExitCode.INPUT)
    return study_space(config, view.task)


def _known(view: StudyView, number: int) -> Trial:
    """Return a trial of the study.

    Raises:
        CommandError: It has none of this number.
    """
    if number >= len(view.trials):
        known = known_numbers(view.trials)
        text = f"study '{view.row.name}' has no trial {number}. Trials: {known}"
        raise CommandError(text, ExitCode.INPUT)
    return view.trials[number]
