"""Choice of a text-to-speech back end, and those beside hibari and espeak-ng: gTTS and folders of recordings."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import load_audio, save_wav
from emotalking.io.files import Finish, write_bytes
from emotalking.tts.base import Synthesizer, Utterance, base_language, check_rate, choose_voice, normalize_text
from emotalking.tts.espeak import Espeak
from emotalking.tts.hibari import Hibari
from emotalking.tts.timing import at_tempo, read_times, warped, write_times

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
LONGEST_ALIGNED_S = 60.0
"""Recordings longer than this are left without times: the path through them costs their length squared."""
LONGEST_TEXT_FILE = 1_000_000
"""Bytes; a longer ``.txt`` is no transcript."""

_ACCENTS = {
    "en": {"us": "us", "uk": "co.uk", "australia": "com.au", "india": "co.in", "ireland": "ie", "canada": "ca"},
    "fr": {"france": "fr", "canada": "ca"},
    "es": {"spain": "es", "mexico": "com.mx", "us": "us"},
}
"""Voice names and the service's domains that speak so (documentation of gTTS, "Localized accents")."""
_LANGUAGE_TAGS = {"zh": "zh-CN"}
_PATIENCE_S = 30.0


class Recordings:
    """The recordings of a folder.

    Times of words and phonemes come from a ``.json`` of the same name (:mod:`emotalking.tts.timing`), else from
    alignment with synthesised speech of the ``.txt`` (:func:`align`), else they are not known.

    Args:
        folder: sound files, and for each a ``.txt`` where its words are known.

    Raises:
        InputError: no sound file in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = tuple(sorted(path for path in self.folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES))
        if not self.files:
            raise InputError(f"the folder {folder} has no sound file ({', '.join(AUDIO_SUFFIXES)}): add some.")

    def utterances(self, language: str = "en") -> Iterator[Utterance]:
        """Every recording, in the order of the names.

        Args:
            language: of the words; a ``.json`` next to a file takes precedence.

        Raises:
            InputError: a file that cannot be read.
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
        raise InputError(
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
            return replace(read_times(known, samples), voice=voice, made="recorded")
        text = _words(path)
        return align(Utterance(text, language, voice, samples, None, None, made="recorded"))


def write_recording(path: Path, utterance: Utterance, *, finish: Finish | None = None) -> None:
    """Write an utterance for :class:`Recordings`: ``path`` (.wav), its words (.txt) and, if known, times (.json).

    Args:
        path: the sound file.
        utterance: what is written.
        finish: last step of the sound file (:func:`emotalking.io.files.replacing`).
    """
    save_wav(path, utterance.samples, finish=finish)
    write_bytes(path.with_suffix(".txt"), (utterance.text + "\n").encode("utf-8", "replace"))
    if utterance.words is not None and utterance.phonemes is not None:
        write_times(path.with_suffix(".json"), utterance)


def _words(path: Path) -> str:
    """The transcript next to a sound file; empty if there is none."""
    transcript = path.with_suffix(".txt")
    if not transcript.is_file():
        return ""
    if transcript.stat().st_size > LONGEST_TEXT_FILE:
        raise InputError(f"{transcript} is too long for the words of one recording: cut the recording.")
    try:
        return " ".join(transcript.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{transcript} is not UTF-8 text: save it as UTF-8.") from error


def _comparable(text: str) -> str:
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())


class Gtts:
    """Google's voices: one a language, with accents for some.

    Times come from alignment with synthesised speech (:func:`align`), else they are not known.

    Raises:
        InputError: gTTS is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("gtts") is None:
            raise MissingPackageError(
                "this synthesizer needs gTTS, which is not installed: pip install 'emotalking[gtts]'."
            )

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """See ``Synthesizer.synthesize``; the service knows no rate, so the tempo is changed afterwards.

        Raises:
            InputError: also when the service cannot be reached.
        """
        from gtts import gTTS  # pyright: ignore[reportMissingImports]
        from gtts.tts import gTTSError  # pyright: ignore[reportMissingImports]

        plain, pace = normalize_text(text), check_rate(rate)
        chosen = choose_voice(voice, self.voices(language), language)
        domain = _ACCENTS.get(base_language(language), {}).get(chosen, "com")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "speech.mp3"
            try:
                gTTS(plain, lang=self._tag(language), tld=domain, lang_check=False, timeout=_PATIENCE_S).save(str(file))
            except (gTTSError, OSError, AssertionError) as error:
                raise InputError(
                    "gTTS could not reach its web service (it needs a network): use espeak, which does not."
                ) from error
            samples = load_audio(file)
        licences = {"Google's speech service, by gTTS (speech)": "the service's terms; gTTS MIT"}
        return at_tempo(align(Utterance(text, language, chosen, samples, None, None, licences=licences)), pace)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """See ``Synthesizer.voices``."""
        self._tag(language)
        return tuple(_ACCENTS.get(base_language(language), ())) or ("default",)

    def languages(self) -> tuple[str, ...]:
        """Values of ``language`` in addition to "zh"."""
        from gtts.lang import tts_langs  # pyright: ignore[reportMissingImports]

        return tuple(sorted(tts_langs()))

    def _tag(self, language: str) -> str:
        """The service's own tag of a language."""
        known = {tag.lower(): tag for tag in self.languages()}
        for candidate in (language, _LANGUAGE_TAGS.get(base_language(language), ""), base_language(language)):
            if candidate.lower() in known:
                return known[candidate.lower()]
        raise InputError(f"gTTS does not speak '{language}': it speaks {', '.join(self.languages())}.")


class Auto:
    """The offline synthesizers together: hibari's voices first, where they speak the language, then espeak-ng's.

    Raises:
        InputError: none of them is installed.
    """

    def __init__(self) -> None:
        self._offline = [_opened(each) for each in (Hibari, Espeak)]
        if all(isinstance(each, MissingPackageError) for each in self._offline):
            assert isinstance(self._offline[0], MissingPackageError)
            raise self._offline[0]

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """See ``Synthesizer.synthesize``."""
        chosen = choose_voice(voice, self.voices(language), language)
        speaker = next(speaker for speaker, voices in self._speakers(language) if chosen in voices)
        return speaker.synthesize(text, language=language, voice=chosen, rate=rate)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """See ``Synthesizer.voices``."""
        return tuple(voice for _, voices in self._speakers(language) for voice in voices)

    def languages(self) -> tuple[str, ...]:
        """All languages of its synthesizers."""
        opened = (each for each in self._offline if not isinstance(each, MissingPackageError))
        return tuple(sorted({language for speaker in opened for language in speaker.languages()}))

    def _speakers(self, language: str) -> list[tuple[Synthesizer, tuple[str, ...]]]:
        """Those that speak the language, each with its voices."""
        found: list[tuple[Synthesizer, tuple[str, ...]]] = []
        error: InputError | None = None
        for speaker in self._offline:
            if isinstance(speaker, MissingPackageError):
                error = speaker
                continue
            try:
                found.append((speaker, speaker.voices(language)))
            except InputError as unknown:
                error = unknown
        if not found:  # the last one speaks the most languages
            assert error is not None
            raise error
        return found


def _opened(synthesizer: Callable[[], Synthesizer]) -> Synthesizer | MissingPackageError:
    """A synthesizer, or why there is none."""
    try:
        return synthesizer()
    except MissingPackageError as error:
        return error


def align(utterance: Utterance) -> Utterance:
    """``utterance`` with the times of its words and phonemes, by a synthesizer's reading of its text (espeak-ng's, else
    hibari's); unchanged if it has no text, is longer than a minute, or no synthesizer speaks its language."""
    if not utterance.text or utterance.seconds > LONGEST_ALIGNED_S:
        return utterance
    for reader in (Espeak, Hibari):
        try:
            return warped(reader().synthesize(utterance.text, language=utterance.language), utterance)
        except InputError:
            continue
    return utterance


_SYNTHESIZERS: dict[str, Callable[[], Synthesizer]] = {
    "auto": Auto,
    "hibari": Hibari,
    "espeak": Espeak,
    "gtts": Gtts,
}


def register(name: str, opener: Callable[[], Synthesizer]) -> None:
    """Make a synthesizer known by a name, for everything that takes a speaker.

    Args:
        name: not a name that is taken.
        opener: makes the synthesizer.

    Raises:
        ValueError: the name is taken.
    """
    if name in _SYNTHESIZERS:
        raise ValueError(f"there is a speech synthesizer '{name}' already")
    _SYNTHESIZERS[name] = opener


def open_synthesizer(which: str | Path) -> Synthesizer:
    """The back end called ``which``.

    Args:
        which: "auto" (hibari for English, espeak-ng for other languages), "hibari", "espeak" (both work without a
            network), "gtts" (needs one), a registered name, or a folder of sound files.

    Raises:
        InputError: it is not installed, or there is no such folder.
    """
    if which in _SYNTHESIZERS:
        return _SYNTHESIZERS[str(which)]()
    if Path(which).is_dir():
        return Recordings(which)
    names = ", ".join(_SYNTHESIZERS)
    raise InputError(f"there is no speech synthesizer '{which}': use {names}, or a folder of sound files.")
