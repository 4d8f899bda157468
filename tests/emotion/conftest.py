"""The generator tests' parametric face, for the estimator."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "generator"))

import generator_face


@pytest.fixture(scope="session")
def face() -> ModuleType:
    """The module that makes the parametric face."""
    return generator_face
