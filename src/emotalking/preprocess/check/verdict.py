"""From measures to words: what is said about a clip, and from which values on."""

from fractions import Fraction
from typing import Any

from emotalking.io.video import SHORTEST_S
from emotalking.lipsync.offset import ENOUGH_SPEECH_S, TRUSTED
from emotalking.preprocess.check.results import Verdict

SLOWEST_FPS = 15.0
"""Lips move at up to 8 Hz in speech: fewer pictures a second cannot show it (sampling theorem)."""
SLOW_FPS = 23.0
"""Films have 23.976; under this, quick closures (a tenth of a second) fall between the pictures."""
WANTED_S = 20.0
"""Shorter clips give avatars that know few sounds; a minute is what the published methods train on at least."""
FEW_FACES, SOME_FACES = 0.5, 0.97
SMALL_FACE, TINY_FACE = 120.0, 60.0
"""Pixels from forehead to chin. The 256 px clips have 130 to 190 and train; the mouth of a 60 px face is 12 px high."""
SOFT, BLURRED = 0.14, 0.08
"""Of :func:`~.quality.detail`. Real clips measure 0.17 to 0.57, the same enlarged twofold 0.10 to 0.20, blurred by two
pixels 0.035 to 0.06."""
BLOCKY = 1.5
"""Of :func:`~.quality.blockiness`. H.264 clips measure 0.9 to 1.4, MPEG-1 1.8, JPEG of quality 25 1.5 to 2.8."""
EXPOSURE = 0.2
"""Real clips under steady light measure 0.00 to 0.06; a cloud or an automatic exposure gives 0.2 and more."""
NOISY_DB = 15.0
"""Recordings of speech measure 28 to 41 dB, with music under it 10."""
CLIPPED = 1e-4
LITTLE_SPEECH = 0.3
STILL_MOUTH = 0.03
"""Mouth range of a person who hardly speaks or was filmed in silence; talkers measure 0.05 to 0.15."""
NEVER_CLOSED = 0.01
TURNED = 0.7
LYING = 50.0
"""Degrees; nobody talks to a camera like this, but phones forget to note how they were held."""
LATE_S = 0.03
"""Less than a frame off is nothing to correct."""
UNRELATED = 0.5


def judge(facts: dict[str, Any]) -> tuple[Verdict, tuple[str, ...], tuple[str, ...]]:
    """Verdict, reasons and warnings.

    Args:
        facts: the measures, by the names of :class:`~.record.Footage`.
    """
    reasons = tuple(_reasons(facts))
    warnings = tuple([*_picture(facts), *_face(facts), *_sound(facts)])
    return ("unusable" if reasons else "usable" if warnings else "good"), reasons, warnings


def _reasons(f: dict[str, Any]) -> list[str]:
    """Why prepare would fail or the avatar could not speak; one is enough, the plainest first."""
    part = f["part"][1] - f["part"][0]
    fps = float(Fraction(f["true_fps"]))
    out = []
    if f["seconds"] < SHORTEST_S:
        out.append(f"it lasts {f['seconds']:.1f} s, and at least {SHORTEST_S:.0f} s are needed")
    if f["sound_s"] == 0:
        out.append("it has no sound, and lips cannot be learned without it")
    elif f["speech_s"] < 1.0:
        out.append("nobody speaks in it: its sound is silence or noise")
    if f["face_share"] == 0:
        out.append("no face was found in it")
    elif f["face_px"] < TINY_FACE:
        out.append(f"the face is {f['face_px']:.0f} pixels high, and {TINY_FACE:.0f} are the least: film nearer")
    if abs(f["roll"]) > LYING:
        out.append("the picture lies on its side or upside down: turn it")
    if f["other_face_share"] > FEW_FACES:
        out.append("it shows two people: crop the other one out")
    if fps < SLOWEST_FPS:
        out.append(f"it has {fps:.3g} pictures a second, too few to see lips move ({SLOWEST_FPS:.0f} are the least)")
    if 0 < f["detail"] < BLURRED:
        out.append("the face is blurred: film it again in focus")
    if not out and part < SHORTEST_S:
        out.append(
            f"its longest part without a cut, a lost face or black is {part:.1f} s, and {SHORTEST_S:.0f} s are needed"
        )
    return out


def _picture(f: dict[str, Any]) -> list[str]:
    out = []
    part = f["part"][1] - f["part"][0]
    fps = float(Fraction(f["true_fps"]))
    if SHORTEST_S <= part < WANTED_S:
        out.append(f"only {part:.1f} s can be used: a minute of speech makes a better avatar")
    if f["cuts"]:
        out.append(f"{_times(f['cuts'], 'cut')}: only the longest shot is used")
    if f["jumps"]:
        out.append(f"{_times(f['jumps'], 'jump cut')}: motion cannot be followed across")
    if f["damaged_pictures"]:
        out.append(f"{f['damaged_pictures']} pictures are damaged: copy or export the clip again")
    if f["cut_short_s"] > 0:
        out.append(f"the file is cut short: {f['cut_short_s']:.1f} s that it promises are missing")
    if f["black_share"] > 0:
        out.append(f"{100 * f['black_share']:.0f} % of the pictures are black")
    if SLOWEST_FPS <= fps < SLOW_FPS:
        out.append(f"{fps:.3g} true pictures a second: quick closures of the lips fall between them")
    if not f["steady"]:
        out.append("its pictures come at uneven times (a variable frame rate)")
    if f["blockiness"] > BLOCKY:
        out.append("blocks of a strong compression can be seen, and the avatar will learn them")
    if BLURRED <= f["detail"] < SOFT:
        out.append("the picture is soft: out of focus, or enlarged from a smaller one")
    if f["exposure_range"] > EXPOSURE:
        out.append(f"the brightness changes by {100 * f['exposure_range']:.0f} %: lock the exposure")
    return out


def _face(f: dict[str, Any]) -> list[str]:
    out = []
    if 0 < f["face_share"] < SOME_FACES:
        out.append(f"{100 * (1 - f['face_share']):.0f} % of the pictures show no face")
    if 0 < f["other_face_share"] <= FEW_FACES:
        out.append("a second face comes into the picture")
    if TINY_FACE <= f["face_px"] < SMALL_FACE:
        out.append(f"the face is small ({f['face_px']:.0f} pixels high): teeth and eyes will be coarse")
    if f["cropped_share"] > 1 - SOME_FACES:
        out.append(f"the face leaves the picture in {100 * f['cropped_share']:.0f} % of the pictures")
    if f["hand_share"] > 0:
        out.append(f"a hand comes before the face in {100 * f['hand_share']:.0f} % of the pictures")
    if f["face_share"] > 0 and f["frontal_share"] < TURNED:
        out.append(f"the person looks away: {100 * f['frontal_share']:.0f} % of the pictures show the face from front")
    if f["face_share"] > 0 and f["mouth_range"] < STILL_MOUTH:
        out.append("the mouth hardly opens: most sounds are not seen")
    elif f["face_share"] > 0 and f["closed_share"] < NEVER_CLOSED:
        out.append("the lips are never closed: the avatar will not learn to be silent")
    return out


def _sound(f: dict[str, Any]) -> list[str]:
    if f["sound_s"] == 0 or f["speech_s"] < 1.0:
        return []
    out = []
    if f["sound_s"] < f["seconds"] - 0.5:
        out.append(f"the sound lasts {f['sound_s']:.1f} s of {f['seconds']:.1f} s: what lies outside is left out")
    if f["speech_share"] < LITTLE_SPEECH:
        out.append(f"speech fills only {100 * f['speech_share']:.0f} % of the sound")
    if f["noise_db"] < NOISY_DB:
        out.append(f"speech stands only {f['noise_db']:.0f} dB above noise or music")
    if f["clipped_share"] > CLIPPED:
        out.append("the sound is clipped: lower the gain")
    late, confidence = f["sound_late_s"], f["sound_late_confidence"]
    looked = f["close_look"][1] - f["close_look"][0]
    if confidence >= TRUSTED and abs(late) > LATE_S:
        out.append(f"the sound comes {1000 * abs(late):.0f} ms {'late' if late > 0 else 'early'}: prepare corrects it")
    elif confidence < UNRELATED and min(looked * f["speech_share"], f["speech_s"]) > 1.25 * ENOUGH_SPEECH_S:
        out.append("the mouth does not follow the sound: is it another person's voice, or far out of step?")
    return out


def _times(times: tuple[float, ...], what: str) -> str:
    places = ", ".join(f"{time:.1f}" for time in times[:5]) + (", ..." if len(times) > 5 else "")
    return f"{len(times)} {what}{'s' if len(times) > 1 else ''} (at {places} s)"
