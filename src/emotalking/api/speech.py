"""Speech from text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.errors import InputError
from emotalking.io.outputs import checked
from emotalking.options import Language, Overwrite, PathLike, Provenance, Rate, Speaker, Voice, Writes

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32

    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.io.files import Finish
    from emotalking.tts.base import Utterance
    from emotalking.tts.phonemes import Coverage


@checked
def synthesize(
    text: str,
    output: Annotated[PathLike | None, Writes("sound")] = None,
    *,
    times: Annotated[PathLike | None, Writes("times")] = None,
    emotion_file: Annotated[PathLike | None, Writes("emotion")] = None,
    overwrite: Overwrite = False,
    language: Language = "en",
    voice: Voice = None,
    rate: Rate = 1,
    speaker: Speaker = "auto",
    provenance: Provenance = "on",
) -> "Utterance":
    """Synthesize speech from text, with the times of its words and phonemes.

    Args:
        text: what to say; emotions in it ("[happy] Hello! [sad:0.6] I must go") are not said.
        output: .wav file to write.
        times: file to write the times of words and phonemes to: .json or .TextGrid (Praat).
        emotion_file: write the text's emotions over time: keyframes for 'render --track' (.csv), or a plot (.png).

    Raises:
        InputError: speaker, language, voice, rate or text cannot be used, or the times are not known.
    """
    from emotalking.emotion.plot import check_emotion_file, write_emotion
    from emotalking.io.audio import save_wav
    from emotalking.tts.timing import check_ending, write_times

    if output is not None and Path(output).suffix.lower() != ".wav":
        raise InputError(f"speech cannot be written to {output}: let it end in .wav.")
    if times is not None:
        check_ending(Path(times))
    if emotion_file is not None:
        check_emotion_file(emotion_file)
    utterance, emotion = speech_with_emotion(text, language=language, voice=voice, rate=rate, speaker=speaker)
    if emotion_file is not None:
        if emotion is None:
            raise InputError(f"the text has no emotions in brackets, so that {emotion_file} was not written.")
        write_emotion(emotion_file, emotion, utterance.samples)
    finish = None if output is None else _finish(output, utterance, provenance)
    if times is not None:
        write_times(times, utterance)
    if output is not None:
        save_wav(output, _sound(utterance, provenance), finish=finish)
    return utterance


def speech_with_emotion(
    text: str, *, language: str, voice: str | None, rate: float | int, speaker: PathLike
) -> "tuple[Utterance, EmotionTrack | None]":
    """Speech from text, and the emotions of the tags in it; None without tags."""
    from emotalking.emotion.tags import parse_tags, tagged_track
    from emotalking.tts.backends import open_synthesizer

    plain, tags = parse_tags(text)
    utterance = open_synthesizer(speaker).synthesize(plain, language=language, voice=voice, rate=rate)
    return utterance, tagged_track(tags, utterance)


@checked
def synthesize_sentences(
    output: Annotated[PathLike, Writes("sentences")],
    *,
    language: Language = "en",
    voices: tuple[str, ...] = (),
    rates: tuple[float | int, ...] = (),
    takes: int = 1,
    speaker: Speaker = "auto",
    provenance: Provenance = "on",
) -> "list[Utterance]":
    """Synthesize the ten curated sentences of a language in many voices.

    Args:
        output: folder for the sentences: sound (.wav), words (.txt) and times (.json) of each.
        language: language of the sentences: en, de, fr, es, zh.
        voices: taken in turn; none: the speaker's six most different ones.
        rates: speaking rates taken in turn; none: several around the normal one.
        takes: repetitions of the set, in other voices each time.

    Raises:
        InputError: no such set, voice or rate, or ``output`` is a file.
    """
    from emotalking.progress import track
    from emotalking.tts.backends import open_synthesizer, write_recording
    from emotalking.tts.sentences import RATES, curated, curated_speech

    if Path(output).is_file():
        raise InputError(f"the curated set is ten files and more, and {output} is a file: give a folder.")
    if takes < 1:
        raise InputError(f"takes is {takes}: expected at least 1.")
    synthesized: list[Utterance] = []
    utterances: Iterator[Utterance] = curated_speech(open_synthesizer(speaker), language, voices, rates or RATES, takes)
    for number, utterance in enumerate(track(utterances, "tts", len(curated(language)) * takes), 1):
        path = Path(output) / f"{number:02d}_{utterance.voice}_{round(100 * utterance.rate)}.wav"
        marked = replace(utterance, samples=_sound(utterance, provenance))
        write_recording(path, marked, finish=_finish(path, utterance, provenance))
        synthesized.append(utterance)
    return synthesized


def _finish(output: PathLike, utterance: "Utterance", provenance: Provenance) -> "Finish | None":
    """Last step of a sound file; None: a person spoke, so that nothing in it is synthetic."""
    from emotalking.provenance.manifest import Origin
    from emotalking.provenance.signing import finisher

    if utterance.made == "recorded":
        return None
    kind = "trainedAlgorithmicMedia" if utterance.made == "trained" else "algorithmicMedia"
    return finisher(output, Origin(kind, licences=utterance.licences), provenance)


def _sound(utterance: "Utterance", provenance: Provenance) -> "Float32[np.ndarray, ' n']":
    """The samples that are written: synthesised speech is marked where that is installed."""
    from emotalking.provenance.sound import mark_speech

    wanted = provenance == "on" and utterance.made != "recorded"
    return mark_speech(utterance.samples) if wanted else utterance.samples


@checked
def phoneme_coverage(
    *,
    language: Language = "en",
    page: Annotated[PathLike | None, Writes("html page")] = None,
    overwrite: Overwrite = False,
    speaker: Speaker = "auto",
) -> "Coverage":
    """Count the phonemes that the ten curated sentences of a language hold.

    Args:
        page: HTML page with bars to write.

    Raises:
        InputError: no phoneme inventory or curated set of the language.
    """
    from emotalking.tts.backends import open_synthesizer
    from emotalking.tts.phonemes import coverage, coverage_page, inventory
    from emotalking.tts.sentences import curated_speech

    phonemes = inventory(language)
    utterances = list(curated_speech(open_synthesizer(speaker), language))
    covered = coverage(utterances, phonemes)
    if page is not None:
        coverage_page(covered, utterances).write(Path(page))
    return covered


@checked
def list_voices(*, language: Language = "en", speaker: Speaker = "auto") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the voices and languages of a speech synthesizer.

    Returns:
        Voices of the language; languages of the speaker, empty where it cannot tell.

    Raises:
        InputError: the speaker or the language cannot be used.
    """
    from emotalking.tts.backends import open_synthesizer

    opened = open_synthesizer(speaker)
    return opened.voices(language), opened.languages()
