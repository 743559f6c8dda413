"""Start-up, help, exit codes and JSON output of the command line."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli import main
from orchestrator.commands.registry import COMMANDS

HEAVY = {"torch", "ray", "mlflow", "optuna", "sqlalchemy", "numpy", "pydantic", "rich"}


def loaded_by(code: str) -> set[str]:
    probe = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=240
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    code = "import orchestrator.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass"
    assert not loaded_by(code) & HEAVY


def test_reading_a_study_file_loads_no_engine() -> None:
    code = "from orchestrator.config.load import load; load('tiny')"
    assert not loaded_by(code) & {"torch", "ray", "mlflow", "optuna", "sqlalchemy"}


def test_importing_the_api_loads_nothing_heavy_before_a_name_is_used() -> None:
    assert not loaded_by("import orchestrator") & HEAVY


def test_the_package_offers_the_documented_names_and_no_other() -> None:
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__doc__
    assert dir(orchestrator) == orchestrator.__all__
    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        orchestrator.Studdy  # noqa: B018 - asking is the test


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_help_lists_every_command_once_under_its_purpose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    groups = ["start", "watch", "steer", "models", "maintenance"]
    assert list(dict.fromkeys(command.group for command in COMMANDS.values())) == groups
    starts = [lines.index(f"{group}:") for group in groups]
    assert starts == sorted(starts)
    for start, group in zip(starts, groups, strict=True):
        members = [[name, c.help] for name, c in COMMANDS.items() if c.group == group]
        listed = lines[start + 1 : start + 1 + len(members)]
        assert [line.split(maxsplit=1) for line in listed] == members


def test_version_is_printed_without_a_command_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version("archscout")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"archscout {version}\n"
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"exit_code": 0, "version": version}
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serch", "digits"], f"there is no command 'serch'. Commands: {', '.join(COMMANDS)}. "
         "Did you mean 'search'?"),
        (["delete", "../../etc"], "there is no study '../../etc'"),
        (["clean", "../.."], "there is no study '../..'"),
        (["--home", "list", "serch"], "there is no command 'serch'"),
        (["search", "digitz"], "digitz: neither a preset nor a file. Presets: digits, fashion, "
         "pareto, pendulum, shapes, surrogate, tiny. Did you mean 'digits'?"),
        (["search", "tiny", "--trial", "3"], "archscout search: unrecognized argument '--trial'. "
         "Did you mean '--trials'? See archscout search --help"),
        (["list", "mine"], "archscout list: unrecognized argument 'mine'. "
         "See archscout list --help"),
        (["search"], "the following arguments are required: CONFIG|PRESET. "
         "See archscout search --help"),
        (["search", "tiny", "--trials", "x"], "--trials: stop.trials: needs a whole number, "
         "not 'x'"),
        (["search", "tiny", "--engine", "ray"], "--engine: engine.name: 'ray' is not offered. "
         "Allowed: ray_tune, in_process."),
        (["search", "tiny", "--name", "../x"], "--name: name: not a name"),
        (["search", "tiny", "--set", "x"], "--set: not a key; write --set stop.trials=40"),
        (["search", "tiny", "--set", "seed=[", "--set", "seed=&a 1"], "--set: anchor '&a'"),
        (["leaderboard", "x", "--top", "0"], "argument --top: must be at least 1"),
        (["status", "x", "--trial", "-1"], "argument --trial: "),
        (["ui", "--port", "99999"], "argument --port: must be between 1 and 65535"),
        (["resume", "mine"], "there is no study 'mine'. There are no studies in "),
        (["ui"], "There are no studies in "),
        ([], "usage: archscout"),
        (["search", "tiny\0"], "cannot be read"),
        (["search", "x" * 4096], "cannot be read"),
        (["status", "\u202e'; DROP TABLE study; --"], "there is no study '\\u202e\\'; DROP"),
    ],
)  # fmt: skip
def test_a_mistaken_command_line_is_refused_with_status_2_and_creates_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message.replace("\\'", "'") in captured.err
    assert captured.out == ""
    assert not (tmp_path / "mlruns").exists()


def test_with_json_standard_output_is_one_document_also_for_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--json", "status", "nope"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2
    assert "there is no study 'nope'" in answer["errors"][0]


def test_reading_commands_create_no_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    assert "Start one: archscout search digits" in capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"exit_code": 0, "studies": []}
    assert not (tmp_path / "mlruns").exists()


def test_an_internal_error_is_one_line_and_a_log_with_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("orchestrator.commands.list.run", broken)
    assert main(["list"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "internal error: ZeroDivisionError: surprise" in errors
    (log,) = (tmp_path / "mlruns" / "logs").glob("error-*.log")
    assert str(log) in errors
    assert "Traceback" in log.read_text()


def test_a_full_disk_interrupts_and_names_the_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/data/ledger.db")

    monkeypatch.setattr("orchestrator.commands.list.run", full)
    assert main(["list"]) == 4
    assert "no space left at /data/ledger.db" in capsys.readouterr().err


def test_an_interrupted_command_ends_with_status_4(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.commands.list.run", interrupted)
    assert main(["list"]) == 4


def test_user_code_that_exits_is_invalid_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*_: object) -> None:
        raise SystemExit("no data")

    monkeypatch.setattr("orchestrator.commands.list.run", ends)
    assert main(["list", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["errors"] == [
        "your own Python ends the program (SystemExit: no data); let it raise instead"
    ]


def test_a_home_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["search", "tiny", "--home", str(tmp_path / "file" / "home")]) == 2
    assert "cannot be created" in capsys.readouterr().err


def test_the_output_of_libraries_does_not_reach_the_json_document(tmp_path: Path) -> None:
    code = (
        "import os, orchestrator.commands.list as command\n"
        "def noisy(*_):\n    print('noise'); os.system('echo more noise'); return 0\n"
        "command.run = noisy\n"
        "from orchestrator.cli import main\nmain(['--json', 'list'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    assert json.loads(done.stdout) == {"exit_code": 0}
    assert "more noise" in done.stderr


THREADED = """
import sys, threading
from orchestrator import cli
threading.Thread(target=threading.Event().wait).start()
sys.argv = ["archscout", "list"]
cli.main()
"""


def test_a_thread_of_a_users_module_does_not_delay_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], timeout=240, check=False)
    assert done.returncode == 0
