"""What processes that load MLflow have in their environment, and what their requests then do."""

import http.server
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

from orchestrator.promotion import clean_model
from orchestrator.tracking import environment, process, server
from orchestrator.tracking.client import open_client
from orchestrator.tracking.environment import mlflow_environment
from orchestrator.tracking.transport import is_idempotent

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
SECURITY = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
HOSTS = {"localhost", "127.0.0.1", "::1"}
CHOICES = (
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
    "MLFLOW_DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
)


@given(
    user=st.dictionaries(
        st.sampled_from([*CHOICES, *SECURITY, *PROXIES, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]),
        st.sampled_from(["0", "1", "7", "true", "false"]),
    ),
    exempt=st.lists(st.sampled_from(["example.org", ".corp", "localhost", "*"])),
    lower=st.booleans(),
)
def test_user_settings_are_kept_except_security_switches(
    user: dict[str, str], exempt: list[str], *, lower: bool
) -> None:
    variable = "no_proxy" if lower else "NO_PROXY"
    made = mlflow_environment({**user, variable: ", ".join(exempt)})
    for name in {*CHOICES, *PROXIES} & set(user):
        assert made[name] == user[name]
    assert SECURITY.items() <= made.items()
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in made
    assert made["no_proxy"] == made["NO_PROXY"]
    hosts = made["no_proxy"].split(",")
    assert set(exempt) <= set(hosts)
    assert "*" in hosts or set(hosts) >= HOSTS
    # A second process on the way changes nothing more.
    assert mlflow_environment(made) == made


def test_telemetry_is_off_unless_the_user_turns_it_on() -> None:
    assert mlflow_environment({})["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert mlflow_environment({})["DO_NOT_TRACK"] == "true"
    chosen = mlflow_environment({"MLFLOW_DISABLE_TELEMETRY": "false"})
    assert (chosen["MLFLOW_DISABLE_TELEMETRY"], chosen.get("DO_NOT_TRACK")) == ("false", None)


def test_prepared_variables_are_not_taken_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"})
    monkeypatch.setattr(environment, "_prepared", {})
    for _ in range(2):
        environment.prepare_process()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    made = mlflow_environment(
        os.environ, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="9"
    )
    assert made["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert made["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"


@pytest.mark.parametrize(
    ("requests", "files", "longest"),
    [("30", "600", "600"), ("1000", "600", "1000"), ("abc", "600", "600")],
)
def test_a_process_that_reads_files_gets_the_longer_timeout(
    requests: str, files: str, longest: str
) -> None:
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": requests,
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": files,
    }
    assert environment.longest_timeout(mlflow_environment(limits)) == longest


class _StartedError(Exception):
    """Instead of a process."""


def test_every_process_that_loads_mlflow_keeps_the_users_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def popen(*_: object, env: dict[str, str], **__: object) -> None:
        seen.append(env)
        raise _StartedError

    monkeypatch.setattr(subprocess, "Popen", popen)
    chosen = dict.fromkeys(CHOICES, "7")
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    starts = (
        lambda: process.start_projector(
            ledger_url="sqlite:///x", study="mine", home=tmp_path, tracking_uri=address
        ),
        lambda: server.start_server(home=tmp_path, tracking_uri=address),
        lambda: clean_model._start(tmp_path, address),
    )
    for start in starts:
        with pytest.raises(_StartedError):
            start()
    assert len(seen) == len(starts)
    for made in seen:
        assert chosen.items() <= made.items()
        assert SECURITY.items() <= made.items()
        assert set(made["no_proxy"].split(",")) >= HOSTS


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers `fails` requests with 503 first, takes `slow_s` for each, and counts them."""

    asked: list[str]
    fails: int
    slow_s: float

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        time.sleep(self.slow_s)
        status = 503 if len(self.asked) <= self.fails else 200
        body = b'{"experiment": {"experiment_id": "1", "name": "x"}, "run": {"info": {}}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def served(*, fails: int = 0, slow_s: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Server,), {"asked": asked, "fails": fails, "slow_s": slow_s})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", asked
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture
def closed_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A company's proxy that refuses, without exemptions."""
    with socket.socket() as bound:  # never listens
        bound.bind(("127.0.0.1", 0))
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.delenv("no_proxy")
        monkeypatch.delenv("NO_PROXY")
        yield


def test_no_request_to_this_machine_goes_through_a_proxy(
    closed_proxy: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with served() as (url, asked):
        with pytest.raises(MlflowException, match="proxy"):
            open_client(url).get_experiment_by_name("x")
        assert asked == []
        with subprocess.Popen(["sleep", "60"]) as stand_in:
            server._await_response(stand_in, url, tmp_path)
            shown = server.MlflowServer(stand_in, url).experiment_url("x")
            stand_in.kill()
        assert shown is not None
        assert shown.startswith(f"{url}/#/experiments/1/")
        for name, value in mlflow_environment(os.environ).items():
            monkeypatch.setenv(name, value)
        assert open_client(url).get_experiment_by_name("x").name == "x"
    assert len(asked) == 3


def test_a_setting_that_is_not_a_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "abc")
    with pytest.raises(MlflowException, match="'abc' for MLFLOW_HTTP_REQUEST_TIMEOUT"):
        open_client("http://127.0.0.1:1").get_experiment_by_name("x")
    assert mlflow_environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": ""})["MLFLOW_HTTP_REQUEST_TIMEOUT"]


def test_only_idempotent_requests_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with served(fails=1) as (url, asked):
        assert open_client(url).get_experiment_by_name("x").name == "x"
        assert len(asked) == 2
    with served(fails=1) as (url, asked):
        open_client(url).set_tag("r", "key", "value")
        assert len(asked) == 2
    for create in (
        lambda client: client.create_run("1"),
        lambda client: client.create_experiment("x"),
        lambda client: client.create_model_version("m", "runs:/x", await_creation_for=0),
    ):
        with served(fails=9) as (url, asked):
            with pytest.raises(MlflowException):
                create(open_client(url))
            assert len(asked) == 1


@given(
    st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "POST"]),
    st.sampled_from(["/mlflow/runs", "/mlflow/experiments/search", "/mlflow/model-versions/alias"]),
)
def test_requests_that_create_are_not_idempotent(method: str, path: str) -> None:
    assert not is_idempotent("POST", f"{path}/create")
    assert is_idempotent(method, path) or method == "POST"


def test_a_file_may_take_longer_than_a_look_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "60")
    (tmp_path / "weights").write_bytes(b"0" * 1000)
    with served(slow_s=1.5) as (url, asked):
        client = open_client(url)
        place = f"{url}/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts"
        HttpArtifactRepository(place).log_artifact(str(tmp_path / "weights"))
        with pytest.raises(MlflowException, match=r"[Tt]imed? ?out"):
            client.get_experiment_by_name("x")
    assert len(asked) == 2
