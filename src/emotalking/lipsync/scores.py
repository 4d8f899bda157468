"""Sync-E, Sync-C and the offset curve, as SyncNet's evaluation defines them (docs/paper.md 9.1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

VSHIFT = 15
"""Tested frames to either side."""
FEWEST = 5
"""Windows that must be left at the largest shift."""

Edges = Literal["zeros", "inside"]
_NUDGE = 1e-6
"""Added to every difference by torch's ``pairwise_distance``, with which SyncNet's published scores were computed."""


@dataclass(frozen=True)
class SyncScores:
    """Sync of the lips and the sound of a clip, measured by one expert."""

    expert: str
    """Name of the expert: scores of different experts cannot be compared."""
    distances: Float[np.ndarray, "N shifts"]
    """From the lips of window i to the sound of window i + s, for s from -vshift to vshift; NaN where there is
    no face or no sound."""

    @property
    def vshift(self) -> int:
        """Largest shift, frames."""
        return self.distances.shape[1] // 2

    @property
    def curve(self) -> Float[np.ndarray, " shifts"]:
        """Mean distance at every shift of the sound, -vshift to vshift frames."""
        return np.nanmean(self.distances, 0)

    @property
    def error(self) -> float:
        """Sync-E (also "LSE-D", "minimum distance"): the smallest mean distance. Lower is better."""
        return float(self.curve.min())

    @property
    def confidence(self) -> float:
        """Sync-C (also "LSE-C"): median of the mean distances less the smallest one. Higher is better."""
        return float(np.median(self.curve)) - self.error

    @property
    def offset(self) -> int:
        """Frames, with SyncNet's sign: positive where the sound precedes the lips, negative where it is late."""
        return self.vshift - int(self.curve.argmin())

    @property
    def per_window(self) -> Float[np.ndarray, " N"]:
        """Distance of each window at the best shift; NaN where the shifted sound is beyond the clip."""
        return self.distances[:, int(self.curve.argmin())]

    @property
    def margin(self) -> Float[np.ndarray, " N"]:
        """Confidence of each window: median of the mean distances less its own distance at the best shift."""
        return np.median(self.curve) - self.per_window

    def summary(self) -> str:
        """The scores in a line, with the expert's name."""
        return f"offset {self.offset:+d} frames, Sync-E {self.error:.3f}, Sync-C {self.confidence:.3f} ({self.expert})"


def sync_scores(
    lips: Float[Tensor, "N D"],
    audio: Float[Tensor, "N D"],
    vshift: int = VSHIFT,
    *,
    expert: str,
    edges: Edges = "zeros",
) -> SyncScores:
    """Compare the embeddings of N consecutive windows of lips with those of the sound around them.

    Args:
        lips: one embedding a window, in order, at 25 fps; NaN in a window without a face, which does not count.
        audio: the same of the sound.
        vshift: largest shift, frames.
        expert: name of the expert that made the embeddings.
        edges: padding beyond the ends. "zeros": zero vectors, as in the published evaluation; "inside": none, each
            shift's mean is over the windows that have a partner. A zero vector is far from all of SyncNet's embeddings,
            but nearer to embeddings of unit length than they are to each other.

    Raises:
        ValueError: too few windows for this shift.
    """
    if len(lips) < vshift + FEWEST:
        raise ValueError(f"{len(lips)} windows are too few for shifts of {vshift} frames: {vshift + FEWEST} are needed")
    distances = _distances(lips, audio, vshift)
    if edges == "inside":
        partner = np.arange(len(lips))[:, None] + np.arange(-vshift, vshift + 1)
        distances[(partner < 0) | (partner >= len(lips))] = np.nan
    return SyncScores(expert, distances)


def _distances(lips: Float[Tensor, "N D"], audio: Float[Tensor, "N D"], vshift: int) -> Float[np.ndarray, "N shifts"]:
    """Euclidean distances of the lips of every window to the sound of those around it.

    Args:
        lips: embeddings of consecutive windows.
        audio: of the same windows; zero vectors are put beyond both ends.
        vshift: largest shift.

    Returns:
        Column s is the sound s - vshift windows later.
    """
    around = F.pad(audio, (0, 0, vshift, vshift)).unfold(0, len(lips), 1)  # [shifts, D, N]
    columns = [(lips.T - shifted + _NUDGE).norm(dim=0) for shifted in around]
    return torch.stack(columns, 1).double().cpu().numpy()
