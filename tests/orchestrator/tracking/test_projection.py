import contextlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.stories import Seen, Story, assert_shows, project

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.answer import answer
from orchestrator.confirmation.plan import IS_DEFAULT, KIND, MAX_SEEDS_KEY, SEED_INDEX
from orchestrator.ledger import Effect
from orchestrator.tracking.addresses import VIEW_TAG, run_page
from orchestrator.tracking.client import open_client
from orchestrator.tracking.projection import Projection
from orchestrator.tracking.study_run import CHANGES, TABLE
from orchestrator.tracking.trial_runs import SPACE_VERSION
from orchestrator.tracking.verification import differences

pytestmark = [
    pytest.mark.mlflow,
    # mlflow 3.17.2 with SQLAlchemy 2.1.
    pytest.mark.filterwarnings("ignore:.*noload.*"),
]


def record_at_random(story: Story, choice: random.Random, length: int) -> None:
    """Any legal history: ends, failures, interruptions, screened and duplicate trials."""
    waiting: list[str] = []
    running: dict[str, int] = {}
    for _ in range(length):
        move = choice.choice(["add", "start", "measure", "measure", "finish", "back", "reopen"])
        if move == "add":
            waiting.append(story.add(params={"a.b": choice.random(), "kind": choice.choice("xy")}))
        elif move == "start" and waiting:
            uid = waiting.pop()
            story.start(uid)
            running[uid] = running.get(uid, 0)
        elif move == "measure" and running:
            uid = choice.choice(list(running))
            story.measure(uid, choice.randint(1, 9), val_accuracy=choice.random(), val_loss=1e9)
        elif move == "finish" and running:
            uid = choice.choice(list(running))
            del running[uid]
            state = choice.choice(["COMPLETE", "PRUNED", "FAIL"])
            values = (choice.random(),) if state == "COMPLETE" else None
            failure = {"kind": "user_code", "message": "no\nway"} if state == "FAIL" else None
            story.finish(uid, state, values=values, reason="rung", failure=failure)
        elif move == "back" and running:
            uid = running.popitem()[0]
            story.ledger.requeue(story.lease, story.keys[uid], "interrupted")
            waiting.append(uid)
        elif move == "reopen":
            story.reopen()
            waiting += running
            running.clear()


@settings(
    max_examples=5,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # Each example costs a second: no shrinking.
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(choice=st.randoms(use_true_random=False))
def test_mlflow_equals_the_ledger_at_any_point(
    choice: random.Random, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> None:
    story = Story(tmp_path_factory.mktemp("random") / "home", empty_store)
    projection = story.projection()
    for _ in range(3):
        record_at_random(story, choice, 15)
        if choice.random() < 0.5:
            projection = story.projection()
        while projection.step():
            pass
        assert_shows(Seen(story.tracking_uri), story.trials())
    story.ledger.close()


class _Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


class _DyingClient:
    """A client whose process dies before its n-th call that changes the store."""

    def __init__(self, client: MlflowClient, calls: int) -> None:
        self._client = client
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("get_", "search_")):
            self._left -= 1
            if self._left == 0:
                raise _Killed
        return getattr(self._client, name)


class _FlakyClient:
    """A client that loses every seventh question, or the answer to it."""

    def __init__(self, client: MlflowClient, *, loses_answers: bool) -> None:
        self._client = client
        self._loses_answers = loses_answers
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            self._calls += 1
            lost = self._calls % 7 == 0
            if lost and not self._loses_answers:
                raise MlflowException("the store is down")
            answer = getattr(self._client, name)(*given, **named)
            if lost:
                raise MlflowException("the connection was cut")
            return answer

        return call


def test_a_projection_killed_before_any_call_repeats_nothing(
    tmp_path: Path, empty_store: Path
) -> None:
    calls = 0
    survived = False
    while not survived:
        calls += 1
        story = Story(tmp_path / str(calls), empty_store)
        story.whole(0.8, epochs=2)
        story.add()
        dying: Any = _DyingClient(open_client(story.tracking_uri), calls)
        projection = Projection(
            story.ledger,
            story.study,
            lambda dying=dying: dying,
            artifacts=None,
            logs=story.home / "logs",
        )
        try:
            while projection.step():
                pass
            survived = True
        except _Killed:
            assert_shows(project(story), story.trials())
        story.ledger.close()
    assert calls > 10


@pytest.mark.parametrize("loses_answers", [False, True])
def test_an_outage_only_delays_the_projection(story: Story, *, loses_answers: bool) -> None:
    flaky: Any = _FlakyClient(open_client(story.tracking_uri), loses_answers=loses_answers)
    projection = Projection(
        story.ledger, story.study, lambda: flaky, artifacts=None, logs=story.home / "logs"
    )
    failures = 0
    # Trials end while it runs: of those it knows that nothing else has shown them.
    for _ in range(10):
        story.whole(0.8, epochs=1)
        with contextlib.suppress(MlflowException):
            projection.step()
    for _ in range(50):
        try:
            if projection.step() == 0:
                break
        except MlflowException:
            failures += 1
    assert failures > 0
    assert_shows(Seen(story.tracking_uri), story.trials())


def test_the_parent_shows_the_study_its_best_value_and_its_leaderboard(story: Story) -> None:
    story.whole(0.5)
    best = story.whole(0.75)
    story.whole(0.25)
    story.ledger.set_study_state(story.lease, "finished")
    seen = project(story)
    parent = seen.parent
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "mine"
    assert parent.data.tags["archscout.study"] == "mine"
    assert parent.data.params["budget.maximum"] == "9"
    assert seen.points(parent) == {"best_val_accuracy": [(0, 0.5), (1, 0.75), (2, 0.75)]}
    link = run_page(seen.experiment.experiment_id, seen.child(best).info.run_id)
    assert f"| 1 | [1]({link}) | 0.75 |" in parent.data.tags["mlflow.note.content"]
    assert parent.info.run_id in seen.experiment.tags["mlflow.note.content"]
    assert seen.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(seen.experiment.tags[VIEW_TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val_accuracy`", False)
    assert view["columnOrder"][0] == "metrics.`val_accuracy`"
    artifacts = seen.client.list_artifacts(parent.info.run_id)
    assert [artifact.path for artifact in artifacts] == ["leaderboard.json"]
    inputs = seen.client.get_run(parent.info.run_id).inputs.dataset_inputs
    assert [entry.dataset.name for entry in inputs] == ["digits"]


@pytest.mark.parametrize(
    ("state", "status"),
    [("finished", "FINISHED"), ("interrupted", "SCHEDULED"), ("broken", "FAILED")],
)
def test_the_parent_takes_the_status_of_the_study_and_leaves_it_on_resume(
    story: Story, state: str, status: str
) -> None:
    story.ledger.set_study_state(story.lease, state)
    assert project(story).parent.info.status == status
    story.ledger.set_study_state(story.lease, "running")
    assert project(story).parent.info.status == "RUNNING"


def test_points_carry_the_ledgers_time_and_trials_their_own(story: Story) -> None:
    uid = story.whole(0.5, epochs=1)
    run = project(story).child(uid)
    recorded = {
        event.kind: int(event.recorded * 1000)
        for event in story.ledger.events(story.study.id, 0, 100)
    }
    history = open_client(story.tracking_uri).get_metric_history(run.info.run_id, "val_loss")
    assert [point.timestamp for point in history] == [recorded["measurement"]]
    assert run.info.start_time == recorded["attempt_started"]
    assert run.info.end_time == recorded["trial_finished"]


def test_a_failed_run_carries_its_log_or_else_its_traceback(story: Story) -> None:
    logs = story.home / "logs" / "mine"
    logs.mkdir(parents=True)
    (logs / "0.log").write_text("what it printed")
    failure = {"kind": "user_code", "message": "KeyError: 'x'\nmore", "traceback": "Traceback"}
    failure |= {"where": "mine.py:3 in train", "digest": "0123456789abcdef"}
    for _ in range(2):
        uid = story.add()
        story.start(uid)
        story.finish(uid, "FAIL", reason="user_code", failure=failure)
    seen = project(story)
    names = []
    for trial in story.trials():
        run = seen.child(trial.uid)
        assert run.data.tags["archscout.failure"] == (
            "user_code: KeyError: 'x' (mine.py:3 in train, 01234567)"
        )
        names.append([artifact.path for artifact in seen.client.list_artifacts(run.info.run_id)])
    assert names == [["0.log"], ["failure.txt"]]


def test_illegal_and_long_names_and_values_stay_distinct_and_are_visibly_truncated(
    story: Story,
) -> None:
    params = {"a#b": 1, "a@b": 2, "../x": 3, "n" * 300: 4, "long": "v" * 7000}
    params.update({f"p{index}": index for index in range(120)})
    uid = story.add(params=params)
    story.start(uid)
    story.measure(uid, 1, **{f"m{index}": 1.0 for index in range(1200)})
    story.finish(uid, "COMPLETE", values=(0.5,))
    run = project(story).child(uid)
    assert len(run.data.params) == len(params)
    assert sorted(run.data.params.values())[:4] == ["0", "1", "1", "10"]
    assert run.data.params["long"].endswith("v\N{HORIZONTAL ELLIPSIS}")
    assert len(run.data.metrics) == 1201


def test_a_store_that_lost_the_study_is_filled_again(story: Story, empty_store: Path) -> None:
    story.whole(0.5)
    project(story)
    (story.home / "other.db").write_bytes(empty_store.read_bytes())
    story.tracking_uri = f"sqlite:///{story.home / 'other.db'}"
    story.whole(0.6)
    assert_shows(project(story), story.trials())


def test_a_run_that_its_user_deleted_stays_deleted_and_blocks_nothing(story: Story) -> None:
    uid = story.add()
    story.start(uid)
    seen = project(story)
    seen.client.delete_run(seen.child(uid).info.run_id)
    story.measure(uid, 1, val_accuracy=0.5)
    other = story.whole(0.7)
    seen = project(story)
    assert [run.data.tags["archscout.trial_uid"] for run in seen.children] == [other]


def test_a_deleted_experiment_is_restored_when_the_study_continues(story: Story) -> None:
    story.whole(0.5)
    seen = project(story)
    seen.client.delete_experiment(seen.experiment.experiment_id)
    story.whole(0.6)
    assert_shows(project(story), story.trials())


def test_a_new_study_under_an_old_name_gets_its_own_parent_run(
    story: Story, tmp_path: Path
) -> None:
    story.whole(0.5)
    first = project(story)
    again = Story(tmp_path / "again", story.home / "mlflow.db")
    again.tracking_uri = story.tracking_uri
    again.whole(0.6)
    projection = again.projection()
    while projection.step():
        pass
    client = first.client
    runs = client.search_runs([first.experiment.experiment_id], "tags.`archscout.kind` = 'study'")
    assert len(runs) == 2
    again.ledger.close()


def test_plots_are_artifacts_of_the_parent_run(story: Story) -> None:
    distributions = {
        "rate": '{"name": "FloatDistribution", "attributes": {"step": null, '
        '"low": 0.0, "high": 1.0, "log": false}}'
    }
    for index in range(6):
        story.whole(0.5 + index / 20, params={"rate": index / 6}, distributions=distributions)
    projection = story.projection()
    while projection.step():
        pass
    projection.summarize(plots=True)
    assert not projection.plots_are_stale
    seen = Seen(story.tracking_uri)
    plots = seen.client.list_artifacts(seen.parent.info.run_id, "plots")
    assert [plot.path for plot in plots] == [
        "plots/history.html",
        "plots/importance.html",
        "plots/parallel.html",
    ]


def test_the_use_of_a_study_on_other_data_is_a_tag_of_the_parent_run(
    tmp_path: Path, empty_store: Path
) -> None:
    rate = {
        "rate": '{"name": "FloatDistribution", "attributes": {"step": null, '
        '"low": 0.0, "high": 1.0, "log": false}}'
    }
    configs: list[dict[str, Any]] = [
        {"name": "earlier"},
        {"name": "later", "warm_start": ["earlier"]},
    ]
    for config, data in zip(configs, "ed", strict=True):
        story = Story(tmp_path / "home", empty_store, data_mark=data, **config)
        for index in range(9):
            story.whole(0.5 + index / 20, params={"rate": index / 9}, distributions=rate)
        projection = story.projection()
        while projection.step():
            pass
        projection.summarize(plots=True)
        tags = Seen(story.tracking_uri, config["name"]).parent.data.tags
        story.ledger.close()
        if data == "d":
            said = tags["archscout.warm_start"]
            assert said.startswith("earlier: rank agreement 1.00 over 9 trials, weight 0.")
        else:
            assert "archscout.warm_start" not in tags


def confirmed(story: Story, gain: float) -> dict[str, list[str]]:
    """A study whose best trial and default were confirmed over three seeds, by candidate."""
    default, best = story.whole(0.8), story.whole(0.9)
    runs: dict[str, list[str]] = {default: [], best: []}
    for seed in range(3):
        for parent, value in ((default, 0.8), (best, 0.8 + gain)):
            marks = {SEED_INDEX: seed, MAX_SEEDS_KEY: 3, IS_DEFAULT: parent == default}
            noise = (0.01, 0.02, -0.01)[seed] + (0.001 * seed if parent == best else 0.0)
            uid = story.whole(
                value + noise, kind=KIND, parent=parent, seed=100 + seed, sampler_attrs=marks
            )
            runs[parent].append(uid)
    return runs


@pytest.mark.parametrize("gain", [0.1, 0.0])
def test_a_confirmation_is_shown_below_its_study_with_its_answer_and_figure(
    story: Story, gain: float
) -> None:
    runs = confirmed(story, gain)
    projection = story.projection()
    while projection.step():
        pass
    projection.summarize(plots=True)
    seen = Seen(story.tracking_uri)
    assert_shows(seen, story.trials())
    for parent, uids in runs.items():
        for uid in uids:
            tags = seen.child(uid).data.tags
            assert (tags["archscout.kind"], tags["archscout.parent"]) == ("confirm", parent)
    found = answer("mine", story.trials(), story.config.objectives)
    assert found.winner == (1 if gain else None)
    assert seen.parent.data.tags["archscout.answer"] == found.sentence
    assert found.sentence in seen.parent.data.tags["mlflow.note.content"]
    assert seen.parent.data.metrics["best_val_accuracy"] == 0.9
    plots = seen.client.list_artifacts(seen.parent.info.run_id, "plots")
    assert "plots/confirmation.html" in [plot.path for plot in plots]
    table = seen.client.download_artifacts(seen.parent.info.run_id, "leaderboard.json")
    assert len(json.loads(Path(table).read_text())["data"]) == 2


class _Counting:
    """A client that counts its calls, and whose store takes no files."""

    def __init__(self, client: MlflowClient, *, takes_files: bool = True) -> None:
        self._client = client
        self._takes_files = takes_files
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        if name in {"log_text", "log_artifact"} and not self._takes_files:
            raise ModuleNotFoundError("No module named 'boto3'")
        return getattr(self._client, name)


def counted(story: Story, *, takes_files: bool = True) -> tuple[Projection, _Counting]:
    client: Any = _Counting(open_client(story.tracking_uri), takes_files=takes_files)
    projection = Projection(
        story.ledger, story.study, lambda: client, artifacts=None, logs=story.home / "logs"
    )
    return projection, client


def test_a_store_that_rejects_files_gets_every_metric(story: Story) -> None:
    for value in (0.5, 0.7):
        story.whole(value)
    uid = story.add()
    story.start(uid)
    story.finish(uid, "FAIL", reason="user_code", failure={"traceback": "Traceback"})
    projection, client = counted(story, takes_files=False)
    while projection.step():
        pass
    projection.summarize(plots=True, final=True)
    assert_shows(Seen(story.tracking_uri), story.trials())
    assert "not uploaded: ModuleNotFoundError: No module named 'boto3'" in projection.missing()
    assert "trial 0" in projection.missing()
    client._takes_files = True
    projection.summarize(plots=True, final=True)
    assert projection.missing() == ""
    seen = Seen(story.tracking_uri)
    files = [file.path for file in seen.client.list_artifacts(seen.parent.info.run_id)]
    assert files == ["leaderboard.json", "plots"]
    failed = seen.client.list_artifacts(seen.child(uid).info.run_id)
    assert [file.path for file in failed] == ["failure.txt"]


def test_a_permanent_refusal_is_named_until_the_trial_is_shown(story: Story) -> None:
    uid = story.add()
    story.start(uid)
    projection = story.projection()
    projection.step()
    seen = Seen(story.tracking_uri)
    run_id = seen.child(uid).info.run_id
    seen.client.delete_run(run_id)
    story.measure(uid, 1, val_accuracy=0.5)
    projection.step()
    assert projection.missing().startswith("trial 0 is refused: ")
    seen.client.restore_run(run_id)
    story.measure(uid, 2, val_accuracy=0.6)
    projection.step()
    assert projection.missing() == ""


@pytest.mark.parametrize("what", ["study", "experiment"])
def test_a_parent_run_deleted_during_the_search_is_restored(story: Story, what: str) -> None:
    story.whole(0.5)
    projection = story.projection()
    projection.step()
    seen = Seen(story.tracking_uri)
    if what == "study":
        seen.client.delete_run(seen.parent.info.run_id)
    else:
        seen.client.delete_experiment(seen.experiment.experiment_id)
    story.whole(0.6)
    for _ in range(8):
        with contextlib.suppress(MlflowException):
            projection.step()
            projection.summarize(plots=False)
    assert projection.missing() == ""
    assert_shows(Seen(story.tracking_uri), story.trials())


def test_a_resume_looks_runs_up_in_one_search(story: Story) -> None:
    uids = [story.whole(index / 10) for index in range(6)]
    project(story)
    projection, client = counted(story)
    for _ in range(2):
        projection.summarize(plots=False)
    assert client.calls["search_runs"] == 2  # the study's own run, and those of all trials
    seen = Seen(story.tracking_uri)
    for uid in uids:
        assert seen.child(uid).info.run_id in seen.parent.data.tags["mlflow.note.content"]


def test_unchanged_files_are_not_uploaded_again(story: Story) -> None:
    story.whole(0.5)
    projection, client = counted(story)
    while projection.step():
        pass
    projection.summarize(plots=False)
    before = client.calls["log_text"]
    running = story.add()
    story.start(running)
    story.measure(running, 1, val_accuracy=0.1)
    while projection.step():
        pass
    projection.summarize(plots=False)  # none completed: the leaderboard is the same
    assert client.calls["log_text"] == before


def test_a_changed_study_shows_its_space_its_config_and_the_changes(story: Story) -> None:
    first = story.whole(0.9, cost={"parameters": 500.0})
    second = story.whole(0.5, cost={"parameters": 10.0})
    projection = story.projection()
    while projection.step():
        pass
    limit = {"metric": "parameters", "at_most": 100.0}
    new = StudyConfig.model_validate({**story.config.model_dump(), "constraints": [limit]})
    request = story.ledger.add_request(story.study.id, "edit", {})
    changes = {"config_json": new.canonical_json(), "space_version": "2"}
    story.ledger.carry_out(story.lease, request, Effect(answer={}, changes=changes))
    third = story.whole(0.4, cost={"parameters": 10.0})
    while projection.step():
        pass
    projection.summarize(plots=False)
    seen = Seen(story.tracking_uri)
    assert seen.parent.data.tags["archscout.space"] == "tiny 2"
    assert json.loads(seen.parent.data.tags["archscout.config.constraints"]) == [limit]
    versions = [seen.child(uid).data.tags[SPACE_VERSION] for uid in (first, second, third)]
    assert versions == ["1", "1", "2"]
    text = seen.client.download_artifacts(seen.parent.info.run_id, CHANGES)
    assert "- `space_version`: `1` → `2`" in Path(text).read_text()
    table = json.loads(
        Path(seen.client.download_artifacts(seen.parent.info.run_id, TABLE)).read_text()
    )
    assert [row[table["columns"].index("trial")] for row in table["data"]] == [1, 2]
    row = story.ledger.study("mine")
    assert row is not None
    assert list(differences(seen.client, row, story.trials())) == []
    again = project(story)
    assert again.parent.data.tags["archscout.space"] == "tiny 2"
