"""The personal sync expert: a small pair of networks, trained on the subject's clips, of SyncNet's interface.

Differences from SyncNet, and their reasons:

- Its input is 96 x 96 pixels of the mouth and the lower face, grey, instead of a whole face in colour: from a minute of
  one person the colour of a room is learned as readily as the shape of lips.
- Each frame goes through the image network separately and the five results are joined afterwards, so that shapes of the
  mouth decide and not flicker between frames, and so that overlapping windows share work in training.
- Sound is 40 mel bands, relative to the mean of the recording's speech in each band: level, microphone and room count
  little. No cepstra, because bands can be shifted in training as other voices' formants are.
- Group instead of batch normalisation: the same function in training and in use, whatever the light.
- Embeddings have unit length, so distances lie in [0, 2].

Licence of the code and of what it learns here: Apache-2.0.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.audio.mfcc import WINDOW, log_energies
from emotalking.errors import InputError
from emotalking.io.reading import parse_json, reading
from emotalking.io.tensors import read_tensors, write_tensors
from emotalking.lipsync.windows import FPS, FRAMES, STEPS, known_points, pad_audio, step_windows
from emotalking.networks.crops import square_at
from emotalking.networks.registry import sha256_of
from emotalking.ops.box import Box
from emotalking.ops.composite import LUMA

FORMAT, VERSION = "emotalking sync expert", 1
SIZE = 96
"""Side of the crops in pixels."""
WIDTH = 256
"""Length of an embedding."""
BANDS = 40
"""Mel bands of the sound."""
SIDE = 1.15
"""Side of the square in distances between the outer corners of the eyes: about 10 cm."""

_MOUTH_BELOW = 0.38
"""Centre of the square below the base of the nose, which no jaw moves, in sides of the square."""
_SPEECH = 3.5
"""Steps within so many nats of the 95th percentile of the energy are speech."""
_FAINT = 9.0
"""Natural logarithm of the energy (16-bit samples) below which there is no speech: -70 dB."""
_FLOOR, _SCALE = -6.0, 2.5
"""Bands end this many nats below their mean in speech; then nats become units of about one deviation."""


def sound_bands(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps 40"]:
    """Mel bands every 10 ms, float32, relative to their mean in speech; silence is the lowest value everywhere.

    Args:
        samples: mono at 16 kHz in [-1, 1].
    """
    bands, whole = log_energies(samples, BANDS, np.hanning(WINDOW + 1)[:-1])
    loudest = np.percentile(whole, 95)
    if loudest < _FAINT:
        return np.full(bands.shape, _FLOOR / _SCALE, np.float32)
    bands -= bands[whole > loudest - _SPEECH].mean(0)
    return (np.clip(bands, _FLOOR, -_FLOOR) / _SCALE).astype(np.float32)


def lower_face(points: Float[np.ndarray, "N 68 2"]) -> Box:
    """The square around mouth and lower face, from points that no jaw moves; the median over the frames.

    Raises:
        ValueError: not one frame has landmarks.
    """
    known = known_points(points)
    across = known[:, 45] - known[:, 36]
    side = SIDE * np.linalg.norm(across, axis=1)
    down = np.stack([-across[:, 1], across[:, 0]], 1) / np.linalg.norm(across, axis=1, keepdims=True)
    centre = np.median(known[:, 33] + _MOUTH_BELOW * side[:, None] * down, 0)
    typical = float(np.median(side))
    return square_at(float(centre[0]), float(centre[1]), typical)


class _Block(nn.Module):
    """Residual block: two 3x3 convolutions, the first with a stride, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(8, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(8, channels_out)
        self.short = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.first_norm(self.first(x)))
        return F.silu(self.second_norm(self.second(y)) + self.short(x))


class PersonalNetwork(nn.Module):
    """Both towers.

    Args:
        dropout: share of activations dropped before the last layers, in training.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.frame = nn.Sequential(
            nn.Conv2d(1, 24, 5, 2, 2, bias=False),
            nn.GroupNorm(8, 24),
            nn.SiLU(),
            _Block(24, 48, 2),
            _Block(48, 96, 2),
            _Block(96, 128, 2),
            _Block(128, 128, 2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(128 * 9, 128),
        )
        self.lips = nn.Sequential(
            nn.SiLU(), nn.Linear(128 * FRAMES, 384), nn.SiLU(), nn.Dropout(dropout), nn.Linear(384, WIDTH)
        )
        self.sound = nn.Sequential(
            nn.Conv2d(1, 32, 3, 1, 1, bias=False),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            _Block(32, 64, 2),
            _Block(64, 96, 2),
            _Block(96, 128, 1),
            nn.AvgPool2d((1, 2)),
            nn.Conv2d(128, 32, 1),
            nn.Flatten(),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(32 * (STEPS // 4) * (BANDS // 8), 256),
            nn.SiLU(),
            nn.Linear(256, WIDTH),
        )

    def embed_frames(self, images: Float[Tensor, "B S S"]) -> Float[Tensor, "B F"]:
        """Features of single crops, grey in [0, 1]; contrast and brightness are normalised."""
        mean = images.mean((1, 2), keepdim=True)
        variance = (images - mean).square().mean((1, 2), keepdim=True)
        return self.frame(((images - mean) / (variance + 1e-3).sqrt())[:, None])

    def embed_windows(self, frames: Float[Tensor, "B 5 F"]) -> Float[Tensor, "B D"]:
        """Embeddings of the features of five consecutive crops each."""
        return F.normalize(self.lips(frames.flatten(1)).float(), dim=-1)

    def embed_bands(self, bands: Float[Tensor, "B 20 40"]) -> Float[Tensor, "B D"]:
        """Embeddings of windows of mel bands."""
        return F.normalize(self.sound(bands[:, None]).float(), dim=-1)


class PersonalExpert:
    """A trained network as :class:`~emotalking.lipsync.expert.SyncExpert`.

    Example:
        >>> expert = PersonalExpert.load("someone/sync_expert.safetensors", "cuda")
    """

    size = SIZE
    width = WIDTH

    def __init__(self, network: PersonalNetwork, name: str, facts: dict[str, Any], device: torch.device | str) -> None:
        self.name = name
        self.device = torch.device(device)
        self.facts = facts
        """Facts about its training, and its scores on held-out frames."""
        self.network = network.eval().requires_grad_(False).to(self.device)
        self._grey = torch.tensor(LUMA, device=self.device)

    def square(self, points: Float[np.ndarray, "N 68 2"]) -> Box:
        """See ``SyncExpert``."""
        return lower_face(points)

    def embed_lips(self, crops: Float[Tensor, "B 5 S S 3"]) -> Float[Tensor, "B D"]:
        """See ``SyncExpert``."""
        grey = crops @ self._grey
        return self.network.embed_windows(self.network.embed_frames(grey.flatten(0, 1)).unflatten(0, (-1, FRAMES)))

    def audio_windows(
        self, samples: Float[np.ndarray, " n"], frames: int, fps: Fraction | float | int = FPS
    ) -> Float[Tensor, "frames *A"]:
        """See ``SyncExpert``. [frames, 20, 40]; give whole recordings."""
        bands = sound_bands(pad_audio(samples, frames, fps))
        return torch.from_numpy(bands[step_windows(frames, fps)]).to(self.device)

    def embed_audio(self, windows: Float[Tensor, "B *A"]) -> Float[Tensor, "B D"]:
        """See ``SyncExpert``."""
        return self.network.embed_bands(windows)

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> "PersonalExpert":
        """Read an expert's file: tensors and JSON, no executable content.

        Raises:
            InputError: it is missing, damaged, of a newer format, or no expert.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"there is no sync expert {path}: train one first.")
        with reading(path, "is no complete sync expert, or of another kind", "copy it again"):
            header, tensors = read_tensors(path)
        if header.get("format") != FORMAT:
            raise InputError(f"{path} is a safetensors file but no sync expert: train one first.")
        if header.get("version") != str(VERSION):
            raise InputError(
                f"the sync expert {path} has format version {str(header.get('version'))[:20]} and this program "
                f"reads {VERSION}: train it again."
            )
        network = PersonalNetwork()
        with reading(path, "does not hold what its header says", "train the sync expert again"):
            network.load_state_dict(tensors, strict=True)
            facts = parse_json(header["facts"], dict)
            if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
                raise ValueError("numbers that are not finite")
        return cls(network, f"personal {sha256_of(path)[:8]}", facts, device)


def save_expert(network: PersonalNetwork, path: Path | str, facts: Mapping[str, object]) -> None:
    """Write an expert's file: safetensors, with ``facts`` as JSON in its header."""
    tensors = {name: value.float() for name, value in network.state_dict().items()}
    write_tensors(Path(path), tensors, {"format": FORMAT, "version": str(VERSION), "facts": json.dumps(facts)})
