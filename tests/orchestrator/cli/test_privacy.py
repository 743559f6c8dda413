"""Privacy: file modes of a home, and passwords in messages and logs."""

import os
import stat
import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator import file_permissions
from orchestrator.cli import main
from orchestrator.errors import CommandError
from orchestrator.home import Home
from orchestrator.ledger.database import read_url, shown_name
from orchestrator.ledger.errors import LedgerError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def home_at(folder: Path) -> Home:
    return Home.find(str(folder), {})


@pytest.mark.parametrize("entries", [[], [".gitkeep"], ["ledger.db", "ledger.db-wal", "logs"]])
def test_an_existing_home_is_made_private(tmp_path: Path, entries: list[str]) -> None:
    folder = tmp_path / "mlruns"
    folder.mkdir(mode=0o755)
    for name in entries:
        (folder / name).touch()
    home_at(folder).create()
    assert mode(folder) == 0o700


def test_a_folder_with_other_files_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "ledger.db").touch()
    tmp_path.chmod(0o755)
    home_at(tmp_path).create()
    assert mode(tmp_path) == 0o755


def test_a_public_folder_is_refused_and_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(CommandError, match=r"every account .* Give a folder of your own"):
        home_at(shared).create()
    assert main(["--home", str(shared), "search", "tiny", "--trials", "1"]) == 2
    assert "Give a folder of your own" in capsys.readouterr().err
    assert (mode(shared), list(shared.iterdir())) == (0o1777, [])


def test_commands_write_private_files_and_restore_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(*_: object) -> int:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").touch()
        return 0

    monkeypatch.setattr("orchestrator.commands.list.run", writes)
    before = os.umask(0o022)
    try:
        assert main(["list"]) == 0
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "made", tmp_path / "made" / "file")] == [
        0o700,
        0o600,
    ]


def test_the_log_of_an_internal_error_is_private_and_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "pa/ss@word"
    monkeypatch.setenv("ARCHSCOUT_LEDGER", f"postgresql://bob:{secret}@host/led")

    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"at {os.environ['ARCHSCOUT_LEDGER']} and again {secret}")

    monkeypatch.setattr("orchestrator.commands.list.run", broken)
    assert main(["list"]) == 1
    (log,) = (tmp_path / "mlruns" / "logs").glob("error-*.log")
    assert mode(log) == 0o600
    assert "Traceback" in log.read_text()
    assert secret not in log.read_text() + capsys.readouterr().err


@pytest.mark.parametrize("where", ["bob:s3cret@127.0.0.1:1/led", "127.0.0.1:1/led?password=s3cret"])
def test_a_ledger_that_does_not_answer_is_named_without_its_password(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHSCOUT_LEDGER", f"postgresql://{where}")
    assert main(["list"]) == 4
    said = capsys.readouterr().err
    assert "s3cret" not in said
    assert "ledger postgresql+psycopg://127.0.0.1:1/led did not answer" in said


PASSWORDS = st.text(string.printable.strip(), min_size=6, max_size=30)


@given(PASSWORDS, st.sampled_from(["password", "sslpassword", "options"]))
@example("0000@:", "password")
def test_the_displayed_name_of_a_database_contains_no_password(password: str, field: str) -> None:
    for escaped in (password, quote(password, safe="")):
        for url in (
            f"postgresql://bob:{escaped}@db:5432/led",
            f"postgresql://db:5432/led?{field}={escaped}",
        ):
            try:
                said = shown_name(read_url(url))
            except LedgerError as error:
                said = str(error)
            assert password not in said


def test_only_own_files_make_a_folder_a_home() -> None:
    assert file_permissions._is_state("mlflow.db-shm")
    assert not file_permissions._is_state("0")  # MLflow's own file store
