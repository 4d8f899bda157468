"""What a check found, as plain values."""

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["good", "usable", "unusable"]


@dataclass(frozen=True)
class Still:
    """A picture for the page."""

    seconds: float
    caption: str
    jpeg: str
    """Base64."""


@dataclass(frozen=True)
class Footage:
    """Measurements of :func:`~emotalking.preprocess.check.clip.check_clip`; ``dataclasses.asdict`` makes it JSON."""

    clip: str
    """Path as given."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it is unusable; empty otherwise."""
    warnings: tuple[str, ...]
    """What will cost quality; prepare goes on."""
    part: tuple[float, float]
    """The longest part that training can use, in seconds after the first picture; (0, 0) if there is none."""

    seconds: float
    width: int
    """Pixels, upright."""
    height: int
    stored_fps: str
    """Pictures a second in the file, exact rational."""
    true_fps: str
    """Without mere repeats."""
    steady: bool
    """All pictures at even times."""
    duplicate_share: float
    """Of the stored pictures."""
    damaged_pictures: int
    cut_short_s: float
    """How much the header promises beyond what is there."""
    bits_per_pixel: float
    cuts: tuple[float, ...]
    """Times at which another shot begins; the part lies between two of them."""
    jumps: tuple[float, ...]
    """Jump cuts: the same person goes on in another place or pose. Training can use both sides; motion cannot be
    followed across."""
    black_share: float
    exposure_range: float
    """(95th - 5th percentile) / mean of the brightness."""

    faces_looked_at: int
    """Pictures that were searched for faces, hands and blur, spread over the clip."""
    face_share: float
    """Of those pictures, with a face."""
    other_face_share: float
    """With a second one large enough to be a speaker's."""
    hand_share: float
    """With a hand before or at the face."""
    cropped_share: float
    """With a face that leaves the picture."""
    face_px: float
    """Median height from forehead to chin, pixels of the clip."""
    yaw: tuple[float, float]
    """2nd and 98th percentile, degrees; positive: the person's right side comes to the front."""
    pitch: tuple[float, float]
    """The same; positive: up."""
    roll: float
    """Median, degrees: near 90 or 180 in a picture that lies on its side or is upside down."""
    frontal_share: float
    detail: float
    """Median of :func:`~emotalking.preprocess.check.quality.detail` in the face."""
    blockiness: float

    close_look: tuple[float, float]
    """The seconds (most speech) whose every frame was tracked for what follows."""
    mouth_range: float
    """95th - 5th percentile of the opening over the head's size."""
    closed_share: float
    """Frames with closed lips."""
    blinks_per_minute: float

    sound_s: float
    speech_share: float
    speech_s: float
    noise_db: float
    clipped_share: float
    sound_late_s: float
    """Positive: the sound comes late; see ``lipsync.offset``."""
    sound_late_confidence: float

    curves: dict[str, list[float]] = field(default_factory=dict)
    """For the page: time and value rows by name."""
    stills: tuple[Still, ...] = ()
