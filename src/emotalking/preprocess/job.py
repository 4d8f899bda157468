"""Run of `prepare` on one clip: its folder, and what earlier steps left there for later ones (in ``.capture``).

The large arrays are single precision and memory-mapped when they are read: an hour of landmarks is half a gigabyte on
disk and next to nothing in memory for a step that reads some points, or some frames at a time. The frames are
kept without loss until the folder is complete, so that the clip is decoded three times in all.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float32, UInt8

import emotalking
from emotalking.data.files import SubjectFiles
from emotalking.data.readers import read_json
from emotalking.emotion.circumplex import emotion_in
from emotalking.errors import InputError
from emotalking.io.arrays import load_array, mapped_array, save_array
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.containers import create_media
from emotalking.io.display import Framing, to_rgb
from emotalking.io.files import remove_stale_within, replacing, write_bytes
from emotalking.io.reading import parse_json, read_text, reading
from emotalking.io.video import SHORTEST_S, ClipInfo, decode_frames
from emotalking.networks.registry import sha256_of
from emotalking.ops.box import Box
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT
from emotalking.preprocess.person import Person
from emotalking.preprocess.pose.track import PoseTrack
from emotalking.preprocess.scan import SOUND_FILE, Scan, decode_sound, load_sound, scan_clip
from emotalking.preprocess.steps import Steps, digest
from emotalking.preprocess.timeline import Timeline
from emotalking.preprocess.tracking import PointFlow, RawTrack

CHUNK = 2048
"""Frames at a time."""
RAW_BYTES = 4 << 30
"""Frames of more bytes than this (three and a half minutes of 512 x 512) are packed until the folder is complete."""

_WORK = ".capture"
_REMEDY = "remove it and prepare the clip again"


class Job:
    """One run; the steps are functions of it (``preprocess.prepare``)."""

    layout = MEDIAPIPE_LAYOUT

    def __init__(self, clip: Path, out: Path, config: PrepareConfig, person: Person | None = None) -> None:
        """``person``: the main clip's, for a clip of expressions, which is measured against it and needs no sound."""
        if not clip.is_file():
            raise InputError(f"{clip}: there is no such file.")
        self.clip = clip
        self.files = SubjectFiles(out)
        self.config = config
        self.person = person
        self.shows = None if person is None else emotion_in(clip.stem)
        """Emotion that a clip of expressions is named after."""
        self.work = out / _WORK
        self.scan_file = self.work / "scan.npz"
        """File of :attr:`scan`."""
        self.clock_file = self.work / "clock.npz"
        """File of :attr:`timeline`."""
        self.frames_file = self.work / "frames.nut"
        """File of :meth:`frames`."""
        self.points_file = self.work / "steady.npy"
        """File of :meth:`points`."""
        self.head_file = self.work / "head.npy"
        """File of :meth:`head`."""
        clip_hash = sha256_of(clip)
        old = _earlier(self.files, clip, clip_hash)
        self.manifest: dict[str, Any] = {
            "emotalking": emotalking.__version__,
            "clip": {"name": clip.name, "sha256": clip_hash},
            "steps": old.get("steps", {}),
        }
        key = digest([clip_hash, emotalking.__version__])
        self.steps = Steps(out, self.manifest, key)
        self.boxes: dict[int, list[Box]] = {}
        """Faces in frames of the clip, by their number, where the footage check detected them."""

    @cached_property
    def scan(self) -> Scan:
        """First pass over the clip; of an earlier run where there was one."""
        if self.scan_file.exists():
            return Scan.load(self.scan_file)
        scan = scan_clip(self.clip, self.work, turn=self.config.turn, audio_track=self.config.audio_track)
        scan.save(self.scan_file)
        return scan

    def known(self, settings: object) -> object:
        """Settings of a step whose product depends on the person of the main clip, too."""
        return settings if self.person is None else [settings, self.person.key]

    def sound(self, begin_s: float, seconds: float) -> Float32[np.ndarray, " S"]:
        """Samples (16 kHz) of the clip from ``begin_s``, its own clock; zeros where it has no sound."""
        zero = float(self.scan.times[0])
        if not (self.work / SOUND_FILE).exists():
            decode_sound(self.clip, self.work, zero, self.config.audio_track)
        first, count = (round(time * SAMPLE_RATE) for time in (begin_s - zero, seconds))
        samples = np.zeros(count, np.float32)
        found = load_sound(self.work)[first : first + count]
        samples[: len(found)] = found
        return samples

    @property
    def framing(self) -> Framing:
        """Square of step "framing"."""
        return Framing(**self.steps.facts("framing")["square"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the subject's frames, pixels."""
        return self.framing.size, self.framing.size

    @cached_property
    def timeline(self) -> Timeline:
        """Clock of the subject, of step "clock"."""
        return Timeline.load(self.clock_file)

    @property
    def fps(self) -> Fraction:
        """Frame rate of the subject."""
        return self.timeline.fps

    @property
    def count(self) -> int:
        """Frames of the subject."""
        return len(self.timeline.source)

    def frames(self) -> Iterator[UInt8[np.ndarray, "S S 3"]]:
        """The subject's frames in order, framed; the first step that reads them keeps them for the others."""
        if not self.frames_file.exists():
            pixels = self.count * self.framing.size**2
            frames = self.timeline.read(self.clip, self.framing, self.scan.view)
            return keep_frames(self.frames_file, frames, packed=kept_bytes(pixels) < 3 * pixels)
        return (to_rgb(frame) for _, frame in decode_frames(self.frames_file))

    def track(self) -> RawTrack:
        """Landmarks and optical flow of step "landmarks"; the points are float32, memory-mapped."""
        flow = load(self.work / "flow.npy").astype(np.float64), np.array(load(self.work / "flow_valid.npy"))
        return RawTrack(load(self.work / "points.npy"), PointFlow(*flow), (self.work / "provider.txt").read_text())

    def save_track(self, track: RawTrack) -> None:
        """Write :meth:`track`."""
        save_array(self.work / "flow.npy", track.flow.displacement.astype(np.float32))
        save_array(self.work / "flow_valid.npy", track.flow.valid)
        save_array(self.work / "points.npy", track.points.astype(np.float32, copy=False))
        write_bytes(self.work / "provider.txt", track.provider.encode())

    def pose(self) -> PoseTrack:
        """Path of the head of step "pose"."""
        path = self.work / "pose.json"
        with reading(path, "is damaged", _REMEDY):
            facts = parse_json(read_text(path), dict)
            focal = float(facts["focal"])
            statistics = dict(facts["statistics" if "statistics" in facts else "figures"])  # before 0.2.0
        viewmats, shape, sigma = (np.array(load(self.work / f"{name}.npy")) for name in ("viewmats", "shape", "sigma"))
        return PoseTrack(viewmats, focal, shape, sigma, statistics)

    def save_pose(self, pose: PoseTrack) -> None:
        """Write :meth:`pose`."""
        for name, array in (("viewmats", pose.viewmats), ("shape", pose.shape), ("sigma", pose.sigma_px)):
            save_array(self.work / f"{name}.npy", array)
        write_bytes(self.work / "pose.json", json.dumps({"focal": pose.focal, "statistics": pose.statistics}).encode())

    def points(self) -> Float32[np.ndarray, "N K 2"]:
        """Smoothed landmarks in pixels, memory-mapped."""
        return load(self.points_file)

    def head(self) -> Float32[np.ndarray, "N K 3"]:
        """The same landmarks in the head frame, world units, memory-mapped."""
        return load(self.head_file)

    def has_all(self, *names: Callable[[int], Path]) -> bool:
        """True if the files of all frames are there; ``names`` are methods of ``files``."""
        return all(name(index).exists() for name in names for index in range(self.count))

    def remove_scratch(self) -> None:
        """Remove what only an unfinished run needs: the kept frames and sound."""
        for path in (self.frames_file, self.work / SOUND_FILE):
            path.unlink(missing_ok=True)


def check_header(info: ClipInfo) -> None:
    """Refuse a clip that cannot be used according to its header.

    Raises:
        InputError: no sound, or too short.
    """
    if not info.has_audio:
        raise InputError(
            f"{info.path} has no sound, and lips cannot be learned without it; give a clip with its speech."
        )
    check_length(info)


def check_length(info: ClipInfo) -> None:
    """Refuse a clip that is too short according to its header.

    Raises:
        InputError: it is.
    """
    if info.seconds is not None and info.seconds < SHORTEST_S:
        raise InputError(f"{info.path} lasts {info.seconds:.1f} s; give a clip of at least {SHORTEST_S:.0f} s.")


def kept_bytes(pixels: int) -> int:
    """About what :func:`keep_frames` writes for ``pixels`` of all frames: three a pixel, or one of many."""
    return pixels if 3 * pixels > RAW_BYTES else 3 * pixels


def keep_frames(
    path: Path, frames: Iterable[UInt8[np.ndarray, "S S 3"]], packed: bool = False
) -> Iterator[UInt8[np.ndarray, "S S 3"]]:
    """Yield the frames and write them, without loss, to the video ``path``, which appears behind the last one.

    A frame of 512 x 512 takes 790 kB, .8 ms to write and .5 ms to read as it is; ``packed`` by MagicYUV 240 kB, 4.7
    and 2.9 ms (FFV1: 26 to 44 ms and 140 kB).
    """
    converter = VideoReformatter()  # a frame's own converter would be created each time, with threads
    codec, kind = ("magicyuv", "gbrp") if packed else ("rawvideo", "rgb24")
    with replacing(path) as scratch, create_media(scratch, "nut") as container:
        stream: Any = None
        for image in frames:
            if stream is None:
                stream = container.add_stream(codec, rate=25)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = kind
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(converter.reformat(frame, format=kind, threads=1)))
            yield image
        if stream is not None:
            container.mux(stream.encode(None))


def load(path: Path) -> np.ndarray:
    """A memory-mapped array, read-only."""
    with reading(path, "is damaged", _REMEDY):
        return load_array(path, mmap_mode="r")


@contextmanager
def build(path: Path, shape: tuple[int, ...]) -> Iterator[Float32[np.ndarray, "..."]]:
    """A float32 array on disk to be filled piece by piece; it becomes ``path`` when the block ends well."""
    with replacing(path) as scratch:
        array = mapped_array(scratch, shape)
        yield array
        array.flush()


def chunks(count: int, margin: int = 0) -> Iterator[tuple[slice, slice]]:
    """Cut ``count`` frames into pieces: (frames to read, those of them that are new) for each piece.

    Args:
        count: frames.
        margin: frames before and behind each piece that are read, too, for filters over time.

    Example:
        >>> for wide, inner in chunks(len(values), margin=8):
        ...     out[wide][inner] = smooth(values[wide])[inner]
    """
    for begin in range(0, count, CHUNK):
        low, high = max(begin - margin, 0), min(begin + CHUNK + margin, count)
        yield slice(low, high), slice(begin - low, min(begin + CHUNK, count) - low)


def _earlier(files: SubjectFiles, clip: Path, clip_hash: str) -> dict[str, Any]:
    """The manifest of an earlier run on the same clip; empty for a new folder, or one without a finished step."""
    if not files.root.exists():
        return {}
    remove_stale_within(files.root)
    if all(path.name == _WORK for path in files.root.iterdir()):  # interrupted before the first step was recorded
        return {}
    old = read_json(files.manifest) if files.manifest.exists() else {}
    recorded_hash = old.get("clip", {}).get("sha256") if isinstance(old.get("clip"), dict) else None
    if recorded_hash is not None and "landmarks" not in old.get("steps", {}):
        return old if recorded_hash == clip_hash else {}
    if recorded_hash != clip_hash:
        what = f"was made from another clip ({old['clip'].get('name')})" if recorded_hash else "holds other files"
        raise InputError(f"{files.root} {what}; give a new folder for {clip.name}.")
    return old
