"""Windows of the sync loss: five frames and their speech (paper 3.3.2; docs/paper.md 10, 13)."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from emotalking.audio.features import feature_track
from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, load_audio, save_wav
from emotalking.lipsync.expert import SyncExpert
from emotalking.lipsync.windows import FPS, FRAMES
from emotalking.ops.geometry import stretches
from emotalking.progress import track
from emotalking.train.config import SyncConfig
from emotalking.train.data import TrainingData, random_index
from emotalking.tts.backends import Recordings, open_synthesizer
from emotalking.tts.sentences import curated_speech

QUIET = 0.1
"""A frame is silent below this share of its recording's loud frames (95th percentile of the RMS): -20 dB."""
SPOKEN_FRAMES = 2
"""A window must hold so many frames that are not silent: a pause contains only a shut mouth,
while frames in which it opens and closes are the most informative."""
BATCH = 256
"""Windows of sound embedded at once."""


@dataclass(frozen=True)
class Sound:
    """One recording: the avatar's audio features frame by frame, and the expert's embeddings window by window."""

    audio: Float[Tensor, "N 8 C S"]
    embeddings: Float[Tensor, "N D"]
    """The expert's embedding of the 0.2 s that begin with frame n."""
    starts: Int64[np.ndarray, " n"]
    """First frames of the windows that may be drawn."""


class SyncWindow(NamedTuple):
    """Five frames to render: conditions and speech."""

    rows: Int64[Tensor, "5"]
    """Training frames that give head pose, action units, emotion and torso."""
    audio: Float[Tensor, "5 8 C S"]
    """Audio features as inputs of the avatar's encoder."""
    embedding: Float[Tensor, "1 D"]
    """The expert's embedding of the speech."""


def frame_steps(fps: Fraction | float | int) -> Int64[np.ndarray, "5"]:
    """Frames of a window, counted from its first: 0..4 at 25 a second, else those on the screen as often as that."""
    return np.floor((np.arange(FRAMES) + 0.5) * float(fps) / FPS + 1e-6).astype(np.int64)


def consecutive(data: TrainingData, reach: int) -> Int64[np.ndarray, " n"]:
    """Training frames that begin a run of ``reach`` + 1 consecutive ones: no gap, no jump cut, a face in each."""
    last = np.arange(data.count)
    viewmats = data.conditions.viewmats.cpu().numpy()
    gaps = np.flatnonzero(np.diff(data.indices) != 1) + 1
    edges = [0, *(int(gap) for gap in gaps), data.count]
    for begin, end in zip(edges, edges[1:], strict=False):
        for first, stop in stretches(viewmats[begin:end]):
            last[begin + first : begin + stop] = begin + stop - 1
    detected = torch.isfinite(data.points).all(-1).all(-1).cpu().numpy()
    missing = np.concatenate([[0], np.cumsum(~detected)])
    starts = np.arange(max(data.count - reach, 0))
    return starts[(starts + reach <= last[starts]) & (missing[starts + reach + 1] == missing[starts])]


def spoken(samples: Float[np.ndarray, " S"], frames: int, fps: Fraction | float | int) -> Bool[np.ndarray, " frames"]:
    """True for each frame with audible sound."""
    edges = (np.arange(frames + 1) * (SAMPLE_RATE / float(fps))).round().astype(np.int64)
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])[np.minimum(edges, len(samples))]
    loud = np.sqrt(np.diff(energy).clip(min=0.0) / np.diff(edges))
    return loud > max(QUIET * float(np.percentile(loud, 95)), 1e-4)


def voiced(
    starts: Int64[np.ndarray, " n"], speaking: Bool[np.ndarray, " N"], steps: Int64[np.ndarray, "5"]
) -> Int64[np.ndarray, " m"]:
    """Those of ``starts`` whose window is not all silence."""
    return starts[speaking[starts[:, None] + steps].sum(1) >= SPOKEN_FRAMES]


def embed_sound(
    expert: SyncExpert, samples: Float[np.ndarray, " S"], frames: int, fps: Fraction | float | int, device: torch.device
) -> Float[Tensor, "frames D"]:
    """The expert's embedding of the 0.2 s that begin with each frame."""
    windows = expert.audio_windows(samples, frames, fps)
    with torch.no_grad():
        return torch.cat([expert.embed_audio(part.to(device)) for part in windows.split(BATCH)])


def own_sound(subject: Subject, data: TrainingData, expert: SyncExpert, runs: Int64[np.ndarray, " n"]) -> Sound:
    """The clip's own sound under its training frames; ``runs`` begin consecutive ones.

    Raises:
        InputError: the subject folder has no sound.
    """
    if not subject.files.audio.is_file():
        raise InputError(f"{subject.files.audio} is missing and the sync loss needs it: set sync.expert=none.")
    samples = load_audio(subject.files.audio)
    embeddings = embed_sound(expert, samples, subject.num_frames, subject.fps, data.device)
    speaking = spoken(samples, subject.num_frames, subject.fps)[data.indices]
    rows = torch.from_numpy(data.indices).to(data.device)
    return Sound(data.conditions.audio, embeddings[rows], voiced(runs, speaking, frame_steps(subject.fps)))


def other_sound(
    samples: Float[np.ndarray, " S"],
    features: str,
    expert: SyncExpert,
    fps: Fraction | float | int,
    device: torch.device,
) -> Sound | None:
    """Speech without images; None where it has no window.

    Raises:
        InputError: features that cannot be computed here.
    """
    try:
        features_of = feature_track(samples, features)
    except InputError as error:
        raise InputError(f"{error} To train with the clip's own sound alone, set sync.speech=none.") from None
    frames, steps = features_of.num_frames(fps), frame_steps(fps)
    starts = voiced(np.arange(max(frames - int(steps[-1]), 0)), spoken(samples, frames, fps), steps)
    if len(starts) == 0:
        return None
    values = torch.from_numpy(features_of.frames(np.arange(frames), fps)).to(device)
    return Sound(audio_windows(values), embed_sound(expert, samples, frames, fps, device), starts)


def speech(settings: SyncConfig, folder: Path, fresh: bool) -> Iterator[Float[np.ndarray, " S"]]:
    """The recordings that ``settings`` ask for, one after another (paper S5).

    Synthesised speech is kept in ``folder`` and read from there when a run goes on: espeak-ng never repeats a sentence
    exactly.

    Args:
        folder: the run folder.
        fresh: synthesise it again.

    Raises:
        InputError: the synthesizer is not installed, or a language or the folder cannot be used.
    """
    if settings.speech == "none":
        return
    synthesizer, kept = open_synthesizer(settings.speech), folder / "speech"
    if isinstance(synthesizer, Recordings):  # Recordings do not depend on the language.
        yield from (each.samples for each in curated_speech(synthesizer, settings.language_list[0]))
        return
    if fresh or not kept.is_dir():
        scratch = folder / "speech.part"
        for old in (kept, scratch):
            shutil.rmtree(old, ignore_errors=True)
        scratch.mkdir(parents=True)
        made = (
            each
            for language in settings.language_list
            for each in curated_speech(synthesizer, language, takes=settings.takes)
        )
        for number, each in enumerate(track(made, "say sentences")):
            save_wav(scratch / f"{number:04d}.wav", each.samples)
        scratch.rename(kept)
    yield from (load_audio(path) for path in sorted(kept.glob("*.wav")))


class WindowSource:
    """Draws windows: of the clip's own sound, or of other speech with pose and action units from a run of the clip."""

    def __init__(
        self,
        subject: Subject,
        data: TrainingData,
        expert: SyncExpert,
        features: str,
        settings: SyncConfig,
        folder: Path,
        fresh: bool,
    ) -> None:
        """Load and embed all audio; ``folder`` and ``fresh`` as in :func:`speech`.

        Raises:
            InputError: the sound or the speech cannot be used, or there are no five consecutive frames.
        """
        steps = frame_steps(subject.fps)
        self._steps = torch.from_numpy(steps).to(data.device)
        self._runs = consecutive(data, int(steps[-1]))
        if len(self._runs) == 0:
            raise InputError(
                f"{subject.files.root} has no five consecutive training frames with a face, which the sync loss "
                "needs: set sync.expert=none."
            )
        self._own = own_sound(subject, data, expert, self._runs)
        self._own_share = settings.original_share
        made = (
            other_sound(samples, features, expert, subject.fps, data.device)
            for samples in speech(settings, folder, fresh)
        )
        self._others = [sound for sound in made if sound is not None]
        self._ends = np.cumsum([len(sound.starts) for sound in self._others])
        if not self._others and settings.speech != "none":
            raise InputError(f"no speech of '{settings.speech}' lasts five frames: set sync.speech=none.")
        if not self._others and len(self._own.starts) == 0:
            raise InputError(f"nothing is heard in {subject.files.audio}: set sync.expert=none.")

    @property
    def counts(self) -> tuple[int, int]:
        """Windows of the clip's own sound, and of other speech."""
        return len(self._own.starts), int(self._ends[-1]) if len(self._ends) else 0

    def has_own(self) -> bool:
        """True where the clip's own sound has windows."""
        return len(self._own.starts) > 0

    def draw(self, generator: torch.Generator, *, own: bool = False) -> SyncWindow:
        """A window; ``own``: of the clip's own sound (it must have some)."""
        own = own or not self._others
        if not own and self.has_own():
            own = float(torch.rand(1, generator=generator)) < self._own_share
        if own:
            start = int(self._own.starts[random_index(len(self._own.starts), generator)])
            return self._window(self._own, start, start)
        pick = random_index(int(self._ends[-1]), generator)
        number = int(np.searchsorted(self._ends, pick, side="right"))
        sound = self._others[number]
        run = int(self._runs[random_index(len(self._runs), generator)])
        return self._window(sound, int(sound.starts[pick - self._ends[number]]), run)

    def _window(self, sound: Sound, start: int, row: int) -> SyncWindow:
        steps = self._steps
        return SyncWindow(row + steps, sound.audio[start + steps], sound.embeddings[start : start + 1])
