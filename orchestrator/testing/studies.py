"""A small study on a scratch ledger, for contract suites."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Holder, Ledger
from orchestrator.study.driver import StudyDriver
from orchestrator.study.requests.stop import STOP
from search_spaces.space import DefineByRunSpace
from workers.storage import LocalFolder

NAME = "contract"
TRAIN = '''
import time


def train(decisions, context):
    """Yield a rising accuracy; raise or diverge as the decision `kind` says."""
    for epoch in range(1, context.epochs + 1):
        time.sleep(decisions["pause_s"])
        if decisions["kind"] == "raises":
            raise ValueError("shapes differ")
        value = float("nan") if decisions["kind"] == "diverges" else decisions["rate"]
        yield {"val_accuracy": value * epoch / context.epochs}
'''
"""Training code of the study."""


def space(*kinds: str, pause_s: float = 0.0) -> DefineByRunSpace:
    """Return a space of trials that are `good`, `raises` or `diverges`.

    Args:
        kinds: The kinds that may be sampled.
        pause_s: Seconds before each epoch.
    """

    def sample(trial: Any) -> dict[str, Any]:
        return {
            "kind": trial.suggest_categorical("kind", list(kinds)),
            "rate": trial.suggest_float("rate", 0.0, 1.0),
            "pause_s": pause_s,
        }

    return DefineByRunSpace(name=NAME, version="1", function=sample)


def _config(code: Path, trials: int) -> StudyConfig:
    """Write the training code, and return the configuration of a study that runs it."""
    code.write_text(TRAIN)
    return StudyConfig.model_validate(
        {
            "name": NAME,
            "space": f"{code}:train",
            "train": f"{code}:train",
            "budget": {"minimum": 1, "maximum": 9},
            "stop": {"trials": trials},
            # Of candidates that raise, a model would propose no more.
            "sampler": {"name": "random"},
            "resources": {"gpu": 0},
        }
    )


@contextmanager
def open_study(folder: Path, space: DefineByRunSpace, *, trials: int) -> Iterator[StudyDriver]:
    """Create the study of a folder, or resume it.

    Args:
        folder: Holds ledger, checkpoints and training code.
        space: What is sampled.
        trials: Limit of the study.

    Yields:
        The driver, which an engine runs.
    """
    config = _config(folder / "contract_train.py", trials)
    with Ledger.open(folder / "ledger.db") as ledger:
        row, lease = ledger.open_study(
            name=NAME,
            config_json=config.canonical_json(),
            space_name=space.name,
            space_version=space.version,
            data_digest="none",
            holder=Holder.of_this_process(),
        )
        try:
            with StudyDriver(
                record=row,
                config=config,
                ledger=ledger,
                lease=lease,
                space=space,
                task=None,
                checkpoints_dir=LocalFolder(folder / "checkpoints"),
            ) as driver:
                yield driver
        finally:
            ledger.release(lease)


def request_stop(study: StudyDriver, folder: Path, trial: int) -> None:
    """Stop a trial as `archscout stop` does; the driver answers without its wait of a second."""
    with Ledger.open(folder / "ledger.db") as ledger:
        if row := ledger.study(NAME):
            ledger.add_request(row.id, STOP, {"trial": trial})
    study._answer_requests()  # noqa: SLF001 - it does so by itself, at intervals


def event_counts(folder: Path) -> Counter[str]:
    """Return how many events of each kind the study's ledger has."""
    with Ledger.open(folder / "ledger.db") as ledger:
        row = ledger.study(NAME)
        return (
            Counter(event.kind for event in ledger.events(row.id, 0, 10_000)) if row else Counter()
        )
