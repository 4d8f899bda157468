"""Noise, sidedness and speed of the face landmarks, beside mediapipe 0.10.21 where it is installed.

python benchmarks/face_mesh.py CLIP ... [--seconds 2.0]

- "noise": standard deviation of the points of one frame under the camera noise of a standard deviation of 3 levels, in
  pixels of a face 300 pixels high: all points of the mesh, and the lips' inner rim.
- "mirror_r": correlation of the lips' opening with that of the mirrored frames; "mirror_px": half the distance, on
  average, of the points on the middle line from their mirror images, along x.
- "ms": best and median processor time of a frame, all threads together.
- "distance": to the points of mediapipe, after its mean offset: standard deviation over points and frames, px.
"""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from _report import arguments, write

from emotalking.io.video import read_frames
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.landmarks import MediaPipeMesh

MIDDLE = [10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 0, 13, 14, 17, 152]
NOISE, TAKES = 3.0, 24
Detector = Callable[[np.ndarray], np.ndarray]


def own() -> Detector:
    """This package's."""
    mesh = MediaPipeMesh()

    def detect(image: np.ndarray) -> np.ndarray:
        found = mesh.detect(image)
        return np.full((478, 2), np.nan) if found is None else found[:, :2].astype(np.float64)

    return detect


def published() -> Detector:
    """Of mediapipe 0.10.21."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    mesh = FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True)

    def detect(image: np.ndarray) -> np.ndarray:
        found = mesh.process(image).multi_face_landmarks
        rows = [(p.x, p.y) for p in found[0].landmark] if found else [(np.nan, np.nan)] * 478
        return np.array(rows) * image.shape[1::-1]

    return detect


def study(make: Callable[[], Detector], images: list[np.ndarray]) -> tuple[dict[str, Any], np.ndarray]:
    """Measures of one detector on one clip, and its points."""
    detect, mirrored, rng = make(), make(), np.random.default_rng(0)
    points, other, times = [], [], []
    for image in images:
        begin = time.process_time()
        points.append(detect(image))
        times.append(1e3 * (time.process_time() - begin))
        other.append(mirrored(np.ascontiguousarray(image[:, ::-1])))
    track, back = np.array(points), np.array(other)
    opening = [one[:, 14, 1] - one[:, 13, 1] for one in (track, back)]
    away = track[:, MIDDLE, 0] + back[:, MIDDLE, 0] - images[0].shape[1]
    noisy = (np.clip(images[0] + rng.normal(0, NOISE, images[0].shape), 0, 255).astype(np.uint8) for _ in range(TAKES))
    still, watch = [], make()
    for image in noisy:
        still.append(watch(image))
    spread = np.array(still[4:]).std(0).mean(-1) * 300 / np.ptp(still[-1][:468, 1])
    return {
        "noise": {"all": float(spread[:468].mean()), "lips": float(spread[list(LAYOUT.lips_inner)].mean())},
        "mirror_r": float(np.corrcoef(*opening)[0, 1]),
        "mirror_px": float(np.mean(away) / 2),
        "ms": [float(np.min(times)), float(np.median(times))],
    }, track


def main() -> None:
    """Study every clip."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    try:
        import mediapipe

        has_mediapipe = hasattr(mediapipe, "solutions")
    except ImportError:
        has_mediapipe = False
    rows: dict[str, Any] = {}
    for clip in args.clips:
        images = list(islice(read_frames(clip, 25), round(25 * args.seconds)))
        rows[clip.stem], track = {}, None
        rows[clip.stem]["own"], track = study(own, images)
        if has_mediapipe:
            rows[clip.stem]["mediapipe"], theirs = study(published, images)
            apart = track - theirs
            rows[clip.stem]["offset"] = np.nanmean(apart, (0, 1)).tolist()
            rows[clip.stem]["distance"] = float(np.nanstd(apart - np.nanmean(apart, (0, 1))))
        print(clip.stem, rows[clip.stem], flush=True)
    print(write("face_mesh", {"clips": rows}))


if __name__ == "__main__":
    main()
