"""Ray Tune as an engine: places attempts on a cluster, reuses processes, survives their deaths.

The only package that imports ray, and only when a study runs on it.
"""

from orchestrator.engines.ray_tune.cluster import ResourcesTooLargeError
from orchestrator.engines.ray_tune.engine import RayTuneEngine
from orchestrator.engines.ray_tune.launch import EngineLostError
from orchestrator.engines.ray_tune.node_checks import NodesUnfitError

__all__ = ["EngineLostError", "NodesUnfitError", "RayTuneEngine", "ResourcesTooLargeError"]
