"""Lip sync of a run of frames, or of a whole clip, by an expert (metrics: :mod:`emotalking.lipsync.scores`)."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.errors import InputError, NoFaceError
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.video import read_frames
from emotalking.lipsync.expert import SMOOTHING, SyncExpert, crop_frames, open_expert, smoothed_square
from emotalking.lipsync.scores import FEWEST, VSHIFT, Edges, SyncScores, sync_scores
from emotalking.lipsync.syncnet import SyncNetExpert
from emotalking.lipsync.windows import FPS, FRAMES, num_frames_at_25_fps
from emotalking.preprocess.landmarks import open_provider
from emotalking.progress import track
from emotalking.report import Page, Plot

BATCH = 32
"""Windows embedded at once."""


def offset_plot(scores: SyncScores) -> Plot:
    """The offset curve."""
    plot = Plot(width=6.0)
    axes, shifts = plot.axes[0], np.arange(-scores.vshift, scores.vshift + 1)
    axes.plot(-shifts, scores.curve, marker=".")
    axes.axvline(scores.offset, linestyle=":", color="#9aa3b2")
    axes.set_xlabel("offset, frames (positive: the sound comes first)")
    axes.set_ylabel(f"mean distance ({scores.expert})")
    return plot


class SyncMeter:
    """Measure the sync of a clip frame by frame; holds a few frames, and one vector a window.

    The square follows the head, smoothed by a median over 13 frames, as in SyncNet's evaluation; windows without a face
    nearby do not count. N frames at 25 fps give N - 4 windows. Deviation: the published script takes one fewer,
    without need. With :class:`SyncNetExpert` the ends are padded with zeros, as published; the windows
    of other experts are compared inside only.

    Args:
        expert: sync expert.
        fps: of the frames; other than 25, frames are repeated or left out.

    Example:
        >>> meter = SyncMeter(expert)
        >>> for image, points in clip:
        ...     meter.add(image, points)
        >>> print(meter.scores(samples).summary())
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
        for _ in range(len(self._points), num_frames_at_25_fps(self._seen, self._fps)):
            self._points.append(np.full((68, 2), np.nan) if points is None else np.asarray(points, np.float64))
            self._waiting.append(image)
            if len(self._waiting) > SMOOTHING // 2:
                self._crop()

    def scores(self, samples: Float[np.ndarray, " S"]) -> SyncScores:
        """Sync of all frames so far with their sound; call it once, at the end.

        Args:
            samples: mono at 16 kHz in [-1, 1], beginning with frame 0.

        Raises:
            InputError: no face at all, or too short a clip or sound.
        """
        while self._waiting:
            self._crop()
        windows = min(len(self._points), len(samples) * FPS // SAMPLE_RATE) - FRAMES + 1
        if windows < VSHIFT + FEWEST:
            raise InputError(
                f"{max(windows + FRAMES - 1, 0) / FPS:.2f} s of image and sound are too short to measure sync: "
                f"{(VSHIFT + FEWEST + FRAMES - 1) / FPS:.2f} s are needed."
            )
        if len(self._crops) >= FRAMES:
            self._embed()
        lips = torch.cat(self._vectors)[:windows]
        sound = self._expert.audio_windows(samples, windows)
        with torch.no_grad():
            audio = torch.cat([self._expert.embed_audio(part) for part in sound.split(BATCH)])
        edges: Edges = "zeros" if isinstance(self._expert, SyncNetExpert) else "inside"
        scores = sync_scores(lips, audio, expert=self._expert.name, edges=edges)
        if not np.isfinite(scores.distances).any(0).all():
            raise NoFaceError("hardly a frame shows a face, so sync cannot be measured: give a clip of a talking face.")
        return scores

    def _crop(self) -> None:
        """Crop the frame that has waited longest."""
        place = len(self._points) - len(self._waiting)
        image, size = self._waiting.popleft(), self._expert.size
        square = smoothed_square(self._expert.square, self._points, place)
        if square is None:
            self._crops.append(torch.full((size, size, 3), torch.nan, device=self._expert.device))
        else:
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._expert.device)[None].float() / 255.0
            self._crops.append(crop_frames(pixels, square, size)[0])
        if len(self._crops) == BATCH + FRAMES - 1:
            self._embed()
            self._crops = self._crops[BATCH:]

    @torch.no_grad()
    def _embed(self) -> None:
        """Vectors of all windows of the buffered crops; NaN if a crop has no face."""
        windows = torch.stack(self._crops).unfold(0, FRAMES, 1).permute(0, 4, 1, 2, 3)
        lost = windows.isnan().flatten(1).any(1)
        vectors = self._expert.embed_lips(windows.nan_to_num())
        self._vectors.append(vectors.masked_fill(lost[:, None], torch.nan))


Frames = Iterator[tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "68 2"] | None]]
"""Images with landmarks (iBUG 68, pixels); None: no face."""


def measure_clip(clip: Path, expert: str, device: torch.device) -> SyncScores:
    """Offset, Sync-E and Sync-C of a clip.

    Args:
        clip: video with sound, or subject folder.
        expert: personal (of the subject folder), syncnet, or a file.

    Raises:
        InputError: the clip or the expert cannot be used.
        NoFaceError: hardly a frame shows a face.
    """
    subject = Subject.open(clip) if clip.is_dir() else None
    opened = open_expert(expert, subject, device)
    fps, frames, samples = _subject_frames(subject) if subject is not None else _clip_frames(clip)
    meter = SyncMeter(opened, fps)
    for image, points in frames:
        meter.add(image, points)
    return meter.scores(samples)


def write_page(scores: SyncScores, name: str, path: Path) -> None:
    """Write a page with the offset curve."""
    page = Page(f"Sync of {name}", scores.summary())
    page.plot(offset_plot(scores), "mean distance of lips and sound, by how many frames the sound comes first")
    page.write(path)


def _subject_frames(subject: Subject) -> tuple[Fraction, Frames, Float[np.ndarray, " S"]]:
    """Frame rate, frames with landmarks, and sound of a prepared clip."""
    points = subject.landmarks.without_guesses().ibug68.astype(np.float64)
    numbers = track(range(subject.num_frames), "sync")
    return subject.fps, ((subject.original(i), points[i]) for i in numbers), load_audio(subject.files.audio)


def _clip_frames(clip: Path) -> tuple[int, Frames, Float[np.ndarray, " S"]]:
    """The same of any video, at 25 fps."""
    samples = load_audio(clip)

    def frames() -> Frames:
        provider = open_provider()
        try:
            for image in track(read_frames(clip, FPS), "sync"):
                found = provider.detect(image)
                yield image, None if found is None else found[list(provider.layout.ibug68), :2]
        finally:
            provider.close()

    return FPS, frames(), samples
