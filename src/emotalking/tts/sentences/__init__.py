"""Ten sentences a language that together hold its phonemes, to teach the lips.

English: the ten of the paper (section S5). German, French, Spanish and Chinese: our own, written for their phonemes.
"""

from collections.abc import Iterator, Sequence
from importlib import resources

from emotalking.errors import InputError
from emotalking.tts.backends import Recordings
from emotalking.tts.base import Synthesizer, Utterance, base_language

LANGUAGES = ("en", "de", "fr", "es", "zh")
RATES = (1.0, 0.85, 1.15)
VOICES_AT_ONCE = 6


def curated(language: str = "en") -> tuple[str, ...]:
    """The ten sentences of a language ("en-gb" takes those of "en").

    Raises:
        InputError: there is no set for it.
    """
    base = base_language(language)
    if base not in LANGUAGES:
        raise InputError(f"there is no curated set for '{language}': there are {', '.join(LANGUAGES)}.")
    text = resources.files(__name__).joinpath(f"{base}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def curated_speech(
    synthesizer: Synthesizer,
    language: str = "en",
    voices: Sequence[str] | None = None,
    rates: Sequence[float | int] = RATES,
    takes: int = 1,
) -> Iterator[Utterance]:
    """The curated set in several voices at several rates, so that ten sentences are not one voice.

    Args:
        synthesizer: back end; :class:`Recordings` gives what it holds instead.
        language: which set.
        voices: taken in turn; None: the six most different ones.
        rates: taken in turn, shifted from round to round of the voices.
        takes: repetitions of the set; each with other voices and rates for a sentence.

    Raises:
        InputError: no such set, voice or rate.
    """
    if isinstance(synthesizer, Recordings):
        yield from synthesizer.utterances(language)
        return
    sentences = curated(language)
    voices = voices or synthesizer.voices(language)[:VOICES_AT_ONCE]
    for turn in range(takes * len(sentences)):
        voice, lap = voices[turn % len(voices)], turn // len(voices)
        rate = rates[(turn + lap) % len(rates)]
        yield synthesizer.synthesize(sentences[turn % len(sentences)], language=language, voice=voice, rate=rate)
