"""What people see of a study in MLflow's own pages, through a real browser."""

from collections.abc import Iterator

import pytest
from mlflow.entities import Run
from support.browser import Pages, comparison
from support.shown import MODEL, Served
from support.stories import Seen

from orchestrator.tracking.addresses import run_page, runs_page

pytestmark = [
    pytest.mark.ui,
    pytest.mark.mlflow,
    # mlflow 3.17.2 with SQLAlchemy 2.1.
    pytest.mark.filterwarnings("ignore:.*noload.*"),
]


@pytest.fixture
def pages(served: Served) -> Iterator[Pages]:
    served.pages.complaints()
    yield served.pages
    assert served.pages.complaints() == []


def artifact(seen: Seen, run: Run, path: str) -> str:
    where = run_page(seen.experiment.experiment_id, run.info.run_id)
    return where.replace(run.info.run_id, f"{run.info.run_id}/artifacts/{path}")


def best_first(seen: Seen) -> list[Run]:
    return sorted(seen.children, key=lambda run: -run.data.metrics.get("val_accuracy", -1.0))


def test_the_link_to_a_study_opens_its_trials_as_a_leaderboard(
    served: Served, pages: Pages
) -> None:
    seen = served.searched
    names = [run.info.run_name for run in best_first(seen)]
    text = pages.open(
        runs_page(seen.experiment.experiment_id), "matching runs", *names, "parameters"
    )
    assert f"{len(names)} matching runs" in text
    places = [text.index(f"\n{name}\n") for name in dict.fromkeys(names)]
    assert places == sorted(places)


def test_the_leaderboard_shows_the_objectives_first(served: Served, pages: Pages) -> None:
    pages.open(runs_page(served.searched.experiment.experiment_id), "matching runs", "parameters")
    columns = pages.columns()
    first = next(n for n, (name, _) in enumerate(columns) if name.startswith(("metrics", "tags")))
    assert [name for name, _ in columns[first : first + 3]] == [
        "metrics.`val_accuracy`",
        "tags.`archscout.trial`",
        "tags.`archscout.state`",
    ]
    assert columns[first][1] < 1500


def test_trials_in_every_state_are_listed(served: Served, pages: Pages) -> None:
    text = pages.open(
        runs_page(served.story.experiment.experiment_id), "C32-T64", "C16", "T64x4", "M48"
    )
    for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING"):
        assert state in text


def test_the_parent_run_describes_the_study_and_links_its_trials(
    served: Served, pages: Pages
) -> None:
    seen = served.searched
    best = best_first(seen)[0]
    text = pages.open(
        run_page(seen.experiment.experiment_id, seen.parent.info.run_id),
        "Study seen",
        "Show more",
        "best_val_accuracy",
    )
    assert "digits" in text
    pages.click("Show more")
    number = best.data.tags["archscout.trial"]
    pages.until_it_says("architecture", best.info.run_name)
    # It opens a tab of its own, so it is followed by hand.
    pages.open(pages.link(number), "Parent run", f"archscout.trial\n: {number}")


def test_the_parent_run_shows_the_leaderboard_and_the_plots(served: Served, pages: Pages) -> None:
    seen = served.searched
    best = best_first(seen)[0]
    pages.open(artifact(seen, seen.parent, "leaderboard.json"), "rank", best.info.run_name)
    pages.open(artifact(seen, seen.parent, "plots/history.html"), "plots/history.html", "size.html")
    with pages.in_frame():
        pages.until_a_chart_says("best so far")


def test_a_trial_shows_its_parameters_metrics_and_data(served: Served, pages: Pages) -> None:
    seen = served.searched
    best = best_first(seen)[0]
    text = pages.open(
        run_page(seen.experiment.experiment_id, best.info.run_id),
        str(best.info.run_name),
        "val_accuracy",
        "recipe.learning_rate",
        "digits (",
    )
    assert "Finished" in text


def test_a_trial_shows_its_architecture_and_learning_curve(served: Served, pages: Pages) -> None:
    seen = served.searched
    best = best_first(seen)[0]
    for name in ("architecture.svg", "learning_curve.svg"):
        pages.open(artifact(seen, best, name), f"{name}\n")
        pages.until_a_picture_is_wider_than(300)


def test_a_trial_shows_its_curves_by_epoch(served: Served, pages: Pages) -> None:
    seen = served.searched
    best = best_first(seen)[0]
    where = run_page(seen.experiment.experiment_id, best.info.run_id)
    pages.open(
        where.replace(best.info.run_id, f"{best.info.run_id}/model-metrics"),
        "train_loss",
    )
    pages.until_a_chart_says("Step")


def test_a_failed_trial_shows_its_failure(served: Served, pages: Pages) -> None:
    seen = served.story
    failed = next(run for run in seen.children if run.info.status == "FAILED")
    pages.open(
        run_page(seen.experiment.experiment_id, failed.info.run_id), "Failed", "out_of_memory"
    )
    pages.open(artifact(seen, failed, "failure.txt"), "Traceback: no room")


def test_three_trials_are_compared(served: Served, pages: Pages) -> None:
    seen = served.searched
    three = best_first(seen)[:3]
    pages.open(
        comparison(seen.experiment.experiment_id, [run.info.run_id for run in three]),
        "Comparing 3 Runs",
        *(str(run.info.run_name) for run in three),
        "val_accuracy",
    )


def test_the_registered_model_shows_its_origin(served: Served, pages: Pages) -> None:
    best = best_first(served.searched)[0]
    pages.open(f"#/models/{MODEL}?workflowType=machine_learning", MODEL, "Version 1", "champion")
    text = pages.open(
        f"#/models/{MODEL}/versions/1?workflowType=machine_learning",
        "Description",
        str(best.info.run_name),
    )
    assert "champion" in text
