"""What people look at: the study as MLflow shows it, rebuilt at any time from the ledger.

The only package that knows mlflow, beside promotion. The driver's side (`start_projector`) loads
none of it: the projection is a process of its own, and training never waits for it.
"""

from orchestrator.tracking.process import ProjectorProcess, Tracker, start_projector

__all__ = ["ProjectorProcess", "Tracker", "start_projector"]
