"""A folder of recordings as a speech synthesizer: sound files, each with its words in a ``.txt`` of the same name."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emotalking.errors import UserError
from emotalking.io.audio import load_audio, save_wav
from emotalking.io.files import write_bytes
from emotalking.tts.base import Utterance, check_rate, choose_voice, normalize_text
from emotalking.tts.times import read_times, write_times
from emotalking.tts.timing import align, at_tempo

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
LONGEST_TEXT_FILE = 1_000_000
"""Bytes; a longer ``.txt`` is no transcript."""


class Recordings:
    """The recordings of a folder.

    Times of words and phonemes come from a ``.json`` of the same name (:mod:`emotalking.tts.times`), else from
    alignment with espeak-ng's speech of the ``.txt`` where that is installed, else they are not known.

    Args:
        folder: sound files, and for each a ``.txt`` where its words are known.

    Raises:
        UserError: no sound file in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = tuple(sorted(path for path in self.folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES))
        if not self.files:
            raise UserError(f"the folder {folder} has no sound file ({', '.join(AUDIO_SUFFIXES)}): add some.")

    def utterances(self, language: str = "en") -> Iterator[Utterance]:
        """Every recording, in the order of the names.

        Args:
            language: of the words; a ``.json`` next to a file takes precedence.

        Raises:
            UserError: a file that cannot be read.
        """
        for path in self.files:
            yield self._utterance(path, language)

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """See ``Synthesizer.synthesize``: the recording whose words, or whose name, ``text`` is."""
        plain, pace = _comparable(normalize_text(text)), check_rate(rate)
        choose_voice(voice, self.voices(language), language)
        for path in self.files:
            if plain in (_comparable(_words(path)), _comparable(path.stem)):
                return at_tempo(self._utterance(path, language), pace)
        names = ", ".join(path.stem for path in self.files[:6])
        raise UserError(
            f"no recording in {self.folder} has the words {text[:40]!r}: give the words or the name of one ({names})."
        )

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """One: the folder's name."""
        return (self.folder.resolve().name,)

    def languages(self) -> tuple[str, ...]:
        """None: the language of a recording is not known."""
        return ()

    def _utterance(self, path: Path, language: str) -> Utterance:
        samples, voice = load_audio(path), self.voices()[0]
        known = path.with_suffix(".json")
        if known.is_file():
            return replace(read_times(known, samples), voice=voice)
        text = _words(path)
        return align(Utterance(text, language, voice, samples, None, None))


def write_recording(path: Path, utterance: Utterance) -> None:
    """Write an utterance for :class:`Recordings`: ``path`` (.wav), its words (.txt) and, if known, times (.json)."""
    save_wav(path, utterance.samples)
    write_bytes(path.with_suffix(".txt"), (utterance.text + "\n").encode("utf-8", "replace"))
    if utterance.words is not None and utterance.phonemes is not None:
        write_times(path.with_suffix(".json"), utterance)


def _words(path: Path) -> str:
    """The transcript next to a sound file; empty if there is none."""
    transcript = path.with_suffix(".txt")
    if not transcript.is_file():
        return ""
    if transcript.stat().st_size > LONGEST_TEXT_FILE:
        raise UserError(f"{transcript} is too long for the words of one recording: cut the recording.")
    try:
        return " ".join(transcript.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise UserError(f"{transcript} is not UTF-8 text: save it as UTF-8.") from error


def _comparable(text: str) -> str:
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())
