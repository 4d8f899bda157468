"""The invisible mark: what it survives, false alarms, what it changes in images, and what it costs.

python benchmarks/watermark.py --frames NAME=PLACE ... [--clips 100] [--trade-off] [--foreign CLIP ...] [--keys 3]
    [--workers 2] [--device cuda] [--name watermark] [--folder FOLDER]

PLACE holds frames without a mark: a folder of image files or an array (.npy, [T, H, W, 3]) of what 'emotalking render
--provenance off' or a ``Player`` renders, or a recording that stands in for a further head. Clips of 2 s begin at even
distances, each with a payload of its own; intervals are Clopper and Pearson's, of 95 %. ``--trade-off`` tables LPIPS
against detection for marks of several strengths. False alarms are looked for in all ``--foreign`` clips, plain and
marked with another key, with the public key and ``--keys`` others, and for 10,000 keys at the places of whole images.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from _report import line, measure, write

from emotalking.io.arrays import load_array
from emotalking.io.display import to_rgb
from emotalking.io.images import read_image
from emotalking.io.video import decode_frames
from emotalking.networks.lpips import Lpips
from emotalking.provenance import detect
from emotalking.provenance.detect import ALARM, Found, search
from emotalking.provenance.evidence import Evidence, Piece, grey_levels
from emotalking.provenance.mark import DISTANCE, Mark
from emotalking.provenance.pattern import KEY, SYNC_SHARE, lines
from emotalking.provenance.payload import Payload

LENGTH, FPS = 50, 25
Frames = list[np.ndarray]


def encoded(frames: Frames, crf: int, fps: int = FPS) -> Frames:
    """After H.264, preset medium."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "threads": "1"})
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
    "scale 2, crf 28": lambda frames: encoded(scaled(frames, 2.0), 28),
    "messenger: 480 px wide, crf 28": lambda frames: encoded(scaled(frames, 480 / frames[0].shape[1]), 28),
    "crop to the head, crf 20": lambda frames: encoded(cropped(frames), 20),
    "30 fps, crf 23": lambda frames: encoded(at_30_fps(frames), 23, 30),
    "brighter, crf 23": lambda frames: encoded(levels(frames, 1.15, 10), 23),
    "less contrast, crf 23": lambda frames: encoded(levels(frames, 0.75, 30), 23),
    "one frame of crf 23": lambda frames: encoded(frames, 23)[25:26],
    "one frame, JPEG 75": lambda frames: [as_jpeg(frames[25], 75)],
}
TRADED = ("H.264 crf 23", "H.264 crf 28", "H.264 crf 30", "scale 0.5, crf 18", "scale 0.5, crf 23")
"""Attacks of the trade-off."""


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
    seen = list(hits)
    low, high = stats.binomtest(sum(seen), len(seen)).proportion_ci(0.95, "exact")
    return {"hits": sum(seen), "of": len(seen), "interval_95": [round(low, 4), round(high, 4)]}


def attacked(job: tuple[Frames, int, float | None, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """One clip, marked, after each attack."""
    frames, number, distance, names = job
    payload = Payload(0x1000 + 7919 * number)
    mark = Mark(payload, distance=distance)
    marked = in_video(mark, frames, 0.37 * number)  # clips begin anywhere in the period
    rows = {}
    for name in names:
        found = look(ATTACKS[name](marked), fps=30 if name.startswith("30 fps") else FPS)
        assert found is not None
        read_well = found.payload == payload
        rows[name] = {
            "marked": found.marked,
            "read": read_well,
            "misread": found.marked and found.payload is not None and not read_well,
            "bit_error": found.bit_error if read_well else None,
            "z": found.z,
        }
    return rows


class Workers:
    """Processes that work on clips, one thread each."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_single) if count > 1 else None

    def map(self, run: Callable[[Any], Any], jobs: list[Any]) -> Iterable[Any]:
        """Results in the order of the jobs."""
        return map(run, jobs) if self._pool is None else self._pool.map(run, jobs)


def _single() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def clips_of(frames: Frames, count: int) -> list[Frames]:
    starts = np.linspace(0, max(len(frames) - LENGTH, 0), count).astype(int)
    return [frames[start : start + LENGTH] for start in starts]


def detection(
    frames: Frames, clips: int, workers: Workers, distance: float | None = None, names: tuple[str, ...] = (*ATTACKS,)
) -> dict[str, Any]:
    """Detection rates of clips from one head."""
    jobs = [(clip, number, distance, names) for number, clip in enumerate(clips_of(frames, clips))]
    found = list(workers.map(attacked, jobs))
    rows: dict[str, Any] = {}
    for name in names:
        each = [one[name] for one in found]
        wrong = [one["bit_error"] for one in each if one["bit_error"] is not None]
        rows[name] = {
            "marked": rate(one["marked"] for one in each),
            "payload_read": rate(one["read"] for one in each),
            "misread": sum(one["misread"] for one in each),
            "bit_errors_where_read": float(np.mean(wrong)) if wrong else None,
            "z_quantiles_0_50_100": np.quantile([one["z"] for one in each], [0, 0.5, 1]).round(2).tolist(),
        }
        marked, well = rows[name]["marked"]["hits"], rows[name]["payload_read"]["hits"]
        print(
            f"  {name:<32} marked {marked}/{clips} read {well}/{clips} z {rows[name]['z_quantiles_0_50_100']}",
            flush=True,
        )
    return rows


def quality(frames: Frames, distance: float | None = None) -> dict[str, float]:
    """What the mark changes: PSNR, LPIPS, and the change from frame to frame."""
    network = Lpips.open("squeeze")
    mark = Mark(Payload(1), distance=distance)
    some = frames[:10]
    marked = in_video(mark, some)
    apart = frames[:: max(len(frames) // 5, 1)][:5]

    def lpips(one: np.ndarray, other: np.ndarray) -> float:
        with torch.no_grad():
            return float(network(*(torch.from_numpy(image[None] / np.float32(255)) for image in (one, other))))

    added = [made.astype(np.float32) - plain for made, plain in zip(marked, some, strict=True)]
    energy = float(np.mean([np.square(one).mean() for one in added]))
    change = float(np.mean([np.square(b - a).mean() for a, b in zip(added, added[1:], strict=False)]))
    moves = float(np.mean([np.square(b.astype(np.float32) - a).mean() for a, b in zip(some, some[1:], strict=False)]))
    coded, coded_marked = encoded(some, 16)[0], encoded(marked, 16)[0]
    return {
        "psnr_db": 10 * np.log10(255**2 / energy),
        "lpips_squeeze": float(np.mean([lpips(mark.array(frame), frame) for frame in apart])),
        "lpips_squeeze_of_crf_16_alone": lpips(coded, some[0]),
        "lpips_squeeze_of_mark_and_crf_16": lpips(coded_marked, some[0]),
        "change_of_the_mark_between_frames": change,
        "change_of_the_frames": moves,
    }


def trade_off(frames: Frames, clips: int, workers: Workers) -> list[dict[str, Any]]:
    """LPIPS against detection, for marks of half to four times the allowed distance."""
    rows = []
    allowed = DISTANCE
    for factor in (0.5, 1.0, 2.0, 4.0):
        made = quality(frames, factor * allowed)
        print(f"  distance {factor} x {allowed:.4f}: LPIPS {made['lpips_squeeze']:.4f}", flush=True)
        rows.append({"factor": factor, "lpips_squeeze": made["lpips_squeeze"], "psnr_db": made["psnr_db"]})
        rows[-1]["detection"] = detection(frames, clips, workers, factor * allowed, TRADED)
    return rows


def alarms_of(job: tuple[Path, bool, int, int]) -> dict[str, Any]:
    """The strongest candidates of some keys in a clip, plain or marked with another key; with the public key (the
    first one) also z of many keys in whole images."""
    path, marked, first, last = job
    frames = read(path, LENGTH)
    if marked:
        mark = Mark(Payload(99), b"of somebody else")
        frames = in_video(mark, frames)
    evidence = shown(frames)
    found = [search(evidence, KEY if number == 0 else b"other %d" % number) for number in range(first, last)]
    return {
        "found": [(one.z, one.false_alarm, one.marked) for one in found if one is not None],
        "tails": _many_keys(evidence, 2 * first + marked) if first == 0 else np.zeros(len(LEVELS), np.int64),
    }


LEVELS = np.arange(2.0, 6.1, 0.5)
KEYS_TRIED, KEYS_A_JOB = 10_000, 25


def _many_keys(evidence: Evidence, seed: int) -> np.ndarray:
    """How many of 10,000 random keys exceed each level at the places of whole images, in the images' change or sum."""
    rng, chosen = np.random.default_rng(seed), lines()
    index = np.concatenate([chosen.sync, chosen.data])
    counts = np.zeros(len(LEVELS), np.int64)
    seen = [
        (spectrum.mixtures, detect._aligned(spectrum, index, np.ones(len(index), complex), place))
        for spectrum in detect._spectra(evidence)
        for place in detect._whole(*evidence.steady.shape[1:])
    ]
    known = round(SYNC_SHARE * len(index))
    for _ in range(KEYS_TRIED):
        some = rng.permutation(len(index))[:known]
        phases = np.exp(2j * np.pi * rng.random(known))
        for mixtures, values in seen:
            mixed = mixtures @ values[:, some]
            z = np.abs(np.real(mixed @ phases)) / np.sqrt((np.abs(mixed) ** 2).sum(1) / 2)
            counts += (z[:, None] > LEVELS).sum(0)
    return counts


def false_alarms(clips: list[Path], keys: int, workers: Workers) -> dict[str, Any]:
    """Strongest candidates in clips without the mark of the keys that are looked for."""
    jobs = [
        (clip, marked, first, min(first + KEYS_A_JOB, keys + 1))
        for clip in clips
        for marked in (False, True)
        for first in range(0, keys + 1, KEYS_A_JOB)
    ]
    results = list(workers.map(alarms_of, jobs))
    found = [one for result in results for one in result["found"]]
    zs, bounds = ([one[place] for one in found] for place in (0, 1))
    trials = 2 * len(clips) * KEYS_TRIED * len(detect._whole(512, 512)) * 5  # four mixtures, and the sum
    tails = np.sum([result["tails"] for result in results], 0)
    return {
        "clips": len(clips),
        "searches": len(found),
        "alarms": rate(one[2] for one in found),
        "alarm_threshold": ALARM,
        "searches_with_a_bound_below": {
            f"{level:g}": sum(bound <= level for bound in bounds) for level in (1, 0.1, 0.01)
        },
        "smallest_bound": min(bounds),
        "largest_z": max(zs),
        "z_quantiles_50_90_99": np.quantile(zs, [0.5, 0.9, 0.99]).tolist(),
        "whole_images": {
            "keys_and_places_tried": trials,
            "share_above": {f"{level:g}": count / trials for level, count in zip(LEVELS, tails, strict=True)},
            "bound": {f"{level:g}": float(np.exp(-(level**2) / 2)) for level in LEVELS},
        },
    }


def costs(device: str) -> dict[str, Any]:
    """Time of marking a frame of 512 pixels, alone and in batches."""
    results: dict[str, Any] = {}
    image = torch.from_numpy(np.random.default_rng(0).integers(60, 190, (512, 512, 3), dtype=np.uint8)).to(device)
    mark = Mark(Payload(1))
    for threads in (1, 2) if device == "cpu" else (1,):
        torch.set_num_threads(threads)
        name = f"512x512_{device}_{threads}_threads"
        results[name] = measure(lambda: mark(image), 100)
        print(line(f"mark a 512 x 512 frame, {device}, {threads} threads", results[name]))
    batch = image.expand(8, -1, -1, -1).contiguous()
    results[f"8_frames_{device}"] = measure(lambda: mark(batch), 50)
    print(line(f"mark 8 frames, {device}", results[f"8_frames_{device}"]))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", default=[], help="NAME=PLACE")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--trade-off", action="store_true")
    parser.add_argument("--foreign", nargs="+", type=Path, default=[])
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the cost: cpu or cuda")
    parser.add_argument("--name", default="watermark", help="of the result")
    parser.add_argument("--folder", type=Path, default=None, help="of the result, default: benchmarks/results")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _single()
    workers = Workers(args.workers)
    results: dict[str, Any] = {"distance": DISTANCE, "cost": costs(args.device), "heads": {}}

    def keep() -> Path:
        return write(args.name, results, *([] if args.folder is None else [args.folder]))

    for name, _, place in (one.partition("=") for one in args.frames):
        frames = read(Path(place), LENGTH * max(args.clips, 1))
        print(name, len(frames), frames[0].shape, flush=True)
        head: dict[str, Any] = {"size": list(frames[0].shape[:2]), "frames": len(frames), "quality": quality(frames)}
        print("  ", head["quality"], flush=True)
        if args.trade_off:
            head["trade_off"] = trade_off(frames, args.clips, workers)
        else:
            head["detection"] = detection(frames, args.clips, workers)
        results["heads"][name] = head
        keep()
    if args.foreign:
        results["false_alarms"] = false_alarms(args.foreign, args.keys, workers)
        print(results["false_alarms"], flush=True)
    print(keep())


if __name__ == "__main__":
    main()
