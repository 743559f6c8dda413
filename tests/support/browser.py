"""A real browser without a screen, looking at MLflow's pages."""

import contextlib
import json
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
MISSING = "no Chromium on this machine: apt-get install chromium chromium-driver"

_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root there is no other way
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

MLFLOWS_OWN = (
    # Asked by every page of a server without accounts, which answers 404 (mlflow 3.17.2).
    "/ajax-api/2.0/mlflow/users/current",
    # A notice of the layout engine about MLflow's table, without consequence.
    "ResizeObserver loop completed with undelivered notifications",
)
"""What MLflow's pages complain about by themselves."""

_SEEN = {
    # The assistant's panel opens over a third of the page at the first visit.
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}


def is_here() -> bool:
    return CHROMIUM.exists() and DRIVER.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Pages:
    """MLflow's pages, one at a time."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self._base = base
        driver.get(f"{base}/version")
        for key, value in _SEEN.items():
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
        driver.get_log("browser")

    def open(self, path: str, *expected: str) -> str:
        """Opens a page and waits until it shows all that is expected; all that it says."""
        self.driver.get("about:blank")
        self.driver.get(f"{self._base}/{path}")
        return self.until_it_says(*expected)

    def until_it_says(self, *expected: str) -> str:
        return str(
            self._until(
                lambda: self._text_with(expected), lambda: f"{expected} in: {self._text()[:3000]}"
            )
        )

    def until_a_picture_is_wider_than(self, pixels: int) -> None:
        script = (
            "return [...document.images].some(i => i.complete && i.naturalWidth > arguments[0])"
        )
        self._until(
            lambda: self.driver.execute_script(script, pixels), lambda: "the page has no picture"
        )

    def until_a_chart_says(self, words: str) -> None:
        """Waits for a text that a chart shows; `innerText` leaves those out."""
        script = (
            "return [...document.querySelectorAll('svg text')]"
            ".some(t => t.textContent === arguments[0])"
        )
        self._until(
            lambda: self.driver.execute_script(script, words), lambda: f"no chart says {words!r}"
        )

    @contextlib.contextmanager
    def in_frame(self) -> Iterator[None]:
        """Within the page's first frame, as soon as it has one."""
        frames = self._until(
            lambda: self.driver.find_elements("css selector", "iframe"), lambda: "no frame"
        )
        self.driver.switch_to.frame(frames[0])
        try:
            yield
        finally:
            self.driver.switch_to.default_content()

    def link(self, words: str) -> str:
        """Where a link of these words leads."""
        script = (
            "return [...document.links].find(a => a.innerText.trim() === arguments[0])"
            "?.getAttribute('href')"
        )
        return str(
            self._until(
                lambda: self.driver.execute_script(script, words), lambda: f"no link {words!r}"
            )
        )

    def columns(self) -> list[tuple[str, float]]:
        """Ids of the table's columns from left to right, each with its right edge in pixels."""
        script = (
            "return [...document.querySelectorAll('.ag-header-cell')].map("
            "e => [e.getAttribute('col-id'), e.getBoundingClientRect().right])"
        )
        found: list[tuple[str, float]] = []

        def any_value() -> bool:
            found[:] = map(tuple, self.driver.execute_script(script))
            return any(str(name).startswith(("metrics", "tags")) for name, _ in found)

        self._until(any_value, lambda: f"no column of a metric or tag: {found}")
        return sorted(found, key=lambda column: column[1])

    def click(self, text: str) -> None:
        """Clicks what says this, or is labeled so."""
        script = (
            "const all = [...document.querySelectorAll('button, a, [role=tab], [role=button]')];"
            "const found = all.find(e => e.innerText.trim() === arguments[0]"
            " || e.ariaLabel === arguments[0]);"
            "if (found) found.click(); return Boolean(found)"
        )
        self._until(
            lambda: self.driver.execute_script(script, text), lambda: f"nothing says {text!r}"
        )

    def complaints(self) -> list[str]:
        """What the console has said since the last time, less MLflow's own."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
            and not any(known in entry["message"] for known in MLFLOWS_OWN)
        ]

    def save(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))

    def _text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def _text_with(self, expected: Sequence[str]) -> str:
        text = self._text()
        return text if all(words in text for words in expected) else ""

    @staticmethod
    def _until(
        seen: Callable[[], Any], complaint: Callable[[], str], patience_s: float = 20
    ) -> Any:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if found := seen():
                return found
            time.sleep(0.05)
        raise AssertionError(complaint())


@contextlib.contextmanager
def browsing(base: str, profile: Path, *, size: tuple[int, int] = (1500, 950)) -> Iterator[Pages]:
    """A browser with an empty profile, closed in every case."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    width, height = size
    for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        # The window's size counts its frame; the picture shall be as large as asked.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield Pages(driver, base)
    finally:
        driver.quit()


def comparison(experiment_id: str, run_ids: Sequence[str]) -> str:
    """Where runs are compared."""
    runs, experiments = json.dumps(list(run_ids)), json.dumps([experiment_id])
    query = {"runs": runs, "experiments": experiments, "workflowType": "machine_learning"}
    return f"#/compare-runs?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
