"""The seeded take: speech that fits the mouth, head motion, blinks, determinism."""

import numpy as np
import pytest

from emotalking.testing.actor import Performance
from emotalking.testing.actor.speech import PAUSE, PHONEMES, SAMPLE_RATE_HZ, babble, synthesize, viseme_curves


def test_segments_cover_the_time_without_gap() -> None:
    segments = babble(5.0, 7)
    assert segments[0].start == 0 and segments[-1].end == 5.0
    assert all(a.end == b.start for a, b in zip(segments, segments[1:], strict=False))
    assert {s.phoneme for s in babble(60.0, 1)} == set(PHONEMES)
    assert babble(5.0, 7) == segments != babble(5.0, 8)


def test_sound_is_silent_in_pauses_and_loud_in_vowels() -> None:
    segments = babble(6.0, 3)
    sound = synthesize(segments, 3)
    assert len(sound) == 6 * SAMPLE_RATE_HZ and np.abs(sound).max() <= 1
    loud = []
    for segment in segments:
        first, last = (round(t * SAMPLE_RATE_HZ) for t in (segment.start + 0.03, segment.end - 0.01))
        piece = sound[first:last]
        if segment.phoneme == PAUSE:
            assert len(piece) < 200 or np.abs(piece).max() == 0
        elif PHONEMES[segment.phoneme].voice == 1.0:
            loud.append(np.sqrt(np.mean(piece**2)))
    assert min(loud) > 0.01


def test_vowels_have_their_formants() -> None:
    from emotalking.testing.actor.speech import Segment

    def spectrum(vowel: str) -> np.ndarray:
        sound = synthesize((Segment(PAUSE, 0.0, 0.1), Segment(vowel, 0.1, 0.6), Segment(PAUSE, 0.6, 0.7)), 0)
        return np.abs(np.fft.rfft(sound[3200:8000] * np.hanning(4800)))

    hertz = np.fft.rfftfreq(4800, 1 / SAMPLE_RATE_HZ)
    bands = {v: [spectrum(v)[(hertz > f - 150) & (hertz < f + 150)].sum() for f in (800, 2300)] for v in ("AA", "IY")}
    assert bands["AA"][0] > 3 * bands["AA"][1] and bands["IY"][1] > bands["IY"][0]


def test_mouth_curves_are_smooth_and_hit_their_targets() -> None:
    segments = babble(8.0, 5)
    times = np.arange(0, 8, 0.01)
    curves = viseme_curves(segments, times)
    assert curves[:, 0].min() >= 0 and curves[:, 0].max() <= 1
    assert np.abs(np.diff(curves, axis=0)).max() < 0.35
    for segment in segments:
        middle = viseme_curves(segments, np.array([0.5 * (segment.start + segment.end)]))[0]
        if segment.phoneme in ("M", "B", "P"):
            assert middle[3] > 0.7
        if segment.phoneme == PAUSE and segment.end - segment.start > 0.3:
            assert middle[0] < 0.05
        if segment.phoneme == "AA":
            assert middle[0] > 0.35


def test_take_is_deterministic_and_moves_like_a_talker() -> None:
    take, again, other = (Performance.generate(6.0, seed) for seed in (1, 1, 2))
    assert len(take.states) == 150 and len(take.waveform) == 6 * SAMPLE_RATE_HZ
    np.testing.assert_array_equal(take.waveform, again.waveform)
    assert all(
        (a.viewmat == b.viewmat).all() and a.aus == b.aus for a, b in zip(take.states, again.states, strict=True)
    )
    assert (take.states[10].viewmat != other.states[10].viewmat).any()
    blink = np.array([s.aus["AU45"] for s in take.states])
    assert blink.max() > 1.6 and np.median(blink) < 0.1
    yaw = np.array([np.arcsin(-s.viewmat[2, 0]) for s in take.states])
    assert 0.02 < yaw.std() < 0.3 and np.abs(np.diff(yaw)).max() < 0.03
    assert np.abs([s.valence for s in take.states]).max() < 0.5


def test_empty_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="seconds"):
        Performance.generate(0.0)
