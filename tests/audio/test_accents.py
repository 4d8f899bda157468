"""Accents of speech."""

import numpy as np

from emotalking.audio.accents import DELAY_S, Accent, Accents, AccentStream, DelayedAccents

STRESSED = (2.25, 4.25, 6.25)


def syllables(seconds: float = 8.0) -> np.ndarray:
    """Two syllables a second; those in `STRESSED` are louder and higher."""
    t = np.arange(int(seconds * 16000)) / 16000
    stress = sum(np.exp(-(((t - time) / 0.12) ** 2)) for time in STRESSED)
    phase = np.cumsum(120 * 2 ** (4 * stress / 12)) / 16000
    voice = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 25))
    loud = np.maximum(0.0, np.sin(2 * np.pi * 2 * t)) * (1 + 1.5 * stress)
    return (0.05 * loud * voice + 1e-5 * np.random.default_rng(0).normal(size=len(t))).astype(np.float32)


def test_stressed_syllables_are_the_strongest() -> None:
    found = AccentStream().push(syllables())
    strong = [accent.time_s for accent in found if accent.strength > 0.6]
    assert len(strong) == len(STRESSED)
    np.testing.assert_allclose(strong, STRESSED, atol=0.12)
    assert all(0 < accent.strength <= 1 for accent in found)


def test_pieces_do_not_matter_and_accents_come_soon() -> None:
    sound = syllables()
    stream, found = AccentStream(), []
    for begin in range(0, len(sound), 320):
        new = stream.push(sound[begin : begin + 320])
        assert all((begin + 320) / 16000 - accent.time_s <= DELAY_S + 0.02 for accent in new)
        found += new
    assert found == AccentStream().push(sound)
    recording = Accents(np.array_split(sound, 11))
    asked = [accent for frame in range(210) for accent in recording.until(0.04 * (frame + 1))]
    assert asked == found


def test_sound_that_comes_earlier_is_held_back() -> None:
    sound = syllables()
    plain, delayed = AccentStream(), DelayedAccents(0.4, 25.0)
    when: dict[Accent, int] = {}
    later: dict[Accent, int] = {}
    for frame in range(230):
        piece = sound[640 * frame : 640 * (frame + 1)]
        when |= dict.fromkeys(plain.push(piece), frame)
        later |= dict.fromkeys(delayed.step(piece), frame)
    assert list(later) == list(when) and len(when) >= 3
    assert {later[accent] - when[accent] for accent in when} == {10}
    delayed.step(sound)
    delayed.forget()
    assert delayed.step(sound[:0]) == []


def test_noise_and_silence_have_none() -> None:
    assert AccentStream().push(np.zeros(32000, np.float32)) == []
    assert AccentStream().push(np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)) == []
    assert Accents([]).until(1.0) == []
