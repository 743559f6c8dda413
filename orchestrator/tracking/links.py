"""Where MLflow's pages show what; loads nothing."""

VIEW = "leaderboard"
"""Name of the view in which the link to a study opens its table of runs."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""Tag of the experiment that holds the view."""
_MODELS = "workflowType=machine_learning"
"""Keeps MLflow's pages (3.17.2) from opening in their mode for prompts and agents."""


def runs_page(experiment_id: str, *, view: bool = True) -> str:
    """Return where MLflow's pages list the trials, after the server's address.

    Args:
        experiment_id: The experiment's.
        view: Whether it holds our view, which lists them as a leaderboard.
    """
    shown = f"viewStateShareKey={VIEW}&" if view else ""
    return f"#/experiments/{experiment_id}/runs?{shown}{_MODELS}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Where MLflow's pages show a run; works as a link from any of them."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_MODELS}"
