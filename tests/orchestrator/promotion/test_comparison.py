"""Who keeps an alias: by the study's objectives, and on newer data by examples unseen by both."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from promotions import a_promoter

from orchestrator.cli import main
from orchestrator.config import StudyConfig
from orchestrator.ledger import Ledger
from orchestrator.promotion.clean_room import clean_room
from orchestrator.promotion.comparison import compare_recorded
from orchestrator.promotion.refusal import PromotionRefused
from orchestrator.promotion.registry import Champion
from workers.data.identity import example_digests

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
Answer = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def newer(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home, with a second study on a few examples fewer and so on another split."""
    home = shutil.copytree(home, tmp_path_factory.mktemp("newer") / "home")
    search = ["search", "tiny", "--name", "newer", "--trials", "2", "--quiet"]
    data = ["--set", "data.limit=1790", "--set", "pruner.name=none"]
    assert main(["--home", str(home), *search, *data]) == 0
    return home


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def ranked(home: Path, study: str) -> list[int]:
    """Trial numbers, the best first."""
    with Ledger.open(home / "ledger.db") as ledger:
        row = ledger.study(study)
        assert row is not None
        trials = ledger.trials(row.id)
    return [t.number for t in sorted(trials, key=lambda t: (t.values or (0,))[0], reverse=True)]


@pytest.mark.usefixtures("quick_build")
class TestAChampionJudgedOnOlderData:
    def test_gives_way_to_a_better_model_trained_on_newer_data(self, newer: Path) -> None:
        store = f"sqlite:///{newer / 'mlflow.db'}"
        a_promoter(newer, "monthly", trial=ranked(newer, "tiny")[-1]).promote()
        challenger = a_promoter(newer, "monthly", study="newer", trial=ranked(newer, "newer")[0])
        apart = replace(
            challenger,
            examine=lambda uri, digest, code: clean_room(uri, store, digest, code),
        )
        assert apart.promote().replaced == 1
        version = client(newer).get_model_version_by_alias("monthly", "champion")
        assert "that neither was trained on" in version.description

    def test_stays_where_it_is_better_on_examples_that_neither_was_trained_on(
        self, newer: Path
    ) -> None:
        champion = a_promoter(newer, "lasting", trial=ranked(newer, "tiny")[0])
        champion.promote()
        challenger = a_promoter(newer, "lasting", study="newer", trial=ranked(newer, "newer")[-1])
        unseen = ~np.isin(
            example_digests(challenger.winner.dataset.validation),
            example_digests(champion.winner.dataset.train),
        )
        assert 30 < unseen.sum() < len(unseen)
        with pytest.raises(PromotionRefused, match=rf"the {unseen.sum()} validation.*: it stays"):
            challenger.promote()
        assert client(newer).get_model_version_by_alias("lasting", "champion").version == 1

    def test_is_not_scored_on_what_it_was_trained_on(
        self, newer: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from orchestrator.promotion import comparison

        a_promoter(newer, "familiar").promote()
        monkeypatch.setattr(comparison, "MIN_EXAMPLES", 10_000)
        with pytest.raises(PromotionRefused, match=r"trained on all but \d+ .* --force --reason"):
            a_promoter(newer, "familiar", study="newer").promote()

    def test_of_an_older_release_is_replaced_only_by_force(
        self, newer: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from orchestrator.promotion import package

        a_promoter(newer, "forced").promote()
        monkeypatch.setattr(package, "TRAINING_EXAMPLES", "artifacts/model/none.safetensors")
        newest = a_promoter(newer, "forced", study="newer")
        with pytest.raises(PromotionRefused, match=r"older release .* --force --reason TEXT"):
            newest.promote()
        assert replace(newest, forced="the monthly retraining").promote().replaced == 1
        champion = client(newer).get_model_version_by_alias("forced", "champion")
        assert "the monthly retraining" in champion.description


@pytest.mark.parametrize(
    "words", [["--force"], ["--reason", "monthly"], ["--force", "--reason", " "]]
)
def test_force_and_its_reason_belong_together(home: Path, answer: Answer, words: list[str]) -> None:
    code, said, _ = answer("promote", "tiny", "--model", "any", *words)
    assert code == 2
    assert "--reason" in said["errors"][0]


def a_winner(objectives: list[dict[str, str]], metrics: dict[str, float], size: float) -> Any:
    config = StudyConfig.model_validate(
        {"name": "s", "space": "tiny", "objectives": objectives, "stop": {"trials": 1}}
    )
    trial = SimpleNamespace(
        measurements=(SimpleNamespace(metrics=metrics),), cost={"parameters": size}
    )
    study = SimpleNamespace(data_digest="same")
    scores = {"accuracy": metrics["val_accuracy"]}
    return SimpleNamespace(config=config, trial=trial, study=study, scores=scores)


def a_champion(**tags: float | str) -> Champion:
    named = {f"archscout.{name}": str(value) for name, value in tags.items()}
    return Champion(version=1, tags={"archscout.data_digest": "same"} | named)


LOSS = [{"metric": "val_loss", "direction": "minimize"}]
BOTH = [
    {"metric": "val_accuracy", "direction": "maximize"},
    {"metric": "parameters", "direction": "minimize"},
]


class TestOnTheSameData:
    @pytest.mark.parametrize(
        ("objectives", "theirs", "stays"),
        [
            (LOSS, {"val_accuracy": 0.99, "val_loss": 0.2}, False),
            (LOSS, {"val_accuracy": 0.10, "val_loss": 0.05}, True),
            (BOTH, {"val_accuracy": 0.99, "parameters": 2e6}, False),
            (BOTH, {"val_accuracy": 0.99, "parameters": 1e5}, True),
            (BOTH, {"val_accuracy": 0.9, "parameters": 1e6}, False),
        ],
    )
    def test_the_studys_objectives_decide(
        self, objectives: list[dict[str, str]], theirs: dict[str, float], stays: bool
    ) -> None:
        ours = a_winner(objectives, {"val_accuracy": 0.9, "val_loss": 0.1}, 1e6)
        comparison = compare_recorded(ours, a_champion(**theirs))
        assert comparison is not None
        assert comparison.champion_wins is stays

    def test_accuracy_decides_where_the_champion_says_nothing_of_an_objective(self) -> None:
        ours = a_winner(LOSS, {"val_accuracy": 0.9, "val_loss": 0.1}, 1e6)
        comparison = compare_recorded(ours, a_champion(val_accuracy=0.95))
        assert comparison is not None
        assert comparison.champion_wins

    def test_other_data_cannot_be_compared_by_records(self) -> None:
        ours = a_winner(LOSS, {"val_accuracy": 0.9, "val_loss": 0.1}, 1e6)
        assert compare_recorded(ours, a_champion(data_digest="other", val_loss=1)) is None
