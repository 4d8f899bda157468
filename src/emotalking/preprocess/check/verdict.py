"""Results of a footage check, and the verdict: sentences for the measures, and their thresholds.

What `prepare` refuses, too, has its limits there (:mod:`emotalking.preprocess.tracking`, ``io.video.SHORTEST_S``).
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from emotalking.io.video import SHORTEST_S
from emotalking.lipsync.offset import ENOUGH_SPEECH_S, TRUSTED
from emotalking.preprocess.tracking import MOST_LOST, MOST_OTHERS

Verdict = Literal["good", "usable", "unusable"]

SLOWEST_FPS = 15.0
"""Lips move at up to 8 Hz in speech: a lower frame rate cannot show it (sampling theorem)."""
SLOW_FPS = 23.0
"""Films have 23.976; under this, quick closures (a tenth of a second) fall between the frames."""
WANTED_S = 20.0
"""Shorter clips give avatars that know few phonemes; a minute is what the published methods train on at least."""
SOME_FACES = 0.97
SMALL_FACE, TINY_FACE = 120.0, 60.0
"""Pixels from forehead to chin. The 256 px clips have 130 to 190 and train; the mouth of a 60 px face is 12 px high."""
SOFT, BLURRED = 0.14, 0.08
"""Limits of :func:`~.measures.detail`. Real clips measure 0.17 to 0.57, the same enlarged twofold 0.10 to 0.20, blurred
by two pixels 0.035 to 0.06."""
BLOCKY = 1.5
"""Limit of :func:`~.measures.blockiness`. H.264 clips measure 0.9 to 1.4, MPEG-1 1.8, JPEG of quality 25 1.5 to 2.8."""
EXPOSURE = 0.2
"""Real clips under steady light measure 0.00 to 0.06; a cloud or an automatic exposure gives 0.2 and more."""
NOISY_DB = 15.0
"""Recordings of speech measure 28 to 41 dB, with music under it 10."""
CLIPPED = 1e-4
LITTLE_SPEECH = 0.3
STILL_MOUTH = 0.03
"""Mouth range of a person who hardly speaks or was filmed in silence; speakers measure 0.05 to 0.15."""
NEVER_CLOSED = 0.01
TURNED = 0.7
LYING = 50.0
"""Degrees; speakers face the camera upright, but phones may omit the rotation."""
MOST_FROZEN = 0.5
"""Share of frames in which nothing moves beyond which a clip is a still image."""
DARK = 60.0
"""Limit of :func:`~.appearance.face_light`: lit faces measure 112 to 200, a dark room 45."""
GRAINY = 5.0
"""Limit of :func:`~.appearance.noise_level`: clips of cameras measure 0.25 to 1.2."""
WOVEN = 1.1
"""Limit of :func:`~.appearance.line_contrast`: white noise measures 1."""
HIDDEN_EYES = 0.3
"""Limit of :func:`~.appearance.eyes_brightness`: eyes measure 0.56 to 0.89, dark glasses 0.01."""
HIDDEN_LIPS = 2.5
"""Limit of :func:`~.appearance.lips_contrast`: lips measure 4 to 29, a mask 0."""
MONOCHROME = 6.0
"""Limit of :func:`~.appearance.colour_spread`: coding leaves 0 to 3 in grey, faces have 40 and more."""
BLINKS_SEEN_S = 10.0
"""Speakers blink 26 times a minute (Bentivoglio et al. 1997): in so many seconds nearly everybody does."""
SURER = 0.08
"""Difference of :attr:`Footage.upright` that tells a wrong orientation: faces, masked ones too, have 0.12 to 0.6 more
upright than turned."""
SURE = 0.6
"""Least score of a face that stands upright: masked ones have 0.74."""
LATE_S = 0.03
"""An offset below one frame is not corrected."""
UNRELATED = 0.5


@dataclass(frozen=True)
class Still:
    """Image for the page."""

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
    """Reason for an unusable clip; empty otherwise."""
    warnings: tuple[str, ...]
    """Faults that cost quality; prepare continues."""
    part: tuple[float, float]
    """The longest part that training can use, in seconds after the first frame; (0, 0) if there is none."""

    seconds: float
    width: int
    """Pixels, upright."""
    height: int
    stored_fps: str
    """Frame rate of the file, exact rational."""
    true_fps: str
    """Frame rate without repeated frames."""
    steady: bool
    """True: all frames at even times."""
    duplicate_share: float
    """Share of repeated frames among those stored."""
    damaged_frames: int
    cut_short_s: float
    """Length that the header promises beyond what is there."""
    bits_per_pixel: float
    cuts: tuple[float, ...]
    """Times at which another shot begins; the part lies between two of them."""
    jumps: tuple[float, ...]
    """Jump cuts: the same person goes on in another place or pose. Training can use both sides; motion cannot be
    followed across."""
    black_share: float
    frozen_share: float
    """Share of frames in stretches of a second or more in which nothing moves."""
    gaps: tuple[float, ...]
    """Times behind which no frame comes for more than a second."""
    interlaced: bool
    """Frames are stored as two fields, and deinterlaced when they are read."""
    tone_mapped: str
    """"HLG", "PQ" or "SDR" (a wide gamut only) where colours are converted to BT.709; else empty."""
    aspect: float
    """Width over height of the stored pixels."""
    resized: tuple[float, ...]
    """Times at which the stored frames change their size."""
    video_tracks: int
    """Films in the file, of which one is read."""
    crop: tuple[int, int, int, int]
    """Pixels of the stored frames that the container hides at the top, bottom, left and right; they are kept."""
    exposure_range: float
    """(95th - 5th percentile) / mean of the brightness."""

    faces_looked_at: int
    """Frames that were searched for faces, hands and blur, spread over the clip."""
    face_share: float
    """Share of those frames with a face."""
    lost_share: float
    """Share of the frames within ``part`` without a face."""
    other_face_share: float
    """Share with a second one large enough to be a speaker's."""
    hand_share: float
    """Share with a hand before or at the face."""
    cropped_share: float
    """Share with a face that leaves the frame."""
    face_px: float
    """Median height from forehead to chin, pixels of the clip."""
    yaw: tuple[float, float]
    """2nd and 98th percentile, degrees; positive: the person's right side turns to the front."""
    pitch: tuple[float, float]
    """The same; positive: up."""
    roll: float
    """Median, degrees: near 90 or 180 in a frame that is on its side or upside down."""
    frontal_share: float
    detail: float
    """Median of :func:`~emotalking.preprocess.check.measures.detail` in the face."""
    blockiness: float
    face_light: float
    """Grey level of the face's bright half, 0 to 255."""
    noise: float
    """Standard deviation within the face, grey levels."""
    line_contrast: float
    """Above 1 where two fields are woven into one frame."""
    eyes_brightness: float
    """Against the cheeks; near 0 behind dark glasses."""
    lips_contrast: float
    """Distance of the lips' colour from the skin's; near 0 under a mask, and in black and white."""
    colour_spread: float
    """Difference of the colour channels, grey levels; near 0 in black and white."""
    upright: tuple[float, ...]
    """Mean score of an upright face in some frames as they are, and turned clockwise by 90, 180 and 270 degrees."""

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
    sound_track: int
    """Number of the sound track that is used, from 1."""
    sound_tracks: int
    sound_late_s: float
    """Positive: the sound comes late; see ``lipsync.offset``."""
    sound_late_confidence: float

    curves: dict[str, list[float]] = field(default_factory=dict)
    """For the page: time and value rows by name."""
    stills: tuple[Still, ...] = ()
    expressions: "tuple[Footage, ...]" = ()
    """Of the clips of expressions that were checked with it."""


def assess(facts: dict[str, Any], *, spoken: bool = True) -> tuple[Verdict, tuple[str, ...], tuple[str, ...]]:
    """Verdict, reasons and warnings.

    Args:
        facts: measures, by the names of :class:`Footage`.
        spoken: False for a clip of expressions, from which no speech is learned.
    """
    reasons = tuple(_reasons(facts, spoken=spoken))
    checks = (_length, _frames, _face, _talking, _sound) if spoken else (_frames, _face)
    warnings = tuple(warning for check in checks for warning in check(facts))
    return ("unusable" if reasons else "usable" if warnings else "good"), reasons, warnings


def _reasons(f: dict[str, Any], *, spoken: bool) -> list[str]:
    """Reasons for which prepare would fail or the avatar could not speak; one is enough, the plainest first."""
    part = f["part"][1] - f["part"][0]
    fps = float(Fraction(f["true_fps"]))
    out = []
    if f["seconds"] < SHORTEST_S:
        out.append(f"it lasts {f['seconds']:.1f} s, and at least {SHORTEST_S:.0f} s are needed")
    out += _silence(f) if spoken else []
    if f["face_share"] == 0:
        out.append("no face was found in it")
    elif f["face_px"] < TINY_FACE:
        out.append(f"the face is {f['face_px']:.0f} pixels high, and {TINY_FACE:.0f} are the least: film nearer")
    if f["frozen_share"] > MOST_FROZEN and part < SHORTEST_S:
        out.append("the image does not move: it is a still image, or the recording froze; record it again")
    if turn := missing_turn(f["upright"]):
        how = "upside down" if turn == 180 else "on its side"
        out.append(f"the image is {how}: turn it by {turn} degrees (option turn)")
    elif abs(f["roll"]) > LYING:
        out.append("the image is on its side or upside down: rotate it")
    elif f["lost_share"] > MOST_LOST:
        out.append(f"{100 * f['lost_share']:.0f} % of the frames that could be used show no face")
    if f["other_face_share"] > MOST_OTHERS:
        out.append("it shows two people: crop the other one out")
    if fps < SLOWEST_FPS:
        out.append(f"it has {fps:.3g} frames/s, too few to see lips move ({SLOWEST_FPS:.0f} are the least)")
    if 0 < f["detail"] < BLURRED:
        out.append("the face is blurred: film it again in focus")
    if not out and f["mouth_range"] < STILL_MOUTH and f["lips_contrast"] < HIDDEN_LIPS and not _is_grey(f):
        out.append("the mouth is covered (a mask, a microphone?): no lips are visible; film it uncovered")
    if not out and part < SHORTEST_S:
        out.append(
            f"its longest part without a cut, a gap, a still image, a lost face or black is {part:.1f} s, and "
            f"{SHORTEST_S:.0f} s are needed"
        )
    return out


def _is_grey(f: dict[str, Any]) -> bool:
    """True for a clip in black and white, in which lips have no colour of their own."""
    return f["face_share"] > 0 and f["colour_spread"] < MONOCHROME


def _silence(f: dict[str, Any]) -> list[str]:
    """Reasons for which nobody could learn to speak from it."""
    if f["sound_s"] == 0:
        return ["it has no sound, and lips cannot be learned without it"]
    return ["it contains no speech: its audio is silence or noise"] if f["speech_s"] < 1.0 else []


def missing_turn(upright: tuple[float, ...]) -> int:
    """Degrees clockwise by which the frames must be turned; 0: none.

    The landmarker finds a face also in one that stands on its head, so that its roll does not tell.

    Args:
        upright: :attr:`Footage.upright`.
    """
    best = max(range(len(upright)), key=upright.__getitem__)
    return 90 * best if upright[best] > max(upright[0] + SURER, SURE) else 0


def _length(f: dict[str, Any]) -> list[str]:
    part = f["part"][1] - f["part"][0]
    short = SHORTEST_S <= part < WANTED_S
    return [f"only {part:.1f} s can be used: a minute of speech makes a better avatar"] if short else []


def _frames(f: dict[str, Any]) -> list[str]:
    out = []
    fps = float(Fraction(f["true_fps"]))
    if f["cuts"]:
        out.append(f"{_times(f['cuts'], 'cut')}: only the longest shot is used")
    begin, end = f["part"]
    if jumps := tuple(jump for jump in f["jumps"] if begin < jump < end):
        out.append(f"{_times(jumps, 'jump cut')}: motion cannot be followed across")
    if f["damaged_frames"]:
        out.append(f"{f['damaged_frames']} frames are damaged: copy or export the clip again")
    if f["cut_short_s"] > 0:
        out.append(f"the file is cut short: {f['cut_short_s']:.1f} s that it promises are missing")
    if f["frozen_share"] > 0:
        out.append(f"the image stands still for {f['frozen_share'] * f['seconds']:.1f} s: that part is left out")
    if f["gaps"]:
        out.append(f"{_times(f['gaps'], 'gap')} without frames: only the longest part is used")
    out += _converted(f)
    if f["black_share"] > 0:
        out.append(f"{100 * f['black_share']:.0f} % of the frames are black")
    if SLOWEST_FPS <= fps < SLOW_FPS:
        out.append(f"{fps:.3g} true frames/s: quick closures of the lips fall between them")
    if not f["steady"]:
        out.append("its frames come at uneven times (a variable frame rate)")
    if f["blockiness"] > BLOCKY:
        out.append("blocks of a strong compression are visible, and the avatar will learn them")
    if BLURRED <= f["detail"] < SOFT:
        out.append("the image is soft: out of focus, or enlarged from a smaller one")
    if _is_grey(f):
        out.append("it is black and white, and the avatar will be")
    if f["exposure_range"] > EXPOSURE:
        out.append(f"the brightness changes by {100 * f['exposure_range']:.0f} %: lock the exposure")
    return out


def _converted(f: dict[str, Any]) -> list[str]:
    """Changes that make frames look as in a player."""
    out = []
    if f["interlaced"]:
        out.append("its frames are interlaced: they are deinterlaced, at a loss of detail")
    elif f["line_contrast"] > WOVEN:
        out.append("its frames show combs of two fields, without being marked as interlaced: deinterlace the clip")
    if f["tone_mapped"]:
        kind = {"SDR": "has a wide gamut"}.get(f["tone_mapped"], f"is HDR ({f['tone_mapped']})")
        out.append(f"it {kind}: colours are converted to BT.709")
    if abs(f["aspect"] - 1) > 0.01:
        out.append(f"its pixels are not square ({f['aspect']:.3g}:1): frames are stretched")
    if f["resized"]:
        out.append(f"its frames change their size, {_times(f['resized'], 'time')}: they are scaled to one")
    if f["video_tracks"] > 1:
        out.append(f"it has {f['video_tracks']} video tracks: the default one is used")
    if any(f["crop"]):
        edges = zip(f["crop"], ("top", "bottom", "left", "right"), strict=True)
        where = ", ".join(f"{pixels} at the {edge}" for pixels, edge in edges if pixels)
        out.append(f"players hide edges of its frames (pixels: {where}), which are kept here")
    return out


def _face(f: dict[str, Any]) -> list[str]:
    out = []
    if 0 < f["face_share"] < SOME_FACES:
        out.append(f"{100 * (1 - f['face_share']):.0f} % of the frames show no face")
    if 0 < f["other_face_share"] <= MOST_OTHERS:
        out.append("a second face comes into view")
    if TINY_FACE <= f["face_px"] < SMALL_FACE:
        out.append(f"the face is small ({f['face_px']:.0f} pixels high): teeth and eyes will be coarse")
    if f["cropped_share"] > 1 - SOME_FACES:
        out.append(f"the face leaves the image in {100 * f['cropped_share']:.0f} % of the frames")
    if f["hand_share"] > 0:
        out.append(f"a hand covers the face in {100 * f['hand_share']:.0f} % of the frames")
    if f["face_share"] > 0 and f["frontal_share"] < TURNED:
        out.append(
            f"the person looks away: {100 * f['frontal_share']:.0f} % of the frames show the face from the front"
        )
    if f["face_share"] > 0 and f["face_light"] < DARK:
        out.append(f"the face is dark (grey level {f['face_light']:.0f} of 255): light it")
    if f["noise"] > GRAINY:
        out.append(f"the image is noisy ({f['noise']:.0f} grey levels): film with more light")
    if f["face_share"] > 0 and f["eyes_brightness"] < HIDDEN_EYES:
        out.append("the eyes are covered (dark glasses?): neither gaze nor blinks can be learned")
    return out


def _talking(f: dict[str, Any]) -> list[str]:
    out = []
    tracked_s = f["close_look"][1] - f["close_look"][0]
    seen = f["face_share"] > 0 and f["eyes_brightness"] >= HIDDEN_EYES and tracked_s >= BLINKS_SEEN_S
    if seen and f["blinks_per_minute"] == 0:
        out.append(f"nobody blinks in {tracked_s:.0f} s: the avatar will not blink")
    if f["face_share"] > 0 and f["mouth_range"] < STILL_MOUTH:
        out.append("the mouth hardly opens: most phonemes are not visible")
    elif f["face_share"] > 0 and f["closed_share"] < NEVER_CLOSED:
        out.append("the lips are never closed: the avatar will not learn to be silent")
    return out


def _sound(f: dict[str, Any]) -> list[str]:
    if f["sound_s"] == 0 or f["speech_s"] < 1.0:
        return []
    out = []
    if f["sound_tracks"] > 1:
        out.append(f"it has {f['sound_tracks']} sound tracks: number {f['sound_track']} is used")
    if f["sound_s"] < f["seconds"] - 0.5:
        out.append(f"the sound lasts {f['sound_s']:.1f} s of {f['seconds']:.1f} s: the rest is left out")
    if f["speech_share"] < LITTLE_SPEECH:
        out.append(f"speech fills only {100 * f['speech_share']:.0f} % of the sound")
    if f["noise_db"] < NOISY_DB:
        out.append(f"speech is only {f['noise_db']:.0f} dB above noise or music")
    if f["clipped_share"] > CLIPPED:
        out.append("the sound is clipped: lower the gain")
    late, confidence = f["sound_late_s"], f["sound_late_confidence"]
    tracked_s = f["close_look"][1] - f["close_look"][0]
    if confidence >= TRUSTED and abs(late) > LATE_S:
        out.append(f"the sound comes {1000 * abs(late):.0f} ms {'late' if late > 0 else 'early'}: prepare corrects it")
    elif confidence < UNRELATED and min(tracked_s * f["speech_share"], f["speech_s"]) > 1.25 * ENOUGH_SPEECH_S:
        out.append("the mouth does not follow the sound: is it another person's voice, or far out of step?")
    return out


def _times(times: tuple[float, ...], what: str) -> str:
    places = ", ".join(f"{time:.1f}" for time in times[:5]) + (", ..." if len(times) > 5 else "")
    return f"{len(times)} {what}{'s' if len(times) > 1 else ''} (at {places} s)"
