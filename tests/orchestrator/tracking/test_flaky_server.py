"""A server of MLflow that is slow, refuses, or takes what it is sent and never says so."""

import random
import time

import pytest
from support.checker import of_mlflow_over_rest
from support.flaky import flaky
from support.stories import Story

from orchestrator.tracking import start_projector
from orchestrator.tracking.server import start_server

pytestmark = [pytest.mark.mlflow, pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*noload.*")]

FAULTS = ["slow", *random.Random(4).choices(["ok", "cut", "500", "429"], k=20)]
CREATING = ["ok", "cut", "ok", "cut", "500", "ok", "cut"]


def test_each_event_is_shown_once_on_a_flaky_server(story: Story) -> None:
    server = start_server(home=story.home, tracking_uri=story.tracking_uri)
    try:
        with flaky(server.url, FAULTS, creating=CREATING, slow_s=5.0) as proxy:
            process = start_projector(
                ledger_url=story.ledger_url, study="mine", home=story.home, tracking_uri=proxy.url
            )
            for value in (0.5, 0.6, 0.7, 0.8):
                began = time.monotonic()
                story.whole(value)
                assert time.monotonic() - began < 5  # nothing waits for MLflow
            shown = process.drain(120)
            process.close()
        assert shown, (story.home / "logs" / "mine" / "projector.log").read_text()
        assert {"slow", "cut", "500", "429"} <= set(proxy.done)
        assert of_mlflow_over_rest(server.url, story.home / "ledger.db", "mine") == []
    finally:
        server.close()
