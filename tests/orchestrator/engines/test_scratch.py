"""The folder of a Ray session: private, short, and removed only when no process uses it."""

import os
import secrets
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.engines.ray_tune import scratch
from orchestrator.engines.ray_tune.scratch import (
    ROOT_MAX,
    SOCKET_PATH_MAX,
    NoShortFolderError,
    Scratch,
)
from orchestrator.engines.ray_tune.session import _make_private
from orchestrator.errors import ExitCode


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The temporary folders to choose from, whatever their length."""
    chosen = [tmp_path]
    monkeypatch.setattr(scratch, "_roots", lambda: iter(chosen))
    monkeypatch.setattr(scratch, "ROOT_MAX", 4096)
    return chosen


def killed(made: Scratch) -> Path:
    """What a killed process leaves: the kernel lets go of its locks."""
    os.close(made._lock)
    return made.path


def test_a_folder_is_new_private_and_removed_with_its_owner(roots: list[Path]) -> None:
    made = Scratch.create()
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert made.path.stat().st_uid == os.getuid()
    token = Path(_make_private(made.path)["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    made.remove()
    made.remove()
    assert list(roots[0].iterdir()) == []


def test_a_token_that_is_there_already_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "ray.token").write_text("planted")
    with pytest.raises(FileExistsError):
        _make_private(tmp_path)


def test_a_living_owner_keeps_its_folder_and_a_dead_one_does_not(roots: list[Path]) -> None:
    living, dead = Scratch.create(), killed(Scratch.create())
    made = Scratch.create()
    assert living.path.exists()
    assert not dead.exists()
    for each in (living, made):
        each.remove()


def test_folders_that_are_not_ours_to_remove_stay(
    roots: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    [root] = roots
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "owner.lock").touch()
    elsewhere.chmod(0o700)
    (root / "ascout-linked").symlink_to(elsewhere)
    open_to_all = root / "ascout-openfold"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "owner.lock").touch()
    being_made = root / "ascout-nolock00"
    being_made.mkdir(mode=0o700)
    Scratch.create().remove()
    assert (elsewhere / "owner.lock").exists()
    assert (open_to_all / "owner.lock").exists()
    assert being_made.exists()


def test_if_one_folder_cannot_be_written_the_next_is_used(
    roots: list[Path], tmp_path: Path
) -> None:
    roots[:] = [tmp_path / "is-not-there", tmp_path]
    made = Scratch.create()
    assert made.path.parent == tmp_path
    made.remove()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 120))
def test_the_socket_of_the_longest_session_fits_wherever_a_folder_is_made(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path("/tmp") / secrets.token_hex(60)[:length]
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    root.mkdir(mode=0o700)
    try:
        made = Scratch.create()
        fits = len(str(root)) <= ROOT_MAX
        assert made.path.parent == (root if fits else Path("/tmp"))
        session = "session_2026-11-28_23-59-59_999999_4194304"
        assert len(f"{made.ray}/{session}/sockets/plasma_store") <= SOCKET_PATH_MAX
        made.remove()
    finally:
        root.rmdir()


def test_without_a_short_folder_the_error_names_the_variable_and_the_lengths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "/" + "d" * 65
    monkeypatch.setattr(tempfile, "tempdir", long)
    monkeypatch.setattr(scratch, "_roots", lambda: iter([Path(long), Path("/is-not-there")]))
    with pytest.raises(
        NoShortFolderError, match=rf"at most {ROOT_MAX} bytes: {long} \(TMPDIR\) has 66"
    ) as e:
        Scratch.create()
    assert e.value.exit_code is ExitCode.INPUT
