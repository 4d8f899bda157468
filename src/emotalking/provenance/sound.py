"""An inaudible mark in synthesised speech, by resemble-perth (extra ``audio-mark``); a person's voice is left alone.

It says that speech was marked by that package, and not by whom.
"""

import importlib.util
import io
import logging
from contextlib import redirect_stdout
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.reading import reason

_STEP = SAMPLE_RATE // 100
"""Samples of a step of its spectrogram (320 at 32 kHz): of other lengths, the end would be missing."""
_SHORTEST = 20 * _STEP
"""Samples that its window and the reflection at both ends need."""
_PIECE, _FADE = 60 * SAMPLE_RATE, SAMPLE_RATE // 4
"""Samples of a piece, and of the cross-fade into the next one: the memory does not grow with the length."""
_logger = logging.getLogger("emotalking")


@runtime_checkable
class _Marker(Protocol):
    def apply_watermark(self, signal: np.ndarray, sample_rate: int) -> np.ndarray: ...


def mark_speech(samples: Float[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Mark synthesised speech, 16 kHz mono in [-1, 1]; unchanged where resemble-perth is not installed."""
    samples, marker = np.asarray(samples, np.float32), _marker()
    if marker is None or not len(samples):
        return samples
    marked = np.zeros_like(samples)
    for start in range(0, len(samples), _PIECE):
        begin = max(start - _FADE, 0)
        piece = _marked(marker, samples[begin : start + _PIECE])
        fade = np.linspace(0.0, 1.0, start - begin, dtype=np.float32)
        marked[begin:start] += fade * (piece[: start - begin] - marked[begin:start])
        marked[start : start + _PIECE] = piece[start - begin :]
    return marked.clip(-1.0, 1.0)


def _marked(marker: _Marker, samples: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """A piece with the mark, of the same length."""
    more = max(-len(samples) % _STEP + _STEP, _SHORTEST - len(samples))
    made = marker.apply_watermark(np.pad(samples, (0, more)), sample_rate=SAMPLE_RATE)
    return np.asarray(made, np.float32)[: len(samples)]


@cache
def _marker() -> _Marker | None:
    """The package's network; None, with one warning, if it is installed and cannot be loaded."""
    if importlib.util.find_spec("perth") is None:
        return None
    try:
        # Of the module itself: the package hides what its import lacks.
        from perth.perth_net.perth_net_implicit.perth_watermarker import (  # pyright: ignore[reportMissingImports]
            PerthImplicitWatermarker,
        )

        with redirect_stdout(io.StringIO()):  # it says which file it loaded
            return PerthImplicitWatermarker()
    except Exception as error:  # its parts come from four other packages
        _logger.warning(f"speech is not marked: resemble-perth cannot be loaded ({reason(error)})")
        return None
