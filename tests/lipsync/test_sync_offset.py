"""Audio/video offset: known shifts are found, foreign sound is not trusted."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from emotalking.lipsync.offset import TRUSTED, measure_offset
from emotalking.testing.actor.performance import Performance


@cache
def actor_mouth(seconds: float, seed: int, fps: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """Mouth opening [N] (the jaw, less where the lips press) and sound of the actor, exactly in step."""
    script = Performance.generate(seconds, seed, fps)
    mouths = [state.viseme for state in script.states]
    return np.array([mouth.jaw * (1 - mouth.press) for mouth in mouths]), script.waveform


def delayed(samples: np.ndarray, seconds: float) -> np.ndarray:
    """The same sound later by ``seconds``, same length."""
    shift = round(seconds * 16000)
    if shift >= 0:
        return np.concatenate([np.zeros(shift, np.float32), samples])[: len(samples)]
    return np.concatenate([samples[-shift:], np.zeros(-shift, np.float32)])


@pytest.mark.parametrize("frames", [-6, -3, -1, 0, 1, 2, 6])
def test_a_shift_of_frames_is_found(frames: int) -> None:
    mouth, sound = actor_mouth(12.0, 1)
    found = measure_offset(mouth, 25, delayed(sound, frames / 25))
    assert found.seconds == pytest.approx(frames / 25, abs=0.004)  # measured: 0.001
    assert found.confidence > TRUSTED


def test_the_curve_peaks_at_the_shift() -> None:
    mouth, sound = actor_mouth(12.0, 1)
    found = measure_offset(mouth, 25, delayed(sound, 0.1))
    assert found.curve.shape == found.curve_seconds.shape
    assert abs(found.curve_seconds[found.curve.argmax()] - found.seconds) <= 0.02


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), 50.0, 12.5])
def test_other_rates(fps: Fraction | float) -> None:
    mouth, sound = actor_mouth(12.0, 2, float(fps))
    found = measure_offset(mouth, fps, delayed(sound, -0.08))
    assert found.seconds == pytest.approx(-0.08, abs=0.005)
    assert found.confidence > TRUSTED


def test_frames_without_a_face_do_no_harm() -> None:
    mouth, sound = actor_mouth(12.0, 1)
    holes = mouth.copy()
    holes[40:60] = holes[200:210] = np.nan
    assert measure_offset(holes, 25, sound).seconds == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_foreign_sound_is_not_trusted(seed: int) -> None:
    mouth = actor_mouth(12.0, 1)[0]
    assert measure_offset(mouth, 25, actor_mouth(12.0, seed)[1]).confidence < 0.8


def test_nothing_to_compare_gives_no_confidence() -> None:
    mouth, sound = actor_mouth(12.0, 1)
    silence = np.zeros_like(sound)
    for opening, samples in [
        (mouth, silence),
        (np.full(len(mouth), 0.1), sound),
        (mouth[:20], sound[: 20 * 640]),
        (np.full(len(mouth), np.nan), sound),
        (mouth, sound[:0]),
    ]:
        found = measure_offset(opening, 25, samples)
        assert (found.seconds, found.confidence) == (0.0, 0.0)


def test_a_shift_beyond_the_range_is_not_trusted() -> None:
    mouth, sound = actor_mouth(12.0, 1)
    assert measure_offset(mouth, 25, delayed(sound, 1.5)).confidence < TRUSTED


def test_rates_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        measure_offset(np.zeros(50), 0, np.zeros(100, np.float32))
