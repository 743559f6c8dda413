"""Tags and description of a model version in MLflow."""

from collections.abc import Mapping
from typing import Any

from orchestrator.formatting import format_score
from orchestrator.promotion.comparison import recorded_metrics
from orchestrator.promotion.winner import Winner


def as_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as tags of a version, numbers with full precision."""
    return {
        f"archscout.{name}": fact if isinstance(fact, str) else repr(fact)
        for name, fact in facts.items()
    }


def version_tags(winner: Winner) -> dict[str, str]:
    """Return the tags of a winner's model version: its origin and recorded metrics."""
    return {
        "archscout.study": winner.study.name,
        "archscout.trial": str(winner.trial.number),
        "archscout.trial_uid": winner.trial.uid,
        "archscout.candidate_digest": winner.trial.digest,
        **as_tags(winner.identity),
        **as_tags(recorded_metrics(winner)),
    }


def version_description(winner: Winner, detail: Mapping[str, Any]) -> str:
    """Return the description of a winner's model version, in markdown.

    Args:
        winner: The promoted trial.
        detail: Results of the promotion so far: test scores and the comparison.
    """
    tested = [name for name in winner.scores if f"test_{name}" in detail]
    lines = {
        "architecture": winner.architecture,
        "study": f"{winner.study.name}, trial {winner.trial.number}",
        "validation": ", ".join(format_score(name, score) for name, score in winner.scores.items()),
        "test": ", ".join(format_score(name, detail[f"test_{name}"]) for name in tested)
        or "not scored yet",
        "classes": ", ".join(winner.dataset.class_names[:20]) or "none",
        "targets": ", ".join(winner.dataset.value_names[:20]) or "none",
        **{key: detail[key] for key in ("compared", "forced") if detail.get(key)},
        "data digest": winner.study.data_digest,
        "candidate digest": winner.trial.digest,
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in lines.items())
