"""The sound of a subject: cut to its frames, in step with the mouth, in memory that does not grow with the clip."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from emotalking.io.audio import SAMPLE_RATE, iter_audio
from emotalking.io.files import replacing
from emotalking.preprocess.timeline import Timeline


def cut_sound(clip: str | Path, timeline: Timeline, late_s: float = 0.0) -> Float[np.ndarray, " S"]:
    """The sound from the subject's first frame to its last, 16 kHz; see :func:`write_sound`."""
    samples = np.zeros(_wanted(timeline), np.float32)
    done = 0
    for chunk in _pieces(clip, timeline, late_s):
        samples[done : done + len(chunk)] = chunk
        done += len(chunk)
    return samples


def write_sound(path: Path, clip: str | Path, timeline: Timeline, late_s: float = 0.0) -> float:
    """Write ``aud.wav`` (16 kHz mono int16): sample n is heard n / 16000 s after the first frame is shown.

    Damaged sound is silence of the same length, and so is what lies before or behind the clip's sound.

    Args:
        path: the file.
        clip: its sound is taken.
        timeline: the subject's frames.
        late_s: the clip's sound is moved earlier by this much.

    Returns:
        Seconds of silence added at the end.
    """
    wanted, done = _wanted(timeline), 0
    with replacing(path) as scratch, soundfile.SoundFile(
        scratch, "w", SAMPLE_RATE, 1, "PCM_16", format="WAV"
    ) as file:  # fmt: skip
        for chunk in _pieces(clip, timeline, late_s):
            file.write(np.round(np.clip(chunk, -1, 1) * 32767).astype(np.int16))
            done += len(chunk)
        for begin in range(done, wanted, SAMPLE_RATE):
            file.write(np.zeros(min(SAMPLE_RATE, wanted - begin), np.int16))
    return round((wanted - done) / SAMPLE_RATE, 3)


def _wanted(timeline: Timeline) -> int:
    """Samples that the frames last."""
    return round(len(timeline.pictures) * SAMPLE_RATE / timeline.fps)


def _pieces(clip: str | Path, timeline: Timeline, late_s: float) -> Iterator[Float[np.ndarray, " n"]]:
    """The sound from the first frame on, at most as much as the frames last."""
    left = _wanted(timeline)
    for chunk in iter_audio(clip, start=timeline.begin_s + late_s, strict=False):
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
