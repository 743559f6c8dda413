"""Where a user's studies lie: one folder, unless the environment names other stores.

Knows places only; it opens nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.exit_codes import CommandError, ExitCode
from orchestrator.problems import place


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The stores of one user or team."""

    folder: Path
    """Absolute; holds everything that has no other place."""
    ledger_url: str
    """SQLAlchemy URL of the ledger; may hold a password, never shown."""
    tracking_uri: str
    """What MLflow is opened with; may hold a password, never shown."""

    @classmethod
    def find(cls, folder: str | None, environment: Mapping[str, str]) -> Self:
        """The home that an option, the environment or the working directory gives."""
        root = Path(folder or environment.get("ARCHSCOUT_HOME") or "mlruns")
        root = root.expanduser().absolute()
        return cls(
            folder=root,
            ledger_url=environment.get("ARCHSCOUT_LEDGER") or f"sqlite:///{root / 'ledger.db'}",
            tracking_uri=environment.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{root / 'mlflow.db'}",
        )

    @property
    def is_default(self) -> bool:
        """Whether commands find it without being told."""
        return self == Home.find(None, os.environ)

    @property
    def logs(self) -> Path:
        """Logs of studies, and of our own defects."""
        return self.folder / "logs"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of all trials."""
        return self.folder / "checkpoints"

    @property
    def owns_stores(self) -> bool:
        """Whether ledger and MLflow lie here: what neither knows is then nobody's."""
        inside = f"sqlite:///{self.folder}/"
        return self.ledger_url.startswith(inside) and self.tracking_uri.startswith(inside)

    @property
    def has_ledger(self) -> bool:
        """Whether there may be a ledger to read; of one on a server this cannot be said."""
        if not self.ledger_url.startswith("sqlite"):
            return True
        path = self.ledger_url.partition(":///")[2].partition("?")[0]
        return bool(path) and Path(path).exists()

    def create(self) -> None:
        """Makes the folder for its owner alone, if it is not there.

        Raises:
            CommandError: It cannot be made or written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"--home {place(self.folder)}: cannot be made ({error.strerror}); "
                "give a folder that you may write",
                ExitCode.INPUT,
            ) from error
