"""Pitch, powers and phones of every 20 ms."""

from importlib.util import find_spec

import numpy as np
import pytest

from emotalking.audio.prosody import HIGH, LOW, PHONE, SEMITONES, VOICING, acoustics, prosody

needs_hama = pytest.mark.skipif(find_spec("hama") is None, reason="the package hama is not installed")


def harmonics(hz: float, seconds: float = 1.0, first: int = 1, falls: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * 16000)) / 16000
    tones = (np.sin(2 * np.pi * k * hz * t) / k**falls for k in range(first, int(7000 / hz)))
    return (0.05 * sum(tones)).astype(np.float32)


@pytest.mark.parametrize("hz", [75.0, 98.0, 131.0, 220.0, 415.0, 560.0])
@pytest.mark.parametrize("band", ["whole", "telephone"])
def test_pitch(hz: float, band: str) -> None:
    sound = harmonics(hz, first=1 if band == "whole" else int(np.ceil(300 / hz)))
    rows = acoustics(sound)[5:-5]
    assert np.abs(rows[:, SEMITONES] - 12 * np.log2(hz / 100)).max() < 0.2
    assert rows[:, VOICING].min() > 0.5


def test_noise_and_silence_are_not_voiced() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    assert np.median(acoustics(noise)[:, VOICING]) < 0.3
    silent = acoustics(np.zeros(16000, np.float32))
    assert np.isfinite(silent).all() and silent[:, [LOW, HIGH, VOICING]].max() == 0


def test_powers_are_those_of_tones() -> None:
    t = np.arange(16000) / 16000
    sound = (0.2 * np.sin(2 * np.pi * 600 * t) + 0.1 * np.sin(2 * np.pi * 2000 * t)).astype(np.float32)
    rows = acoustics(sound)[5:-5]
    np.testing.assert_allclose(rows[:, LOW], 0.2**2 / 2, rtol=0.02)
    np.testing.assert_allclose(rows[:, HIGH], 0.1**2 / 2, rtol=0.02)


@needs_hama
def test_pieces_do_not_matter_and_phones_are_few() -> None:
    sound = harmonics(130.0, 25.0) * np.maximum(0, np.sin(np.arange(400_000) / 1000)).astype(np.float32)
    whole, cut = prosody([sound]), prosody(np.array_split(sound, 37))
    np.testing.assert_array_equal(whole, cut)
    assert len(whole) == 1250 and whole.dtype == np.float32
    assert set(np.unique(whole[:, PHONE])) == {0.0, 1.0}
    assert 0 < whole[:, PHONE].mean() < 0.5


@needs_hama
@pytest.mark.parametrize("length", [0, 1, 100, 320, 1000])
def test_short_sounds(length: int) -> None:
    assert prosody([np.zeros(length, np.float32)]).shape == (-(-length // 320), 5)
