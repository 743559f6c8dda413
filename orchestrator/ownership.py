"""Ledgers with studies in a home: an empty file HOME/ledgers/IDENTITY/STUDY for each.

A home may serve several ledgers, one after another, as ARCHSCOUT_LEDGER is set or not. What is
not of the ledger that is open now must never be taken for what a deleted study has left.
"""

from contextlib import suppress
from pathlib import Path

from workers.paths import beneath, sorted_entries


class Owners:
    """Marks of the ledgers whose studies have folders in one home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self, ledger: str, study: str) -> None:
        """Record that the ledger has the study."""
        mark = beneath(self._folder / ledger / study, self._folder)
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch(mode=0o600)

    def release(self, ledger: str, study: str) -> None:
        """Remove the mark, if there is one."""
        mark = beneath(self._folder / ledger / study, self._folder)
        mark.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: other studies of the ledger
            mark.parent.rmdir()

    def ledgers(self) -> set[str]:
        """Return the identities of all ledgers with a study here."""
        return {path.name for path in sorted_entries(self._folder)}

    def of(self, study: str) -> set[str]:
        """Return the identities of the ledgers that have a study of this name."""
        return {
            ledger.name
            for ledger in sorted_entries(self._folder)
            if any(mark.name == study for mark in sorted_entries(ledger))
        }

    def is_sole(self, ledger: str, study: str, *, unmarked: bool) -> bool:
        """Return whether what bears the study's name is of this ledger alone.

        Args:
            ledger: Its identity.
            study: The study's name.
            unmarked: Result for a study without a mark, as left by releases before marks.
        """
        owners = self.of(study)
        return owners == {ledger} or (unmarked and not owners)
