"""Scenes with the parametric face of ``generator_face.py``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from generator_face import Scene, make_scene


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="session")
def scene_without_irises() -> Scene:
    return make_scene(irises=False)


@pytest.fixture(scope="session")
def turned_scene() -> Scene:
    return make_scene(yaw=0.35)
