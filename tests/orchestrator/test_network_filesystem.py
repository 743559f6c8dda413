"""SQLite's databases are refused on network file systems, and nowhere else."""

from pathlib import Path

import pytest

from orchestrator import network_filesystem
from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.network_filesystem import NetworkFilesystemError, file_system, refuse_network_disk
from orchestrator.tracking.client import open_client

LOCAL = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.fuse-overlayfs", "fuseblk", "9p"]
NETWORK = ["nfs", "nfs4", "lustre", "cifs", "smb3", "gpfs", "ceph", "fuse.sshfs", "fuse.gcsfuse"]


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(network_filesystem, "MOUNTS", file)
    return file


def line(mount: object, kind: str) -> str:
    where = str(mount).replace("\\", "\\134").replace(" ", "\\040")
    return f"36 35 98:0 / {where} rw,noatime shared:1 master:2 - {kind} server:/export rw\n"


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_file_system_is_refused_with_a_way_out(
    mounts: Path, tmp_path: Path, kind: str
) -> None:
    shared = tmp_path / "home of all"
    mounts.write_text(line("/", "ext4") + line(shared, kind) + line(tmp_path / "other", "xfs"))
    with pytest.raises(
        NetworkFilesystemError, match=rf"\({kind}\).*ARCHSCOUT_HOME.*ARCHSCOUT_LEDGER="
    ):
        Ledger.open(shared / "mlruns" / "ledger.db")
    with pytest.raises(NetworkFilesystemError, match="MLFLOW_TRACKING_URI="):
        open_client(f"sqlite:///{shared}/mlruns/mlflow.db")
    assert not shared.exists()


@pytest.mark.parametrize("kind", LOCAL)
def test_disks_of_one_host_are_used(mounts: Path, tmp_path: Path, kind: str) -> None:
    mounts.write_text(line("/", "nfs") + line(tmp_path, kind) + line(tmp_path / "far", "nfs"))
    refuse_network_disk(tmp_path / "ledger.db", "the ledger", "a server")
    assert file_system(tmp_path / "far" / "x") == "nfs"


def test_the_mount_on_top_counts_and_links_are_followed(mounts: Path, tmp_path: Path) -> None:
    mounts.write_text(line("/", "ext4") + line("/far", "autofs") + line("/far", "nfs4"))
    assert file_system(Path("/far/home")) == "nfs4"
    assert file_system(Path("/farther")) == "ext4"
    (tmp_path / "mlruns").symlink_to("/far/home")
    assert file_system(tmp_path / "mlruns" / "ledger.db") == "nfs4"


def test_where_the_system_does_not_tell_nothing_is_refused(mounts: Path) -> None:
    assert not mounts.exists()
    refuse_network_disk(Path("/anywhere/ledger.db"), "the ledger", "a server")


def test_a_search_is_refused_before_anything_is_made(
    mounts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "shared" / "mlruns"
    mounts.write_text(line("/", "ext4") + line(tmp_path / "shared", "nfs4"))
    assert main(["--home", str(home), "search", "tiny", "--trials", "1"]) == 2
    said = capsys.readouterr().err
    assert "network file system (nfs4)" in said
    assert "ARCHSCOUT_LEDGER=postgresql://" in said
    assert not home.exists()
