"""An untrained avatar file and speech, for the commands to work on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from emotalking.models.avatar import Avatar
from emotalking.models.config import BranchConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead

from ..scenes import still_scene

POSES = 30


def ball(count: int, radius: float, colour: tuple[float, float, float]) -> Gaussians:
    """Gaussians on a sphere."""
    points = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1) * radius
    return Gaussians(points, torch.tensor(colour).expand(count, 3).contiguous(), 1)


@pytest.fixture(scope="session")
def avatar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(face=BranchConfig(150, sh_degree=1), mouth=BranchConfig(50, sh_degree=1, hidden=32))
    head = TalkingHead(config, ball(150, 0.08, (0.8, 0.5, 0.4)), ball(50, 0.02, (0.5, 0.1, 0.1)))
    scene = still_scene(48, 36, frames=POSES, grey=220, torso=(30, (30, 60, 90)))
    path = tmp_path_factory.mktemp("avatar") / "someone.safetensors"
    metadata = {"licences": {"mesh-warp": "Apache-2.0"}, "versions": {"emotalking": "0"}, "command": "emotalking train"}
    Avatar(head, scene, metadata).save(path)
    return path


@pytest.fixture(scope="session")
def speech_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 s of syllables, 44.1 kHz stereo."""
    time = np.arange(22050) / 44100
    voice = sum(np.sin(2 * np.pi * 130 * k * time + k) / k for k in range(1, 40))
    samples = 0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.stack([samples, samples], -1), 44100)
    return path
