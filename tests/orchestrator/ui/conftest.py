"""One home with a searched and promoted study and a scripted one, served, and a browser on it."""

from collections.abc import Iterator

import pytest
from support import browser
from support.browser import browsing, free_port
from support.shown import MODEL, Served, archscout, tell
from support.stories import Seen, Story

from orchestrator.tracking.client import open_client
from orchestrator.tracking.server import start_server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not browser.is_here():
        pytest.skip(browser.MISSING)
    home = tmp_path_factory.mktemp("ui") / "home"
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{store}")._tracking_client.store.engine.dispose()
    story = Story(home, store)
    tell(story)
    archscout(home, "search", "tiny", "--set", "engine.name=in_process", "--name", "seen")
    archscout(home, "promote", "seen", "--model", MODEL)
    server = start_server(home=home, tracking_uri=story.tracking_uri, port=free_port())
    try:
        with browsing(server.url, tmp_path_factory.mktemp("profile")) as pages:
            yield Served(
                pages=pages,
                searched=Seen(story.tracking_uri, "seen"),
                story=Seen(story.tracking_uri),
                home=home,
            )
    finally:
        server.close()
