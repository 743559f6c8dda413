"""An address at which no Ray cluster is."""

import socket
import time
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.engines.ray_tune import EngineLostError, launch

pytestmark = pytest.mark.ray


def test_an_address_where_nothing_answers_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: it refuses every caller
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        class Deaf:
            def init(self, **_: object) -> None:
                raise AssertionError("Ray would try for minutes")

        with pytest.raises(EngineLostError, match=f"no Ray cluster at '{address}'"):
            launch.initialize(Deaf(), address, {})


def test_an_address_where_something_else_listens_is_said_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PROBE_TIMEOUT_S", 1.0)
    with socket.socket() as other:  # takes calls and never says a word
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(EngineLostError, match="another program answers there"):
            launch.initialize(None, address, {})
        assert time.monotonic() - began < 60  # Ray would try for many minutes


def test_rays_client_mode_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    words = ["search", "surrogate", "--address", "ray://127.0.0.1:10001"]
    assert main(["--home", str(home), *words]) == 2
    assert "give the head itself, as HOST:6379" in capsys.readouterr().err
    assert not home.exists()


def test_a_ray_that_does_not_start_is_said_with_the_way_out(tmp_path: Path) -> None:
    class Busy:
        def init(self, **_: object) -> None:
            raise Exception("The current node timed out during startup.\nIt may be overloaded.")

    with pytest.raises(EngineLostError, match=r"did not start .* timed out during startup"):
        launch.initialize(Busy(), None, {})
