import json

from orchestrator.config.schema import StudyConfig
from orchestrator.tracking.events import TrialView
from orchestrator.tracking.summary import (
    config_params,
    leaderboard_markdown,
    leaderboard_table,
    rank_trials,
    study_description,
)
from orchestrator.trial import Trial, TrialState

CONFIG = StudyConfig.model_validate(
    {
        "name": "mine",
        "space": "/home/someone/spaces.py:space",
        "data": {"source": "idx", "path": "s3://key:secret@bucket/data"},
        "engine": {"name": "ray_tune", "address": "ray://user:secret@head:1"},
        "constraints": [{"metric": "parameters", "at_most": 2e6}],
    }
)
BOTH = StudyConfig.model_validate(
    {
        "name": "both",
        "space": "tiny",
        "objectives": [
            {"metric": "val_accuracy", "direction": "maximize"},
            {"metric": "parameters", "direction": "minimize"},
        ],
    }
)


def trial_view(
    number: int, *values: float, state: str = "COMPLETE", describe: str = "C8"
) -> TrialView:
    trial = Trial(
        number=number,
        uid=f"u{number}",
        params={},
        distributions={},
        candidate={},
        digest="d",
        state=TrialState(state),
        values=values or None,
        seed=0,
        attempts=1,
        cost={"parameters": 12345.0},
    )
    return TrialView(trial=trial, describe=describe, added_event=1)


def test_parameters_of_the_study_are_an_allow_list_without_addresses() -> None:
    params = config_params(CONFIG)
    assert params["objectives.0"] == "maximize val_accuracy"
    assert params["constraints.0"] == "parameters at most 2e+06"
    assert params["data.source"] == "idx"
    assert "secret" not in json.dumps(params)


def test_the_edits_of_a_space_are_one_parameter() -> None:
    space = {"base": "tiny", "remove": {"stages.*": ["gate"]}, "fix": {"seed": 1}}
    params = config_params(StudyConfig.model_validate({"name": "a", "space": space}))
    assert params["space"] == "tiny"
    assert params["space.edits"] == '{"fix": {"seed": 1}, "remove": {"stages.*": ["gate"]}}'
    assert "space.edits" not in config_params(CONFIG)


def test_the_description_has_task_progress_and_links_but_no_folders() -> None:
    views = [trial_view(0, 0.5), trial_view(1, 0.75), trial_view(2, state="FAIL")]
    rows = rank_trials(views, CONFIG)
    text = study_description(
        CONFIG,
        views,
        rows,
        answer="trial 1 beats the default",
        links={"u1": "#/runs/x"},
        parent_link="#/parent",
        board_link="#/board",
    )
    assert "`spaces.py:space`" in text
    assert "2 complete, 1 failed" in text
    assert "**trial 1 beats the default**" in text
    assert "| 1 | [1](#/runs/x) | 0.75 | C8 | 12,345 |" in text
    assert "[All trials, best first](#/board)" in text
    assert "[plots and the full leaderboard](#/parent)" in text
    assert "secret" not in text


def test_the_description_of_a_study_without_complete_trials() -> None:
    text = study_description(CONFIG, [], [], answer="", links={}, parent_link=None)
    assert "No trial has completed yet." in text
    assert "no trial yet" in text


def test_the_pareto_front_is_first_in_the_leaderboard() -> None:
    views = [trial_view(0, 0.9, 100.0), trial_view(1, 0.8, 200.0), trial_view(2, 0.7, 50.0)]
    rows = rank_trials(views, BOTH)
    assert [row.trial.number for row in rows] == [0, 2, 1]
    table = json.loads(leaderboard_table(rows, BOTH.objectives, {"u0": "run0"}))
    assert table["columns"][:5] == ["rank", "trial", "val_accuracy", "parameters", "architecture"]
    assert [row[:4] for row in table["data"]] == [
        [1, 0, 0.9, 100.0],
        [2, 2, 0.7, 50.0],
        [3, 1, 0.8, 200.0],
    ]
    assert [row[-1] for row in table["data"]] == ["run0", None, None]


def test_a_name_is_escaped_in_the_table() -> None:
    text = leaderboard_markdown([trial_view(0, 0.5, describe="a|b\nc")], CONFIG.objectives, {})
    assert text.splitlines()[-1] == "| 1 | 0 | 0.5 | a\\|b c | 12,345 |"
