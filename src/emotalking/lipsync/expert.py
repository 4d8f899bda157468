"""Sync experts: one interface for the published SyncNet and for the personal expert.

An expert maps five consecutive frames of a mouth and 0.2 s of sound to embeddings that are near each other (Euclidean
distance) where both are in sync. Distances of different experts cannot be compared, so an expert's name accompanies
every score that was measured with it.

:mod:`emotalking.lipsync.windows` defines the windows.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.lipsync.personal import PersonalExpert
from emotalking.lipsync.syncnet import SyncNet, SyncNetExpert
from emotalking.lipsync.windows import FPS
from emotalking.networks.registry import model_path
from emotalking.ops.box import Box

EXPERT_FILE = "sync_expert.safetensors"
"""File of the personal expert in a subject folder."""
SMOOTHING = 13
"""Frames over whose median the square of a moving head is taken, as in SyncNet's evaluation."""

_SURROUNDINGS = 110 / 255
"""Grey beyond the image, as in SyncNet's evaluation."""


@runtime_checkable
class SyncExpert(Protocol):
    """A frozen pair of networks; gradients flow to the images."""

    @property
    def name(self) -> str:
        """Name printed with every score: "SyncNet v2", "personal 1a2b3c4d" (first digits of its file's SHA-256)."""
        ...

    @property
    def size(self) -> int:
        """Side of its input crops in pixels."""
        ...

    @property
    def width(self) -> int:
        """Length of an embedding, D."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        ...

    def square(self, points: Float[np.ndarray, "N 68 2"]) -> Box:
        """Square to crop from frames with these landmarks (iBUG order, pixels).

        The median over the frames, so for a whole clip it is fixed; frames with NaN are ignored.

        Raises:
            ValueError: not one frame has landmarks.
        """
        ...

    def embed_lips(self, crops: Float[Tensor, "B 5 S S 3"]) -> Float[Tensor, "B D"]:
        """Embeddings of windows of crops (:func:`crop_frames`), RGB in [0, 1]."""
        ...

    def audio_windows(
        self, samples: Float[np.ndarray, " n"], frames: int, fps: Fraction | float | int = FPS
    ) -> Float[Tensor, "frames *A"]:
        """Input of :meth:`embed_audio` for the windows that begin with each of the first ``frames`` frames.

        Args:
            samples: mono at 16 kHz in [-1, 1], beginning with frame 0; silence follows where it is too short.
            frames: number of windows; a clip of N frames has N - 4 whole ones.
            fps: of the frames.
        """
        ...

    def embed_audio(self, windows: Float[Tensor, "B *A"]) -> Float[Tensor, "B D"]:
        """Embeddings of windows of sound."""
        ...


def open_expert(which: str, subject: Subject | None = None, device: torch.device | str = "cpu") -> SyncExpert:
    """An expert by name.

    Args:
        which: "syncnet" (the model folder's ``syncnet_v2.model``), "personal" (``sync_expert.safetensors`` in the
            folder of ``subject``), or the path of a personal expert's file.
        subject: needed for "personal" only.

    Raises:
        InputError: the file is missing, or is no expert.
    """
    if which == "syncnet":
        return SyncNetExpert(SyncNet.open(model_path("syncnet")), device)
    if which != "personal":
        return PersonalExpert.load(Path(which), device)
    if subject is None:
        raise InputError(
            "a personal sync expert belongs to a subject folder: give one, or the path of an expert's file."
        )
    path = subject.files.root / EXPERT_FILE
    if not path.is_file():
        raise InputError(
            f"{subject.files.root} has no sync expert ({EXPERT_FILE}): train a personal sync expert on it first."
        )
    return PersonalExpert.load(path, device)


def smoothed_square(
    square: Callable[[Float[np.ndarray, "n 68 2"]], Box],
    points: Float[np.ndarray, "N 68 2"] | Sequence[Float[np.ndarray, "68 2"]],
    index: int,
) -> Box | None:
    """``square`` of the 13 frames around frame ``index``: follows a moving head without its jitter.

    Returns:
        Square; None where none of these frames has landmarks (NaN).
    """
    near = np.stack(list(points[max(index - SMOOTHING // 2, 0) : index + SMOOTHING // 2 + 1]))
    return square(near) if np.isfinite(near).all((1, 2)).any() else None


def crop_frames(images: Float[Tensor, "B H W 3"], square: Box, size: int) -> Float[Tensor, "B S S 3"]:
    """Crop a square of RGB images in [0, 1]; gradients flow to the images.

    Bilinear where the crop is enlarged, the mean of bilinear samples at most a pixel apart where it is made smaller;
    grey beyond the image.
    """
    height, width = images.shape[1:3]
    fine = max(1, int(np.ceil(square.width / size)))
    places = (torch.arange(size * fine, device=images.device, dtype=images.dtype) + 0.5) * (
        square.width / (size * fine)
    )
    x, y = 2 * (square.left + places) / width - 1, 2 * (square.top + places) / height - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(images), -1, -1, -1)
    shifted = images.permute(0, 3, 1, 2) - _SURROUNDINGS
    cut = F.grid_sample(shifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(cut, fine).permute(0, 2, 3, 1) + _SURROUNDINGS
