"""Footage check: suitability of a clip for an avatar, measured in seconds before hours of work.

One pass over all frames, small and grey (:mod:`emotalking.preprocess.scan`: cuts, black, repeats, exposure), one with
the networks over a bounded number of them: :data:`MAX_DETECTIONS` spread over the clip (faces, hands, blur) and all
frames of the :data:`CLOSE_S` with the most speech (mouth, blinks, audio offset). The meaning of each measure, and the
value from which it is a warning, are in :mod:`emotalking.preprocess.check.verdict`.
"""

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Bool

from emotalking.io.audio import SAMPLE_RATE, SoundSpan
from emotalking.lipsync.offset import AudioOffset, measure_offset
from emotalking.ops.box import Box
from emotalking.preprocess.check import measures
from emotalking.preprocess.check.face_pass import FaceScan, scan_faces, summary
from emotalking.preprocess.check.measures import STEP_S, SoundFacts, most_spoken, sound_facts
from emotalking.preprocess.check.verdict import Footage, assess
from emotalking.preprocess.scan import (
    ClipScan,
    black_frames,
    exposure_range,
    frozen_frames,
    gap_starts,
    longest_part,
    scan_clip,
    shot_starts,
)
from emotalking.preprocess.timeline import is_steady, own_times, stored_rate
from emotalking.preprocess.tracking import LONGEST_GAP_S

CLOSE_S = 16.0
"""Seconds that are searched frame by frame: twice of what the audio offset needs."""
MAX_DETECTIONS = 120
DETECTION_STEP_S = 0.5
"""Seconds between the spread frames; longer in clips of more than a minute."""
_FASTEST = 32.0
"""Frame rate above which every second frame is enough."""
_MOST_JUMPS = 30
_JUMP_LEAP = 0.3
"""A cut is a jump cut if less than this share of the frame changed its grey level (measured: jump cuts of real clips
0.04 to 0.23, other scenes 0.35 and more), and within the next two limits."""
_JUMP_MOVE = 0.5
"""Largest move of the face over a jump cut, in face heights."""
_JUMP_GROW = 1.3
"""Largest factor of the face's size over a jump cut."""
_SOUND_EDGE_S = 0.5
_STILLS = 8


def check_clip(clip: str | Path, *, turn: int = 0, audio_track: int | None = None, spoken: bool = True) -> Footage:
    """Measure a clip and give a verdict.

    Args:
        clip: the clip.
        turn: degrees clockwise by which it is turned, in addition to what it notes.
        audio_track: see :func:`~emotalking.io.audio.iter_audio`.
        spoken: False for a clip of expressions, which needs neither sound nor moving lips.

    Raises:
        InputError: the video cannot be read; any other problem is part of the verdict.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scan = scan_clip(clip, Path(folder), turn=turn, audio_track=audio_track)
        return check_scanned(clip, scan, spoken=spoken)[0]


def check_scanned(
    clip: str | Path, scan: ClipScan, boxes: Collection[int] = (), *, spoken: bool = True
) -> tuple[Footage, dict[int, list[Box]]]:
    """:func:`check_clip` after the first pass, in one more.

    Args:
        clip: the clip.
        scan: its first pass.
        boxes: numbers of further frames whose faces are needed.
        spoken: see :func:`check_clip`.

    Returns:
        The check, and the faces of the frames in ``boxes`` at full size.
    """
    sound = sound_facts(scan.samples) if len(scan.samples) else None
    numbers, own, true_fps = own_times(scan)
    own = own - float(scan.times[0])
    step = float(1 / true_fps)
    cuts = shot_starts(scan)
    window = _close_window(scan, cuts, step, sound)
    close = numbers[(own >= window[0] - 1e-6) & (own < window[1])][:: 1 if float(true_fps) <= _FASTEST else 2]
    spread = _spread(scan)
    around_cuts = {n for cut in cuts[:_MOST_JUMPS] for n in (cut - 1, cut)}
    stills = set(spread[:: -(-len(spread) // _STILLS)])
    wanted = set(spread) | around_cuts, {int(n) for n in close}, stills
    faces = scan_faces(clip, *wanted, float(scan.times[0]), boxes, scan.view)
    jumps = [cut for cut in cuts[:_MOST_JUMPS] if _is_jump(scan, faces, cut)]
    shots = [cut for cut in cuts if cut not in jumps]
    good = _good(scan) & _with_one_face(scan, faces)
    part = longest_part(scan.seconds, good, shots, step, LONGEST_GAP_S)
    rows = np.isin(faces.numbers, close)
    times = np.interp(np.array(faces.numbers)[rows], numbers, own) - window[0]
    motion, offset = _motion(faces, rows, times, scan, window)
    facts: dict[str, Any] = {
        **_frame_facts(scan, (numbers, true_fps), shots, jumps),
        **summary(faces, scan.size),
        **motion,
        **_sound_facts(scan, sound, offset),
        "part": part,
        "lost_share": _lost_share(scan, faces, part),
        "close_look": window,
    }
    facts = {name: _rounded(value) for name, value in facts.items()}
    verdict, reasons, warnings = assess(facts, spoken=spoken)
    curves = _curves(scan, faces, sound, (rows, times + window[0]), offset)
    facts |= {"verdict": verdict, "reasons": reasons, "warnings": warnings, "curves": curves}
    return Footage(clip=str(clip), stills=tuple(faces.stills), **facts), faces.boxes


def plain_part(scan: ClipScan) -> tuple[float, float]:
    """The longest part [s after the first frame] without a cut, black or missing sound, before faces are searched."""
    step = float(1 / own_times(scan)[2])
    return longest_part(scan.seconds, _good(scan), shot_starts(scan), step, LONGEST_GAP_S)


def _rounded(value: Any) -> Any:
    """Numbers with four decimals, also within tuples."""
    if isinstance(value, tuple):
        return tuple(_rounded(item) for item in value)
    return round(value, 4) if isinstance(value, float) else value


def _good(scan: ClipScan) -> Bool[np.ndarray, " P"]:
    """Frames that are not black, move and have sound; a little less sound at the end is filled with silence."""
    good = ~black_frames(scan.brightness, scan.contrast) & ~frozen_frames(scan.times, scan.change, LONGEST_GAP_S)
    if len(scan.samples) and scan.seconds[-1] - scan.sound_s > _SOUND_EDGE_S:
        good &= scan.seconds < scan.sound_s
    return good


def _close_window(scan: ClipScan, cuts: list[int], step: float, sound: SoundFacts | None) -> tuple[float, float]:
    """Window in which every frame is searched: the most speech without a cut."""
    whole, good = (0.0, float(scan.seconds[-1]) + step), _good(scan)
    part = longest_part(scan.seconds, good, cuts, step, LONGEST_GAP_S)
    if part[1] - part[0] < min(CLOSE_S / 2, whole[1]):
        part = longest_part(scan.seconds, good, [], step, LONGEST_GAP_S)
    part = whole if part[1] <= part[0] else part
    return most_spoken(np.zeros(0, bool) if sound is None else sound.active, part, CLOSE_S)


def _spread(scan: ClipScan) -> list[int]:
    """Numbers of frames at even distances."""
    seconds = float(scan.seconds[-1])
    count = int(np.clip(seconds / DETECTION_STEP_S, 4, MAX_DETECTIONS))
    found = np.searchsorted(scan.seconds, np.linspace(0, seconds, count) - 1e-6)
    return sorted({int(n) for n in np.minimum(found, len(scan.seconds) - 1)})


def _is_jump(scan: ClipScan, faces: FaceScan, cut: int) -> bool:
    """True if the same person goes on behind a cut, as far as place, size and surroundings tell."""
    both = [faces.points[faces.numbers.index(n)] for n in (cut - 1, cut)]
    reshaped = cut in np.searchsorted(scan.times, np.array(scan.conversions.reshaped))
    if faces.layout is None or reshaped or scan.leap[cut] > _JUMP_LEAP or any(points is None for points in both):
        return False
    points = np.stack([row for row in both if row is not None]).astype(np.float64)
    heights = measures.face_height(points, faces.layout)
    moved = float(np.linalg.norm(points[0, :, :2].mean(0) - points[1, :, :2].mean(0)))
    return bool(moved < _JUMP_MOVE * heights.max() and heights.max() < _JUMP_GROW * heights.min())


def _with_one_face(scan: ClipScan, faces: FaceScan) -> Bool[np.ndarray, " P"]:
    """Frames not in a stretch, from one detection to the next, that lost the face for long or shows another one."""
    good = np.ones(len(scan.seconds), bool)
    at = scan.seconds[faces.numbers]
    single = np.array([faces.other_faces.get(n, 0) == 0 for n in faces.numbers], bool)
    for bad, longest in ((~faces.detected, LONGEST_GAP_S), (~single, 0.0)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(int), [0]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            begin = at[first - 1] if first else -np.inf
            end = at[last] if last < len(at) else np.inf
            if min(end, scan.seconds[-1]) - max(begin, 0.0) > longest:
                good &= (scan.seconds <= begin) | (scan.seconds >= end)
    return good


def _lost_share(scan: ClipScan, faces: FaceScan, part: tuple[float, float]) -> float:
    """Share of the searched frames within the part in which no face was found."""
    at = scan.seconds[faces.numbers]
    inside = (at >= part[0]) & (at < part[1])
    return float((~faces.detected[inside]).mean()) if inside.any() else 0.0


def _motion(
    faces: FaceScan, rows: np.ndarray, times: np.ndarray, scan: ClipScan, window: tuple[float, float]
) -> tuple[dict[str, float], AudioOffset]:
    """Motion of the face in the densely tracked part, and its audio offset."""
    facts = {"mouth_range": 0.0, "closed_share": 0.0, "blinks_per_minute": 0.0}
    points = faces.track()[rows]
    if len(times) < 2 or faces.layout is None or not faces.detected[rows].any():
        return facts, measure_offset(np.zeros(0), 25, np.zeros(0, np.float32))
    fps = (len(times) - 1) / float(times[-1] - times[0])
    even = times[0] + np.arange(len(times)) / fps
    opening = np.interp(even, times, measures.mouth_opening(points, faces.layout))
    detected = opening[np.isfinite(opening)]
    lids = measures.lid_gap(points, faces.layout)
    if len(detected):
        facts["mouth_range"] = float(np.ptp(np.percentile(detected, [5, 95])))
        facts["closed_share"] = float((detected < measures.CLOSED).mean())
        facts["blinks_per_minute"] = 60 * len(measures.blink_starts(lids, fps)) / (len(times) / fps)
    first = round((window[0] + float(times[0])) * SAMPLE_RATE)
    return facts, measure_offset(opening, fps, scan.samples[first : round(window[1] * SAMPLE_RATE)])


def _frame_facts(
    scan: ClipScan, own: tuple[np.ndarray, Fraction], shots: list[int], jumps: list[int]
) -> dict[str, Any]:
    """Measures of the first pass."""
    stored = stored_rate(scan.times)
    seconds = float(scan.seconds[-1]) + float(1 / stored)
    black = black_frames(scan.brightness, scan.contrast)
    promised = scan.damage.promised_s
    height, width = scan.size
    return {
        "seconds": seconds,
        "width": width,
        "height": height,
        "stored_fps": str(stored),
        "true_fps": str(own[1]),
        "steady": is_steady(scan.times),
        "duplicate_share": 1 - len(own[0]) / len(scan.seconds),
        "damaged_frames": len(scan.damage.lost),
        "cut_short_s": 0.0 if promised is None else max(promised - seconds, 0.0),
        "bits_per_pixel": 8 * scan.info.path.stat().st_size / (width * height * len(scan.seconds)),
        "cuts": tuple(round(float(scan.seconds[n]), 3) for n in shots),
        "jumps": tuple(round(float(scan.seconds[n]), 3) for n in jumps),
        "black_share": float(black.mean()),
        "frozen_share": float(frozen_frames(scan.times, scan.change, LONGEST_GAP_S).mean()),
        "gaps": tuple(round(float(scan.seconds[n]), 3) for n in gap_starts(scan.times, LONGEST_GAP_S)),
        "interlaced": scan.conversions.deinterlaced > 0,
        "tone_mapped": scan.conversions.tone_mapped,
        "aspect": scan.conversions.aspect,
        "resized": tuple(round(time - float(scan.times[0]), 3) for time in scan.conversions.resized),
        "video_tracks": scan.conversions.video_tracks,
        "crop": scan.conversions.crop,
        "exposure_range": exposure_range(scan.seconds, scan.brightness, ~black),
    }


def _sound_facts(scan: ClipScan, sound: SoundFacts | None, offset: AudioOffset) -> dict[str, Any]:
    """Measures of the sound."""
    span = scan.sound or SoundSpan()
    facts: dict[str, Any] = {"sound_late_s": offset.seconds, "sound_late_confidence": offset.confidence}
    facts |= {"sound_track": span.track, "sound_tracks": span.tracks}
    if sound is None:
        return facts | dict.fromkeys(("sound_s", "speech_share", "speech_s", "noise_db", "clipped_share"), 0.0)
    names = ("speech_share", "speech_s", "noise_db", "clipped_share")
    return facts | {"sound_s": scan.sound_s} | {name: getattr(sound, name) for name in names}


def _curves(
    scan: ClipScan, faces: FaceScan, sound: SoundFacts | None, close: tuple[np.ndarray, np.ndarray], offset: AudioOffset
) -> dict[str, list[float]]:
    """Curves for the page, at most some thousand values each."""

    def row(values: np.ndarray, step: int = 1) -> list[float]:
        return [round(float(value), 4) for value in values[::step]]

    thin = max(len(scan.seconds) // 2000, 1)
    out = {
        "frame_s": row(scan.seconds, thin),
        "brightness": row(scan.brightness, thin),
        "change": row(scan.change, thin),
        "offset_s": row(offset.curve_seconds),
        "offset_evidence": row(offset.curve),
        "close_s": row(close[1]),
    }
    if sound is not None:
        thin = max(len(sound.level_db) // 2000, 1)
        out["sound_s"] = row(np.arange(len(sound.level_db)) * STEP_S, thin)
        out["level_db"] = row(sound.level_db, thin)
        out["speech"] = row(sound.active, thin)
    if faces.layout is not None and faces.detected.any():
        points, spread = faces.track(), np.array(faces.spread, bool) & faces.detected
        turn = measures.head_turn(points[spread], faces.layout)
        out["looks_s"] = row(scan.seconds[np.array(faces.numbers)[spread]])
        out["yaw"], out["pitch"] = row(turn[:, 0]), row(turn[:, 1])
        near = points[close[0]]
        opening, lids = measures.mouth_opening(near, faces.layout), measures.lid_gap(near, faces.layout)
        # JSON knows no NaN: lost frames repeat the last value seen, which a plot shows as a flat line.
        for name, values in (("opening", opening), ("lids", lids)):
            good = np.flatnonzero(np.isfinite(values))
            out[name] = row(np.interp(np.arange(len(values)), good, values[good])) if len(good) else []
    return out
