"""The invisible mark: what it survives, false alarms, what it changes in images, and what it costs.

python benchmarks/watermark.py [--heads NAME=AVATAR ...] [--sounds SOUND ...] [--limit inf]
    [--frames NAME=PLACE ...] [--clips 4] [--trade-off] [--foreign CLIP ...] [--foreign-frames FILE ...] [--keys 3]
    [--drawn 10] [--workers 1] [--device cpu] [--name watermark] [--folder FOLDER]

AVATAR is a file, or actor:256, the drawn actor of that size. Its clips are spoken with parts of the sounds, an emotion
and head motion of their own; the table, also as a NAME.md, holds as many clips of each as are ready within the limit.

PLACE holds frames without a mark: a folder of image files or an array (.npy, [T, H, W, 3]) of what 'emotalking render
--provenance off' or a ``Player`` renders, or a recording that stands in for a further head. Clips of 2 s begin at even
distances, each with a payload of its own; intervals are Clopper and Pearson's, of 95 %. ``--trade-off`` tables LPIPS
against detection for marks of several strengths. False alarms are looked for in all ``--foreign`` clips, plain and
marked with another key, with the public key, ``--keys`` others as ``verify`` does, 48,000 random ones at the places of
whole images and ``--drawn`` in parts, in as many as are begun within the limit; and in single frames of
``--foreign-frames``, clips and images, as they are. The cost is timed where false alarms are not looked for.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import arguments, line, measure, ratio, write
from _watermark_alarms import Shot, false_alarms, stills
from _watermark_clips import (
    ATTACKS,
    FPS,
    LENGTH,
    Frames,
    Workers,
    encoded,
    in_video,
    look,
    rates,
    read,
    single_threaded,
)
from _watermark_heads import heads_table, markdown

from emotalking.networks.lpips import Lpips
from emotalking.ops.backends import use_backends
from emotalking.ops.cuda.capture import capture
from emotalking.provenance.mark import DISTANCE, Mark
from emotalking.provenance.payload import Payload

TRADED = ("H.264 crf 23", "H.264 crf 28", "H.264 crf 30", "scale 0.5, crf 18", "scale 0.5, crf 23")
"""Attacks of the trade-off."""


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
        rows[name] = {
            **rates(each),
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
    some = frames[: 2 * FPS]
    marked = in_video(mark, some)
    apart = frames[:: max(len(frames) // 20, 1)][:20]

    def lpips(one: np.ndarray, other: np.ndarray) -> float:
        with torch.no_grad():
            return float(network(*(torch.from_numpy(image[None] / np.float32(255)) for image in (one, other))))

    added = [made.astype(np.float32) - plain for made, plain in zip(marked, some, strict=True)]
    changes = [float(np.square(b - a).mean()) for a, b in zip(added, added[1:], strict=False)]
    moves = [float(np.square(b.astype(np.float32) - a).mean()) for a, b in zip(some, some[1:], strict=False)]
    distances = [lpips(mark.array(frame, 0.0), frame) for frame in apart]
    coded, coded_marked = encoded(some[:10], 16)[0], encoded(marked[:10], 16)[0]
    return {
        "psnr_db": float(10 * np.log10(255**2 / np.mean([np.square(one).mean() for one in added]))),
        "lpips_squeeze": float(np.mean(distances)),
        "lpips_squeeze_most": max(distances),
        "lpips_squeeze_of_crf_16_alone": lpips(coded, some[0]),
        "lpips_squeeze_of_mark_and_crf_16": lpips(coded_marked, some[0]),
        "change_of_the_mark_between_frames": float(np.mean(changes)),
        "change_of_the_mark_while_its_sign_changes": max(changes),
        "change_of_the_frames": float(np.mean(moves)),
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


def costs(device: str) -> dict[str, Any]:
    """Time of marking frames of 512 pixels by our kernels and, as a baseline, torch's operations; on a GPU also as the
    player does, in a graph."""
    results: dict[str, Any] = {}
    image = torch.from_numpy(np.random.default_rng(0).integers(60, 190, (512, 512, 3), dtype=np.uint8)).to(device)
    mark, swings = Mark(Payload(1)), torch.ones(8, device=device)
    batch = image.expand(8, -1, -1, -1).contiguous()

    def run() -> None:
        mark(image, swings[:1])

    for backend in (device, "reference"):
        with use_backends(add_waves=backend):
            for threads in (1, 2) if device == "cpu" else (1,):
                torch.set_num_threads(threads)
                results[f"frame_{backend}_{threads}_threads"] = measure(run, 100)
            torch.set_num_threads(1)
            results[f"8_frames_{backend}"] = measure(lambda: mark(batch, swings), 50)
            if device == "cuda":
                launch = capture(run, image.device, torch.cuda.graph_pool_handle())
                results[f"frame_{backend}_graph"] = measure(launch, 100)
    for name, timing in results.items():
        print(line(f"mark 512 x 512 on {device}: {name}", timing))
    gain = ratio(results["frame_reference_1_threads"], results[f"frame_{device}_1_threads"])
    print(f"our kernels are {gain:.1f} times as fast as torch's operations (medians of a frame, {device})")
    return results | {"times_as_fast_as_reference": gain}


def main() -> None:
    args = arguments(__doc__)
    os.environ["OMP_NUM_THREADS"] = "1"
    single_threaded()
    workers = Workers(args.workers)
    results: dict[str, Any] = {"distance": DISTANCE, "heads": {}}
    if not (args.foreign or args.foreign_frames):
        results["cost"] = {device: costs(device) for device in sorted({"cpu", args.device})}

    def keep() -> Path:
        return write(args.name, results, *([] if args.folder is None else [args.folder]))

    if args.heads:
        heads = [(name, place) for name, _, place in (one.partition("=") for one in args.heads)]
        results["spoken"] = heads_table(heads, args.sounds, args.clips, args.limit, workers)
        print(markdown(results["spoken"]))
        keep().with_suffix(".md").write_text(markdown(results["spoken"]))
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
        shots: list[Shot] = [(clip, marked, None) for clip in args.foreign for marked in (False, True)]
        results["false_alarms"] = false_alarms(shots, args.keys, args.drawn, args.limit, workers)
    if args.foreign_frames:
        shots = stills(args.foreign_frames)
        results["false_alarms_of_frames"] = false_alarms(shots, args.keys, args.drawn, args.limit, workers)
    print(keep())


if __name__ == "__main__":
    main()
