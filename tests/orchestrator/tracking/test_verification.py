"""Differences between ledger and MLflow: each is named, and a rebuild ends them."""

import json
from pathlib import Path

import pytest
from mlflow.entities import Metric
from support.stories import Story, project

from orchestrator.cli import main
from orchestrator.tracking.client import open_client
from orchestrator.tracking.verification import differences

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore:.*noload.*")]


def found(story: Story) -> list[str]:
    client = open_client(story.tracking_uri)
    study = story.ledger.study("mine")
    assert study is not None
    return [str(each) for each in differences(client, study, story.trials())]


def test_a_projected_study_has_no_differences(story: Story) -> None:
    story.whole(0.9, cost={"parameters": 12.0})
    story.finish(story.add(), "FAIL", reason="user_code")
    story.start(story.add())
    project(story)
    assert found(story) == []


def test_a_study_without_projection_lacks_every_run(story: Story) -> None:
    story.whole(0.9)
    assert found(story) == [
        "the study: run: the ledger has one, MLflow 0 of them",
        "trial 0: run: the ledger has one, MLflow 0 of them",
    ]


def test_every_kind_of_difference_is_named(story: Story) -> None:
    first, second = story.whole(0.9), story.whole(0.8)
    seen = project(story)
    client, changed = seen.client, seen.child(first).info.run_id
    client.log_batch(changed, metrics=[Metric("val_loss", 7.0, 1, 2)])
    client.set_tag(changed, "archscout.state", "FAIL")
    client.update_run(changed, status="RUNNING")
    client.log_param(changed, "foreign", "x")
    client.set_tag(changed, "mlflow.parentRunId", "unknown")
    client.delete_run(seen.child(second).info.run_id)
    tags = {
        "archscout.study": "mine",
        "archscout.trial_uid": "f" * 32,
        "mlflow.parentRunId": seen.parent.info.run_id,
    }
    client.create_run(seen.experiment.experiment_id, tags=tags)
    lines = found(story)
    for part in (
        "trial 0: status: the ledger has 'FINISHED', MLflow 'RUNNING'",
        "trial 0: parent: the ledger has the study's own run, MLflow unknown",
        "trial 0: tag archscout.state: the ledger has 'COMPLETE', MLflow 'FAIL'",
        "trial 0: param foreign: the ledger has nothing, MLflow 'x'",
        "trial 0: metric val_loss: the ledger has no such, MLflow 7.0 at epoch 2 1 times more",
        "trial 1: run: the ledger has 'active', MLflow 'deleted'",
        f"run: the ledger has no such trial, MLflow one of {'f' * 32}",
    ):
        assert any(part in line for line in lines), (part, lines)
    assert len(lines) == 7


def test_verify_names_differences_and_sync_fixes_them(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = story.whole(0.9)
    story.whole(0.8)
    seen = project(story)
    story.ledger.set_study_state(story.lease, "interrupted")
    home = ["--home", str(story.home)]
    assert main([*home, "sync", "mine"]) == 3  # a driver holds it
    assert "is being run by process" in capsys.readouterr().err
    story.ledger.release(story.lease)
    run_id = seen.child(uid).info.run_id
    seen.client.set_tag(run_id, "archscout.state", "FAIL")
    seen.client.delete_run(run_id)
    assert main([*home, "--json", "verify", "mine"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert {each["what"] for each in report["differences"]} >= {"run", "tag archscout.state"}
    assert main([*home, "--json", "sync", "mine"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []
    assert main([*home, "verify", "mine"]) == 0
    assert "shows all 2 trials" in capsys.readouterr().out
    again = project(story)
    assert again.child(uid).info.run_id == run_id  # the same run, not another
    assert len(again.points(again.child(uid))["val_loss"]) == 3


def test_verify_of_nothing_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    assert main(["--home", str(tmp_path), "verify", "unknown"]) == 2
