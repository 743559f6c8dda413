"""Ray Tune as an engine: places attempts on slots, keeps processes warm, survives their deaths.

The only package that imports ray, and only once a study runs on it.
"""

from orchestrator.engines.ray_tune.cluster import ResourcesTooLarge
from orchestrator.engines.ray_tune.engine import RayTuneEngine
from orchestrator.engines.ray_tune.launch import EngineLost
from orchestrator.engines.ray_tune.node_checks import NodesUnfit

__all__ = ["EngineLost", "NodesUnfit", "RayTuneEngine", "ResourcesTooLarge"]
