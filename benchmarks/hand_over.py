"""FFHQ's square there and back, and eyes and mouth of another moment cloned into recorded frames, against OpenCV.

python benchmarks/hand_over.py SUBJECT [--frames 8] [--device cpu] [--threads N] [--repeats 10] [--name hand_over]

The face of a frame half a clip away, tinted, stands for the generator's image: it fits the frame's square, and its
expression and colours are others. Figures in grey levels of 255.
"""

from typing import Any

import cv2
import numpy as np
import torch
from _report import arguments, line, measure, ratio, write
from torch import Tensor

from emotalking.data import Subject
from emotalking.faces.paste_back import face_rectangles, poisson_blend
from emotalking.stylegan.ffhq import FaceAlignment, aligned_crops, paste_back

SIZES = (256, 512, 1024)
TINT = (1.08, 0.95, 0.85)
BAND = 6
"""Pixels inside an edge whose mean is compared."""


def round_trips(images: Tensor, alignment: FaceAlignment) -> dict[str, dict[str, float]]:
    """Change by cropping and pasting back, by the size of the crop."""
    found = {}
    for size in SIZES:
        back, inside = paste_back(alignment, aligned_crops(images, alignment, size), images)
        off = ((back - images).abs() * 255)[inside].flatten().cpu().numpy()
        found[str(size)] = {"mean": float(off.mean()), "p99": float(np.quantile(off, 0.99)), "max": float(off.max())}
    return found


def opencv(frames: list[np.ndarray], edited: list[np.ndarray], boxes: list[list[list[int]]]) -> list[np.ndarray]:
    """``seamlessClone`` for the same rectangles."""
    out = []
    for frame, source, rectangles in zip(frames, edited, boxes, strict=True):
        for top, left, bottom, right in rectangles:
            mask = np.zeros(frame.shape[:2], np.uint8)
            mask[top:bottom, left:right] = 255
            middle = ((left + right) // 2, (top + bottom) // 2)
            frame = cv2.seamlessClone(source, frame, mask, middle, cv2.NORMAL_CLONE)
        out.append(frame)
    return out


def added_step(new: Tensor, recorded: Tensor, boxes: Tensor) -> float:
    """The step of brightness that a paste adds along the rectangles' left and right edges, in the mean.

    How far a band of pixels inside the edge has moved from the recorded frame; outside nothing has.
    """
    change, steps = (new - recorded).mean(-1) * 255, []
    for row, rectangles in enumerate(boxes.tolist()):
        for top, left, bottom, right in rectangles:
            steps += [change[row, top:bottom, a : a + BAND].mean(1).abs().mean() for a in (left, right - BAND)]
    return float(torch.stack(steps).mean())


def clones(images: Tensor, edited: Tensor, boxes: Tensor, repeats: int) -> dict[str, Any]:
    """Agreement with OpenCV, what is left of the seams, and the time for all frames."""
    ours = poisson_blend(images, edited, boxes)
    plain = images.clone()
    for row, rectangles in enumerate(boxes.tolist()):
        for top, left, bottom, right in rectangles:
            plain[row, top:bottom, left:right] = edited[row, top:bottom, left:right]
    bytes_ = [[np.asarray((p * 255).round().byte().cpu()) for p in images] for images in (images, edited)]
    theirs = opencv(*bytes_, boxes.tolist())
    changed = (ours != images).any(-1).cpu().numpy()
    off = np.abs(np.stack(theirs) - ours.cpu().numpy() * 255)[changed]
    timings = {
        "opencv": measure(lambda: opencv(*bytes_, boxes.tolist()), repeats),
        "ours": measure(lambda: poisson_blend(images, edited, boxes), repeats),
    }
    return {
        "off_opencv": {"mean": float(off.mean()), "max": float(off.max())},
        "added_step": {name: added_step(p, images, boxes) for name, p in (("pasted", plain), ("cloned", ours))},
        "timings": timings,
        "speedup": ratio(timings["opencv"], timings["ours"]),
    }


def main() -> None:
    options = arguments(__doc__)

    subject = Subject.open(options.subject)
    track, count = subject.landmarks, subject.num_frames
    chosen = np.linspace(0, count // 2 - 1, options.frames).round().astype(int)
    rows = [int(i) for i in np.concatenate([chosen, chosen + count // 2])]
    images = torch.from_numpy(np.stack([subject.original(i) for i in rows])).to(options.device).float() / 255
    points = torch.from_numpy(track.points[rows]).to(options.device).float()
    alignment = FaceAlignment.around(points[:, list(track.layout.ibug68)])
    here, there = list(range(options.frames)), list(range(options.frames, 2 * options.frames))

    results: dict[str, Any] = {"arguments": {**vars(options), "subject": "SUBJECT"}}
    results["sides_px"] = [round(side, 1) for side in alignment.sides.tolist()]
    results["round_trip"] = round_trips(images[here], alignment.pick(here))
    face = aligned_crops(images[there], alignment.pick(there), 512) * images.new_tensor(TINT)
    edited, _ = paste_back(alignment.pick(here), face.clamp(0, 1), images[here])
    boxes = face_rectangles(points[here], track.layout, *images.shape[1:3])
    results["clone"] = clones(images[here], edited.clamp(0, 1), boxes, options.repeats)
    for size, off in results["round_trip"].items():
        print(f"there and back at {size}: mean {off['mean']:.2f}, 99 % below {off['p99']:.2f} grey levels")
    print("off OpenCV", results["clone"]["off_opencv"], "\nsteps added along edges", results["clone"]["added_step"])
    for name, timing in results["clone"]["timings"].items():
        print(line(f"{name}, {options.frames} frames", timing))
    print(write(options.name, results))


if __name__ == "__main__":
    main()
