"""Lip sync of a whole clip: a video with sound, or a subject folder."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from emotalking.data import Subject
from emotalking.evaluate.sync import SyncMeter, offset_plot
from emotalking.io.audio import load_audio
from emotalking.io.video import read_frames
from emotalking.lipsync.expert import open_expert
from emotalking.lipsync.scores import SyncScores
from emotalking.lipsync.windows import FPS
from emotalking.preprocess.landmarks import open_provider
from emotalking.progress import track
from emotalking.report import Page

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
