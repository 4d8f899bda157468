"""One small actor for all tests of the room."""

import pytest

from emotalking.testing.actor import Actor


@pytest.fixture(scope="session")
def actor() -> Actor:
    return Actor(size=128)
