"""Takes the pictures of MLflow's pages that the README shows, of a study searched just for them.

Run by `make screenshots`; needs Debian's chromium and chromium-driver, and about two minutes.
"""

import sys
import tempfile
import time
from pathlib import Path

from mlflow.entities import Run
from support.browser import MISSING, Pages, browsing, comparison, free_port, is_here
from support.shown import archscout
from support.stories import Seen

from orchestrator.tracking.addresses import run_page, runs_page
from orchestrator.tracking.server import start_server

MODEL = "digits"
SIZE = (1360, 800)
SETTLED_S = 1.5
"""Charts fade in; nothing on the page says that they are done."""


def artifact(seen: Seen, run: Run, path: str) -> str:
    """Where an artifact of a run is shown."""
    where = run_page(seen.experiment.experiment_id, run.info.run_id)
    return where.replace(run.info.run_id, f"{run.info.run_id}/artifacts/{path}")


def take(pages: Pages, seen: Seen, folder: Path) -> None:
    """Opens page after page and saves each."""

    def save(name: str) -> None:
        time.sleep(SETTLED_S)
        pages.save(folder / f"{name}.png")

    experiment_id = seen.experiment.experiment_id
    ranked = sorted(seen.children, key=lambda run: -run.data.metrics.get("val_accuracy", 0.0))
    best, three = ranked[0], [run.info.run_id for run in ranked[:3]]
    pages.open(runs_page(experiment_id), "matching runs", str(best.info.run_name))
    save("leaderboard")
    pages.open(run_page(experiment_id, seen.parent.info.run_id), "Show more")
    pages.click("Show more")
    save("study")
    for name, plot, says in (
        ("plots", "history", "best so far"),
        ("weights", "weights", "digits: weights of the loss terms and val_accuracy"),
    ):
        pages.open(artifact(seen, seen.parent, f"plots/{plot}.html"), f"plots/{plot}.html\n")
        with pages.in_frame():
            pages.until_a_chart_says(says)
        save(name)
    gated = next((run for run in ranked if "gate" in str(run.info.run_name)), best)
    mixed = next(run for run in ranked if any(m.startswith("weights/") for m in run.data.metrics))
    for name, run, picture in (
        ("architecture", gated, "architecture.svg"),
        ("learning-curve", gated, "learning_curve.svg"),
        ("loss-terms", mixed, "loss_terms.svg"),
    ):
        pages.open(artifact(seen, run, picture), f"{picture}\n")
        pages.until_a_picture_is_wider_than(300)
        save(name)
    pages.open(comparison(experiment_id, three), "Comparing 3 Runs", "val_accuracy")
    save("comparison")
    pages.open(
        f"#/models/{MODEL}/versions/1?workflowType=machine_learning",
        "champion",
        str(best.info.run_name),
    )
    save("model")


def main() -> None:
    """Search, promote, serve, look."""
    if not is_here():
        sys.exit(MISSING)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "mlruns"
        archscout(home, "search", "digits", "--name", "digits", "--trials", "16")
        archscout(home, "promote", "digits", "--model", MODEL)
        uri = f"sqlite:///{home / 'mlflow.db'}"
        server = start_server(home=home, tracking_uri=uri, port=free_port())
        try:
            with browsing(server.url, Path(scratch) / "profile", size=SIZE) as pages:
                take(pages, Seen(uri, "digits"), folder)
        finally:
            server.close()


if __name__ == "__main__":
    main()
