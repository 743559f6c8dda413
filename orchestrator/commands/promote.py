"""`archscout promote`: register a study's best model after verifying it."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.commands import hints, studies
from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import answer
from orchestrator.errors import CommandError, ExitCode, PromotionRefusedError, sanitize
from orchestrator.formatting import format_fields, format_score
from orchestrator.home import Home
from orchestrator.ledger import Holder, Ledger, StudyRow
from orchestrator.objective import even_weights, pareto_front
from orchestrator.terminal import Terminal
from orchestrator.tracking.environment import prepare_process
from orchestrator.tracking.process import start_projector
from orchestrator.trial import Trial, TrialState, known_numbers

if TYPE_CHECKING:
    from orchestrator.promotion.promoter import Promoted, Promoter
    from orchestrator.promotion.registry import ModelRegistry
    from orchestrator.promotion.winner import Winner

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
_DRAIN_S = 60.0
"""Longest wait until MLflow shows the study."""


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Promote one trial and print the new version of the model.

    Raises:
        CommandError: There is no such study or trial, or a name is invalid.
        PromotionRefusedError: A gate refused it.
        AliasMovedError: Another promotion won.
        PromotionHeldError: Another process runs this promotion.
        DataError: The data cannot be read.
    """
    target = Target(model=options.model, alias=options.alias)
    number = None if options.trial == "best" else options.trial
    forced = _reason(options)
    chosen, promoted = promote(options.name, number, target, home, terminal, forced=forced)
    _show(chosen, promoted, target, home, terminal)
    return ExitCode.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The registered model and the alias that a trial is promoted to."""

    model: str
    alias: str

    def __str__(self) -> str:
        return f"{self.model}@{self.alias}"


def promote(
    name: str,
    number: int | None,
    target: Target,
    home: Home,
    terminal: Terminal,
    *,
    forced: str | None = None,
) -> "tuple[Winner, Promoted]":
    """Promote a trial of a study to a registered model.

    Args:
        name: The study's name.
        number: The trial's number; None for the best one.
        target: Registered model and alias.
        home: Stores of ledger, checkpoints and MLflow.
        terminal: Shows progress.
        forced: Reason for replacing the champion without a comparison.

    Raises:
        CommandError: There is no such study or trial, or a name is invalid.
        PromotionRefusedError: A gate refused it.
        AliasMovedError: Another promotion won.
        PromotionHeldError: Another process runs this promotion.
        DataError: The data cannot be read.
    """
    _check_names(target)
    with studies.open_ledger(home) as opened:
        ledger, row = studies.find_study(opened, name, home)
        config = studies.locate_config(ledger, row, home)
        trials = ledger.trials(row.id)
        _check_any_complete(ledger, row, trials, home)
        _check_choice(number, config, trials, home)
        found = answer(config.name, trials, config.objectives, program=None)
        terminal.document["answer"] = found.to_dict()
        terminal.info(found.sentence)
        terminal.info("loading the trial and its data")
        chosen, models = _load_winner(ledger, row, config, number, target=target, home=home)
        promotion = _promoter(chosen, target, ledger, registry=models, home=home, terminal=terminal)
        return chosen, replace(promotion, forced=forced).promote()


def _load_winner(
    ledger: Ledger,
    row: StudyRow,
    config: StudyConfig,
    number: int | None,
    *,
    target: Target,
    home: Home,
) -> "tuple[Winner, ModelRegistry]":
    """Load the trial and open the registry; a refusal is recorded in the trial's run, too."""
    prepare_process()
    from orchestrator.promotion import promoter, registry, winner  # noqa: PLC0415 - loads mlflow
    from orchestrator.tracking.deletion import mlflow_errors  # noqa: PLC0415 - loads mlflow

    trial = winner.select_trial(ledger.trials(row.id), config, number)
    with mlflow_errors():
        models = registry.ModelRegistry.open(home.tracking_uri)
    try:
        return winner.load_winner(ledger, row, config, trial, home.checkpoints), models
    except PromotionRefusedError as refusal:
        promoter.record_refusal(models, config, trial.uid, str(target), str(refusal))
        raise


def _check_names(target: Target) -> None:
    for option, name in (("--model", target.model), ("--alias", target.alias)):
        if not _NAME.fullmatch(name):
            raise CommandError(
                f"{option}: '{sanitize(name)}' is not a name: up to 100 letters, digits, '.', '_' "
                "and '-', starting with a letter or digit",
                ExitCode.INPUT,
            )
    if _RESERVED.fullmatch(target.alias):
        raise CommandError(
            f"--alias: MLflow reserves '{target.alias}'; use champion or another name",
            ExitCode.INPUT,
        )


def _reason(options: argparse.Namespace) -> str | None:
    """Return the reason for replacing the champion without a comparison; None without --force."""
    reason = sanitize(options.reason or "", 500).strip()
    if options.force and not reason:
        raise CommandError(
            "--force: give the reason with --reason TEXT; it is kept with the version",
            ExitCode.INPUT,
        )
    if reason and not options.force:
        raise CommandError("--reason: needs --force", ExitCode.INPUT)
    return reason or None


def _check_any_complete(ledger: Ledger, row: StudyRow, trials: Sequence[Trial], home: Home) -> None:
    """Refuse a study without a complete trial.

    Raises:
        CommandError: No trial is complete; the message suggests a command that may lead to one.
    """
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        return
    text = f"no trial of '{row.name}' is complete yet"
    raise CommandError(f"{text}. {hints.how_to_complete(ledger, row, home)}", ExitCode.REFUSED)


def _check_choice(
    number: int | None, config: StudyConfig, trials: Sequence[Trial], home: Home
) -> None:
    """Refuse a trial that does not exist, and a choice between the trials of a Pareto front.

    Raises:
        CommandError: There is no such trial, or no single best one.
    """
    if number is not None:
        if number >= len(trials):
            known = known_numbers(trials)
            message = f"study '{config.name}' has no trial {number}. Trials: {known}, or 'best'."
            raise CommandError(message, ExitCode.INPUT)
        return
    objectives = config.objectives
    if answer(config.name, trials, objectives).winner is not None:
        return
    front = pareto_front(trials, objectives)
    if len(objectives) > 1 and len(front) > 1:
        raise CommandError(
            f"study '{config.name}' has {len(objectives)} objectives and {len(front)} trials on "
            f"the Pareto front. Order them by your preferences: {home.program} leaderboard "
            f"{config.name} --prefer {even_weights(objectives)}; then promote one: --trial N",
            ExitCode.INPUT,
        )


def _promoter(
    chosen: "Winner",
    target: Target,
    ledger: Ledger,
    *,
    registry: "ModelRegistry",
    home: Home,
    terminal: Terminal,
) -> "Promoter":
    from orchestrator.promotion import clean_model, promoter  # noqa: PLC0415 - loads mlflow

    return promoter.Promoter(
        winner=chosen,
        model=target.model,
        alias=target.alias,
        ledger=ledger,
        registry=registry,
        open_model=lambda uri, digest, code: clean_model.open_clean_model(
            uri, home.tracking_uri, digest, code
        ),
        catch_up=lambda: _drain(chosen, home),
        sync=f"{home.program} sync {chosen.study.name}",
        say=terminal.info,
        holder=Holder.of_this_process(),
    )


def _drain(chosen: "Winner", home: Home) -> str:
    """Project the study onto MLflow; return the reason if MLflow does not accept all of it."""
    projector = start_projector(
        ledger_url=home.ledger_url,
        study=chosen.study.name,
        home=home.folder,
        tracking_uri=home.tracking_uri,
    )
    try:
        return "" if projector.drain(_DRAIN_S) else projector.reason
    finally:
        projector.close()


def _show(
    chosen: "Winner",
    promoted: "Promoted",
    target: Target,
    home: Home,
    terminal: Terminal,
) -> None:
    terminal.document |= {
        "study": chosen.study.name,
        "trial": chosen.trial.number,
        "model": target.model,
        "alias": target.alias,
        "version": promoted.version,
        "replaced": promoted.replaced,
        **{f"val_{name}": score for name, score in promoted.validation.items()},
        **{f"test_{name}": score for name, score in promoted.test.items()},
        "test_openings": promoted.test_openings,
        "was_done": promoted.was_done,
    }
    opened = "once" if promoted.test_openings == 1 else f"{promoted.test_openings} times"
    lines = {
        "model": f"{target}, version {promoted.version}"
        + (" (promoted before)" if promoted.was_done else ""),
        "trial": f"{chosen.trial.number} of '{chosen.study.name}', {chosen.architecture}",
        "validation": _format_scores(promoted.validation) + _recorded(chosen, promoted),
        "test": f"{_format_scores(promoted.test)} (held-out test set evaluated {opened})",
    }
    if promoted.replaced is not None and not promoted.was_done:
        lines["replaced"] = f"version {promoted.replaced}"
    terminal.print(format_fields(lines))
    steps = {
        f"predict {target} FILES": "run it on your "
        + ("arrays" if chosen.preprocessing is None else "images"),
        "ui": "show the model and its versions in MLflow",
    }
    shown = format_fields({f"  {home.program} {step}": what for step, what in steps.items()})
    terminal.info(f"\nNext steps:\n{shown}")


def _recorded(chosen: "Winner", promoted: "Promoted") -> str:
    if dict(promoted.validation) == dict(chosen.scores):
        return ", as recorded in the search"
    return f"; the search recorded {_format_scores(chosen.scores)}, within rounding"


def _format_scores(scores: Mapping[str, float]) -> str:
    return ", ".join(format_score(name, score) for name, score in scores.items())
