"""MLflow experiment of a study: found or created, and described only if the study created it.

Any other experiment keeps its description, view and tags: what users wrote there has no other copy.
Tags of ours mark the experiments that we created.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Experiment as Entity

from orchestrator.config.schema import NAME_PATTERN, StudyConfig
from orchestrator.tracking.addresses import VIEW_TAG
from orchestrator.tracking.paths import artifact_folder
from orchestrator.tracking.trial_runs import tag_value
from workers.failpoints import fault

LEDGER = "archscout.ledger"
"""Tag of experiments and of studies' runs: the identity of the ledger that made them."""
STUDY = "archscout.study"

_NOTE = "mlflow.note.content"
_NOTE_DIGESTS = "archscout.note_sha256"
"""Digests of our last two descriptions; one with another digest was written by a user."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow's pages guess from the first runs whether this is about prompts."""


def experiment_name(config: StudyConfig) -> str:
    """Return the name of the experiment that shows the study."""
    return config.tracking.experiment or f"archscout/{config.name}"


def created_by(experiment: Entity, ledger: str | None, artifacts: Path | None) -> bool:
    """Return whether a study of the ledger created the experiment.

    Experiments from before the tag are recognized by their folder, which has the study's name.
    """
    if LEDGER in experiment.tags:
        return bool(experiment.tags[LEDGER] == ledger)
    if artifacts is None or not re.fullmatch(rf"archscout/{NAME_PATTERN}", experiment.name):
        return False
    place = (artifacts.absolute() / experiment.name).as_uri()
    return bool(experiment.artifact_location == place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The experiment of one study in one store."""

    client: MlflowClient
    id: str
    is_own: bool
    """True if this study created it; others are not described."""

    @classmethod
    def open(
        cls, client: MlflowClient, name: str, artifacts: Path | None, *, ledger: str, study: str
    ) -> Self:
        """Find, restore or create the experiment.

        Args:
            client: The store.
            name: The experiment's name.
            artifacts: Folder of all artifacts; None leaves the choice to a server.
            ledger: Identity of the study's ledger.
            study: The study's name.
        """
        marks = {LEDGER: ledger, STUDY: study}
        found = client.get_experiment_by_name(name)
        if found is None:
            place = None if artifacts is None else artifact_folder(artifacts, name).as_uri()
            made = client.create_experiment(name, place, tags={**marks, **_KIND})
            fault("experiment.created")
            return cls(client=client, id=str(made), is_own=True)
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        is_own = created_by(found, ledger, artifacts)
        if is_own and STUDY not in found.tags and name == f"archscout/{study}":
            for key, value in marks.items():
                client.set_experiment_tag(found.experiment_id, key, value)
        is_own = is_own and found.tags.get(STUDY, name.removeprefix("archscout/")) == study
        return cls(client=client, id=str(found.experiment_id), is_own=is_own)

    def set_view(self, view: str) -> None:
        """Let the experiment's link open the table of trials."""
        if self.is_own:
            self.client.set_experiment_tag(self.id, VIEW_TAG, view)

    def describe(self, note: str) -> None:
        """Write the description, unless a user has edited it."""
        if not self.is_own:
            return
        tags, note = self.client.get_experiment(self.id).tags, tag_value(note)
        shown = tags.get(_NOTE)
        if shown is not None and not _is_ours(shown, tags):
            return
        # Both digests first: if this is interrupted, the description is still recognized as ours.
        digests = [_sha256(text) for text in (shown, note) if text is not None]
        self.client.set_experiment_tag(self.id, _NOTE_DIGESTS, " ".join(digests))
        self.client.set_experiment_tag(self.id, _NOTE, note)


def _is_ours(note: str, tags: Mapping[str, str]) -> bool:
    if _NOTE_DIGESTS in tags:
        return _sha256(note) in tags[_NOTE_DIGESTS].split()
    # Releases before the digests began every description like this.
    return note.startswith(f"Study **{tags.get(STUDY)}**: ")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
