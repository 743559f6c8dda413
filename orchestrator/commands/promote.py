"""`archscout promote`: a search's winner into the model registry, once it has proved itself."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.commands import hints, studies
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import CommandError, ExitCode, PromotionRefusedError, sanitize
from orchestrator.formatting import format_fields
from orchestrator.home import Home
from orchestrator.objective import even_weights, pareto_front
from orchestrator.terminal import Terminal
from orchestrator.tracking.environment import prepare_process
from orchestrator.tracking.process import start_projector
from orchestrator.trial import Trial, TrialState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyRow
    from orchestrator.promotion.promoter import Promoted, Promoter
    from orchestrator.promotion.registry import ModelRegistry
    from orchestrator.promotion.winner import Winner

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
_CATCH_UP_S = 60.0


def run(options: argparse.Namespace, home: Home, terminal: Terminal) -> ExitCode:
    """Promote one trial and show the version that it became.

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
        forced: Reason for replacing the champion whatever the comparison says.

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
        asked = None if number is None else _existing(number, row.name, trials)
        if asked is None:
            _check_one_is_best(config, trials, home)
        prepare_process()
        from orchestrator.promotion import winner  # noqa: PLC0415 - loads torch and mlflow

        trial = winner.select_trial(trials, config, asked)
        registry = _registry(home)
        terminal.info("reading the trial and its data")
        with _told_to_mlflow(registry, config, trial, target):
            chosen = winner.load_winner(ledger, row, config, trial, home.checkpoints)
        promoter = _promoter(
            chosen, target, ledger, registry=registry, home=home, terminal=terminal
        )
        return chosen, replace(promoter, forced=forced).promote()


def _check_names(target: Target) -> None:
    for option, name in (("--model", target.model), ("--alias", target.alias)):
        if not _NAME.fullmatch(name):
            raise CommandError(
                f"{option}: '{sanitize(name)}' is no name: up to 100 letters, digits, '.', '_' and "
                "'-', the first a letter or digit",
                ExitCode.INPUT,
            )
    if _RESERVED.fullmatch(target.alias):
        raise CommandError(
            f"--alias: MLflow keeps '{target.alias}' for itself; say champion, or what it is for",
            ExitCode.INPUT,
        )


def _reason(options: argparse.Namespace) -> str | None:
    """Return why the champion is to be replaced whatever the comparison says; None if it is not."""
    reason = sanitize(options.reason or "", 500).strip()
    if options.force and not reason:
        raise CommandError(
            "--force: say why with --reason TEXT; it is kept with the version", ExitCode.INPUT
        )
    if reason and not options.force:
        raise CommandError("--reason: it belongs to --force; add it", ExitCode.INPUT)
    return reason or None


def _check_any_complete(
    ledger: "Ledger", row: "StudyRow", trials: Sequence[Trial], home: Home
) -> None:
    """Refuse a study without a complete trial, with what would complete one.

    Raises:
        CommandError: There is none.
    """
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        return
    text = f"no trial of '{row.name}' has reached the full budget yet"
    raise CommandError(f"{text}. {hints.how_to_complete(ledger, row, home)}", ExitCode.REFUSED)


def _check_one_is_best(config: StudyConfig, trials: Sequence[Trial], home: Home) -> None:
    """Refuses to choose between trials of which none is better in every objective.

    Raises:
        CommandError: There are several.
    """
    objectives = config.objectives
    front = pareto_front(trials, objectives)
    if len(objectives) > 1 and len(front) > 1:
        raise CommandError(
            f"study '{config.name}' has {len(objectives)} objectives and {len(front)} trials that "
            f"are best in their way. Say what counts how much: {home.program} leaderboard "
            f"{config.name} --prefer {even_weights(objectives)}; then promote its first: --trial N",
            ExitCode.INPUT,
        )


def _existing(asked: int, study: str, trials: Sequence[Trial]) -> int:
    if asked >= len(trials):
        known = f"0 to {len(trials) - 1}" if trials else "none yet"
        message = f"study '{study}' has no trial {asked}. Trials: {known}, or 'best'."
        raise CommandError(message, ExitCode.INPUT)
    return asked


def _registry(home: Home) -> "ModelRegistry":
    from orchestrator.promotion.registry import ModelRegistry  # noqa: PLC0415 - loads mlflow
    from orchestrator.tracking.deletion import mlflow_errors  # noqa: PLC0415 - as above

    with mlflow_errors():
        return ModelRegistry.open(home.tracking_uri)


@contextmanager
def _told_to_mlflow(
    registry: "ModelRegistry", config: StudyConfig, trial: Trial, target: Target
) -> Iterator[None]:
    """Puts a refusal on the trial's run too."""
    from orchestrator.promotion.promoter import record_refusal  # noqa: PLC0415 - loads mlflow

    try:
        yield
    except PromotionRefusedError as refusal:
        record_refusal(registry, config, trial.uid, str(target), str(refusal))
        raise


def _promoter(
    chosen: "Winner",
    target: Target,
    ledger: "Ledger",
    *,
    registry: "ModelRegistry",
    home: Home,
    terminal: Terminal,
) -> "Promoter":
    from orchestrator.ledger import Holder  # noqa: PLC0415 - loads sqlalchemy
    from orchestrator.promotion.clean_model import open_clean_model  # noqa: PLC0415 - with its registry
    from orchestrator.promotion.promoter import Promoter  # noqa: PLC0415 - loads mlflow

    return Promoter(
        winner=chosen,
        model=target.model,
        alias=target.alias,
        ledger=ledger,
        registry=registry,
        open_model=lambda uri, digest, code: open_clean_model(uri, home.tracking_uri, digest, code),
        catch_up=lambda: _catch_up(chosen, home),
        sync=f"{home.program} sync {chosen.study.name}",
        say=terminal.info,
        holder=Holder.of_this_process(),
    )


def _catch_up(chosen: "Winner", home: Home) -> str:
    """Shows in MLflow what the ledger has; returns why MLflow does not take all of it, if known."""
    projector = start_projector(
        ledger_url=home.ledger_url,
        study=chosen.study.name,
        home=home.folder,
        tracking_uri=home.tracking_uri,
    )
    try:
        return "" if projector.drain(_CATCH_UP_S) else projector.reason
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
        + (" (it was promoted before)" if promoted.was_done else ""),
        "trial": f"{chosen.trial.number} of '{chosen.study.name}', {chosen.architecture}",
        "validation": _told(promoted.validation) + _recorded(chosen, promoted),
        "test": f"{_told(promoted.test)} (these data's test part was opened {opened})",
    }
    if promoted.replaced is not None and not promoted.was_done:
        lines["replaced"] = f"version {promoted.replaced}"
    terminal.print(format_fields(lines))
    steps = {
        f"predict {target} FILES": "what it makes of your "
        + ("arrays" if chosen.preprocessing is None else "images"),
        "ui": "the model and its versions in MLflow",
    }
    shown = format_fields({f"  {home.program} {step}": what for step, what in steps.items()})
    terminal.info(f"\nNext:\n{shown}")


def _recorded(chosen: "Winner", promoted: "Promoted") -> str:
    if dict(promoted.validation) == dict(chosen.scores):
        return ", as the search recorded it"
    return f"; the search recorded {_told(chosen.scores)}, within rounding"


def _told(scores: Mapping[str, float]) -> str:
    from orchestrator.promotion.comparison import format_score  # noqa: PLC0415 - loads mlflow

    return ", ".join(format_score(name, score) for name, score in scores.items())
