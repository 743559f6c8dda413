"""How many candidates the laws are tried on: `LAWS_SAMPLES`, a few hundred by default."""

import os

import pytest


@pytest.fixture(scope="session")
def samples() -> int:
    return int(os.environ.get("LAWS_SAMPLES", "200"))
