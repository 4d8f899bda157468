"""Speech as it is otherwise heard: by telephone, in noise, too soft or too loud, on another pitch."""

import numpy as np
from scipy.linalg import solve_toeplitz
from scipy.signal import butter, lfilter, resample_poly, sosfiltfilt

from emotalking.io.audio import SAMPLE_RATE


def vocoded(samples: np.ndarray, pitch_hz: float | np.ndarray, order: int = 18) -> np.ndarray:
    """Spectral envelope and level of windows of 30 ms, every 10 ms, on a pulse train of this pitch."""
    hop, window = SAMPLE_RATE // 100, np.hanning(3 * SAMPLE_RATE // 100)
    phase = np.cumsum(np.broadcast_to(np.asarray(pitch_hz), len(samples)) / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0) + 0.01 * np.random.default_rng(0).normal(size=len(samples))
    made, state = np.zeros(len(samples), np.float32), np.zeros(order)
    for begin in range(0, len(samples) - len(window), hop):
        power = np.abs(np.fft.rfft(samples[begin : begin + len(window)] * window, 2 * len(window))) ** 2
        row = np.fft.irfft(power)[: order + 1]
        row[0] = 1.0001 * row[0] + 1e-7
        weights = solve_toeplitz(row[:-1], row[1:])
        piece, state = lfilter([1.0], np.r_[1.0, -weights], pulses[begin : begin + hop], zi=state)
        here = slice(begin + hop, begin + 2 * hop)  # the middle of the window
        made[here] = piece * np.sqrt((samples[here] ** 2).mean() / max((piece**2).mean(), 1e-12))
    return made


def degraded(samples: np.ndarray) -> dict[str, np.ndarray]:
    """The sound in each of its forms."""
    count, level = len(samples), float(np.sqrt((samples**2).mean()))
    band = sosfiltfilt(butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    at = np.arange(count) / SAMPLE_RATE
    return {
        "clean": samples,
        "telephone band": resample_poly(resample_poly(band, 1, 2), 2, 1)[:count],
        "white noise 10 dB": samples + np.random.default_rng(0).normal(size=count) * level * 10**-0.5,
        "-20 dB": samples * 0.1,
        "+10 dB, clipped": np.clip(samples * 10**0.5, -1, 1),
        "monotone 120 Hz": vocoded(samples, 120.0),
        "sung 110 to 330 Hz": vocoded(samples, 110 * 3 ** (0.5 - 0.5 * np.cos(2 * np.pi * at / 3))),
    }
