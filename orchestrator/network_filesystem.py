"""Detection of network file systems, on which SQLite's WAL mode must not be used.

WAL shares memory and locks of one host: from a second host they read stale or broken
databases, and two drivers are kept apart by locks that do not hold.
"""

import os
import re
from pathlib import Path

from search_spaces.errors import ArchscoutError, ExitCode

MOUNTS = Path("/proc/self/mountinfo")

LEDGER_SERVER = "ARCHSCOUT_LEDGER=postgresql://user@host/database"
MLFLOW_SERVER = "MLFLOW_TRACKING_URI=http://host:5000"

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|lustre|gpfs|beegfs|ceph|glusterfs|orangefs|pvfs2|panfs|wekafs|"
    r"ocfs2|gfs2|coda|ncpfs|davfs2?|"
    r"fuse\.(sshfs|s3fs|gcsfuse|rclone|goofys|mount-s3|blobfuse2?|juicefs|glusterfs|ceph|ceph-fuse|"
    r"cephfs|beegfs|davfs2?|curlftpfs|seaweedfs|cvmfs2?|hdfs|lustre|objectivefs)"
)
"""Types of network file systems; overlay, fuse-overlayfs, tmpfs and 9p are local."""


class NetworkFilesystemError(ArchscoutError, ValueError):
    """A SQLite database would be on a network file system."""

    exit_code = ExitCode.INPUT


def file_system(path: Path) -> str | None:
    """Return the type of the file system of a path, as the kernel names it.

    Args:
        path: A file or folder, which need not be there yet.

    Returns:
        None if the system does not report it.
    """
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    real, found = Path(os.path.realpath(path)), None
    longest = 0
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(_unescaped(before.split(" ")[4]))
        # Of several mounts at one path the last one counts.
        if (mount == real or mount in real.parents) and len(str(mount)) >= longest:
            found, longest = after.split(" ")[0], len(str(mount))
    return found


def refuse_network_disk(path: Path, what: str, instead: str) -> None:
    """Refuse a SQLite database on a network file system.

    Args:
        path: The database's file, which need not be there yet.
        what: What the message calls it.
        instead: The variable that names a server for it, and how.

    Raises:
        NetworkFilesystemError: It is on one.
    """
    kind = file_system(path)
    if kind is not None and _NETWORK.fullmatch(kind):
        raise NetworkFilesystemError(
            f"{what} {path} is on a network file system ({kind}), where SQLite's locks hold for "
            "one host alone. Put the home onto a local disk (ARCHSCOUT_HOME; a copy of it works "
            f"there), or name a server: {instead}"
        )


def _unescaped(mount: str) -> str:
    """Return a mount point without the kernel's octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount)
