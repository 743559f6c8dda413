"""Set-up of every test: no skip passes unseen, one thread, no telemetry, no stray state."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"  # tests' own servers
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# Where green decides, the same examples each time, however busy the machine; elsewhere new ones.
settings.register_profile("steady", derandomize=True, deadline=None)
if os.environ.get("ARCHSCOUT_NO_SKIPS"):
    settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first: the last one must not keep a process working alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where `ARCHSCOUT_NO_SKIPS` is set: green must mean checked."""
    report = yield
    if report.skipped and os.environ.get("ARCHSCOUT_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and ARCHSCOUT_NO_SKIPS forbids it: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test's studies in its own folder, whatever the environment says."""
    monkeypatch.setenv("ARCHSCOUT_HOME", str(tmp_path / "mlruns"))
    monkeypatch.delenv("ARCHSCOUT_LEDGER", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
