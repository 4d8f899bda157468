"""What an avatar file is made of, how long it takes to read, and what writing it in the current format changes.

python benchmarks/avatar_file.py [AVATAR ...] [--repeats 9] [--torso SUBJECT] [--name avatar_file] [--out FOLDER]

Per file: bytes by part as it is and rewritten, and of all in format 3 (every number a float, plate raw); milliseconds
to read each of both (processor time, in turns); differences of frames with recorded poses, sound at random and an
emotion, of 255. With --torso, a subject folder: bytes of its torso layers by WebP qualities of colours and alpha, how
far layers over the plate are from the prepared ones, and processor time to decode one.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _render_cpu import conditions
from _report import arguments, write
from torch import Tensor

from emotalking.data import Subject
from emotalking.io.tensors import read_tensors
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import torso_over_plate
from emotalking.models.scene import TorsoStack, encode_torso
from emotalking.networks.lpips import Lpips

FRAMES = 12
QUALITIES = ((90, 100), (90, 50), (85, 50), (80, 50))


def _parts(path: Path) -> dict[str, int]:
    """Bytes by part: torso layers, plate, poses, and each parameter of the Gaussians; all networks together."""
    header, tensors = read_tensors(path)
    sizes: Counter[str] = Counter()
    for name, value in tensors.items():
        if ".gaussians." in name:
            part = "Gaussians: " + name.rpartition(".gaussians.")[2].removesuffix(".grid")
        elif name.startswith("head."):
            part = "tri-planes" if name.endswith("encoder.table") else "networks"
        else:
            part = {"torso_data": "torso layers", "background": "plate"}.get(name.removeprefix("scene."), "poses")
        sizes[part] += value.numel() * value.element_size()
    sizes["header"] = path.stat().st_size - sum(sizes.values())
    return {"all": path.stat().st_size, **dict(sizes.most_common())}


def _as_floats(path: Path, avatar: Avatar) -> int:
    """Bytes of an avatar's file in format 3."""
    parts = _parts(path)
    kept = sum(parts[name] for name in ("torso layers", "poses", "header"))
    numbers = sum(value.numel() * 4 for value in avatar.head.state_dict().values())
    return kept + numbers + avatar.background.nbytes


@torch.no_grad()
def _frames(avatar: Avatar) -> Tensor:
    plate = torch.from_numpy(avatar.background)[None].float() / 255.0
    made = conditions(avatar, FRAMES)
    return torch.cat([avatar.render(c.viewmats, c.audio, c.aus, c.va, plate).rgb for c in made])


def _compared(path: Path, again: Path, repeats: int) -> dict[str, Any]:
    avatar = Avatar.load(path)
    poses = len(avatar.viewmats)
    before = _frames(avatar)
    avatar.save(again)
    off = (_frames(Avatar.load(again)) - before).abs() * 255
    took: dict[Path, list[float]] = {path: [], again: []}
    for _ in range(repeats):
        for each, times in took.items():
            begun = time.process_time()
            Avatar.load(each)
            times.append((time.process_time() - begun) * 1e3)
    head = avatar.head
    return {
        "size": [avatar.width, avatar.height],
        "poses": poses,
        "gaussians": {name: getattr(head, name).gaussians.count for name in ("face", "mouth")},
        "bytes": _parts(path),
        "bytes_rewritten": _parts(again),
        "bytes_format_3": _as_floats(again, avatar),
        "load_cpu_ms": median(took[path]),
        "load_cpu_ms_rewritten": median(took[again]),
        "difference_of_255": {"mean": float(off.mean()), "max": float(off.max())},
    }


@torch.no_grad()
def _torso(subject: Subject) -> dict[str, dict[str, float]]:
    """Bytes of a layer, LPIPS and PSNR (dB) of the whole frame, and milliseconds to decode it, by qualities."""
    network, plate = Lpips.open("squeeze"), torch.from_numpy(subject.background.copy()).float() / 255.0
    train = subject.train_indices
    picked = train[np.linspace(0, len(train) - 1, FRAMES).astype(int)]
    rows: dict[str, dict[str, float]] = {}
    for qualities in QUALITIES:
        sums = {"bytes": 0.0, "lpips": 0.0, "psnr": 0.0, "decode_cpu_ms": 0.0}
        for index in picked:
            layer = subject.torso(int(index))
            stack = TorsoStack.encode([encode_torso(layer, *qualities)])
            begun = time.process_time()
            again = stack[0]
            took = (time.process_time() - begun) * 1e3
            truth, shown = (torso_over_plate(torch.from_numpy(each), plate)[None] for each in (layer, again))
            error = float((truth - shown).square().mean())
            row = {
                "bytes": len(stack.data),
                "lpips": float(network(shown, truth)),
                "psnr": float(-10 * np.log10(error)),
            }
            row["decode_cpu_ms"] = took
            sums = {name: value + row[name] / len(picked) for name, value in sums.items()}
        rows["{} {}".format(*qualities)] = sums
    return rows


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in args.avatars:
            row = results[path.stem] = _compared(path, Path(folder) / "again.safetensors", args.repeats)
            print(path.stem, *(f"{key}: {value}" for key, value in row.items()), sep="\n  ", flush=True)
    if args.torso is not None:
        results["torso"] = _torso(Subject.open(args.torso))
        print("torso", results["torso"])
    write(args.name, results, args.out)


if __name__ == "__main__":
    main()
