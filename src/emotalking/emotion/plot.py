"""Files of an emotion over time: keyframes, or a plot above the sound."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.files import write_bytes
from emotalking.report.plots import COLOURS, Plot

_COLUMNS = 2000
"""Points of a curve, and columns of the wave."""


def check_emotion_file(path: str | Path) -> None:
    """Refuse a file that :func:`write_emotion` cannot write.

    Raises:
        InputError: its ending is another.
    """
    if Path(path).suffix.lower() not in (".csv", ".png"):
        raise InputError(f"an emotion cannot be written to {path}: let it end in .csv (keyframes) or .png (plot).")


def write_emotion(path: str | Path, track: EmotionTrack, samples: Float[np.ndarray, " n"]) -> None:
    """Write the keyframes of ``track`` (.csv), or a plot of it above the speech (.png).

    Args:
        samples: the speech, 16 kHz mono.

    Raises:
        InputError: another ending.
    """
    check_emotion_file(path)
    if Path(path).suffix.lower() == ".csv":
        track.write(Path(path))
    else:
        write_bytes(Path(path), emotion_plot(track, samples).png())


def emotion_plot(track: EmotionTrack, samples: Float[np.ndarray, " n"]) -> Plot:
    """Valence and arousal above the wave (16 kHz mono) on one time axis."""
    seconds = max(len(samples) / SAMPLE_RATE, 1e-3)
    times = np.linspace(0.0, seconds, _COLUMNS)
    plot = Plot(rows=2, height=3.6, sharex=True, height_ratios=(3, 1))
    curves, wave = plot.axes
    for name, values, colour in zip(("valence", "arousal"), track.at(times).T, COLOURS, strict=False):
        curves.plot(times, values, color=colour, label=name)
    curves.set(ylim=(-1.05, 1.05), xlim=(0.0, seconds))
    curves.axhline(0.0, color="#9aa3b2", linewidth=0.8)
    curves.legend(ncols=2)
    pieces = np.array_split(np.append(samples, np.float32(0)), min(_COLUMNS, len(samples) + 1))
    lows, highs = (np.array([extreme(piece) for piece in pieces]) for extreme in (np.min, np.max))
    wave.fill_between(np.linspace(0.0, seconds, len(pieces)), lows, highs, color=COLOURS[0], linewidth=0)
    wave.set(xlabel="seconds", yticks=())
    return plot
