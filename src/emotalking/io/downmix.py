"""Channels of decoded sound to mono."""

from functools import cache

import av
import numpy as np
from av import AudioFrame
from jaxtyping import Float, Float32, Shaped

_OPPOSED = -0.9
"""Correlation below which a channel is the inverse of another one: the mean would cancel the voice."""
_PHASE_MEMORY_S = 1.0
_MOST_PLANES = 8
"""PyAV (18.1) reads beyond the planes of a frame that has so many."""
_UNNAMED = "channels"
"""FFmpeg's name of a layout that the file does not give ends with this."""


class Mixer:
    """Mix channels to mono.

    A layout of more than two channels is mixed as FFmpeg does, with dialogue (the centre) at its level; two channels,
    and those without a layout, give their mean, each with the sign that does not cancel the first audible one.
    """

    def __init__(self) -> None:
        self._products = np.zeros((0, 0))
        """Sums of products of the channels over about the last second."""

    def __call__(self, frame: AudioFrame) -> Float[np.ndarray, " n"]:
        """Mono of a decoded frame of any sample format, float32 in [-1, 1]."""
        channels = _channels(frame)
        if len(channels) == 1:
            return channels[0]
        if (weights := downmix_weights(frame)) is not None:
            return weights @ channels
        if len(self._products) != len(channels):
            self._products = np.zeros((len(channels), len(channels)))
        # Samples that are no numbers are refused further on.
        with np.errstate(invalid="ignore", over="ignore"):
            memory = np.exp(-channels.shape[1] / frame.sample_rate / _PHASE_MEMORY_S)
            wide = channels.astype(np.float64)
            self._products = memory * self._products + wide @ wide.T
            power = np.diag(self._products)
            first = int((power >= 0.1 * power.max()).argmax())
            opposed = self._products[first] < _OPPOSED * np.sqrt(power[first] * power)
            return np.where(opposed[:, None], -channels, channels).mean(0, dtype=np.float32)


def _channels(frame: AudioFrame) -> Float[np.ndarray, "channels n"]:
    """Samples of a decoded frame of any format, float32 in [-1, 1]."""
    if frame.format.is_planar and frame.layout.nb_channels >= _MOST_PLANES:
        packed = av.AudioResampler(format=frame.format.packed.name, layout=frame.layout, rate=frame.sample_rate)
        (frame,) = packed.resample(frame)
    data: Shaped[np.ndarray, "rows columns"] = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(data.dtype, np.integer):
        return (data / -float(np.iinfo(data.dtype).min)).astype(np.float32)
    return data.astype(np.float32)


def downmix_weights(frame: AudioFrame) -> Float32[np.ndarray, " channels"] | None:
    """Weights of the channels of a frame with a layout of more than two; None: no such layout."""
    layout = frame.layout
    if layout.nb_channels <= 2 or layout.name.endswith(_UNNAMED):
        return None
    return _weights(layout.name, layout.nb_channels)


@cache
def _weights(layout: str, count: int) -> Float32[np.ndarray, " channels"]:
    """FFmpeg's matrix (libswresample, floating point), from an impulse in each channel."""
    weights = np.zeros(count, np.float32)
    for channel in range(count):
        impulse = np.zeros((64, count), np.float32)
        impulse[:, channel] = 1.0
        frame = av.AudioFrame.from_ndarray(impulse.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = 48000
        mixed = av.AudioResampler(format="fltp", layout="mono", rate=48000).resample(frame)
        weights[channel] = mixed[0].to_ndarray()[0, 32]
    return weights if weights.any() else np.full(count, 1 / count, np.float32)
