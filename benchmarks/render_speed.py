"""Frames per second of an avatar file, against the same renderer that recomputes what is constant for an avatar.

python benchmarks/render_speed.py someone.safetensors [--device cuda] [--frames 20] [--repeats 5]
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _report import line, measure, ratio, write

from emotalking.models.avatar import Avatar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    avatar = Avatar.load(args.avatar, args.device)
    count = min(args.frames, len(avatar.viewmats))
    channels = avatar.head.config.audio.channels
    views = torch.from_numpy(avatar.viewmats[:count]).to(args.device)
    aus = torch.from_numpy(avatar.aus[:count]).to(args.device)
    sound = torch.randn(count, 8, channels, 16, generator=torch.Generator().manual_seed(0)).to(args.device)
    va = torch.full((count, 2), 0.5, device=args.device)
    behind = torch.from_numpy(avatar.background).to(args.device)[None].float() / 255.0

    def render(forget: bool) -> None:
        for i in range(count):
            if forget:
                avatar.to(args.device)  # Moving an avatar drops its constants.
            pick = slice(i, i + 1)
            avatar.render(views[pick], sound[pick], aus[pick], va[pick], behind)

    kept = measure(lambda: render(False), args.repeats, warmup=1)
    recomputed = measure(lambda: render(True), args.repeats, warmup=1)
    rate = count * 1e3 / kept["median_ms"]
    print(line(f"{count} frames, constants kept", kept))
    print(line(f"{count} frames, constants recomputed", recomputed))
    print(f"{rate:.1f} frames/s at {avatar.width}x{avatar.height}; ratio to recomputing {ratio(recomputed, kept):.2f}")
    gaussians = {"face": avatar.head.face.gaussians.count, "mouth": avatar.head.mouth.gaussians.count}
    write(
        f"render_speed_{torch.device(args.device).type}",
        {
            "size": [avatar.width, avatar.height],
            "gaussians": gaussians,
            "frames_per_second": rate,
            "kept": kept,
            "recomputed": recomputed,
            "ratio": ratio(recomputed, kept),
        },
    )


if __name__ == "__main__":
    main()
