"""First pass over a clip: every frame, small and grey, and the sound; for the footage check and the timeline.

The frames give time stamps, repeats, cuts, black frames and exposure; memory is a few numbers a frame, and the sound
goes to a file.
"""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from emotalking.errors import InputError
from emotalking.io.arrays import load_archive
from emotalking.io.audio import SAMPLE_RATE, SoundSpan, iter_audio
from emotalking.io.display import to_grey
from emotalking.io.files import CannotWriteError, replacing
from emotalking.io.reading import parse_json, reading
from emotalking.io.video import ClipInfo, Conversions, View, decode_frames
from emotalking.io.video_stream import Damage

_WIDTH = 96
"""Pixels to which frames are shrunk for comparing."""
_TILES = 4
"""Brightness histograms are compared in so many tiles a side: a cut changes most of them at once."""
_BINS = 32
_CUT_RATIO = 4.0
"""Both measures of change stand out from the frames around a cut by this factor. Measured: jump cuts between takes of
one speaker before one wall reach 5 to 26, the wildest heads and the beat of keyframes 3.5."""
_CUT_LEAP, _CUT_CHANGE = 0.02, 4.0
"""Less (share of pixels, grey levels) is noise whatever is around it; jump cuts reach 0.04 and 12."""
_BLACK_LEVEL = 24.0
"""Grey levels; video black is 16 in studio range, and lens caps add noise."""
_BLACK_CONTRAST = 10.0
"""Standard deviation within the frame, grey levels: a dark scene with a lit face has more."""
_FROZEN, _KEYFRAMES = 0.1, 0.05
"""Grey levels below which an image does not change, and the share of frames that may. Measured within a second: real
speakers, also silent ones, change by 0.7 at least (95th percentile), a frozen image in H.264 by 0.015."""
SOUND_FILE = "sound.f32"
"""Raw samples of :func:`decode_sound`, float32."""


@dataclass(frozen=True)
class Scan:
    """Clock of a clip: what the timeline needs of the first pass."""

    times: Float[np.ndarray, " P"]
    """Time stamps of the frames in seconds, the clip's own clock."""
    change: Float[np.ndarray, " P"]
    """Root mean square difference to the frame before, in grey levels of the shrunk frame; 0 for the first."""
    damage: Damage = field(default_factory=Damage)
    sound: SoundSpan | None = None
    """None: the clip has no sound that can be decoded."""
    size: tuple[int, int] = (0, 0)
    """Height and width of the frames as shown, pixels; most are stored in it."""
    turn: int = 0
    """Degrees clockwise by which the frames are turned, in addition to what the file notes."""
    conversions: Conversions = field(default_factory=Conversions)

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        facts = {"damage": asdict(self.damage), "sound": self.sound and asdict(self.sound), "size": self.size}
        facts |= {"turn": self.turn, "conversions": asdict(self.conversions)}
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez(file, times=self.times, change=self.change, facts=np.array(json.dumps(facts)))

    @classmethod
    def load(cls, path: Path) -> "Scan":
        """Inverse of :meth:`save`.

        Raises:
            InputError: the file is damaged.
        """
        with reading(path, "is damaged", "remove it and prepare the clip again"):
            file = load_archive(path)
            facts = parse_json(str(file["facts"]), dict)
            sound = None if facts["sound"] is None else SoundSpan(**facts["sound"])
            height, width = facts["size"]
            times, change = file["times"], file["change"]
            if times.ndim != 1 or change.shape != times.shape or not np.isfinite([times, change]).all():
                raise ValueError(f"times {list(times.shape)}, change {list(change.shape)}")
            known = dict(facts.get("conversions", {}))  # before 0.3.0 there were none, and no crop
            top, bottom, left, right = map(int, known.pop("crop", (0, 0, 0, 0)))
            turn, conversions = int(facts.get("turn", 0)), Conversions(**known, crop=(top, bottom, left, right))
            damage = Damage(**facts["damage"])
            return cls(times, change, damage, sound, (int(height), int(width)), turn, conversions)

    @property
    def view(self) -> View:
        """Size and turn with which the frames are to be read."""
        height, width = self.size
        return View((width, height), self.turn)


@dataclass(frozen=True)
class ClipScan(Scan):
    """Everything of the first pass."""

    info: ClipInfo = field(kw_only=True)
    brightness: Float[np.ndarray, " P"] = field(kw_only=True)
    """Mean grey level, 0 to 255."""
    contrast: Float[np.ndarray, " P"] = field(kw_only=True)
    """Standard deviation of the grey levels within the frame."""
    leap: Float[np.ndarray, " P"] = field(kw_only=True)
    """Share of pixels (0 to 1) whose grey level class changed since the frame before, mean over tiles; first: 0."""
    samples: Float32[np.ndarray, " S"] = field(kw_only=True)
    """Sound from the first frame on, 16 kHz, memory-mapped; empty without sound."""

    @property
    def seconds(self) -> Float[np.ndarray, " P"]:
        """Times of the frames since the first one."""
        return self.times - self.times[0]

    @property
    def sound_s(self) -> float:
        """Length of the sound behind the first frame's instant."""
        return len(self.samples) / SAMPLE_RATE


def scan_clip(
    clip: str | Path,
    folder: Path,
    on_header: Callable[[ClipInfo], None] | None = None,
    *,
    turn: int = 0,
    audio_track: int | None = None,
) -> ClipScan:
    """Decode all frames once, and beside them the sound once.

    Args:
        clip: the clip.
        folder: where :func:`decode_sound` keeps the samples.
        turn: degrees clockwise, see :class:`~emotalking.io.video.View`.
        audio_track: see :func:`~emotalking.io.audio.iter_audio`.
        on_header: see :func:`~emotalking.io.video.decode_frames`.

    Raises:
        InputError: no video, or not one frame can be decoded.
    """
    headers: list[ClipInfo] = []

    def accept(info: ClipInfo) -> None:
        if on_header is not None:
            on_header(info)
        headers.append(info)

    damage, conversions, sizes = Damage(), Conversions(), Counter[tuple[int, int]]()
    rows: list[tuple[float, float, float, float, float]] = []
    last: tuple[np.ndarray, np.ndarray] | None = None
    sound, samples = None, np.zeros(0, np.float32)
    with ThreadPoolExecutor(1) as beside:
        decoding: Future[tuple[SoundSpan | None, np.ndarray]] | None = None
        for time, frame in decode_frames(clip, damage, accept, view=View(turn=turn), conversions=conversions):
            if not rows and headers[0].has_audio:
                decoding = beside.submit(decode_sound, clip, folder, time, audio_track)
            sizes[frame.own_size] += 1
            small = to_grey(frame, _WIDTH)
            tiles = tile_classes(small)
            change, leap = 0.0, float(last is not None)
            if last is not None and last[0].shape == small.shape:
                change, leap = float(np.sqrt(((small - last[0]) ** 2).mean())), tile_leap(last[1], tiles)
            rows.append((time, change, float(small.mean()), float(small.std()), leap))
            last = small, tiles
        if decoding is not None:
            sound, samples = decoding.result()
    times, change, brightness, contrast, leap = np.array(rows).T
    info = headers[0]
    shown = {"brightness": brightness, "contrast": contrast, "leap": leap}
    (width, height), _ = sizes.most_common(1)[0]
    clock = (times, change, damage, sound, (height, width), turn, conversions)
    return ClipScan(*clock, info=info, samples=samples, **shown)


def decode_sound(
    clip: str | Path, folder: Path, start: float, track: int | None = None
) -> tuple[SoundSpan | None, Float32[np.ndarray, " S"]]:
    """All sound of a clip from ``start`` [s, the clip's own clock] on, 16 kHz, in a file of ``folder``.

    Returns:
        Where the clip has sound, and the samples, memory-mapped; None and no samples for a stream without any.

    Raises:
        InputError: there is no sound track of the number ``track``.
    """
    path, span = folder / SOUND_FILE, SoundSpan()
    try:
        with replacing(path) as scratch, scratch.open("wb") as file:
            for chunk in iter_audio(clip, start=start, strict=False, span=span, track=track):
                file.write(chunk.tobytes())  # tofile loses the error of a full disk
    except CannotWriteError:
        raise
    except InputError:
        if track is not None:
            raise
        return None, np.zeros(0, np.float32)
    return span, load_sound(folder)


def load_sound(folder: Path) -> Float32[np.ndarray, " S"]:
    """Samples that :func:`decode_sound` left in ``folder``, memory-mapped."""
    path = folder / SOUND_FILE
    return np.memmap(path, np.float32, "r") if path.stat().st_size else np.zeros(0, np.float32)


def tile_leap(before: Float[np.ndarray, "tiles bins"], after: Float[np.ndarray, "tiles bins"]) -> float:
    """Share of pixels, 0 to 1, that change their grey level class between two frames, mean over tiles.

    The frames are given by their :func:`tile_classes`.
    """
    return float(np.abs(before - after).sum() / 2 / len(before))


def tile_classes(small: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "tiles bins"]:
    """Histogram of each tile about its own mean (so that a flash or an exposure step has no effect), sum 1.

    The classes have soft borders, so that noise at a border moves no pixel.
    """
    height, width = small.shape
    tile = (np.arange(height) * _TILES // height)[:, None] * _TILES + np.arange(width) * _TILES // width
    tile = tile.ravel()
    count = np.bincount(tile, minlength=_TILES**2)
    level = small.ravel() - (np.bincount(tile, small.ravel(), _TILES**2) / count)[tile]
    place = np.clip((level + 256.0) / 512.0 * _BINS - 0.5, 0, _BINS - 1.001)
    low = place.astype(np.intp)
    share, at = place - low, tile * _BINS + low
    size = _TILES**2 * _BINS
    table = np.bincount(at, 1 - share, size) + np.bincount(at + 1, share, size)
    return table.reshape(-1, _BINS) / count[:, None]


def find_cuts(change: Float[np.ndarray, " P"], leap: Float[np.ndarray, " P"]) -> list[int]:
    """Numbers of the frames that begin a new shot; fades are not found.

    Args:
        change: root mean square difference to the frame before, grey levels.
        leap: see :func:`tile_leap`.
    """
    is_cut = (change > _CUT_CHANGE) & (leap > _CUT_LEAP)
    is_cut &= (change > _CUT_RATIO * _neighbourhood(change)) & (leap > _CUT_RATIO * _neighbourhood(leap))
    return np.flatnonzero(is_cut).tolist()


def _neighbourhood(values: np.ndarray) -> np.ndarray:
    """The most among the second to fourth neighbours of each; the direct ones may share a cut that was blended."""
    padded = np.pad(values, 4, mode="reflect" if len(values) > 4 else "edge")
    count = len(values)
    return np.max([padded[4 + k : 4 + k + count] for k in (-4, -3, -2, 2, 3, 4)], axis=0)


def black_frames(brightness: Float[np.ndarray, " P"], contrast: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
    """Black frames."""
    return (brightness < _BLACK_LEVEL) & (contrast < _BLACK_CONTRAST)


def exposure_range(
    times: Float[np.ndarray, " P"], brightness: Float[np.ndarray, " P"], good: Bool[np.ndarray, " P"]
) -> float:
    """Range of the brightness: (95th - 5th percentile) / mean of its medians over a second.

    Args:
        times: seconds.
        brightness: mean grey levels (or those of the face).
        good: frames that count (not black).
    """
    values = [
        float(np.median(brightness[here]))
        for second in range(int(times[-1]) + 1)
        if (here := good & (times >= second) & (times < second + 1)).any()
    ]
    if len(values) < 2:
        return 0.0
    low, high = np.percentile(values, [5, 95])
    return float((high - low) / max(float(np.mean(values)), 1.0))


def frozen_frames(
    times: Float[np.ndarray, " P"], change: Float[np.ndarray, " P"], longest_s: float
) -> Bool[np.ndarray, " P"]:
    """Frames in stretches of more than ``longest_s`` in which nothing moves.

    Args:
        times: of the frames [s].
        change: root mean square difference to the frame before, grey levels.
        longest_s: a person may keep still for so long.
    """
    moved = np.cumsum(change >= _FROZEN)
    frozen = np.zeros(len(times), bool)
    ends = np.searchsorted(times, times + longest_s)
    for begin, end in enumerate(ends.tolist()):
        # A keyframe may change the image a little.
        if end < len(times) and moved[end] - moved[begin] <= _KEYFRAMES * (end - begin):
            frozen[begin : end + 1] = True
    return frozen


def gap_starts(times: Float[np.ndarray, " P"], longest_s: float) -> list[int]:
    """Numbers of the frames behind which none comes for more than ``longest_s``."""
    return np.flatnonzero(np.diff(times) > longest_s).tolist()


def shot_starts(scan: ClipScan) -> list[int]:
    """:func:`find_cuts`, and the frames from which the file holds images of another shape."""
    reshaped = np.searchsorted(scan.times, np.array(scan.conversions.reshaped)).tolist()
    return sorted({*find_cuts(scan.change, scan.leap), *reshaped})


def longest_part(
    times: Float[np.ndarray, " P"],
    good: Bool[np.ndarray, " P"],
    cuts: list[int],
    step: float,
    longest_gap_s: float = np.inf,
) -> tuple[float, float]:
    """The longest stretch of good frames without a cut or a gap, in seconds; (0, 0) if there is none.

    Args:
        times: of the frames [s].
        good: frames that training could use.
        cuts: numbers of the frames that begin a new shot.
        step: duration of the last frame [s].
        longest_gap_s: no frames for longer end a stretch.
    """
    gaps = set(gap_starts(times, longest_gap_s))
    borders = {*cuts, *(number + 1 for number in gaps)}
    best, begin = (0.0, 0.0), None
    for i in range(len(times)):
        if begin is not None and (not good[i] or i in borders):
            begin = None
        if good[i]:
            begin = i if begin is None else begin
            last = i + 1 == len(times) or i in gaps
            end = float(times[i]) + step if last else float(times[i + 1])
            if end - float(times[begin]) > best[1] - best[0] + 1e-9:
                best = (float(times[begin]), end)
    return best
