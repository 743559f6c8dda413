"""The projection as a process: kills, orphans, outages, and the server that shows it all."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stories import Seen, Story, assert_shows

from orchestrator.tracking import ProjectorProcess, start_projector
from orchestrator.tracking.addresses import runs_page
from orchestrator.tracking.server import ServerError, serve, start_server

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore:.*noload.*")]


def follow(story: Story) -> ProjectorProcess:
    return start_projector(
        ledger_url=story.ledger_url,
        study="mine",
        home=story.home,
        tracking_uri=story.tracking_uri,
    )


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def log_of(story: Story) -> str:
    return (story.home / "logs" / "mine" / "projector.log").read_text()


def test_after_repeated_kills_each_event_is_shown_once(story: Story) -> None:
    for _ in range(2):
        process = follow(story)
        before = story.ledger.cursor(story.study.id)
        for index in range(4):
            story.whole(0.5 + index / 10)
        eventually(lambda before=before: story.ledger.cursor(story.study.id) > before)
        os.kill(process.pid, signal.SIGKILL)
        assert not process.drain(5)
        process.close()
    last = follow(story)
    remaining: list[int] = []
    assert last.drain(60, remaining.append)
    command = Path(f"/proc/{last.pid}/cmdline").read_text()
    last.close()
    assert story.tracking_uri not in command
    assert story.ledger_url not in command
    assert_shows(Seen(story.tracking_uri), story.trials())
    assert log_of(story) == ""


def test_it_shows_the_events_of_its_dead_driver_and_ends(story: Story) -> None:
    story.whole(0.5)
    start = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from orchestrator.tracking import start_projector\n"
        "url, home, uri = sys.argv[1:]\n"
        "process = start_projector("
        "ledger_url=url, study='mine', home=Path(home), tracking_uri=uri)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", start, story.ledger_url, str(story.home), story.tracking_uri],
        stdout=subprocess.PIPE,
    )
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    second = follow(story)  # waits until the first has released its lock
    eventually(lambda: is_gone(pid))
    assert second.drain(60)
    second.close()
    assert_shows(Seen(story.tracking_uri), story.trials())


def test_a_server_that_starts_late_gets_everything(story: Story) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database, story.tracking_uri = story.tracking_uri, f"http://127.0.0.1:{port}"
    story.whole(0.5)
    process = follow(story)
    assert not process.drain(2)
    server = start_server(home=story.home, tracking_uri=database, port=port)
    try:
        assert process.drain(60)
        process.close()
        assert_shows(Seen(database), story.trials())
        seen = Seen(story.tracking_uri)
        page = server.experiment_url("archscout/mine")
        assert page == f"{server.url}/{runs_page(seen.experiment.experiment_id)}"
        assert server.experiment_url("archscout/none") is None
        with pytest.raises(ServerError, match=f"port {port} is taken"):
            start_server(home=story.home, tracking_uri=database, port=port)
    finally:
        server.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url, timeout=2)
    assert "behind: " in log_of(story)
    assert "recovered" in log_of(story)


def test_a_store_served_elsewhere_is_not_served_again(tmp_path: Path) -> None:
    said: list[str] = []
    serve(
        home=tmp_path,
        tracking_uri="http://user:secret@host",
        experiment=None,
        port=None,
        say=said.append,
    )
    assert len(said) == 1
    assert "secret" not in said[0]


def test_the_drivers_side_loads_no_mlflow() -> None:
    check = (
        "import sys, orchestrator.tracking, orchestrator.tracking.server\n"
        "print(sorted({'mlflow', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
