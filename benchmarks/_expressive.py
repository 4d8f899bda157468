"""Common parts of benchmarks on expressive clips: landmarks and blendshapes of a clip, in the person's head frame."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from _appearance import Observe

from emotalking.data.layouts import EYE_DISTANCE
from emotalking.io.display import to_rgb
from emotalking.io.video import decode_frames
from emotalking.ops.geometry import fit_similarity
from emotalking.preprocess.blendshapes import BLENDSHAPES, read_blendshapes
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.preprocess.pose.rigid import head_frame

LAYOUT = MEDIAPIPE_LAYOUT
REST_SHARE = 0.1
"""Frames of a clip with the least expression, which define the resting face."""
TALK = ("jaw", "mouth", "tongue")
"""Blendshapes that speech moves begin with these..."""
LOOK = ("eyeLook", "_neutral")
"""...and these say nothing of the face at rest."""


@dataclass
class Expressive:
    """One clip of one person."""

    name: str
    points: np.ndarray
    """[N, 478, 3], every frame turned and scaled to the head frame: eye-centre distances, x to the viewer's right, y
    down, z towards the viewer, origin between the eyes of the resting face."""
    blend: np.ndarray
    """[N, 52] scores of :data:`BLENDSHAPES`, 0..1."""
    seen: np.ndarray
    """[N, S] what an observer made of the images (_appearance.py); S is 0 without one."""

    def score(self, *names: str) -> np.ndarray:
        """[N], mean of blendshapes."""
        return self.blend[:, [BLENDSHAPES.index(name) for name in names]].mean(1)

    @cached_property
    def rest(self) -> np.ndarray:
        """Indices of the frames that show least."""
        skipped = [k for k, name in enumerate(BLENDSHAPES) if name.startswith(LOOK)]
        activity = np.delete(self.blend, skipped, 1).sum(1)
        return np.argsort(activity)[: max(3, round(REST_SHARE * len(activity)))]

    @property
    def neutral(self) -> np.ndarray:
        """[478, 3] the face at rest."""
        return np.median(self.points[self.rest], 0)


class BlendshapeReader:
    """Landmarks and blendshapes of one frame after another."""

    def __init__(self) -> None:
        self._mesh = MediaPipeMesh()

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Points [478, 3] in pixels and scores [52] of :data:`BLENDSHAPES`; None without a face."""
        points = self._mesh.detect(image)
        return None if points is None else (points.astype(np.float64), read_blendshapes(points[None, :, :2])[0])


def ibug68(detector: MediaPipeMesh, images: Iterable[np.ndarray]) -> np.ndarray:
    """[F, 68, 2] points of each image, px; NaN without a face."""
    seen = (detector.detect(image) for image in images)
    none = np.full((68, 2), np.nan)
    return np.stack([none if face is None else face[list(LAYOUT.ibug68), :2] for face in seen])


def in_head_frame(pixels: np.ndarray, model: np.ndarray) -> np.ndarray:
    """[N, 478, 3] detector points -> eye-centre distances in the frame of ``model`` [478, 3], by the rigid points."""
    rigid = list(LAYOUT.rigid)
    scale, rotation, offset = fit_similarity(model[rigid], pixels[:, rigid])
    return np.einsum("nji,nkj->nki", rotation, pixels - offset[:, None]) / scale[:, None, None]


def frontal(shape: np.ndarray) -> np.ndarray:
    """[478, 3] detector points (pixels, y down, z away) -> frontal, eye-centre distances, y down, z to the viewer."""
    upright = shape * np.array([1, -1, -1])
    scale, rotation, offset = head_frame(upright, LAYOUT)
    world = (scale * upright @ rotation.T + offset) * np.array([1, -1, 1])
    return (world - np.mean(LAYOUT.eye_centres(world), 0)) / EYE_DISTANCE


def read(name: str, frames: Iterable[np.ndarray], observe: Observe | None = None) -> Expressive:
    """Everything of one clip; frames without a face are left out."""
    reader = BlendshapeReader()
    found, looks = [], []
    for frame in frames:
        one = reader(frame)
        if one is not None:
            found.append(one)
            looks.append(np.zeros(0) if observe is None else observe(frame, one[0]))
    pixels, blend = np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
    clip = Expressive(name, pixels, blend, np.stack(looks))
    # The model of the rigid fit is the resting face; a second round takes the mean over all aligned resting frames.
    model = frontal(pixels[clip.rest[0]])
    for _ in range(2):
        aligned = in_head_frame(pixels * np.array([1, 1, -1]), model)
        model = frontal(np.median(aligned[clip.rest], 0) * np.array([1, 1, -1]))
    return Expressive(name, in_head_frame(pixels * np.array([1, 1, -1]), model), blend, clip.seen)


def read_clip(path: Path, observe: Observe | None = None) -> Expressive:
    """A file."""
    return read(path.stem, (to_rgb(frame) for _, frame in decode_frames(path)), observe)
