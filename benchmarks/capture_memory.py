"""Peak memory of the capture's steps that hold a whole clip, on an hour of made landmarks and sound (no video needed).

python benchmarks/capture_memory.py [--minutes 60.0] [--step NAME ...]

Every step runs in a process of its own (--step NAME FOLDER).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import _report
import numpy as np

from emotalking.data.writer import write_manifest
from emotalking.io.audio import save_wav
from emotalking.preprocess import prepare
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.job import Job
from emotalking.preprocess.pose.step import make_pose
from emotalking.preprocess.scan import Scan
from emotalking.preprocess.timeline import lay_out
from emotalking.preprocess.tracking import PointFlow, RawTrack
from emotalking.testing.actor.performance import Performance

FPS = 25
SIZE = 512


def neutral_face() -> np.ndarray:
    """478 points [K, 3] on an ellipsoid (world units), with eyes, forehead and chin where the layout expects them."""
    rng, layout = np.random.default_rng(0), Job.layout
    x, y = rng.uniform(-0.06, 0.06, 478), rng.uniform(-0.09, 0.09, 478)
    for side, lids in (
        (-1, (layout.right_upper_lid, layout.right_lower_lid)),
        (1, (layout.left_upper_lid, layout.left_lower_lid)),
    ):
        for height, lid in zip((0.005, -0.005), lids, strict=True):
            x[list(lid)], y[list(lid)] = side * 0.0315 + np.linspace(-0.012, 0.012, len(lid)), 0.03 + height
    for index, place in ((layout.oval[0], 0.09), (layout.ibug68[8], -0.09)):
        x[index], y[index] = 0.0, place
    return np.stack([x, y, 0.06 * np.sqrt(np.maximum(1 - (x / 0.075) ** 2 - (y / 0.11) ** 2, 0))], 1)


def make(root: Path, minutes: float) -> None:
    """The product of the clip's decoding: time line, raw landmarks with noise, flow, sound."""
    voice = Performance.generate(60.0, seed=0).waveform.astype(np.float32)
    save_wav(root / "sound.wav", np.resize(voice, round(minutes * 60 * 16000)))
    job = made_job(root)
    count = round(minutes * 60 * FPS)
    rng = np.random.default_rng(0)
    scan = Scan(np.arange(count) / FPS, np.ones(count))
    scan.save(job.scan_file)
    lay_out(scan, Fraction(FPS)).save(job.clock_file)
    face = neutral_face() * np.array([1.0, -1.0, -1.0]) * 1800
    t = np.arange(count, dtype=np.float32)[:, None] / FPS
    points = np.empty((count, 478, 3), np.float32)
    yaw = 0.2 * np.sin(0.7 * t)
    points[..., 0] = face[:, 0] * np.cos(yaw) + face[:, 2] * np.sin(yaw) + SIZE / 2
    points[..., 1] = face[:, 1] + 6 * np.sin(1.3 * t) + SIZE / 2
    points[..., 2] = face[:, 2] * np.cos(yaw) - face[:, 0] * np.sin(yaw)
    for part in np.array_split(points, 64):
        part += rng.normal(0, 0.4, part.shape).astype(np.float32)
    rigid = list(job.layout.rigid)
    flow = PointFlow(np.diff(points[:, rigid, :2], axis=0).astype(np.float64), np.ones((count - 1, len(rigid)), bool))
    job.save_track(RawTrack(points, flow, "made"))
    write_manifest(job.files.root, job.manifest)


def made_job(root: Path) -> Job:
    """A job whose clip is only sound, as far as the measured steps use it."""
    record = {
        "framing": {"square": {"left": 0, "top": 0, "side": SIZE, "size": SIZE}, "clip": [SIZE, SIZE]},
        "audio offset": {"applied_s": 0.0},
        "clock": {"part_s": [0, 0]},
        "check": {"verdict": "good", "reasons": [], "warnings": []},
    }
    job = Job(root / "sound.wav", root / "subject", PrepareConfig())
    job.manifest["steps"] = record
    return job


STEPS: dict[str, Callable[[Job], object]] = {
    "nothing (imports)": lambda job: None,
    "pose": make_pose,
    "audio offset": prepare._audio_offset,
    "audio": prepare._audio,
    "action units": prepare._action_units,
    "emotion": prepare._emotion,
    "audio features": prepare._features,
    "finish": prepare._finish,
}


def main() -> None:
    """Run every step alone and report its peak."""
    args = _report.arguments(__doc__)
    if args.step:
        begin = time.perf_counter()
        STEPS[args.step[0]](made_job(Path(args.step[1])))
        print(json.dumps({"seconds": round(time.perf_counter() - begin, 1), "peak_mb": _report.peak_mb()}))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), args.minutes)
        print(f"| step ({args.minutes:g} minutes of clip) | seconds | peak MB |\n|---|---:|---:|")
        for name in STEPS:
            command = [sys.executable, __file__, "--step", name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(f"| {name} | {results[name]['seconds']} | {results[name]['peak_mb']} |", flush=True)
    _report.write("capture_memory", {"minutes": args.minutes, "steps": results})


if __name__ == "__main__":
    main()
