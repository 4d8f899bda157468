"""Frames for measuring the invisible mark: where they come from, what happens to them, and how they are searched."""

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from scipy import stats

from emotalking.io.arrays import load_array
from emotalking.io.display import to_rgb
from emotalking.io.images import read_image
from emotalking.io.video import decode_frames
from emotalking.provenance.detect import Found, search
from emotalking.provenance.evidence import Evidence, Piece, grey_levels
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import KEY

LENGTH, FPS = 50, 25
Frames = list[np.ndarray]


def encoded(frames: Frames, crf: int, fps: int = FPS, **options: str) -> Frames:
    """After H.264, preset medium unless ``options`` say otherwise."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        settings = {"crf": str(crf), "threads": "1", **options}
        stream = container.add_stream("libx264", rate=fps, options=settings)
        stream.height, stream.width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            even = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as made:
        return [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]


def scaled(frames: Frames, factor: float) -> Frames:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return [cv2.resize(frame, None, fx=factor, fy=factor, interpolation=how) for frame in frames]


def cropped(frames: Frames) -> Frames:
    """The head: the middle 60 % of the width, 5 to 65 % of the height."""
    height, width = frames[0].shape[:2]
    return [frame[height // 20 : height * 13 // 20, width // 5 : width * 4 // 5] for frame in frames]


def levels(frames: Frames, gain: float, offset: float) -> Frames:
    return [(frame * gain + offset).clip(0, 255).astype(np.uint8) for frame in frames]


def warmer(frames: Frames) -> Frames:
    """More red and less blue, a gamma of 1.1."""
    gains = np.array([1.08, 1.0, 0.9], np.float32)
    return [(255 * (frame / np.float32(255)) ** 1.1 * gains).clip(0, 255).astype(np.uint8) for frame in frames]


def to_width(frames: Frames, width: int) -> Frames:
    return scaled(frames, width / frames[0].shape[1])


def messenger(frames: Frames, width: int, crf: int) -> Frames:
    """As phones send videos: baseline profile, fast preset, a bit rate that is not exceeded."""
    return encoded(
        to_width(frames, width), crf, profile="baseline", preset="veryfast", maxrate="1000k", bufsize="2000k"
    )


def at_30_fps(frames: Frames) -> Frames:
    """Every fifth frame twice."""
    return [frame for index, frame in enumerate(frames) for frame in [frame] * (2 if index % 5 == 4 else 1)]


def as_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    image = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert image is not None
    return image


ATTACKS: dict[str, Callable[[Frames], Frames]] = {
    "none": lambda frames: frames,
    "H.264 crf 18": lambda frames: encoded(frames, 18),
    "H.264 crf 23": lambda frames: encoded(frames, 23),
    "H.264 crf 28": lambda frames: encoded(frames, 28),
    "H.264 crf 30": lambda frames: encoded(frames, 30),
    "scale 0.5, crf 18": lambda frames: encoded(scaled(frames, 0.5), 18),
    "scale 0.5, crf 23": lambda frames: encoded(scaled(frames, 0.5), 23),
    "scale 0.75, crf 23": lambda frames: encoded(scaled(frames, 0.75), 23),
    "scale 1.5, crf 23": lambda frames: encoded(scaled(frames, 1.5), 23),
    "scale 2, crf 28": lambda frames: encoded(scaled(frames, 2.0), 28),
    "messenger: 480 px wide, crf 28": lambda frames: encoded(to_width(frames, 480), 28),
    "messenger: 640 px, baseline, crf 26": lambda frames: messenger(frames, 640, 26),
    "crop to the head, crf 20": lambda frames: encoded(cropped(frames), 20),
    "crop to the head, 480 px, crf 23": lambda frames: encoded(to_width(cropped(frames), 480), 23),
    "30 fps, crf 23": lambda frames: encoded(at_30_fps(frames), 23, 30),
    "brighter, crf 23": lambda frames: encoded(levels(frames, 1.15, 10), 23),
    "less contrast, crf 23": lambda frames: encoded(levels(frames, 0.75, 30), 23),
    "warmer, crf 23": lambda frames: encoded(warmer(frames), 23),
    "one frame of crf 18": lambda frames: encoded(frames, 18)[25:26],
    "one frame of crf 23": lambda frames: encoded(frames, 23)[25:26],
    "screenshot: 1.5 x, of crf 18": lambda frames: scaled(encoded(frames, 18)[25:26], 1.5),
    "one frame, JPEG 75": lambda frames: [as_jpeg(frames[25], 75)],
}


def in_video(mark: Mark, frames: Frames, begin: float = 0.0) -> Frames:
    """Marked frames of a video, the first shown at ``begin`` [s]."""
    return [mark.array(frame, begin + index / FPS) for index, frame in enumerate(frames)]


def shown(frames: Frames, fps: int = FPS) -> Evidence:
    piece = Piece()
    for index, frame in enumerate(frames):
        piece.add(index / fps, grey_levels(frame))
    return piece.evidence()


def look(frames: Frames, key: bytes = KEY, fps: int = FPS) -> Found | None:
    """Search as ``verify`` does."""
    return search(shown(frames, fps), key)


def read(place: Path, most: int) -> Frames:
    if place.suffix == ".npy":
        return [np.array(frame) for frame in load_array(place, mmap_mode="r")[:most]]
    if place.is_dir():
        return [
            read_image(path)
            for path in sorted(place.glob("*.[pj]*g"), key=lambda one: (len(one.name), one.name))[:most]
        ]
    frames = []
    for _, frame in decode_frames(place):
        frames.append(to_rgb(frame))
        if len(frames) == most:
            break
    return frames


def rate(hits: Iterable[bool]) -> dict[str, Any]:
    """Hits, trials, and Clopper and Pearson's interval of the probability."""
    seen = [bool(hit) for hit in hits]
    low, high = stats.binomtest(sum(seen), len(seen)).proportion_ci(0.95, "exact")
    return {"hits": sum(seen), "of": len(seen), "interval_95": [round(low, 4), round(high, 4)]}


def rates(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found of several clips: marks, payloads, wrong payloads, and the share of wrong bits of those read."""
    wrong = [one["bit_error"] for one in each if one["bit_error"] is not None]
    return {
        "marked": rate(one["marked"] for one in each),
        "payload_read": rate(one["read"] for one in each),
        "misread": sum(one["misread"] for one in each),
        "bit_errors_where_read": float(np.mean(wrong)) if wrong else None,
    }


class Workers:
    """Processes that work on clips, one thread each."""

    def __init__(self, count: int) -> None:
        self._pool = (
            ProcessPoolExecutor(count, get_context("spawn"), initializer=single_threaded) if count > 1 else None
        )

    def map(self, run: Callable[[Any], Any], jobs: list[Any]) -> Iterable[Any]:
        """Results in the order of the jobs."""
        return map(run, jobs) if self._pool is None else self._pool.map(run, jobs)

    def until(self, deadline: float, run: Callable[[Any], Any], jobs: list[Any]) -> Iterator[tuple[Any, Any]]:
        """Jobs with their results, as they come, until a time of ``time.monotonic``."""
        if self._pool is None:
            for job in jobs:
                if time.monotonic() > deadline:
                    return
                yield job, run(job)
            return
        running = {self._pool.submit(run, job): job for job in jobs}
        try:
            for future in as_completed(running, max(deadline - time.monotonic(), 0)):
                yield running[future], future.result()
        except TimeoutError:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def single_threaded() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
