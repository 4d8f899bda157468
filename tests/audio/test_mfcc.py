"""Cepstra: numbers of python_speech_features, and independence of how the sound is cut into blocks."""

import numpy as np
import pytest

from emotalking.audio import mfcc as room
from emotalking.audio.mfcc import filterbank, log_energies, mfcc, num_steps

# python_speech_features 0.6, mfcc(int16, 16000) of :func:`sweep`, steps 0, 5 and 9 (the last one is filled with zeros).
GOLDEN = {
    0: [
        19.6175, 26.8419, 0.7954, -27.2939, -38.1176, -27.6465, -10.7972,
        -4.9349, -6.7979, -4.9126, 5.9106, 16.1226, 16.5249,
    ],
    5: [
        20.9293, 5.0274, -27.3523, 29.7383, -18.7382, -72.2555, -11.9347,
        -0.1292, -19.6883, 11.4456, 22.6597, 16.8208, 15.7178,
    ],
    9: [
        21.1263, -5.6531, 12.2622, 19.3184, -58.4994, 2.3029, -29.604,
        -31.1996, 28.4915, -10.7262, 22.1885, 23.3729, -5.6126,
    ],
}  # fmt: skip


def sweep() -> np.ndarray:
    """A tone and a rising one, 106 ms."""
    t = np.arange(1700) / 16000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 2500 * t * t * 8)).astype(np.float32)


def test_numbers_of_python_speech_features() -> None:
    found = mfcc(sweep())
    assert found.shape == (10, 13)
    for step, row in GOLDEN.items():
        np.testing.assert_allclose(found[step], row, atol=6e-5)


def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    whole = mfcc(sound)
    monkeypatch.setattr(room, "_BLOCK", 7)
    np.testing.assert_allclose(mfcc(sound), whole, atol=1e-9)


@pytest.mark.parametrize(("samples", "steps"), [(0, 1), (1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_every_sample_is_under_a_window(samples: int, steps: int) -> None:
    assert num_steps(samples) == steps == len(mfcc(np.zeros(samples, np.float32)))


def test_silence_and_full_scale_are_finite() -> None:
    for sound in (np.zeros(800, np.float32), np.ones(800, np.float32), -np.ones(800, np.float32)):
        assert np.isfinite(mfcc(sound)).all()


def test_filters() -> None:
    for count in (26, 40):
        bank = filterbank(count)
        assert bank.shape == (count, 257) and bank.min() == 0 and bank.max() == 1 and (bank.sum(1) > 0).all()
    tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(1600) / 16000)).astype(np.float32)
    bands, _ = log_energies(tone, 40, np.hanning(400))
    assert abs(int(filterbank(40)[bands[4].argmax()].argmax()) * 16000 / 512 - 1000) < 60
