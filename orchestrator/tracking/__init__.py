"""Experiment tracking: the projection of a study onto MLflow, which the ledger can rebuild.

Only this package and `promotion` use mlflow. The driver's side (`start_projector`) does not load
it: the projection is a separate process, and training never waits for it.
"""

from orchestrator.tracking.process import ProjectorProcess, Tracker, start_projector

__all__ = ["ProjectorProcess", "Tracker", "start_projector"]
