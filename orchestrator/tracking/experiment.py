"""The MLflow experiment of a study: found or made, and described only if the study made it.

An experiment that was there, or that another study made, keeps its description, view and tags: what
people wrote there has no other copy. Our own marks say which is which.
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
from orchestrator.tracking.places import artifact_folder
from orchestrator.tracking.trial_runs import tag_value
from workers.failpoints import fault

LEDGER = "archscout.ledger"
"""Tag of experiments and of studies' runs: the identity of the ledger that made them."""
STUDY = "archscout.study"

_NOTE = "mlflow.note.content"
_WRITTEN = "archscout.note_sha256"
"""Digests of our own notes, the one before and the newest; a note with neither is somebody's."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow's pages guess, from the first runs they see, whether this is about prompts."""


def experiment_name(config: StudyConfig) -> str:
    """Return the name of the experiment that shows the study."""
    return config.tracking.experiment or f"archscout/{config.name}"


def made_by(experiment: Entity, ledger: str | None, artifacts: Path | None) -> bool:
    """Return whether a study of the ledger made the experiment.

    Before there were marks, every study put its experiment's files into a folder of its name.
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
    own: bool
    """Whether this study made it; nothing is said of any other."""

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
            return cls(client=client, id=str(made), own=True)
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        own = made_by(found, ledger, artifacts)
        if own and STUDY not in found.tags and name == f"archscout/{study}":
            for key, value in marks.items():
                client.set_experiment_tag(found.experiment_id, key, value)
        own = own and found.tags.get(STUDY, name.removeprefix("archscout/")) == study
        return cls(client=client, id=str(found.experiment_id), own=own)

    def set_view(self, view: str) -> None:
        """Let the experiment's link open a table of trials."""
        if self.own:
            self.client.set_experiment_tag(self.id, VIEW_TAG, view)

    def describe(self, note: str) -> None:
        """Put the description, unless somebody has written one since ours."""
        if not self.own:
            return
        tags, note = self.client.get_experiment(self.id).tags, tag_value(note)
        shown = tags.get(_NOTE)
        if shown is not None and not _is_ours(shown, tags):
            return
        # Both digests first: whatever is cut off here, the note that stands is known to be ours.
        digests = [_sha256(text) for text in (shown, note) if text is not None]
        self.client.set_experiment_tag(self.id, _WRITTEN, " ".join(digests))
        self.client.set_experiment_tag(self.id, _NOTE, note)


def _is_ours(note: str, tags: Mapping[str, str]) -> bool:
    if _WRITTEN in tags:
        return _sha256(note) in tags[_WRITTEN].split()
    # Releases before the digests began every note like this.
    return note.startswith(f"Study **{tags.get(STUDY)}**: ")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
