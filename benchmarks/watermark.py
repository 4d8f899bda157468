"""The invisible mark: what it survives, false alarms, what it changes in images, and what it costs.

python benchmarks/watermark.py --frames NAME=FOLDER_OR_CLIP ... [--clips 4] [--foreign CLIP ...] [--keys 3]

FOLDER_OR_CLIP holds frames without a mark: rendered by 'emotalking render --provenance off --frames-folder', or a
recording that stands in for a further head. Clips of 2 s begin at even distances. False alarms are looked for in all
``--foreign`` clips, with the public key and with others.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _report import line, measure, write

from emotalking.io.display import to_rgb
from emotalking.io.images import read_image
from emotalking.io.video import decode_frames
from emotalking.networks.lpips import Lpips
from emotalking.provenance.detect import ALARM, Found, search
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import KEY
from emotalking.provenance.payload import Payload
from emotalking.provenance.verify import Piece, grey_levels

LENGTH, FPS = 50, 25
Frames = list[np.ndarray]


def encoded(frames: Frames, crf: int, fps: int = FPS) -> Frames:
    """After H.264, preset medium."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        stream.height, stream.width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            even = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


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
    "one frame, JPEG 75": lambda frames: [
        cv2.imdecode(cv2.imencode(".jpg", frames[25], [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR)
    ],
}


def look(frames: Frames, key: bytes = KEY) -> Found | None:
    """Search as ``verify`` does."""
    piece = Piece()
    for index, frame in enumerate(frames):
        piece.add(index / FPS, grey_levels(frame))
    return search(piece.image(), key)


def read(place: Path, most: int) -> Frames:
    if place.is_dir():
        return [read_image(path) for path in sorted(place.glob("*.png"))[:most]]
    frames = []
    for _, frame in decode_frames(place):
        frames.append(to_rgb(frame))
        if len(frames) == most:
            break
    return frames


def detection(frames: Frames, clips: int) -> dict[str, Any]:
    """Detection rates of clips from one head."""
    starts = np.linspace(0, max(len(frames) - LENGTH, 0), clips).astype(int)
    rows: dict[str, Any] = {}
    for name, attack in ATTACKS.items():
        payloads = [Payload(0x1000 + index) for index in range(clips)]
        found = [
            look(attack([Mark(payload).array(frame) for frame in frames[start : start + LENGTH]]))
            for start, payload in zip(starts, payloads, strict=True)
        ]
        read_well = [one is not None and one.payload == payload for one, payload in zip(found, payloads, strict=True)]
        wrong = [one.bit_error for one in found if one is not None and one.bit_error is not None]
        rows[name] = {
            "clips": clips,
            "marked": sum(one is not None and one.marked for one in found),
            "payload_read": sum(read_well),
            "bit_errors_where_read": float(np.mean(wrong)) if wrong else None,
            "z": [None if one is None else round(one.z, 2) for one in found],
        }
        print(f"  {name:<32} marked {rows[name]['marked']}/{clips} read {sum(read_well)}/{clips}", flush=True)
    return rows


def quality(frames: Frames) -> dict[str, float]:
    """What the mark changes: PSNR, LPIPS, and the change from frame to frame."""
    distance = Lpips.open("squeeze")
    some = frames[:10]
    marked = [Mark(Payload(1)).array(frame) for frame in some]

    def lpips(one: np.ndarray, other: np.ndarray) -> float:
        with torch.no_grad():
            return float(distance(*(torch.from_numpy(image[None] / np.float32(255)) for image in (one, other))))

    added = [made.astype(np.float32) - plain for made, plain in zip(marked, some, strict=True)]
    energy = float(np.mean([np.square(one).mean() for one in added]))
    change = float(np.mean([np.square(b - a).mean() for a, b in zip(added, added[1:], strict=False)]))
    moves = float(np.mean([np.square(b.astype(np.float32) - a).mean() for a, b in zip(some, some[1:], strict=False)]))
    coded, coded_marked = encoded(some, 16)[0], encoded(marked, 16)[0]
    return {
        "psnr_db": 10 * np.log10(255**2 / energy),
        "lpips_squeeze": lpips(marked[0], some[0]),
        "lpips_squeeze_of_crf_16_alone": lpips(coded, some[0]),
        "lpips_squeeze_of_mark_and_crf_16": lpips(coded_marked, some[0]),
        "change_of_the_mark_between_frames": change,
        "change_of_the_frames": moves,
    }


def false_alarms(clips: list[Path], keys: int) -> dict[str, Any]:
    """Strongest candidates in clips without a mark, per key."""
    zs: list[float] = []
    alarms, bounds = 0, []
    for clip in clips:
        frames = read(clip, LENGTH)
        for key in [KEY, *(b"other %d" % number for number in range(keys))]:
            found = look(frames, key)
            if found is not None:
                zs.append(found.z)
                bounds.append(found.false_alarm)
                alarms += found.marked
    return {
        "clips": len(clips),
        "searches": len(zs),
        "alarms": alarms,
        "alarm_threshold": ALARM,
        "smallest_bound": min(bounds),
        "largest_z": max(zs),
        "z_quantiles_50_90_99": np.quantile(zs, [0.5, 0.9, 0.99]).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", default=[], help="NAME=FOLDER_OR_CLIP")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--foreign", nargs="+", type=Path, default=[])
    parser.add_argument("--keys", type=int, default=3)
    args = parser.parse_args()
    results: dict[str, Any] = {"heads": {}}
    for name, _, place in (one.partition("=") for one in args.frames):
        frames = read(Path(place), LENGTH * max(args.clips, 1))
        print(name, frames[0].shape, flush=True)
        results["heads"][name] = {
            "size": list(frames[0].shape[:2]),
            "quality": quality(frames),
            "detection": detection(frames, args.clips),
        }
    if args.foreign:
        results["false_alarms"] = false_alarms(args.foreign, args.keys)
        print(results["false_alarms"], flush=True)
    image = torch.from_numpy(np.random.default_rng(0).integers(60, 190, (512, 512, 3), dtype=np.uint8))
    results["cost"] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results["cost"][f"512x512_{threads}_threads"] = measure(lambda: Mark(Payload(1))(image), 30)
        print(line(f"mark a 512 x 512 frame, {threads} threads", results["cost"][f"512x512_{threads}_threads"]))
    write("watermark", results)


if __name__ == "__main__":
    main()
