"""`archscout predict`: run a registered model on images or arrays."""

import argparse
import csv
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands import studies
from orchestrator.errors import CommandError, ExitCode, format_path, sanitize
from orchestrator.formatting import format_number, format_table
from orchestrator.home import Home
from orchestrator.promotion.inputs import batches, expand
from orchestrator.terminal import Terminal
from orchestrator.tracking.addresses import registry_uri, require_registry, sqlite_file
from orchestrator.tracking.environment import prepare_process
from search_spaces.plugins import did_you_mean

if TYPE_CHECKING:
    from orchestrator.promotion.loading import LoadedModel
    from orchestrator.promotion.registry import Champion, ModelRegistry

_MAX_SHOWN = 20
_PROGRESS_S = 2.0


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Print predictions for files; standard output contains nothing else.

    Raises:
        CommandError: There is no such model or alias.
        PromotionRefusedError: The model's files changed since its promotion.
        DataError: A file does not exist or has an unknown format.
    """
    name, alias = model_and_alias(options.model)
    files, notes = expand(options.files)
    for note in notes:
        terminal.error(f"note: {sanitize(note, 500)}")
    model = open_model(name, alias, home)
    failed: list[str] = []
    rows = _predict(model, files, failed, terminal)
    terminal.document |= {"model": name, "alias": alias, "version": model.version}
    terminal.document["predictions"] = rows
    terminal.document["notes"] = notes
    shown = {"table": _table, "json": _json, "csv": _csv}[options.output]
    if rows or not failed:
        terminal.print(shown(rows, model))
    if not failed:
        return ExitCode.DONE
    terminal.document["errors"] = failed
    for message in failed[:_MAX_SHOWN]:
        terminal.error(sanitize(message, 500))
    if len(failed) > _MAX_SHOWN:
        terminal.error(f"and {len(failed) - _MAX_SHOWN} more (--json lists all)")
    if rows:
        terminal.error(f"{len(failed)} of {len(files)} files have no prediction")
    return ExitCode.INPUT


def model_and_alias(reference: str) -> tuple[str, str]:
    """Split MODEL@ALIAS.

    Raises:
        CommandError: It is not of this form.
    """
    name, at, alias = reference.rpartition("@")
    if not at or not name or not alias:
        raise CommandError(
            f"'{sanitize(reference)}' is not a model with an alias; write MODEL@ALIAS, "
            f"such as {sanitize(reference.strip('@') or 'MODEL')}@champion",
            ExitCode.INPUT,
        )
    return name, alias


def open_model(name: str, alias: str, home: Home) -> "LoadedModel":
    """Load a registered model after verifying its files.

    Raises:
        CommandError: There is no such model or alias.
        PromotionRefusedError: The model's files changed since its promotion.
    """
    prepare_process()
    require_registry(home.tracking_uri)
    file = sqlite_file(registry_uri(home.tracking_uri))
    if file is not None and not file.exists():
        raise CommandError(
            f"there is no model '{sanitize(name)}': {format_path(home.folder)} has no models yet. "
            "Register one: archscout promote STUDY --model NAME",
            ExitCode.INPUT,
        )
    from orchestrator.promotion import loading, registry  # noqa: PLC0415 - loads torch and mlflow
    from orchestrator.tracking.deletion import mlflow_errors  # noqa: PLC0415 - loads mlflow

    with mlflow_errors():
        models = registry.ModelRegistry.open(home.tracking_uri)
        champion = _champion(models, name, alias)
    with studies.open_ledger(home) as ledger:
        promotions = ledger.promotions.all() if ledger else []
    return loading.load(models, name, champion, promotions)


def _champion(registry: "ModelRegistry", name: str, alias: str) -> "Champion":
    found = registry.champion(name, alias)
    if found is not None:
        return found
    models = registry.models()
    if name in models:
        known = registry.aliases(name)
        what = f"model '{sanitize(name)}' has no alias '{sanitize(alias)}'. Aliases"
        hint = did_you_mean(alias, known)
    else:
        known = models
        what, hint = f"there is no model '{sanitize(name)}'. Models", did_you_mean(name, known)
    listed = ", ".join(known[:20]) or "none"
    raise CommandError(f"{what}: {listed}.{hint}", ExitCode.INPUT)


def _predict(
    model: "LoadedModel", files: Sequence[Path], failed: list[str], terminal: Terminal
) -> list[dict[str, Any]]:
    """Return a row for each example; add a message to `failed` for each unreadable file."""
    rows: list[dict[str, Any]] = []
    printed = time.monotonic()
    for batch in batches(files, model.shim, failed):
        answer = model.shim.answer(batch.examples)
        for index, (file, within) in enumerate(batch.names):
            row: dict[str, Any] = {"file": file, "index": within}
            if model.class_names:
                shares = {
                    name: float(answer[f"probability_{name}"][index]) for name in model.class_names
                }
                label = str(answer["label"][index])
                row |= {"label": label, "probability": shares[label], "probabilities": shares}
            if model.value_names:
                row["values"] = {
                    name: float(answer[f"value_{name}"][index]) for name in model.value_names
                }
            rows.append(row)
        if not terminal.quiet and time.monotonic() - printed > _PROGRESS_S:
            terminal.error(f"{len(rows)} examples so far")
            printed = time.monotonic()
    return rows


def _table(rows: Sequence[dict[str, Any]], model: "LoadedModel") -> str:
    """Return a table of files with their label, the second most likely one, and the values."""
    head = ["label", "probability", "second"] if model.class_names else []
    head += [sanitize(name) for name in model.value_names]
    cells = []
    for row in rows:
        line = [sanitize(_location(row), 200)]
        if model.class_names:
            ranked = sorted(row["probabilities"].items(), key=lambda entry: -entry[1])
            second = ranked[1] if ranked[0][0] == row["label"] else ranked[0]
            line += [
                row["label"],
                format_number(row["probability"]),
                f"{second[0]} {format_number(second[1])}",
            ]
        cells.append(line + [format_number(value) for value in row.get("values", {}).values()])
    right = ["probability", *(sanitize(name) for name in model.value_names)]
    return format_table(["file", *head], cells, right=right)


def _json(rows: Sequence[dict[str, Any]], _model: "LoadedModel") -> str:
    return json.dumps({"predictions": list(rows)}, indent=2, sort_keys=True)


def _csv(rows: Sequence[dict[str, Any]], model: "LoadedModel") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["label", "probability"] if model.class_names else []
    head += [f"probability_{name}" for name in model.class_names]
    writer.writerow(["file", *head, *(f"value_{name}" for name in model.value_names)])
    for row in rows:
        line: list[Any] = [_location(row)]
        if model.class_names:
            line += [row["label"], row["probability"], *row["probabilities"].values()]
        writer.writerow([*line, *row.get("values", {}).values()])
    return text.getvalue().rstrip("\n")


def _location(row: dict[str, Any]) -> str:
    """Return the file, with an index if it contains several examples."""
    return str(row["file"]) if row["index"] is None else f"{row['file']}[{row['index']}]"
