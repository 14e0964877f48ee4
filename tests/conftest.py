"""Every test draws the same random numbers, whichever tests ran before it and wherever."""

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def _seeded():
    mg.random.seed(0)
