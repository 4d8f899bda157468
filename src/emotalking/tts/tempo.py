"""Faster and slower speech at the same pitch."""

from dataclasses import replace

import av
import av.error
import numpy as np
from av.filter import Graph
from jaxtyping import Float, Float32

from emotalking.io.audio import SAMPLE_RATE
from emotalking.tts.base import Timed, Utterance

_PIECE = 4096
"""Samples fed at once."""


def change_tempo(samples: Float[np.ndarray, " n"], rate: float) -> Float32[np.ndarray, " m"]:
    """``samples`` (16 kHz mono) played ``rate`` times as fast (0.5 to 100) without a change of pitch.

    FFmpeg's ``atempo``: waveform similarity overlap-add (Verhelst and Roelands 1993).
    """
    graph = Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=None)
    tempo, sink = graph.add("atempo", f"{rate:.6f}"), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    pieces: list[np.ndarray] = []

    def drain() -> None:
        while True:
            try:
                pieces.append(graph.pull().to_ndarray()[0])  # type: ignore[union-attr]
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    for start in range(0, len(samples), _PIECE):
        piece = np.ascontiguousarray(samples[None, start : start + _PIECE], np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        graph.push(frame)
        drain()
    graph.push(None)
    drain()
    return np.concatenate([np.zeros(0, np.float32), *pieces]).clip(-1.0, 1.0)


def at_tempo(utterance: Utterance, rate: float) -> Utterance:
    """The same words ``rate`` times as fast, their times with them."""
    if rate == 1.0:
        return utterance

    def moved(timed: tuple[Timed, ...] | None) -> tuple[Timed, ...] | None:
        return timed and tuple(Timed(each.label, each.start_s / rate, each.end_s / rate) for each in timed)

    return replace(
        utterance,
        samples=change_tempo(utterance.samples, rate),
        words=moved(utterance.words),
        phonemes=moved(utterance.phonemes),
        rate=utterance.rate * rate,
    )
