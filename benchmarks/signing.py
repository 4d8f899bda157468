"""What signatures cost: time and bytes of a 512-pixel PNG frame, time and memory of a long video.

python benchmarks/signing.py [--megabytes 300] [--repeats 20]
"""

import argparse
import os
import struct
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _report import line, measure, peak_mb, write

from emotalking.io.files import finish_file
from emotalking.io.images import write_image
from emotalking.io.video_writer import VideoWriter
from emotalking.provenance.manifest import LICENCES, Origin
from emotalking.provenance.signing import finisher, read_signature
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance

ORIGIN = Origin(avatar="ab" * 32, consent="cd" * 32, licences=LICENCES)


def frame_costs(folder: Path, repeats: int) -> dict[str, Any]:
    """A frame of the actor, written with and without a signature in the same run."""
    image = Actor(size=512).render(Performance.generate(1, seed=0).states[0]).image
    path, finish = folder / "a.png", finisher(folder / "a.png", ORIGIN)
    plain = measure(lambda: write_image(path, image, 3), repeats)
    size = path.stat().st_size
    signed = measure(lambda: write_image(path, image, 3, finish=finish), repeats)
    grown = path.stat().st_size - size
    read = measure(lambda: read_signature(path), repeats)
    for name, timing in (("frame", plain), ("signed frame", signed), ("signature read", read)):
        print(line(name, timing))
    return {"frame": plain, "signed_frame": signed, "read": read, "bytes": size, "signature_bytes": grown}


def video_costs(folder: Path, megabytes: int) -> dict[str, Any]:
    """A short video with so much media data behind it that it is as large as a long one."""
    path = folder / "a.mp4"
    with VideoWriter(path, 64, 64, Fraction(25)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    block = os.urandom(1 << 20)
    with path.open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"mdat", 16 + (megabytes << 20)))
        for _ in range(megabytes):
            file.write(block)
    finish, before = finisher(path, ORIGIN), peak_mb()
    timing = measure(lambda: finish_file(path, finish), repeats=1, warmup=0)
    after = peak_mb()
    found = read_signature(path)
    assert found is not None and found.valid
    print(line(f"signature of {megabytes} MB", timing), f" peak memory {before} -> {after} MB")
    return {"megabytes": megabytes, "sign": timing, "peak_mb_before": before, "peak_mb_after": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[300, 1200])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    results: dict[str, Any] = {"arguments": vars(options)}
    with tempfile.TemporaryDirectory() as scratch:
        results["frame"] = frame_costs(Path(scratch), options.repeats)
        results["video"] = [video_costs(Path(scratch), size) for size in options.megabytes]
    print(write("signing", results))


if __name__ == "__main__":
    main()
