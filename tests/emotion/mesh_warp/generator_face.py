"""A parametric face: a few dozen landmarks, a camera and a picture, so that no test needs data."""

from dataclasses import dataclass

import numpy as np
import torch

from emotalking.data.labels import Label
from emotalking.data.layouts import EYE_DISTANCE, FaceLayout


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float, n: int) -> np.ndarray:
    t = np.radians(np.linspace(start, stop, n))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], 1)


def face_shape(irises: bool = True) -> tuple[np.ndarray, FaceLayout]:
    """Neutral shape [K, 3] in world units and its layout; lengths follow an average adult."""
    parts: dict[str, np.ndarray] = {}
    for side, sign in (("right", -1.0), ("left", 1.0)):
        flip = np.array([sign, 1.0])
        # Written for the viewer's right; y down, eye-centre distances.
        parts[f"{side}_upper_lid"] = _arc(0.5, 0.0, 0.23, -0.08, 0, 180, 9) * flip
        parts[f"{side}_lower_lid"] = (_arc(0.5, 0.0, 0.23, 0.07, 0, 180, 9) * flip)[1:-1]
        parts[f"{side}_brow"] = _arc(0.62, -0.12, 0.42, -0.25, 20, 160, 5) * flip
        parts[f"{side}_iris"] = np.concatenate([[[0.5, -0.01]], _arc(0.5, -0.01, 0.093, 0.093, 0, 270, 4)]) * flip
    parts["lips_outer"] = _arc(0, 1.12, -0.40, -0.14, 0, 342, 20)
    parts["lips_inner"] = _arc(0, 1.12, -0.32, -0.03, 0, 342, 20)
    parts["oval"] = _arc(0, 0.48, 1.12, 1.38, -90, 260, 36)
    parts["nose"] = np.stack([np.zeros(5), np.linspace(0.0, 0.65, 5)], 1)
    if not irises:
        parts["right_iris"] = parts["left_iris"] = np.zeros((0, 2))
    index, points, start = {}, [], 0
    for name, part in parts.items():
        index[name] = tuple(range(start, start + len(part)))
        start += len(part)
        points.append(part)
    for side in ("right", "left"):
        upper = index[f"{side}_upper_lid"]
        index[f"{side}_lower_lid"] = (upper[0], *index[f"{side}_lower_lid"], upper[-1])
    xy = np.concatenate(points)
    depth = 0.75 * (1 - (xy[:, 0] / 1.25) ** 2 - ((xy[:, 1] - 0.5) / 1.6) ** 2)
    shape = np.stack([xy[:, 0], -xy[:, 1], depth], 1) * EYE_DISTANCE
    rigid = (*index["nose"], *[index[f"{side}_upper_lid"][k] for side in ("right", "left") for k in (0, -1)])
    layout = FaceLayout(name="test", **index, rigid=rigid, ibug68=(0,) * 68)
    return shape.astype(np.float32), layout


def project(points: np.ndarray, viewmat: np.ndarray, K: np.ndarray) -> np.ndarray:
    """World points to pixels."""
    camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    return (camera[:, :2] / camera[:, 2:] * K[0, 0] + K[:2, 2]).astype(np.float32)


def look(size: int, yaw: float = 0.0, distance: float = 0.62) -> tuple[np.ndarray, np.ndarray]:
    """A camera on the face, turned by yaw radians: viewmat [4, 4] and K [3, 3]."""
    K = np.array([[size * 2.3, 0, size / 2], [0, size * 2.3, size / 2], [0, 0, 1]], np.float32)
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    viewmat = np.eye(4, dtype=np.float32)
    viewmat[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn
    viewmat[:3, 3] = [0, -0.028, distance]
    return viewmat, K


def picture(size: int, points: np.ndarray, layout: FaceLayout) -> tuple[np.ndarray, np.ndarray]:
    """A smooth colourful image [H, W, 3] and labels [H, W]: face oval, inner mouth, background."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    image = np.stack([0.5 + 0.3 * np.sin(9 * x + 2 * y), 0.5 + 0.3 * np.cos(8 * y), 0.4 + 0.3 * np.sin(7 * (x + y))], 2)
    import cv2

    labels = np.full((size, size), int(Label.BACKGROUND), np.uint8)
    cv2.fillPoly(labels, [points[list(layout.oval)].round().astype(np.int32)], int(Label.HEAD))
    cv2.fillPoly(labels, [points[list(layout.lips_inner)].round().astype(np.int32)], int(Label.MOUTH))
    return image.astype(np.float32), labels


@dataclass(frozen=True)
class Scene:
    """One frame of the parametric face, ready for a generator."""

    shape: np.ndarray
    layout: FaceLayout
    K: np.ndarray
    images: torch.Tensor
    landmarks: torch.Tensor
    labels: torch.Tensor
    viewmats: torch.Tensor

    def repeat(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The generator's first four arguments for n copies of the frame."""
        tensors = (self.images, self.landmarks, self.labels, self.viewmats)
        a, b, c, d = (t.repeat(n, *[1] * (t.ndim - 1)) for t in tensors)
        return a, b, c, d


def make_scene(size: int = 256, irises: bool = True, yaw: float = 0.0) -> Scene:
    """Build a scene."""
    shape, layout = face_shape(irises)
    viewmat, K = look(size, yaw)
    points = project(shape, viewmat, K)
    image, labels = picture(size, points, layout)
    return Scene(
        shape,
        layout,
        K,
        torch.from_numpy(image)[None],
        torch.from_numpy(points)[None],
        torch.from_numpy(labels)[None],
        torch.from_numpy(viewmat)[None],
    )
