"""Sync-E, Sync-C and the offset curve, as SyncNet's evaluation defines them (paper-spec 9.1)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.errors import UserError
from emotalking.report import Plot
from emotalking.speech.audio import SAMPLE_RATE
from emotalking.speech.sync_expert import SMOOTHING, SyncExpert, SyncNetExpert, calm_square, crop_frames
from emotalking.speech.sync_windows import FPS, FRAMES, num_shown

VSHIFT = 15
"""Frames to either side that are tried."""
BATCH = 32
"""Windows embedded at once."""

Edges = Literal["zeros", "inside"]
_NUDGE = 1e-6
"""Added to every difference by torch's ``pairwise_distance``, with which the published figures were made."""
FEWEST = 5
"""Windows that must be left at the largest shift."""


@dataclass(frozen=True)
class SyncScores:
    """How well lips and sound of a clip are in step, in the eyes of one expert."""

    expert: str
    """Its name: figures of different experts cannot be compared."""
    distances: Float[np.ndarray, "N shifts"]
    """Of the lips of window i to the sound of window i + s, for s from -vshift to vshift; NaN where there is
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
        """Frames, with SyncNet's sign: positive where the sound comes before the lips, negative where it is late."""
        return self.vshift - int(self.curve.argmin())

    @property
    def per_window(self) -> Float[np.ndarray, " N"]:
        """Distance of each window at the best shift; NaN where the shifted sound lies beyond the clip."""
        return self.distances[:, int(self.curve.argmin())]

    @property
    def margin(self) -> Float[np.ndarray, " N"]:
        """Confidence of each window: median of the mean distances less its own distance at the best shift."""
        return np.median(self.curve) - self.per_window

    def plot(self) -> Plot:
        """The offset curve."""
        plot = Plot(width=6.0)
        axes, shifts = plot.axes[0], np.arange(-self.vshift, self.vshift + 1)
        axes.plot(-shifts, self.curve, marker=".")
        axes.axvline(self.offset, linestyle=":", color="#9aa3b2")
        axes.set_xlabel("offset, frames (positive: the sound comes first)")
        axes.set_ylabel(f"mean distance ({self.expert})")
        return plot

    def words(self) -> str:
        """The figures in a line, with the expert's name."""
        return f"offset {self.offset:+d} frames, Sync-E {self.error:.3f}, Sync-C {self.confidence:.3f} ({self.expert})"


def sync_scores(
    lips: Float[Tensor, "N D"],
    audio: Float[Tensor, "N D"],
    vshift: int = VSHIFT,
    *,
    expert: str,
    edges: Edges = "zeros",
) -> SyncScores:
    """Compare the vectors of N consecutive windows of lips with those of the sound around them.

    Args:
        lips: one vector a window, in order, 25 a second; NaN in a window without a face, which does not count.
        audio: the same of the sound.
        vshift: largest shift, frames.
        expert: name of who made the vectors.
        edges: what is beyond the ends. "zeros": vectors of zeros, as in the published evaluation; "inside": nothing,
            each shift's mean is over the windows that have a partner. A zero is a far stranger to SyncNet's vectors,
            but nearer to vectors of unit length than they are to each other.

    Raises:
        ValueError: different lengths, or too few windows for this shift.
    """
    if lips.shape != audio.shape:
        raise ValueError(f"lips and audio differ in shape: {tuple(lips.shape)} and {tuple(audio.shape)}")
    if len(lips) < vshift + FEWEST:
        raise ValueError(f"{len(lips)} windows are too few for shifts of {vshift} frames: {vshift + FEWEST} are needed")
    around = torch.nn.functional.pad(audio, (0, 0, vshift, vshift))
    shifted = around.unfold(0, len(lips), 1)  # [shifts, D, N]
    distances = torch.stack([(lips.T - part + _NUDGE).norm(dim=0) for part in shifted], 1).double().cpu().numpy()
    if edges == "inside":
        partner = np.arange(len(lips))[:, None] + np.arange(-vshift, vshift + 1)
        distances[(partner < 0) | (partner >= len(lips))] = np.nan
    return SyncScores(expert, distances)


class SyncMeter:
    """Takes a clip frame by frame and then tells its sync; holds a few pictures, and one vector a window.

    The square follows the head, calmed by a median over 13 frames, as in SyncNet's evaluation; windows without a face
    nearby do not count. N frames at 25 a second give N - 4 windows. Deviation: the published script takes one fewer;
    the last one is as good as any. With :class:`SyncNetExpert` zeros stand beyond the ends, as published; the windows
    of other experts are compared inside only.

    Args:
        expert: who judges.
        fps: of the frames; other than 25, frames are repeated or left out.

    Example:
        >>> meter = SyncMeter(expert)
        >>> for image, points in clip:
        ...     meter.add(image, points)
        >>> print(meter.scores(samples).words())
    """

    def __init__(self, expert: SyncExpert, fps: Fraction | float | int = FPS) -> None:
        self._expert, self._fps = expert, fps
        self._seen = 0
        self._points: list[np.ndarray] = []
        self._waiting: deque[np.ndarray] = deque()
        self._crops: list[Tensor] = []
        self._vectors: list[Tensor] = []

    def add(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "68 2"] | None) -> None:
        """The next frame, RGB, and its landmarks in its pixels, iBUG order; None or NaN where no face was found."""
        self._seen += 1
        for _ in range(len(self._points), num_shown(self._seen, self._fps)):
            self._points.append(np.full((68, 2), np.nan) if points is None else np.asarray(points, np.float64))
            self._waiting.append(image)
            if len(self._waiting) > SMOOTHING // 2:
                self._crop()

    def scores(self, samples: Float[np.ndarray, " S"], vshift: int = VSHIFT) -> SyncScores:
        """Sync of all frames so far with their sound; call it once, at the end.

        Args:
            samples: mono at 16 kHz in [-1, 1], beginning with frame 0.
            vshift: largest shift, frames.

        Raises:
            UserError: no face at all, or too short a clip or sound.
        """
        while self._waiting:
            self._crop()
        windows = min(len(self._points), len(samples) * FPS // SAMPLE_RATE) - FRAMES + 1
        if windows < vshift + FEWEST:
            raise UserError(
                f"{max(windows + FRAMES - 1, 0) / FPS:.2f} s of picture and sound are too short to measure sync: "
                f"{(vshift + FEWEST + FRAMES - 1) / FPS:.2f} s are needed."
            )
        if len(self._crops) >= FRAMES:
            self._embed()
        lips = torch.cat(self._vectors)[:windows]
        sound = self._expert.audio_windows(samples, windows)
        with torch.no_grad():
            audio = torch.cat([self._expert.embed_audio(part) for part in sound.split(BATCH)])
        edges: Edges = "zeros" if isinstance(self._expert, SyncNetExpert) else "inside"
        scores = sync_scores(lips, audio, vshift, expert=self._expert.name, edges=edges)
        if not np.isfinite(scores.distances).any(0).all():
            raise UserError("hardly a frame shows a face, so sync cannot be measured: give a clip of a talking face.")
        return scores

    def _crop(self) -> None:
        """What the expert sees of the frame that has waited longest."""
        place = len(self._points) - len(self._waiting)
        image, size = self._waiting.popleft(), self._expert.size
        square = calm_square(self._expert.square, self._points, place)
        if square is None:
            self._crops.append(torch.full((size, size, 3), torch.nan, device=self._expert.device))
        else:
            picture = torch.from_numpy(np.ascontiguousarray(image)).to(self._expert.device)[None].float() / 255.0
            self._crops.append(crop_frames(picture, square, size)[0])
        if len(self._crops) == BATCH + FRAMES - 1:
            self._embed()
            self._crops = self._crops[BATCH:]

    @torch.no_grad()
    def _embed(self) -> None:
        """Vectors of all windows of the crops at hand; NaN where one of them shows no face."""
        windows = torch.stack(self._crops).unfold(0, FRAMES, 1).permute(0, 4, 1, 2, 3)
        lost = windows.isnan().flatten(1).any(1)
        vectors = self._expert.embed_lips(windows.nan_to_num())
        self._vectors.append(vectors.masked_fill(lost[:, None], torch.nan))


def measure_sync(
    expert: SyncExpert,
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    points: Float[np.ndarray, "N 68 2"],
    samples: Float[np.ndarray, " S"],
    fps: Fraction | float | int = FPS,
    vshift: int = VSHIFT,
) -> SyncScores:
    """Sync of a clip whose landmarks are known; see :class:`SyncMeter`.

    Args:
        expert: who judges.
        frames: N RGB pictures in order; they stream by once.
        points: landmarks of each frame in its pixels, iBUG order; NaN where no face was found.
        samples: mono at 16 kHz in [-1, 1], beginning with frame 0.
        fps: of the frames.
        vshift: largest shift, frames.

    Raises:
        UserError: no face at all, or too short a clip or sound.
        ValueError: not as many frames as landmarks.
    """
    meter = SyncMeter(expert, fps)
    for image, shape in zip(frames, points, strict=True):
        meter.add(image, shape)
    return meter.scores(samples, vshift)
