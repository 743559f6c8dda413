"""Number of candidates per law: `LAWS_SAMPLES`, 50 by default."""

import pytest
from laws import num_samples


@pytest.fixture(scope="session")
def samples() -> int:
    return num_samples()
