"""An address at which no Ray cluster is."""

import socket
from pathlib import Path

import pytest

from orchestrator.engines.ray_tune import EngineLost
from orchestrator.engines.ray_tune import cluster as ray_cluster

pytestmark = pytest.mark.ray


def test_an_address_where_nothing_answers_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: it refuses whoever calls
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        class Deaf:
            def init(self, **_: object) -> None:
                raise AssertionError("Ray would try for minutes")

        with pytest.raises(EngineLost, match=f"no Ray cluster at '{address}'"):
            ray_cluster._initialise(Deaf(), address, tmp_path, {})
