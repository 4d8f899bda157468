"""The actor says real words: any synthesizer's sound, with his mouth at its phonemes' times."""

from itertools import pairwise

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.testing import demo
from emotalking.testing.actor import Performance
from emotalking.testing.actor.speech import PAUSE, PHONEMES
from emotalking.testing.actor.spoken import NEAREST, segments_of, spoken
from emotalking.tts.base import TimedLabel, Utterance
from emotalking.tts.phonemes import inventory


class Bee:
    """Says "bee" from 0.3 to 0.6 s of a second: a hum that is loud in the vowel."""

    def __init__(self, known: bool = True) -> None:
        self._known = known

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        loud = np.where((time >= 0.4) & (time < 0.6), 0.5, 0.0)
        sounds = (TimedLabel("b", 0.3, 0.4), TimedLabel("aɪ", 0.4, 0.6))
        samples = (loud * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
        return Utterance(text, language, "bee", samples, sounds, sounds if self._known else None, float(rate))

    def voices(self, language: str = "en") -> tuple[str, ...]:
        return ("bee",)

    def languages(self) -> tuple[str, ...]:
        return ("en",)


def test_every_phoneme_of_english_has_sounds_of_the_actor() -> None:
    assert set(NEAREST) == set(inventory("en").phonemes)
    assert all(name in PHONEMES for names in NEAREST.values() for name in names.split())


def test_sounds_follow_the_phonemes_and_pauses_fill_the_rest() -> None:
    own = segments_of(Bee().synthesize("bye"))
    assert [each.phoneme for each in own] == [PAUSE, "B", "AA", "IH", PAUSE]
    assert [each.start for each in own] == pytest.approx([0.0, 0.3, 0.4, 0.5, 0.6])
    assert own[-1].end == 1.0


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.44])
def test_a_text_is_cut_or_said_again_to_the_length_that_is_asked_for(seconds: float) -> None:
    part = spoken("bye", seconds, Bee())
    assert len(part.waveform) == round(seconds * SAMPLE_RATE)
    assert part.segments[0].start == 0.0 and part.segments[-1].end == seconds
    assert all(before.end == pytest.approx(after.start) for before, after in pairwise(part.segments))
    assert part.waveform[-1] == 0.0


def test_the_mouth_is_shut_in_the_b_and_open_where_the_vowel_is_heard() -> None:
    take = Performance.generate(2.0, seed=3, speech=spoken("bye", 2.0, Bee()))
    mouth = np.array([state.viseme.array() for state in take.states])
    opening = mouth[:, 0] * (1.0 - mouth[:, 3])
    loud = np.sqrt((take.waveform.reshape(50, -1) ** 2).mean(1)) > 0.1
    assert loud.tolist() == [10 <= frame % 25 < 15 for frame in range(50)]
    assert opening[[11, 36]].min() > 0.5 and opening[[8, 33, 22, 47]].max() < 0.1
    babbling = Performance.generate(2.0, seed=3)
    assert all(np.array_equal(a.viewmat, b.viewmat) for a, b in zip(take.states, babbling.states, strict=True))


def test_a_voice_without_times_is_refused() -> None:
    with pytest.raises(InputError, match="does not tell the times of its phonemes"):
        spoken("bye", 1.0, Bee(known=False))


def test_the_demos_texts_fill_its_clips() -> None:
    assert len(demo.CLIP_TEXT.split()) > 2.0 * demo.CLIP_SECONDS and len(demo.SPEECH_TEXT.split()) > 20
