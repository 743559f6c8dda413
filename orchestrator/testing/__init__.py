"""Contract suites of the ports, for our own implementations and for a user's.

Subclass a suite in a test file and give it a fixture:

    import pytest
    from orchestrator.testing import EngineContract

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self):
            engine = MyEngine()
            yield engine
            engine.close()

Needs the extra `test`.
"""

from orchestrator.testing.engines import EngineContract
from orchestrator.testing.pruners import PrunerContract
from orchestrator.testing.samplers import SamplerContract
from orchestrator.testing.storage import StorageContract
from orchestrator.testing.trackers import TrackerContract

__all__ = [
    "EngineContract",
    "PrunerContract",
    "SamplerContract",
    "StorageContract",
    "TrackerContract",
]
