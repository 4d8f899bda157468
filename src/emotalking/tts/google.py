"""Speech by gTTS, a client of Google's web service, as in the paper (section S5); needs network access."""

import importlib.util
import tempfile
from pathlib import Path

from emotalking.errors import MissingPackageError, UserError
from emotalking.io.audio import load_audio
from emotalking.tts.base import Utterance, base_language, check_rate, choose_voice, normalize_text
from emotalking.tts.timing import align, at_tempo

_ACCENTS = {
    "en": {"us": "us", "uk": "co.uk", "australia": "com.au", "india": "co.in", "ireland": "ie", "canada": "ca"},
    "fr": {"france": "fr", "canada": "ca"},
    "es": {"spain": "es", "mexico": "com.mx", "us": "us"},
}
"""Voice names and the service's domains that speak so (documentation of gTTS, "Localized accents")."""
_LANGUAGE_TAGS = {"zh": "zh-CN"}
_PATIENCE_S = 30.0


class Gtts:
    """Google's voices: one a language, with accents for some.

    Times come from alignment with espeak-ng's speech where that is installed, else they are not known.

    Raises:
        UserError: gTTS is not installed.
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
            UserError: also when the service cannot be reached.
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
                raise UserError(
                    "gTTS could not reach its web service (it needs a network): use espeak, which does not."
                ) from error
            samples = load_audio(file)
        return at_tempo(align(Utterance(text, language, chosen, samples, None, None)), pace)

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
        raise UserError(f"gTTS does not speak '{language}': it speaks {', '.join(self.languages())}.")
