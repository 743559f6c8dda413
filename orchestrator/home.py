"""Paths and addresses of a user's stores: one folder, unless the environment names others.

Opens nothing.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator import file_permissions
from orchestrator.errors import CommandError, ExitCode, format_path
from orchestrator.ownership import Owners
from workers.paths import PathOutsideError, beneath
from workers.redaction import redact
from workers.storage import Storage, storage_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The stores of one user or team."""

    folder: Path
    """Absolute path; holds everything without a place of its own."""
    ledger_url: str
    """SQLAlchemy URL of the ledger; may hold a password, never shown."""
    tracking_uri: str
    """MLflow's tracking URI; may hold a password, never shown."""
    checkpoints_place: str
    """Path or fsspec URL of all trials' checkpoints."""

    @classmethod
    def find(cls, folder: str | None, environment: Mapping[str, str]) -> Self:
        """Return the home given by an option, the environment or the working directory."""
        root = Path(folder or environment.get("ARCHSCOUT_HOME") or "mlruns")
        root = root.expanduser().absolute()
        return cls(
            folder=root,
            ledger_url=environment.get("ARCHSCOUT_LEDGER") or f"sqlite:///{root / 'ledger.db'}",
            tracking_uri=environment.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{root / 'mlflow.db'}",
            checkpoints_place=_place_of(environment.get("ARCHSCOUT_CHECKPOINTS"), root),
        )

    @property
    def is_default(self) -> bool:
        """Return whether commands find it without `--home`."""
        return self == Home.find(None, os.environ)

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts, unless a server keeps them."""
        return self.folder / "artifacts"

    @property
    def program(self) -> str:
        """Command with the `--home` that it needs, quoted for a shell."""
        elsewhere = "" if self.is_default else f" --home {shlex.quote(str(self.folder))}"
        return f"archscout{elsewhere}"

    @property
    def logs(self) -> Path:
        """Logs of studies and of internal errors."""
        return self.folder / "logs"

    @property
    def checkpoints(self) -> Storage:
        """Checkpoints of all trials, on a disk or in a store that fsspec opens.

        Raises:
            CommandError: The environment names a place where none can be.
        """
        try:
            return storage_at(self.checkpoints_place)
        except ValueError as error:
            shown = format_path(redact(self.checkpoints_place))
            raise CommandError(
                f"ARCHSCOUT_CHECKPOINTS: {shown}: {error}", ExitCode.INPUT
            ) from error

    @property
    def owns_stores(self) -> bool:
        """Return whether ledger and MLflow are in this folder; unknown files are then unused."""
        return all(self._holds(url) for url in (self.ledger_url, self.tracking_uri))

    def _holds(self, url: str) -> bool:
        scheme, _, path = url.partition(":///")
        try:
            return scheme == "sqlite" and bool(beneath(Path(path.partition("?")[0]), self.folder))
        except PathOutsideError:
            return False

    @property
    def owners(self) -> Owners:
        """Marks of the ledgers with studies in this home."""
        return Owners(self.folder / "ledgers")

    def is_sole_ledger(self, ledger: str) -> bool:
        """Return whether no other ledger than the one of this identity was ever used here."""
        return self.owns_stores and self.owners.ledgers() <= {ledger}

    def is_sole_owner(self, ledger: str, study: str) -> bool:
        """Return whether what bears a study's name here is of the ledger of this identity alone."""
        return self.owners.is_sole(ledger, study, unmarked=self.is_sole_ledger(ledger))

    @property
    def owns_checkpoints(self) -> bool:
        """Return whether checkpoints are in this folder, which no other home shares."""
        return self.checkpoints_place == str(self.folder / "checkpoints")

    @property
    def has_ledger(self) -> bool:
        """Return whether a ledger may exist; True for every server."""
        if not self.ledger_url.startswith("sqlite"):
            return True
        path = self.ledger_url.partition(":///")[2].partition("?")[0]
        return bool(path) and Path(path).exists()

    def redact(self, text: str) -> str:
        """Return the text without the secrets of this home's addresses."""
        return redact(text, (self.ledger_url, self.tracking_uri, self.checkpoints_place))

    @property
    def has_own_mlflow(self) -> bool:
        """Return whether MLflow's database is the one in this folder."""
        return self.tracking_uri == f"sqlite:///{self.folder / 'mlflow.db'}"

    def create(self) -> None:
        """Make the folder for its owner alone; close one that is there and ours to others.

        Raises:
            CommandError: It cannot be created or written, or every account may put files there.
        """
        self.refuse_public()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file_permissions.close_to_others(self.folder)
        except OSError as error:
            raise CommandError(
                f"--home {format_path(self.folder)}: cannot be created ({error.strerror}); "
                "give a folder that you may write",
                ExitCode.INPUT,
            ) from error

    def refuse_public(self) -> None:
        """Refuse a folder such as /tmp, in which another account could plant a database of ours.

        Raises:
            CommandError: It is one.
        """
        if file_permissions.open_to_all(self.folder):
            raise CommandError(
                f"--home {format_path(self.folder)}: every account of this machine may put "
                "files there. "
                f"Give a folder of your own, such as {format_path(self.folder / 'archscout')}",
                ExitCode.INPUT,
            )


def _place_of(given: str | None, root: Path) -> str:
    """Return the place of checkpoints; absolute, since workers may start elsewhere."""
    if not given:
        return str(root / "checkpoints")
    return given if "://" in given else str(Path(given).expanduser().absolute())
