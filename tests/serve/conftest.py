"""An avatar file that is as small as one can be."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.models.avatar import Avatar
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.scene import Scene, TorsoStack, encode_torso

SIZE = 48


@pytest.fixture(scope="session")
def avatar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained avatar of 50 Gaussians."""
    torch.manual_seed(0)
    config = ModelConfig(AudioConfig(), BranchConfig(40), BranchConfig(10, hidden=32), EmotionConfig("separate"))
    face = Gaussians(torch.rand(40, 3) * 0.1 - 0.05, torch.rand(40, 3), 2)
    mouth = Gaussians(torch.rand(10, 3) * 0.02 - 0.01, torch.rand(10, 3), 2)
    layer = np.zeros((SIZE, SIZE, 4), np.uint8)
    layer[30:] = (200, 60, 20, 255)
    view = np.eye(4, dtype=np.float32)
    view[1, 1] = view[2, 2] = -1.0
    view[2, 3] = 0.7
    scene = Scene(
        width=SIZE,
        height=SIZE,
        fps=Fraction(25),
        focal=100.0,
        viewmats=np.repeat(view[None], 3, 0),
        aus=np.zeros((3, 6), np.float32),
        va=np.zeros((3, 2), np.float32),
        background=np.full((SIZE, SIZE, 3), 90, np.uint8),
        torso=TorsoStack.encode([encode_torso(layer)] * 3),
    )
    path = tmp_path_factory.mktemp("avatar") / "someone.safetensors"
    Avatar(TalkingHead(config, face, mouth), scene, {"preset": "none"}).save(path)
    return path
