"""How many candidates the laws are tried on: `LAWS_SAMPLES`, a hundred by default."""

import pytest
from laws import num_samples


@pytest.fixture(scope="session")
def samples() -> int:
    return num_samples()
