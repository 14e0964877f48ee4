"""Planted primitives are registered for one test alone."""

import pytest

from minigrad import primitive


@pytest.fixture(autouse=True)
def registry():
    """Primitives as they were, once the test is over."""
    before = primitive.registered()
    yield
    primitive.restore(before)
