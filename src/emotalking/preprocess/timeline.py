"""Which picture of the clip each frame of the subject shows, and when: true rate, used part, exact rational clock.

One pass over the clip (:func:`scan`) notes the time stamp of every picture and how much it differs from the one before.
Pictures that were only repeated to fill a higher rate are dropped and the others get the even times at which they were
filmed; then frame k of the subject, due k / fps after the beginning, is the picture nearest to that instant.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import uniform_filter1d

from emotalking.errors import UserError
from emotalking.io.arrays import load_archive
from emotalking.io.audio import SoundSpan
from emotalking.io.files import replacing
from emotalking.io.video import Damage, Framing, pictures, pixels, to_rgb
from emotalking.preprocess.cadence import common_rate, find_cadence

_GLANCE = 96
"""Width to which pictures are shrunk for comparing."""
SILENT_S = 0.5
"""A shorter stretch without sound at an end of the clip is filled with silence, a longer one left out."""
_STILL_SHARE = 0.1
"""A picture that changes less than this share of what its second usually changes repeats the one before."""


@dataclass(frozen=True)
class Scan:
    """What one look at every picture of a clip tells."""

    times: Float[np.ndarray, " P"]
    """Time stamps in seconds, the clip's own clock."""
    change: Float[np.ndarray, " P"]
    """Root mean square difference to the picture before, in grey levels of the shrunk picture; 0 for the first."""
    damage: Damage


@dataclass(frozen=True)
class Timeline:
    """The pictures that make a subject."""

    fps: Fraction
    """Frames a second of the subject."""
    begin_s: float
    """Time stamp of frame 0, the clip's own clock; the sound is cut to begin there."""
    pictures: Int[np.ndarray, " N"]
    """Number of the clip's picture that each frame shows; never decreases."""
    facts: dict[str, Any]
    """What ``subject.json`` says about it."""

    def read(self, clip: str | Path, framing: Framing | None = None) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The subject's frames in order, RGB, upright.

        Raises:
            UserError: if the clip now ends before its last frame.
        """
        done, image = 0, None
        for number, (_, frame) in enumerate(pictures(clip)):
            while done < len(self.pictures) and self.pictures[done] == number:
                image = to_rgb(frame, framing) if image is None else image
                yield image
                done += 1
            image = None
            if done == len(self.pictures):
                return
        raise UserError(f"{clip} ends after {done} of {len(self.pictures)} frames: it was changed; prepare it anew.")

    def every(self, step: int) -> "Timeline":
        """Every ``step``-th frame, for a look over the clip."""
        return Timeline(self.fps / step, self.begin_s, self.pictures[::step], {})

    def cut(self, begin: int, end: int) -> "Timeline":
        """The frames ``begin`` .. ``end - 1`` alone."""
        return Timeline(self.fps, self.begin_s + float(begin / self.fps), self.pictures[begin:end], {})

    def save(self, path: Path) -> None:
        """Write as ``.npz``; the facts are in ``subject.json``."""
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez(file, fps=np.array(str(self.fps)), begin_s=np.array(self.begin_s), pictures=self.pictures)

    @classmethod
    def load(cls, path: Path) -> "Timeline":
        """Inverse of :meth:`save`, without facts."""
        file = load_archive(path)
        return cls(Fraction(str(file["fps"])), float(file["begin_s"]), file["pictures"], {})


def scan(clip: str | Path) -> Scan:
    """Look at every picture once; memory is a few numbers a picture.

    Raises:
        UserError: no video, or not one picture can be decoded.
    """
    damage = Damage()
    times, change = [], []
    last: np.ndarray | None = None
    for time, frame in pictures(clip, damage):
        small = glance(frame)
        times.append(time)
        same = last is not None and last.shape == small.shape
        change.append(float(np.sqrt(((small - last) ** 2).mean())) if same else 0.0)
        last = small
    return Scan(np.array(times), np.array(change), damage)


def glance(frame: Any) -> Float[np.ndarray, "h w"]:
    """The brightness of a picture, small."""
    name = frame.format.name
    if name in ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray"):
        plane = frame.planes[0]
        grey = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    else:
        grey = pixels(frame, "gray")
    size = (_GLANCE, max(round(grey.shape[0] * _GLANCE / grey.shape[1]), 1))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def parse_rate(text: str | float | int | Fraction) -> Fraction:
    """Frames a second as an exact rational: 25, "30000/1001", or "29.97", which means the same.

    Raises:
        UserError: no rate between 10 and 120.
    """
    try:
        rate = common_rate(float(text)) if isinstance(text, float) or "." in str(text) else Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 10 <= rate <= 120:
        raise UserError(f"fps {text}: give frames a second from 10 to 120, such as 25, 30 or 30000/1001, or 'source'.")
    return rate


def stored_rate(times: Float[np.ndarray, " P"]) -> Fraction:
    """Pictures a second by the time stamps: of the usual step, so that gaps and pauses do not count."""
    if len(times) < 2:
        return Fraction(25)
    steps = np.diff(times)
    usual = steps[np.abs(steps - np.median(steps)) <= 0.25 * np.median(steps) + 1e-9]
    # Stamps in whole milliseconds alternate between two steps: only their mean is exact.
    return common_rate(1.0 / max(float(usual.mean()), 1e-3))


def is_steady(times: Float[np.ndarray, " P"]) -> bool:
    """Whether nearly all pictures follow each other by the same step (two milliseconds of rounding allowed)."""
    step = float(1 / stored_rate(times))
    slots = np.diff(times) / step
    return bool((np.abs(slots - slots.round()) * step < 0.0025).mean() > 0.98 and (slots.round() == 1).mean() > 0.9)


def own_times(seen: Scan) -> tuple[Int[np.ndarray, " U"], Float[np.ndarray, " U"], Fraction]:
    """The pictures that are not mere repeats, the times [s] at which they were filmed, and the true rate."""
    stored = stored_rate(seen.times)
    everything = np.arange(len(seen.times))
    if not is_steady(seen.times):
        span = float(seen.times[-1] - seen.times[0])
        return everything, seen.times, Fraction(max(round((len(seen.times) - 1) / max(span, 1e-3)), 1))
    slots = np.round((seen.times - seen.times[0]) * float(stored)).astype(np.int64)
    change = np.full(int(slots[-1]) + 1, float(np.median(seen.change)))
    change[slots] = seen.change
    cadence = find_cadence(change, stored)
    if cadence is None:
        return everything, seen.times, stored
    first = np.concatenate([[True], np.diff(cadence.sources[slots]) > 0])
    return everything[first], seen.times[0] + cadence.times[slots][first] / float(stored), cadence.rate


def lay_out(
    seen: Scan, fps: Fraction | None, part: tuple[float, float] | None = None, sound: tuple[float, float] | None = None
) -> Timeline:
    """Choose the picture of every frame.

    Args:
        seen: the clip.
        fps: frames a second of the subject; None: the clip's true rate.
        part: use only this, seconds after the clip's first picture.
        sound: begin and end of the sound [s, the clip's own clock]: frames without sound are left out where more
            than :data:`SILENT_S` of them begin or end the clip; None: all.
    """
    numbers, times, true_rate = own_times(seen)
    fps = true_rate if fps is None else fps
    step = float(1 / true_rate)
    begin, end = float(times[0]), float(times[-1]) + step
    zero = float(seen.times[0])
    whole = (begin, end)
    if part is not None:
        begin, end = max(begin, zero + part[0]), min(end, zero + part[1])
    if sound is not None:
        begin = max(begin, sound[0]) if sound[0] - begin > SILENT_S else begin
        end = min(end, sound[1]) if end - sound[1] > SILENT_S else end
    # Frame 0 is a picture's own instant: at the true rate every frame then is.
    begin = float(times[min(int(np.searchsorted(times, begin - step / 2)), len(times) - 1)])
    # Stamps in whole milliseconds must not make the last picture last a frame longer.
    count = max(int(np.ceil((end - begin) * fps - 0.1)), 0)
    due = begin + np.arange(count) / float(fps)
    chosen = np.searchsorted((times[1:] + times[:-1]) / 2, due - 1e-6)
    facts = {
        "fps": str(fps),
        "true_fps": str(true_rate),
        "stored_fps": str(stored_rate(seen.times)),
        "steady": is_steady(seen.times),
        "pictures": len(seen.times),
        "repeats_dropped": len(seen.times) - len(numbers),
        "frames": count,
        "part_s": [round(begin - zero, 3), round(begin - zero + count / float(fps), 3)],
        "clip_s": round(whole[1] - whole[0], 3),
        **evenness(seen, numbers[chosen], times[chosen], fps),
    }
    return Timeline(fps, begin, numbers[chosen], facts)


def evenness(
    seen: Scan, shown: Int[np.ndarray, " N"], times: Float[np.ndarray, " N"], fps: Fraction
) -> dict[str, float | int]:
    """How evenly the motion runs in the chosen frames.

    Args:
        seen: the clip.
        shown: number of each frame's picture.
        times: when it was filmed [s].
        fps: frames a second.

    Returns:
        ``unevenness_ms``: root mean square of (time between the pictures of neighbouring frames - 1 / fps);
        ``longest_hold_s``, ``longest_hold_at_s``: the longest time without a new picture, and where it begins;
        ``still_frames``: frames whose picture is that of the frame before, as can be seen (a repeat in the clip too).
    """
    if len(shown) < 2:
        return {"unevenness_ms": 0.0, "longest_hold_s": 0.0, "longest_hold_at_s": 0.0, "still_frames": 0}
    step = np.diff(times)
    error = step - float(1 / fps)
    # What changed between two shown pictures is what all pictures between them changed.
    total = np.cumsum(seen.change)
    moved = np.diff(total[shown])
    usual = uniform_filter1d(moved, 2 * int(fps) + 1, mode="nearest")
    return {
        "unevenness_ms": round(float(np.sqrt((error**2).mean()) * 1000), 2),
        "longest_hold_s": round(float(step.max()), 3),
        "longest_hold_at_s": round(float(times[step.argmax()] - seen.times[0]), 3),
        "still_frames": int((moved < _STILL_SHARE * usual).sum()),
    }


def complaints(clip: Path, seen: Scan, sound: SoundSpan, timeline: Timeline) -> list[str]:
    """What a person should know about the clip's clock, a short sentence each."""
    begin, end = timeline.begin_s, timeline.begin_s + float(len(timeline.pictures) / timeline.fps)
    zero = float(seen.times[0])
    out = []
    if seen.damage.promised_s is not None:
        out.append(f"{clip.name} is cut short: it promises {seen.damage.promised_s:.1f} s; the good part is used.")
    early = [time for time in seen.damage.lost if time < zero]
    if early:
        out.append(f"{clip.name}: its first {zero - min(early):.1f} s are damaged and left out.")
    lost = [time for time in seen.damage.lost if begin <= time <= end]
    if lost:
        until = max(seen.damage.smeared_until[seen.damage.lost.index(time)] for time in lost) - zero
        out.append(
            f"{len(lost)} damaged pictures are bridged at {_places([time - zero for time in lost])}; pictures up to "
            f"{until:.1f} s may carry traces (--part leaves them out)."
        )
    broken = [time for time in sound.damaged if begin <= time <= end]
    if broken:
        out.append(f"damaged sound is silent at {_places([time - zero for time in broken])}.")
    facts = timeline.facts
    left, right = facts["part_s"]
    if left > SILENT_S and abs(sound.begin - begin) < SILENT_S:
        out.append(f"the sound begins {sound.begin - zero:.1f} s after the picture: frames before it are left out.")
    if right < facts["clip_s"] - SILENT_S and abs(sound.end - end) < SILENT_S:
        out.append(f"the sound ends at {sound.end - zero:.1f} s, before the picture: frames behind it are left out.")
    true_rate = Fraction(facts["true_fps"])
    if facts["steady"] and timeline.fps != true_rate and facts["unevenness_ms"] > 8:
        out.append(
            f"the clip shows {float(true_rate):.4g} pictures/s: at {float(timeline.fps):.4g} its motion is uneven by "
            f"{facts['unevenness_ms']:.0f} ms; --fps source keeps it even."
        )
    return out


def _places(times: list[float]) -> str:
    """A few times for a sentence; those that are less than a second apart count as one."""
    apart = [time for i, time in enumerate(times) if i == 0 or time - times[i - 1] > 1]
    return ", ".join(f"{time:.1f} s" for time in apart[:5]) + (", ..." if len(apart) > 5 else "")
