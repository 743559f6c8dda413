"""A home written by the code of commit 54faa03, with results that the same code computed.

The archive holds:

- `home`: the study `tiny`, finished, its best trial registered as `old@champion`; `pupils`,
  interrupted, distilling from `old/1`; `surrogate`, whose driver was killed with a trial RUNNING;
- `pupils.py`: the search space of `pupils`;
- `images.npy` and `predictions.json`: four images, and the class probabilities of `old@champion`;
- `surrogate.json`: the trials of an uninterrupted run of `surrogate`.
"""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

ARCHIVE = Path(__file__).parent / "data" / "home_54faa03.tar.xz"
_USER_FOLDER = "/tmp/ledger/fix/work"


def unpack_old_home(folder: Path) -> Path:
    """Unpack the archive into a folder.

    That release stored user files by absolute path alone: the path in the ledger is replaced.

    Returns:
        The home.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    home = folder / "home"
    with closing(sqlite3.connect(home / "ledger.db")) as ledger, ledger:
        ledger.execute(
            "UPDATE study SET config_json = replace(config_json, ?, ?)", (_USER_FOLDER, str(folder))
        )
    return home
