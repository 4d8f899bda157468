"""Names of the files of a subject folder (TalkingGaussian's layout and our extras)."""

from dataclasses import dataclass
from pathlib import Path

FEATURE_SHAPES = {
    "mel": (16, 32),
    "phones": (16, 39),
    "ds": (16, 29),
    "eo": (16, 44),
    "hu": (2, 1024),
    "w2v2": (2, 1024),
}
"""Steps and channels a frame of the audio features that folders hold (docs/paper.md 1; "mel" and "phones" are ours)."""


def feature_name(shape: tuple[int, int]) -> str | None:
    """Which audio features have ``shape`` = (steps, channels) a frame; None: unknown ones."""
    return next((name for name, known in FEATURE_SHAPES.items() if known == shape), None)


@dataclass(frozen=True)
class SubjectFiles:
    """Paths inside one subject folder; nothing is read or written here.

    Source: docs/paper.md 1. Frame numbers start at 0 and carry no leading zeros.
    """

    root: Path

    def original(self, index: int) -> Path:
        """Frame as decoded."""
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

    def audio_features(self, name: str) -> Path:
        """Audio features called ``name`` ("mel", "ds", "eo", "hu")."""
        return self.root / f"aud_{name}.npy"

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
        """What the scripts of ER-NeRF write where TalkingGaussian reads ``aud_ds.npy``."""
        return self.root / "aud.npy"

    @property
    def valence_arousal(self) -> Path:
        """Extra of ours: frame, valence, arousal."""
        return self.root / "va.csv"

    def normals(self, index: int) -> Path:
        """Extra of ours: camera-space normals of the face as colours."""
        return self.root / "normals" / f"{index}.png"

    @property
    def landmarks(self) -> Path:
        """Extra of ours: all landmarks of the detector."""
        return self.root / "landmarks.npz"

    @property
    def manifest(self) -> Path:
        """Extra of ours: how the folder was made."""
        return self.root / "subject.json"
