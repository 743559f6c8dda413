"""Who keeps an alias: by the study's objectives, and on newer data by examples unseen by both."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from support.promotions import Dead, a_promoter

from orchestrator.config.schema import StudyConfig
from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Ledger
from orchestrator.promotion import package
from orchestrator.promotion.clean_model import open_clean_model
from orchestrator.promotion.comparison import compare_recorded
from orchestrator.promotion.promoter import Promoter
from orchestrator.promotion.registry import Champion

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
Answer = Callable[..., tuple[int, Any, str]]


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture(scope="module")
def ranked(home: Path) -> list[int]:
    """Trial numbers, the best first."""
    with Ledger.open(home / "ledger.db") as ledger:
        trials = ledger.trials(ledger.studies()[0].id)
    return [t.number for t in sorted(trials, key=lambda t: (t.values or (0,))[0], reverse=True)]


def on_newer_data(home: Path, model: str, trial: int) -> Promoter:
    """The promoter of a trial whose study had other data, of the same examples."""
    promoter = a_promoter(home, model, trial=trial)
    study = replace(promoter.winner.study, data_digest="0" * 64)
    identity = {**promoter.winner.identity, "data_digest": study.data_digest}
    return replace(promoter, winner=replace(promoter.winner, study=study, identity=identity))


@pytest.mark.usefixtures("quick_build")
class TestAChampionEvaluatedOnOlderData:
    def test_is_replaced_by_a_better_model_trained_on_newer_data(
        self, home: Path, ranked: list[int]
    ) -> None:
        best, *_, worst = ranked
        a_promoter(home, "monthly", trial=worst).promote()
        challenger = on_newer_data(home, "monthly", best)
        store = f"sqlite:///{home / 'mlflow.db'}"
        apart = replace(
            challenger,
            open_model=lambda uri, digest, code: (
                open_clean_model(uri, store, digest, code)
                if uri.endswith("/1")
                else challenger.open_model(uri, digest, code)
            ),
        )
        assert apart.promote().replaced == 1
        version = client(home).get_model_version_by_alias("monthly", "champion")
        assert "that neither was trained on" in version.description

    def test_is_kept_if_it_is_better_unless_forced(self, home: Path, ranked: list[int]) -> None:
        best, *_, worst = ranked
        a_promoter(home, "lasting", trial=best).promote()
        challenger = on_newer_data(home, "lasting", worst)
        with pytest.raises(
            PromotionRefusedError, match=r"validation.*: it is kept; .* --force --reason"
        ):
            challenger.promote()
        assert client(home).get_model_version_by_alias("lasting", "champion").version == 1
        assert replace(challenger, forced="the monthly retraining").promote().replaced == 1
        version = client(home).get_model_version_by_alias("lasting", "champion")
        assert "the monthly retraining" in version.description

    def test_of_an_older_release_is_compared_by_force_only(
        self, home: Path, ranked: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a_promoter(home, "older", trial=ranked[-1]).promote()
        monkeypatch.setattr(package, "TRAINING_EXAMPLES", "artifacts/model/none.safetensors")
        with pytest.raises(PromotionRefusedError, match=r"older release .* --force --reason TEXT"):
            on_newer_data(home, "older", ranked[0]).promote()


@pytest.mark.usefixtures("quick_build")
def test_a_champion_that_archscout_did_not_make_is_replaced_by_force_only(
    home: Path, ranked: list[int], tmp_path: Path
) -> None:
    registry = client(home)
    registry.create_registered_model("foreign")
    registry.create_model_version("foreign", source=tmp_path.as_uri())
    registry.set_registered_model_alias("foreign", "champion", "1")
    promoter = a_promoter(home, "foreign", trial=ranked[0])
    with pytest.raises(
        PromotionRefusedError, match=r"not promoted by archscout: .* --force --reason"
    ):
        promoter.promote()
    assert replace(promoter, forced="made by hand before").promote().replaced == 1


def dying(*_: Any) -> Any:
    raise Dead


@pytest.mark.usefixtures("quick_build")
def test_a_test_evaluation_by_an_older_release_is_counted(home: Path, ranked: list[int]) -> None:
    promoter = a_promoter(home, "begun", trial=ranked[0])
    unaware = replace(promoter.winner, identity={"data_digest": "older"})
    with pytest.raises(Dead):  # it registered the version, and knew of no test digest
        replace(promoter, winner=unaware, open_model=dying).promote()
    promoter.promote()
    identity = {f"archscout.{name}": digest for name, digest in promoter.winner.identity.items()}
    version = client(home).get_model_version_by_alias("begun", "champion")
    assert identity.items() <= version.tags.items()
    only_split = {"archscout.examples_digest": identity["archscout.examples_digest"]}
    assert promoter.registry.openings(only_split, excluding=()) >= 1


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
    measurement = SimpleNamespace(metrics=metrics)
    trial = SimpleNamespace(measurements=(measurement,), cost={"parameters": size})
    study = SimpleNamespace(data_digest="same")
    scores = {"accuracy": metrics["val_accuracy"]}
    return SimpleNamespace(
        config=config, trial=trial, study=study, scores=scores, measurement=measurement
    )


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

    def test_accuracy_decides_if_the_champion_lacks_an_objective(self) -> None:
        ours = a_winner(LOSS, {"val_accuracy": 0.9, "val_loss": 0.1}, 1e6)
        comparison = compare_recorded(ours, a_champion(val_accuracy=0.95))
        assert comparison is not None
        assert comparison.champion_wins

    def test_records_on_other_data_cannot_be_compared(self) -> None:
        ours = a_winner(LOSS, {"val_accuracy": 0.9, "val_loss": 0.1}, 1e6)
        assert compare_recorded(ours, a_champion(data_digest="other", val_loss=1)) is None
