"""The table of audio features: names, files and shapes; :mod:`emotalking.audio.features` computes them.

A new kind is a row here and a module with a function ``track(chunks, feature)``, as in :mod:`emotalking.audio.mel`.
"""

from dataclasses import dataclass

from emotalking.errors import InputError


@dataclass(frozen=True)
class AudioFeature:
    """One kind of audio features."""

    name: str
    """In configs and in the avatar's metadata."""
    file: str
    """Short name, in the file's name in a subject folder: ``aud_{file}.npy``."""
    steps: int
    """Steps per video frame."""
    channels: int
    """Numbers per step."""
    module: str | None = None
    """Module whose ``track`` computes them; None: computed by other programs, only read here."""
    rate_hz: float = 50.0
    """Steps per second."""
    streams: str | None = None
    """"module:function" that makes streams of them (:mod:`emotalking.audio.streams`); None: they need the whole
    recording."""
    licence: tuple[str, str] | None = None
    """Name and licence of the network behind them, where there is one."""

    @property
    def shape(self) -> tuple[int, int]:
        """(steps, channels), as in the file's rows."""
        return self.steps, self.channels

    @property
    def file_name(self) -> str:
        """In a subject folder."""
        return f"aud_{self.file}.npy"


DEFAULT_FEATURE = "hama"

_POCKETSPHINX = ("pocketsphinx's acoustic model (audio features)", "BSD")
_HUBERT = ("HuBERT large (audio features)", "Apache-2.0")
_WAV2VEC2 = ("wav2vec 2.0 large (audio features)", "Apache-2.0")
_DEEPSPEECH = ("DeepSpeech (audio features computed elsewhere)", "MPL-2.0")
_ESPERANTO = ("wav2vec 2.0 tuned on Esperanto (audio features computed elsewhere)", "not recorded")
_HAMA = ("hama 1.7.0's phoneme recogniser (audio features)", "Apache-2.0; its training data are not stated")

AUDIO_FEATURES: dict[str, AudioFeature] = {
    feature.name: feature
    for feature in (
        AudioFeature("mel", "mel", 16, 32, "emotalking.audio.mel", streams="emotalking.audio.mel_stream:streams"),
        AudioFeature("phones", "phones", 16, 39, "emotalking.audio.phones", licence=_POCKETSPHINX),
        AudioFeature(
            "hama", "hama", 2, 144, "emotalking.audio.hama", streams="emotalking.audio.hama:streams", licence=_HAMA
        ),
        AudioFeature("hubert", "hu", 2, 1024, "emotalking.audio.transformers", licence=_HUBERT),
        AudioFeature("wav2vec2", "w2v2", 2, 1024, "emotalking.audio.transformers", licence=_WAV2VEC2),
        AudioFeature("deepspeech", "ds", 16, 29, licence=_DEEPSPEECH),
        AudioFeature("esperanto", "eo", 16, 44, licence=_ESPERANTO),
    )
}
"""By name (docs/paper.md 1; "mel", "phones" and "hama" are ours). Insert an own kind here to train with it."""


def audio_feature(name: str) -> AudioFeature:
    """The features called ``name``, which may also be their file's name in subject folders (``aud_ds.npy``: "ds").

    Raises:
        InputError: no such features.
    """
    found = next((kind for kind in AUDIO_FEATURES.values() if name in (kind.name, kind.file)), None)
    if found is None:
        raise InputError(f"there are no audio features called '{name}': choose one of {', '.join(AUDIO_FEATURES)}.")
    return found


def feature_of_shape(shape: tuple[int, ...]) -> AudioFeature | None:
    """The first features of ``shape`` = (frames, steps, channels); None: unknown ones.

    A file ``aud.npy`` (ER-NeRF) does not name its kind: HuBERT and wav2vec 2.0 have one shape, and HuBERT is meant.
    """
    return next((kind for kind in AUDIO_FEATURES.values() if kind.shape == shape[1:]), None)
