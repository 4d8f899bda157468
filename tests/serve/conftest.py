"""An avatar file that is as small as one can be."""

from pathlib import Path

import pytest
import torch

from emotalking.models.avatar import Avatar
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead

from ..scenes import still_scene

SIZE = 48


@pytest.fixture(scope="session")
def avatar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained avatar of 50 Gaussians."""
    torch.manual_seed(0)
    config = ModelConfig(AudioConfig(), BranchConfig(40), BranchConfig(10, hidden=32), EmotionConfig("separate"))
    face = Gaussians(torch.rand(40, 3) * 0.1 - 0.05, torch.rand(40, 3), 2)
    mouth = Gaussians(torch.rand(10, 3) * 0.02 - 0.01, torch.rand(10, 3), 2)
    scene = still_scene(SIZE, SIZE, torso=(30, (200, 60, 20)))
    path = tmp_path_factory.mktemp("avatar") / "someone.safetensors"
    Avatar(TalkingHead(config, face, mouth), scene, {"preset": "none"}).save(path)
    return path
