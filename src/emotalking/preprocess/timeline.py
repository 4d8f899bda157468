"""Frame of the clip for each frame of the subject: true frame rate, used part, exact rational clock.

The first pass over the clip (:mod:`emotalking.preprocess.scan`) notes the time stamp of every frame and how much it
differs from the one before. Frames that were only repeated to fill a higher rate are dropped and the others get the
even times at which they were filmed; then frame k of the subject, due k / fps after the beginning, is the clip's frame
nearest to that instant.
"""

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import uniform_filter1d

from emotalking.errors import InputError
from emotalking.io.arrays import load_archive
from emotalking.io.audio import SAMPLE_RATE, SoundSpan, iter_audio
from emotalking.io.display import Framing, to_rgb
from emotalking.io.files import replacing
from emotalking.io.reading import frame_rate, reading
from emotalking.io.video import AS_NOTED, View, decode_frames
from emotalking.preprocess.cadence import common_rate, find_cadence
from emotalking.preprocess.scan import Scan

SILENT_S = 0.5
"""A shorter stretch without sound at an end of the clip is filled with silence, a longer one left out."""
_STILL_SHARE = 0.1
"""A frame that changes less than this share of what its second usually changes repeats the one before."""


@dataclass(frozen=True)
class Timeline:
    """The frames of a clip that make a subject."""

    fps: Fraction
    """Frame rate of the subject."""
    begin_s: float
    """Time stamp of frame 0, the clip's own clock; the sound is cut to begin there."""
    source: Int[np.ndarray, " N"]
    """Number of the clip's frame that each frame of the subject shows; never decreases."""
    facts: dict[str, Any]
    """Record for ``subject.json``."""

    def read(
        self, clip: str | Path, framing: Framing | None = None, view: View = AS_NOTED
    ) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The subject's frames in order, RGB, as they are shown.

        Raises:
            InputError: if the clip now ends before its last frame.
        """
        done, image = 0, None
        for number, (_, frame) in enumerate(decode_frames(clip, view=view)):
            while done < len(self.source) and self.source[done] == number:
                image = to_rgb(frame, framing) if image is None else image
                yield image
                done += 1
            image = None
            if done == len(self.source):
                return
        raise InputError(f"{clip} ends after {done} of {len(self.source)} frames: it was changed; prepare it again.")

    def write_sound(self, path: Path, clip: str | Path, late_s: float = 0.0, track: int | None = None) -> float:
        """Write ``aud.wav`` (16 kHz mono int16): sample n is n / 16000 s after the first frame.

        Damaged sound is silence of the same length, and so is the time before or after the clip's sound. Memory does
        not grow with the clip.

        Args:
            path: the file.
            clip: its sound is taken.
            late_s: the clip's sound is moved earlier by this much.
            track: see :func:`~emotalking.io.audio.iter_audio`.

        Returns:
            Seconds of silence added at the end.
        """
        wanted, done = round(len(self.source) * SAMPLE_RATE / self.fps), 0
        # The wave module, because soundfile overlooks a full disk.
        with replacing(path) as scratch, scratch.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            for chunk in iter_audio(clip, start=self.begin_s + late_s, strict=False, track=track):
                samples = chunk[: wanted - done]
                file.writeframesraw(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
                done += len(samples)
                if done == wanted:
                    break
            for begin in range(done, wanted, SAMPLE_RATE):
                file.writeframesraw(bytes(2 * min(SAMPLE_RATE, wanted - begin)))
        return round((wanted - done) / SAMPLE_RATE, 3)

    def every(self, step: int) -> "Timeline":
        """Every ``step``-th frame, as samples of the clip."""
        return Timeline(self.fps / step, self.begin_s, self.source[::step], {})

    def save(self, path: Path) -> None:
        """Write as ``.npz``; the facts are in ``subject.json``."""
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez(file, fps=np.array(str(self.fps)), begin_s=np.array(self.begin_s), source=self.source)

    @classmethod
    def load(cls, path: Path) -> "Timeline":
        """Inverse of :meth:`save`, without facts.

        Raises:
            InputError: the file is damaged.
        """
        with reading(path, "is damaged", "remove it and prepare the clip again"):
            file = load_archive(path)
            source = file["source" if "source" in file else "pictures"]  # the name before 0.2.0
            if source.ndim != 1 or source.dtype.kind != "i" or (np.diff(source, prepend=0) < 0).any():
                raise ValueError("frame numbers that are not in order")
            begin_s = float(file["begin_s"])
            if not np.isfinite(begin_s):
                raise ValueError("a beginning that is not finite")
            return cls(frame_rate(str(file["fps"])), begin_s, source, {})


def stored_rate(times: Float[np.ndarray, " P"]) -> Fraction:
    """Frame rate by the time stamps: of the usual step, so that gaps and pauses do not count."""
    if len(times) < 2:
        return Fraction(25)
    steps = np.diff(times)
    usual = steps[np.abs(steps - np.median(steps)) <= 0.25 * np.median(steps) + 1e-9]
    # Stamps in whole milliseconds alternate between two steps: only their mean is exact.
    return common_rate(1.0 / max(float(usual.mean()), 1e-3))


def is_steady(times: Float[np.ndarray, " P"]) -> bool:
    """True if nearly all frames follow each other by the same step (two milliseconds of rounding allowed)."""
    step = float(1 / stored_rate(times))
    slots = np.diff(times) / step
    return bool((np.abs(slots - slots.round()) * step < 0.0025).mean() > 0.98 and (slots.round() == 1).mean() > 0.9)


def own_times(scan: Scan) -> tuple[Int[np.ndarray, " U"], Float[np.ndarray, " U"], Fraction]:
    """Frames that are not repeats, the times [s] at which they were filmed, and the true frame rate."""
    stored = stored_rate(scan.times)
    everything = np.arange(len(scan.times))
    if not is_steady(scan.times):
        span = float(scan.times[-1] - scan.times[0])
        return everything, scan.times, Fraction(max(round((len(scan.times) - 1) / max(span, 1e-3)), 1))
    slots = np.round((scan.times - scan.times[0]) * float(stored)).astype(np.int64)
    change = np.full(int(slots[-1]) + 1, float(np.median(scan.change)))
    change[slots] = scan.change
    cadence = find_cadence(change, stored)
    if cadence is None:
        return everything, scan.times, stored
    first = np.concatenate([[True], np.diff(cadence.sources[slots]) > 0])
    return everything[first], scan.times[0] + cadence.times[slots][first] / float(stored), cadence.rate


def lay_out(
    scan: Scan,
    fps: Fraction | None,
    part: tuple[float | int, float | int] | None = None,
    sound: tuple[float, float] | None = None,
) -> Timeline:
    """Choose the clip's frame for every frame of the subject.

    Args:
        scan: first pass over the clip.
        fps: frame rate of the subject; None: the clip's true rate.
        part: use only this, seconds after the clip's first frame.
        sound: begin and end of the sound [s, the clip's own clock]: frames without sound are left out where more
            than :data:`SILENT_S` of them begin or end the clip; None: all.
    """
    numbers, times, true_rate = own_times(scan)
    fps = true_rate if fps is None else fps
    step = float(1 / true_rate)
    begin, end = float(times[0]), float(times[-1]) + step
    zero = float(scan.times[0])
    whole = (begin, end)
    if part is not None:
        begin, end = max(begin, zero + part[0]), min(end, zero + part[1])
    if sound is not None:
        begin = max(begin, sound[0]) if sound[0] - begin > SILENT_S else begin
        end = min(end, sound[1]) if end - sound[1] > SILENT_S else end
    # Frame 0 is the instant of one of the clip's frames: at the true rate every frame then is.
    begin = float(times[min(int(np.searchsorted(times, begin - step / 2)), len(times) - 1)])
    # Stamps in whole milliseconds must not make the last frame last one longer.
    count = max(int(np.ceil((end - begin) * fps - 0.1)), 0)
    due = begin + np.arange(count) / float(fps)
    chosen = np.searchsorted((times[1:] + times[:-1]) / 2, due - 1e-6)
    facts = {
        "fps": str(fps),
        "true_fps": str(true_rate),
        "stored_fps": str(stored_rate(scan.times)),
        "steady": is_steady(scan.times),
        "stored_frames": len(scan.times),
        "repeats_dropped": len(scan.times) - len(numbers),
        "frames": count,
        "part_s": [round(begin - zero, 3), round(begin - zero + count / float(fps), 3)],
        "clip_s": round(whole[1] - whole[0], 3),
        **evenness(scan, numbers[chosen], times[chosen], fps),
    }
    return Timeline(fps, begin, numbers[chosen], facts)


def evenness(
    scan: Scan, numbers: Int[np.ndarray, " N"], times: Float[np.ndarray, " N"], fps: Fraction
) -> dict[str, float | int]:
    """Evenness of the motion in the chosen frames.

    Args:
        scan: first pass over the clip.
        numbers: number in the clip of each frame.
        times: when it was filmed [s].
        fps: frame rate.

    Returns:
        ``unevenness_ms``: root mean square of (time between neighbouring frames as filmed - 1 / fps);
        ``longest_hold_s``, ``longest_hold_at_s``: the longest time without a new frame, and where it begins;
        ``still_frames``: frames that show the same as the frame before (a repeat in the clip, too).
    """
    if len(numbers) < 2:
        return {"unevenness_ms": 0.0, "longest_hold_s": 0.0, "longest_hold_at_s": 0.0, "still_frames": 0}
    step = np.diff(times)
    error = step - float(1 / fps)
    # The change between two shown frames is that of all frames between them.
    total = np.cumsum(scan.change)
    moved = np.diff(total[numbers])
    usual = uniform_filter1d(moved, 2 * int(fps) + 1, mode="nearest")
    return {
        "unevenness_ms": round(float(np.sqrt((error**2).mean()) * 1000), 2),
        "longest_hold_s": round(float(step.max()), 3),
        "longest_hold_at_s": round(float(times[step.argmax()] - scan.times[0]), 3),
        "still_frames": int((moved < _STILL_SHARE * usual).sum()),
    }


def clock_warnings(clip: Path, scan: Scan, sound: SoundSpan | None, timeline: Timeline) -> list[str]:
    """Warnings about the clip's clock, a short sentence each; ``sound``: None where it is not used."""
    begin, end = timeline.begin_s, timeline.begin_s + float(len(timeline.source) / timeline.fps)
    zero = float(scan.times[0])
    out = []
    if scan.damage.promised_s is not None:
        out.append(f"{clip.name} is cut short: it promises {scan.damage.promised_s:.1f} s; the good part is used.")
    early = [time for time in scan.damage.lost if time < zero]
    if early:
        out.append(f"{clip.name}: its first {zero - min(early):.1f} s are damaged and left out.")
    lost = [time for time in scan.damage.lost if begin <= time <= end]
    if lost:
        until = max(scan.damage.smeared_until[scan.damage.lost.index(time)] for time in lost) - zero
        out.append(
            f"{len(lost)} damaged frames are bridged at {_places([time - zero for time in lost])}; frames up to "
            f"{until:.1f} s may carry traces (choose another part to omit them)."
        )
    facts = timeline.facts
    left, right = facts["part_s"]
    broken = [] if sound is None else [time for time in sound.damaged if begin <= time <= end]
    if broken:
        out.append(f"damaged sound is silent at {_places([time - zero for time in broken])}.")
    if sound is not None and left > SILENT_S and abs(sound.begin - begin) < SILENT_S:
        out.append(f"the sound begins {sound.begin - zero:.1f} s after the first frame: frames before it are left out.")
    if sound is not None and right < facts["clip_s"] - SILENT_S and abs(sound.end - end) < SILENT_S:
        out.append(f"the sound ends at {sound.end - zero:.1f} s, before the last frame: frames behind it are left out.")
    true_rate = Fraction(facts["true_fps"])
    if facts["steady"] and timeline.fps != true_rate and facts["unevenness_ms"] > 8:
        out.append(
            f"the clip has {float(true_rate):.4g} frames/s: at {float(timeline.fps):.4g} its motion is uneven by "
            f"{facts['unevenness_ms']:.0f} ms; the frame rate 'source' keeps it even."
        )
    return out


def _places(times: list[float]) -> str:
    """A few times for a sentence; those that are less than a second apart count as one."""
    apart = [time for i, time in enumerate(times) if i == 0 or time - times[i - 1] > 1]
    return ", ".join(f"{time:.1f} s" for time in apart[:5]) + (", ..." if len(apart) > 5 else "")
