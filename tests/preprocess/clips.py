"""Small clips written by the tests."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: Fraction | int = 25,
    seconds_of_sound: float = 0.0,
    sound: np.ndarray | None = None,
    times_ms: list[int] | None = None,
    keyframe_every: int = 250,
    **options: str,
) -> Path:
    """Encode RGB frames nearly without loss, and ``sound`` (16 kHz) or a tone.

    ``times_ms`` gives every frame its own time.
    """
    coding = {"crf": "4", "preset": "ultrafast", "g": str(keyframe_every)}
    with av.open(str(path), "w", options=options) as container:
        frames = list(frames)
        video = container.add_stream("libx264", rate=fps, options=coding)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv444p"
        if times_ms is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        audio = (
            container.add_stream("aac", rate=16000, layout="mono") if seconds_of_sound or sound is not None else None
        )
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(int(16000 * seconds_of_sound)) / 16000)
            tone = tone if sound is None else sound
            for begin in range(0, len(tone), 1024):
                piece = tone[None, begin : begin + 1024].astype(np.float32)
                sound = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = 16000, begin, Fraction(1, 16000)
                container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return path


def grey_frames(count: int, height: int = 64, width: int = 64) -> list[np.ndarray]:
    """Frames that show their number: tens as the grey of the left half, units as that of the right, 20 levels apart."""
    frames = []
    for i in range(count):
        image = np.full((height, width, 3), 30 + 20 * (i // 10), np.uint8)
        image[:, width // 2 :] = 30 + 20 * (i % 10)
        frames.append(image)
    return frames


def number_of(image: np.ndarray) -> int:
    """Inverse of :func:`grey_frames`."""
    half = image.shape[1] // 2
    tens, units = (round((float(part.mean()) - 30) / 20) for part in (image[:, : half - 2], image[:, half + 2 :]))
    return 10 * tens + units
