"""Names of the files of a subject folder (TalkingGaussian's layout and our extras)."""

from dataclasses import dataclass
from pathlib import Path

from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature

EMOTION_FROM_UNITS = "action-units"
"""Provider of ``va.csv`` that is no network: our own estimator's rules."""


@dataclass(frozen=True)
class SubjectFiles:
    """Paths inside one subject folder; nothing is read or written here.

    Source: docs/paper.md 1. Frame numbers start at 0 and carry no leading zeros.
    """

    root: Path

    def original(self, index: int) -> Path:
        """Frame of the subject before masks: the clip's image, upright and framed (cut to the square and scaled)."""
        return self.root / "ori_imgs" / f"{index}.jpg"

    def ibug_landmarks(self, index: int) -> Path:
        """68 iBUG points, text."""
        return self.root / "ori_imgs" / f"{index}.lms"

    def parsing(self, index: int) -> Path:
        """Colour-coded classes."""
        return self.root / "parsing" / f"{index}.png"

    def teeth(self, index: int) -> Path:
        """Boolean teeth mask."""
        return self.root / "teeth_mask" / f"{index}.npy"

    def target(self, index: int) -> Path:
        """Training target: the frame over the clean background."""
        return self.root / "gt_imgs" / f"{index}.jpg"

    def torso(self, index: int) -> Path:
        """RGBA layer of torso and neck."""
        return self.root / "torso_imgs" / f"{index}.png"

    def transforms(self, split: str) -> Path:
        """Cameras of ``split`` ("train" or "val")."""
        return self.root / f"transforms_{split}.json"

    def audio_features(self, name: str = DEFAULT_FEATURE) -> Path:
        """Audio features called ``name`` (a row of ``data.audio_features``).

        Raises:
            InputError: no such features.
        """
        return self.root / audio_feature(name).file_name

    @property
    def background(self) -> Path:
        """Clean background plate."""
        return self.root / "bc.jpg"

    @property
    def action_units(self) -> Path:
        """OpenFace-style table."""
        return self.root / "au.csv"

    @property
    def audio(self) -> Path:
        """Speech, 16 kHz."""
        return self.root / "aud.wav"

    @property
    def unnamed_audio_features(self) -> Path:
        """ER-NeRF's name for TalkingGaussian's ``aud_ds.npy``."""
        return self.root / "aud.npy"

    @property
    def valence_arousal(self) -> Path:
        """EmoTalking extra: frame, valence, arousal."""
        return self.root / "va.csv"

    @property
    def gaze(self) -> Path:
        """EmoTalking extra: frame, and where the eyes look (:func:`emotalking.data.gaze.measure_gaze`)."""
        return self.root / "gaze.csv"

    def normals(self, index: int) -> Path:
        """EmoTalking extra: camera-space normals of the face as colours."""
        return self.root / "normals" / f"{index}.png"

    def expression(self, name: str) -> "SubjectFiles":
        """EmoTalking extra: a further clip of the same person, showing emotions; a folder of this layout, no sound."""
        return SubjectFiles(self.root / "expressions" / name)

    @property
    def landmarks(self) -> Path:
        """EmoTalking extra: all landmarks of the detector."""
        return self.root / "landmarks.npz"

    @property
    def manifest(self) -> Path:
        """EmoTalking extra: manifest of the steps that made the folder."""
        return self.root / "subject.json"
