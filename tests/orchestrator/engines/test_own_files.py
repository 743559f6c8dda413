"""A user's own space, blocks and training, from files to a leaderboard, with a log a trial."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.engines import Engine
from orchestrator.engines.in_process import InProcessEngine
from orchestrator.ledger import Ledger
from orchestrator.trial import Trial, TrialState

EXAMPLES = Path(__file__).parents[3] / "examples"
QUICK = ("budget: {minimum: 1, maximum: 2}\nstop: {trials: 4}\nsampler: {name: random}\n"
         "pruner: {name: none}\n")  # fmt: skip


@pytest.fixture(
    scope="module", params=["in_process", pytest.param("ray_tune", marks=pytest.mark.ray)]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made: Engine = InProcessEngine()
    if request.param == "ray_tune":
        from orchestrator.engines.ray_tune import RayTuneEngine

        made = RayTuneEngine(ray_options={"num_cpus": 2})
    yield made
    made.close()


@pytest.fixture
def study(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches what a study.yaml says and gives its trials."""

    class Shared:
        """The engine of all tests, which no single search may end."""

        def run(self, *given: Any) -> None:
            engine.run(*given)

        def close(self) -> None:
            """It is needed again."""

    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    monkeypatch.setattr(orchestrator.run, "make_engine", lambda *_: Shared())

    def search(text: str, code: int = 0) -> list[Trial]:
        (tmp_path / "study.yaml").write_text(f"name: mine\n{QUICK}{text}")
        assert main(["search", str(tmp_path / "study.yaml"), "--quiet"]) == code
        with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
            row = ledger.study("mine")
            assert row is not None
            return ledger.trials(row.id)

    return search


def test_a_users_space_with_a_users_block_is_searched(study: Any, tmp_path: Path) -> None:
    trials = study(
        f"space: {EXAMPLES / 'my_space.py'}:space\ndata: {{source: digits, limit: 400}}\nseed: 2\n"
    )
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    # Only a worker that has run the user's file knows their block.
    assert any('"blur"' in json.dumps(dict(trial.candidate)) for trial in trials)
    for trial in trials:
        log = (tmp_path / "mlruns" / "logs" / "mine" / f"{trial.number}.log").read_text()
        assert "epoch 2 of 2: " in log
        assert log.rstrip().endswith(f"attempt 1 of trial {trial.number} ended: COMPLETE")


def test_an_existing_project_is_searched(study: Any) -> None:
    file = EXAMPLES / "existing_project.py"
    trials = study(f"space: {file}:space\ntrain: {file}:train\n")
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert {tuple(trial.params) for trial in trials} == {("width", "learning_rate")}
    assert all(trial.measurements[-1].metrics["val_accuracy"] > 0.1 for trial in trials)


def test_a_failed_trial_shows_what_it_printed_and_where_it_broke(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n    trial.suggest_float('x', 0.0, 1.0)\n"
        "def train(decisions, context):\n    print('reading shards')\n"
        "    raise RuntimeError('no such file: postgresql://me:hunter2@host/shards')\n    yield\n"
    )
    study("space: mine.py:space\ntrain: mine.py:train\n", code=5)
    capsys.readouterr()
    assert main(["status", "mine", "--trial", "0"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "attempt 1 of trial 0 begins",
        "\nreading shards\n",
        "attempt 1 of trial 0 ended: FAIL (user_code): RuntimeError: no such file",
        "Traceback (most recent call last)",
        "mine.py",
        "me:***@host",
    ):
        assert part in shown
    assert shown.count("Traceback") == shown.count("direct cause") + 1
    assert "hunter2" not in shown
    assert "hunter2" not in (tmp_path / "mlruns" / "ledger.db").read_text(errors="replace")
    assert main(["status", "mine", "--trial", "0", "--json"]) == 0
    assert "reading shards" in json.loads(capsys.readouterr().out)["log"]
