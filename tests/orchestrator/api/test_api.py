"""The Python API as a user of Optuna would use it: studies, trials, figures, models."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import (
    ArchscoutError,
    Model,
    SearchSpace,
    Study,
    StudyConfig,
    create_study,
    list_studies,
    load_model,
    load_study,
)
from orchestrator.cli import main
from workers.data import DataSpec, load

pytestmark = [  # of mlflow 3.17.2
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
]
SURROGATE: dict[str, Any] = {"stop": {"trials": 8}, "engine": {"name": "in_process"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "home"


@pytest.fixture(scope="module")
def study(home: Path) -> Study:
    """A finished study of closed-form curves."""
    study = create_study("surrogate", home=home, name="curves", **SURROGATE)
    study.run(progress=False)
    return study


class TestAStudy:
    def test_is_new_until_it_runs_and_writes_nothing_before(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        study = create_study("tiny", home=home)
        assert (study.name, study.state, study.trials) == ("tiny", "new", ())
        assert list_studies(home=home) == []
        assert not home.exists()

    def test_has_the_trials_of_the_ledger_with_optunas_names(self, study: Study) -> None:
        assert study.state == "finished"
        assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
        complete = [trial for trial in study.trials if trial.values]
        best = study.best_trial
        assert best.value == max(trial.value or 0.0 for trial in complete)
        assert best.values == {"val_accuracy": best.value}
        assert study.best_trials == (best,)
        assert best.params
        assert best.history[-1]["val_accuracy"] == best.value
        assert [row["epoch"] for row in best.history] == list(range(1, len(best.history) + 1))
        assert best.duration is not None
        assert best.duration.total_seconds() >= 0
        assert best.candidate.describe() == best.architecture

    def test_is_a_data_frame_and_a_leaderboard(self, study: Study) -> None:
        frame = study.trials_dataframe()
        assert {"number", "value", "state", "datetime_start", "duration"} <= {*frame.columns}
        assert frame["value"].max() == study.best_trial.value
        params = {name.removeprefix("params_") for name in frame if name.startswith("params_")}
        assert params == {name for trial in study.trials for name in trial.params}
        board = study.leaderboard(top=2)
        assert board["val_accuracy"].is_monotonic_decreasing
        assert board["trial"][0] == study.best_trial.number
        assert len(board) == 2

    def test_plots_what_mlflow_shows_and_says_what_a_plot_lacks(self, study: Study) -> None:
        figure = study.plot_history()
        assert "best so far" in {trace.name for trace in figure.data}
        with pytest.raises(ArchscoutError, match="pareto yet: it needs several objectives"):
            study.plot_pareto()

    def test_is_html_in_a_notebook(self, study: Study) -> None:
        page = study._repr_html_()
        assert page.count("<tr>") > len(study.leaderboard(top=10))
        assert "curves" in page
        trial = study.best_trial
        assert f"Trial {trial.number}" in trial._repr_html_()
        assert "<svg" in trial._repr_html_()
        page = trial.candidate._repr_html_()
        for path in ("architecture.streams.image.stem.kind", "recipe.optimizer", "losses.terms"):
            assert f">{path}" in page

    def test_is_found_again_by_its_name_and_by_the_command_line(
        self, study: Study, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert list_studies(home=home) == ["curves"]
        again = load_study("curves", home=home)
        assert again.best_trial == study.best_trial
        assert main(["--home", str(home), "leaderboard", "curves"]) == 0
        assert study.best_trial.architecture in capsys.readouterr().out

    def test_continues_with_the_same_configuration_and_refuses_another(
        self, study: Study, home: Path
    ) -> None:
        same = create_study("surrogate", home=home, name="curves", **SURROGATE)
        before = same.trials
        same.run(progress=False)
        assert same.trials == before == study.trials
        with pytest.raises(ArchscoutError, match=r"(?s)another configuration.*seed: 0 -> 1"):
            create_study("surrogate", home=home, name="curves", seed=1, **SURROGATE)

    def test_interrupted_is_continued_to_what_it_would_have_been(
        self, study: Study, home: Path
    ) -> None:
        slow = {**SURROGATE, "stop": {"trials": 8}}
        study_2 = create_study("surrogate", home=home, name="stopped", **slow)

        def interrupt() -> None:
            while len(study_2.trials) < 3:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with suppress(KeyboardInterrupt):  # unless the search was faster than the signal
            study_2.run(progress=False)
        thread.join()
        load_study("stopped", home=home).run(progress=False)
        assert study_2.state == "finished"
        assert [t.values for t in study_2.trials] == [t.values for t in study.trials]

    def test_is_extended_by_an_amount_or_by_larger_limits(self, tmp_path: Path) -> None:
        home, small = tmp_path / "home", {**SURROGATE, "stop": {"trials": 3}}
        study = create_study("surrogate", home=home, name="grown", **small)
        study.run(progress=False)
        stale = load_study("grown", home=home)
        study.extend(trials=2, progress=False)
        assert (study.config.stop.trials, study.state) == (5, "finished")
        larger = create_study("surrogate", home=home, name="grown", **SURROGATE)
        assert load_study("grown", home=home).config.stop.trials == 5  # nothing before it runs
        larger.run(progress=False)
        stale.run(progress=False)  # knows the former limit, and changes nothing
        assert stale.config.stop.trials == 8
        assert len(study.trials) >= 8
        with pytest.raises(ArchscoutError, match="no limit of hours"):
            study.extend(hours=1.0, progress=False)
        with pytest.raises(ArchscoutError, match="give what to add"):
            study.extend(progress=False)

    def test_takes_designs_and_loses_trials_that_are_stopped(self, tmp_path: Path) -> None:
        home, small = tmp_path / "home", {**SURROGATE, "stop": {"trials": 2}}
        study = create_study("surrogate", home=home, name="steered", **small)
        study.run(progress=False)
        assert not study.pause()
        rate = {"recipe.learning_rate": 0.02}
        assert study.enqueue(rate, like=1) is None  # no process runs the study
        assert study.state == "interrupted"
        study.run(progress=False)
        assert (len(study.trials), study.state) == (3, "finished")
        assert study.trials[2].params == {**study.trials[1].params, **rate}
        for mistake in (rate | {"recipe.learning_rate": 9}, study.trials[2].params, {}):
            with pytest.raises(ArchscoutError):
                study.enqueue(mistake)
        with pytest.raises(ArchscoutError, match="trial 2 has ended"):
            study.stop(2)


class TestAConfiguration:
    def test_is_read_from_keys_alone(self, tmp_path: Path) -> None:
        study = create_study(
            home=tmp_path,
            name="keys",
            space="tiny",
            data={"source": "digits"},
            objectives=[{"metric": "val_accuracy", "direction": "maximize"}],
        )
        assert isinstance(study.config, StudyConfig)
        assert study.config.space == "tiny"
        changed = create_study(study.config, home=tmp_path, stop={"trials": 3})
        assert changed.config.stop.trials == 3
        assert changed.config.objectives == study.config.objectives

    def test_reports_every_mistake_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(ArchscoutError) as refused:
            create_study(home=tmp_path, name="x y", space="hybird", stop={"trials": "many"})
        message = str(refused.value)
        assert "Did you mean 'hybrid'" in message
        assert "study: name:" in message
        assert "study: stop.trials:" in message
        assert refused.value.exit_code == 2

    def test_takes_functions_that_stand_in_a_file(self, tmp_path: Path) -> None:
        study = create_study(home=tmp_path, name="mine", space=decide, train=train)
        assert study.config.space == f"{__file__}:decide"
        with pytest.raises(ArchscoutError, match=r"study: space: is no function of a file"):
            create_study(home=tmp_path, name="mine", space=lambda trial: {}, train=train)

    def test_unknown_names_are_refused_with_the_nearest(self, home: Path, study: Study) -> None:
        with pytest.raises(ArchscoutError, match=r"no study 'curvse'.*Did you mean 'curves'"):
            load_study("curvse", home=home)
        with pytest.raises(ArchscoutError, match="no model 'curves'"):
            load_model("curves@champion", home=home)
        with pytest.raises(ArchscoutError, match="write MODEL@ALIAS"):
            load_model("curves", home=home)
        assert issubclass(SearchSpace, object)


def decide(trial: Any) -> dict[str, Any]:
    return {"x": trial.suggest_float("x", 0.0, 1.0)}


def train(decisions: dict[str, Any], context: Any) -> Any:
    for _ in range(context.epochs):
        yield {"val_accuracy": decisions["x"]}


@pytest.mark.mlflow
@pytest.mark.slow
def test_the_best_trial_is_promoted_loaded_and_predicts(tmp_path: Path) -> None:
    home, given = tmp_path / "home", {"stop": {"trials": 2}, "pruner": {"name": "none"}}
    study = create_study("tiny", home=home, **given)
    study.run(progress=False)
    model = study.promote("digits", progress=False)
    assert isinstance(model, Model)
    assert (model.name, model.version) == ("digits", 1)
    split = load(DataSpec(source="digits")).validation
    images = split.inputs["image"][:, 0]
    predicted = load_model("digits@champion", home=home).predict(images)
    accuracy = float((predicted["label"].astype(int) == split.targets).mean())
    assert accuracy == pytest.approx(study.best_trial.value, abs=0.01)
    np.save(tmp_path / "x.npy", images[:3])
    of_file = model.predict([tmp_path / "x.npy"])
    assert of_file["label"].tolist() == predicted["label"].tolist()[:3]
    assert of_file["index"].tolist() == [0, 1, 2]
    with pytest.raises(ArchscoutError, match="no examples"):
        model.predict([])


def test_an_edit_returns_the_differences_and_holds_for_the_object(study: Study) -> None:
    changes = {"stop.target": 0.99, "constraints": [{"metric": "parameters", "at_most": 1e6}]}
    shown = study.edit(changes, dry_run=True)
    assert study.config.stop.target is None
    assert "stop.target: nothing -> 0.99" in shown.differences
    assert study.edit(changes) == shown
    assert study.config.stop.target == 0.99
    assert study.edit(changes).differences == ()
    with pytest.raises(ArchscoutError, match=r"edit: seed: .* start another study"):
        study.edit({"seed": 1})
    study.edit({"stop.target": None, "constraints": []})
