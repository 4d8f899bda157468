"""``emotalking check``: will this clip make an avatar? Seconds of looking before hours of work.

One pass over all pictures, small and grey (cuts, black, repeats, exposure), one with the networks over a bounded number
of them: :data:`MOST_LOOKS` spread over the clip (faces, hands, blur) and every frame of the :data:`CLOSE_S` with the
most speech (mouth, blinks, step with the sound). What each measure means and from which value on it is a warning is
written in :mod:`emotalking.preprocess.check.verdict`.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from emotalking.errors import UserError
from emotalking.io.audio import SAMPLE_RATE, iter_audio
from emotalking.io.video import ClipInfo, probe
from emotalking.lipsync.offset import AudioOffset, measure_offset
from emotalking.preprocess.check import face
from emotalking.preprocess.check.face_pass import Looks, look, summary
from emotalking.preprocess.check.frame_pass import (
    PictureScan,
    black_frames,
    exposure_range,
    find_cuts,
    longest_part,
    scan_pictures,
)
from emotalking.preprocess.check.page import write_page
from emotalking.preprocess.check.results import Footage
from emotalking.preprocess.check.sound import STEP_S, SoundFacts, most_spoken, sound_facts
from emotalking.preprocess.check.verdict import judge
from emotalking.preprocess.landmarks import LONGEST_GAP_S
from emotalking.preprocess.timeline import is_steady, own_times, stored_rate

__all__ = ["CLOSE_S", "MOST_LOOKS", "Footage", "check_clip", "write_page"]

CLOSE_S = 16.0
"""Seconds that are looked at frame by frame: twice of what the audio offset needs."""
MOST_LOOKS = 120
LOOK_EVERY_S = 0.5
"""Seconds between the spread pictures; longer in clips of more than a minute."""
_FASTEST = 32.0
"""Of clips with more pictures a second every second one is enough."""
_MOST_JUMPS = 30
_JUMP_LEAP, _JUMP_MOVE, _JUMP_GROW = 0.3, 0.5, 1.3
"""A cut is a jump cut if less than this share of the picture changed its grey level and the face stays within so many
face heights and this factor of size. Measured: jump cuts of real clips 0.04 to 0.23, other scenes 0.35 and more."""
_SOUND_EDGE_S = 0.5
_STILLS = 8


@dataclass(frozen=True)
class _Heard:
    """The sound, from the first picture on."""

    samples: Float[np.ndarray, " S"]
    facts: SoundFacts

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def check_clip(clip: str | Path) -> Footage:
    """Measure a clip and judge it.

    Raises:
        UserError: no video that can be read at all; anything else is said in the verdict.
    """
    info = probe(clip)
    scan = scan_pictures(clip)
    heard = _listen(clip, info, scan)
    numbers, own, true_fps = own_times(scan.scan)
    own = own - float(scan.scan.times[0])
    step = float(1 / true_fps)
    cuts = find_cuts(scan.scan.change, scan.leap)
    good = ~black_frames(scan.brightness, scan.spread) & _sounding(scan, heard)
    window = _close_window(scan, good, cuts, step, heard)
    close = numbers[(own >= window[0] - 1e-6) & (own < window[1])][:: 1 if float(true_fps) <= _FASTEST else 2]
    spread = _spread(scan)
    beside = {n for cut in cuts[:_MOST_JUMPS] for n in (cut - 1, cut)}
    stills = set(spread[:: -(-len(spread) // _STILLS)])
    looks = look(clip, set(spread) | beside, {int(n) for n in close}, stills, float(scan.scan.times[0]))
    jumps = [cut for cut in cuts[:_MOST_JUMPS] if _is_jump(scan, looks, cut)]
    shots = [cut for cut in cuts if cut not in jumps]
    part = longest_part(scan.times, good & _with_one_face(scan, looks), shots, step)
    rows = np.isin(looks.numbers, close)
    times = np.interp(np.array(looks.numbers)[rows], numbers, own) - window[0]
    motion, offset = _motion(looks, rows, times, heard, window)
    facts: dict[str, Any] = {
        **_picture_facts(info, scan, (numbers, true_fps), shots, jumps),
        **summary(looks, (info.height, info.width)),
        **motion,
        **_sound_facts(heard, offset),
        "part": part,
        "close_look": window,
    }
    facts = {name: _rounded(value) for name, value in facts.items()}
    verdict, reasons, warnings = judge(facts)
    curves = _curves(scan, looks, heard, (rows, times + window[0]), offset)
    return Footage(
        clip=str(clip),
        verdict=verdict,
        reasons=reasons,
        warnings=warnings,
        curves=curves,
        stills=tuple(looks.stills),
        **facts,
    )


def _rounded(value: Any) -> Any:
    """Numbers with four decimals, also within tuples."""
    if isinstance(value, tuple):
        return tuple(_rounded(item) for item in value)
    return round(value, 4) if isinstance(value, float) else value


def _listen(clip: str | Path, info: ClipInfo, scan: PictureScan) -> _Heard | None:
    """All sound of the clip, or None if there is none."""
    if not info.has_audio:
        return None
    try:
        pieces = list(iter_audio(clip, start=float(scan.scan.times[0]), strict=False))
    except UserError:
        return None  # a stream without a sample that can be decoded
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return _Heard(samples, sound_facts(samples)) if len(samples) else None


def _sounding(scan: PictureScan, heard: _Heard | None) -> Bool[np.ndarray, " P"]:
    """Pictures with sound; a little less at the end is filled with silence."""
    if heard is None:
        return np.ones(len(scan.times), bool)
    missing = scan.times[-1] - heard.seconds
    return scan.times < (heard.seconds if missing > _SOUND_EDGE_S else np.inf)


def _close_window(
    scan: PictureScan, good: np.ndarray, cuts: list[int], step: float, heard: _Heard | None
) -> tuple[float, float]:
    """Where to look at every frame: the most speech without a cut."""
    whole = (0.0, float(scan.times[-1]) + step)
    part = longest_part(scan.times, good, cuts, step)
    if part[1] - part[0] < min(CLOSE_S / 2, whole[1]):
        part = longest_part(scan.times, good, [], step)
    part = whole if part[1] <= part[0] else part
    active = np.zeros(0, bool) if heard is None else heard.facts.active
    return most_spoken(active, part, CLOSE_S)


def _spread(scan: PictureScan) -> list[int]:
    """Numbers of pictures at even distances."""
    seconds = float(scan.times[-1])
    count = int(np.clip(seconds / LOOK_EVERY_S, 4, MOST_LOOKS))
    found = np.searchsorted(scan.times, np.linspace(0, seconds, count) - 1e-6)
    return sorted({int(n) for n in np.minimum(found, len(scan.times) - 1)})


def _is_jump(scan: PictureScan, looks: Looks, cut: int) -> bool:
    """Whether the same person goes on behind a cut, as far as place, size and surroundings tell."""
    both = [looks.points[looks.numbers.index(n)] for n in (cut - 1, cut)]
    if looks.layout is None or scan.leap[cut] > _JUMP_LEAP or any(points is None for points in both):
        return False
    points = np.stack([row for row in both if row is not None]).astype(np.float64)
    heights = face.face_height(points, looks.layout)
    moved = float(np.linalg.norm(points[0, :, :2].mean(0) - points[1, :, :2].mean(0)))
    return bool(moved < _JUMP_MOVE * heights.max() and heights.max() < _JUMP_GROW * heights.min())


def _with_one_face(scan: PictureScan, looks: Looks) -> Bool[np.ndarray, " P"]:
    """Pictures not in a stretch, from one look to the next, that lost the face for long or shows another one."""
    good = np.ones(len(scan.times), bool)
    at = scan.times[looks.numbers]
    alone = np.array([looks.rivals.get(n, 0) == 0 for n in looks.numbers], bool)
    for bad, longest in ((~looks.seen, LONGEST_GAP_S), (~alone, 0.0)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(int), [0]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            begin = at[first - 1] if first else -np.inf
            end = at[last] if last < len(at) else np.inf
            if min(end, scan.times[-1]) - max(begin, 0.0) > longest:
                good &= (scan.times <= begin) | (scan.times >= end)
    return good


def _motion(
    looks: Looks, rows: np.ndarray, times: np.ndarray, heard: _Heard | None, window: tuple[float, float]
) -> tuple[dict[str, float], AudioOffset]:
    """How the face moves in the close look, and how the sound is in step with it."""
    facts = {"mouth_range": 0.0, "closed_share": 0.0, "blinks_per_minute": 0.0}
    points = looks.track()[rows]
    if len(times) < 2 or looks.layout is None or not looks.seen[rows].any():
        return facts, measure_offset(np.zeros(0), 25, np.zeros(0, np.float32))
    fps = (len(times) - 1) / float(times[-1] - times[0])
    even = times[0] + np.arange(len(times)) / fps
    opening = np.interp(even, times, face.mouth_opening(points, looks.layout))
    seen = opening[np.isfinite(opening)]
    lids = face.lid_gap(points, looks.layout)
    if len(seen):
        facts["mouth_range"] = float(np.ptp(np.percentile(seen, [5, 95])))
        facts["closed_share"] = float((seen < face.CLOSED).mean())
        facts["blinks_per_minute"] = 60 * len(face.blink_starts(lids, fps)) / (len(times) / fps)
    samples = np.zeros(0, np.float32) if heard is None else heard.samples
    first = round((window[0] + float(times[0])) * SAMPLE_RATE)
    return facts, measure_offset(opening, fps, samples[first : round(window[1] * SAMPLE_RATE)])


def _picture_facts(
    info: ClipInfo, scan: PictureScan, own: tuple[np.ndarray, Fraction], shots: list[int], jumps: list[int]
) -> dict[str, Any]:
    """What the first pass tells."""
    stored = stored_rate(scan.scan.times)
    seconds = float(scan.times[-1]) + float(1 / stored)
    black = black_frames(scan.brightness, scan.spread)
    promised = scan.scan.damage.promised_s
    pixels = info.width * info.height * len(scan.times)
    return {
        "seconds": seconds,
        "width": info.width,
        "height": info.height,
        "stored_fps": str(stored),
        "true_fps": str(own[1]),
        "steady": is_steady(scan.scan.times),
        "duplicate_share": 1 - len(own[0]) / len(scan.times),
        "damaged_pictures": len(scan.scan.damage.lost),
        "cut_short_s": 0.0 if promised is None else max(promised - seconds, 0.0),
        "bits_per_pixel": 8 * info.path.stat().st_size / pixels,
        "cuts": tuple(round(float(scan.times[n]), 3) for n in shots),
        "jumps": tuple(round(float(scan.times[n]), 3) for n in jumps),
        "black_share": float(black.mean()),
        "exposure_range": exposure_range(scan.times, scan.brightness, ~black),
    }


def _sound_facts(heard: _Heard | None, offset: AudioOffset) -> dict[str, Any]:
    """What the sound tells."""
    facts: dict[str, Any] = {"sound_late_s": offset.seconds, "sound_late_confidence": offset.confidence}
    if heard is None:
        return facts | dict.fromkeys(("sound_s", "speech_share", "speech_s", "noise_db", "clipped_share"), 0.0)
    names = ("speech_share", "speech_s", "noise_db", "clipped_share")
    return facts | {"sound_s": heard.seconds} | {name: getattr(heard.facts, name) for name in names}


def _curves(
    scan: PictureScan, looks: Looks, heard: _Heard | None, close: tuple[np.ndarray, np.ndarray], offset: AudioOffset
) -> dict[str, list[float]]:
    """What the page plots, at most some thousand values a curve."""

    def row(values: np.ndarray, step: int = 1) -> list[float]:
        return [round(float(value), 4) for value in values[::step]]

    thin = max(len(scan.times) // 2000, 1)
    out = {
        "picture_s": row(scan.times, thin),
        "brightness": row(scan.brightness, thin),
        "change": row(scan.scan.change, thin),
        "offset_s": row(offset.curve_seconds),
        "offset_evidence": row(offset.curve),
        "close_s": row(close[1]),
    }
    if heard is not None:
        thin = max(len(heard.facts.level_db) // 2000, 1)
        out["sound_s"] = row(np.arange(len(heard.facts.level_db)) * STEP_S, thin)
        out["level_db"] = row(heard.facts.level_db, thin)
        out["speech"] = row(heard.facts.active, thin)
    if looks.layout is not None and looks.seen.any():
        points, spread = looks.track(), np.array(looks.spread, bool) & looks.seen
        turn = face.head_turn(points[spread], looks.layout)
        out["looks_s"] = row(scan.times[np.array(looks.numbers)[spread]])
        out["yaw"], out["pitch"] = row(turn[:, 0]), row(turn[:, 1])
        near = points[close[0]]
        opening, lids = face.mouth_opening(near, looks.layout), face.lid_gap(near, looks.layout)
        # JSON knows no NaN: lost frames repeat the last value seen, which a plot shows as a flat line.
        for name, values in (("opening", opening), ("lids", lids)):
            good = np.flatnonzero(np.isfinite(values))
            out[name] = row(np.interp(np.arange(len(values)), good, values[good])) if len(good) else []
    return out
