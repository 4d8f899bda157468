"""What signatures cost (time and bytes of a 512-pixel PNG frame, time and memory of a long video), and what the public
reader of C2PA's library says of them (with --verdicts this alone): with and without our root certificate, and of files
with a changed bit.

python benchmarks/signing.py [--verdicts] [--bits 200] [--megabytes 300 1200 ...] [--repeats 20]
"""

import json
import os
import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from _report import arguments, line, measure, peak_mb, write

from emotalking.io.audio import save_wav
from emotalking.io.files import finish_file
from emotalking.io.images import write_image
from emotalking.io.video_writer import VideoWriter
from emotalking.provenance.certificates import credentials
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


def verdict(path: Path, root: str = "") -> dict[str, Any]:
    """The public reader's words, with its own settings, and with a trusted root if one is given."""
    import c2pa

    trust = {"trust": {"user_anchors": root}, "verify": {"verify_trust": True}}
    context = c2pa.Context(settings=c2pa.Settings.from_dict(trust if root else {}))
    try:
        with path.open("rb") as stream, c2pa.Reader(None, stream, context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        return {"state": "unreadable", "problems": [str(error).split(":")[0]]}
    problems = [one["code"] for one in report.get("validation_status", ())]
    return {"state": report["validation_state"], "problems": problems}


def verdicts(folder: Path, bits: int) -> dict[str, Any]:
    """What the public reader says of signed files, whole and with one changed bit at many places."""
    made = {"png": folder / "a.png", "mp4": folder / "a.mp4", "wav": folder / "a.wav"}
    image = Actor(size=256).render(Performance.generate(1, seed=0).states[0]).image
    write_image(made["png"], image, 3, finish=finisher(made["png"], ORIGIN))
    with VideoWriter(made["mp4"], 256, 256, Fraction(25), finish=finisher(made["mp4"], ORIGIN)) as writer:
        for _ in range(10):
            writer.write(image)
    save_wav(made["wav"], np.sin(np.arange(16000) / 20).astype(np.float32), finish=finisher(made["wav"], ORIGIN))
    root, rows = credentials().root.decode(), {}
    for form, path in made.items():
        whole, changed = path.read_bytes(), folder / f"changed.{form}"
        seen = {"padding": 0}
        for place in np.linspace(0, len(whole) - 1, bits).astype(int):
            data = bytearray(whole)
            data[place] ^= 1
            changed.write_bytes(data)
            state = verdict(changed, root)["state"]
            seen[state] = seen.get(state, 0) + 1
            # The room that the library leaves behind a signature is zeros, which nothing covers.
            seen["padding"] += state == "Trusted" and not any(whole[max(place - 16, 0) : place + 16])
        rows[form] = {"without_root": verdict(path), "with_root": verdict(path, root), "one_bit_changed": seen}
        print(form, rows[form], flush=True)
    return rows


def main() -> None:
    options = arguments(__doc__)
    results: dict[str, Any] = {"arguments": vars(options)}
    if options.verdicts:
        with tempfile.TemporaryDirectory() as scratch:
            results["verdicts"] = verdicts(Path(scratch), options.bits)
        print(write("signing_verdicts", results))
        return
    with tempfile.TemporaryDirectory() as scratch:
        results["frame"] = frame_costs(Path(scratch), options.repeats)
        results["video"] = [video_costs(Path(scratch), size) for size in options.megabytes]
    print(write("signing", results))


if __name__ == "__main__":
    main()
