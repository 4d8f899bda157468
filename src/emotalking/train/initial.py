"""Initial Gaussians: in a cube as published, or on the tracked face."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.models.config import BranchConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.motion import ALL_MOVES
from emotalking.train.data import TrainingData, class_mask

CUBE = 0.1
"""Half edge of the published start cube, world units."""
MOUTH_DEPTH = 0.008
"""The inside of the mouth starts this far behind the lips, world units."""
FALL_OFF = 0.6
"""Outside the tracked face the head's surface recedes by this much per unit of distance."""
STILL, FOLLOWING = 0.25, 0.75
"""Places between upper and lower lip of the open mouth above which nothing moves with the jaw, and below which all."""
OPEN_PERCENTILE = 95.0
"""Of the openings of a clip, the one that counts as an open mouth: canonical Gaussians show it."""


def jaw_line(data: TrainingData) -> Float[Tensor, "2"]:
    """``jaw`` of :class:`MouthMotion`: nothing of the motion at the upper teeth, all at the lower ones.

    All of it everywhere in a clip without a tracked shape or without an open mouth.
    """
    whole = torch.tensor(ALL_MOVES, device=data.device)
    openings = data.mouth_opening[np.isfinite(data.mouth_opening)]
    if data.shape is None or not len(openings):
        return whole
    upper = data.shape[list(data.layout.ibug68[61:64])].mean(0)
    views = data.conditions.viewmats
    depth = float((views[:, 2, :3] @ upper + views[:, 2, 3]).mean())
    opening = float(np.percentile(openings, OPEN_PERCENTILE)) * depth / float(data.K[1, 1])
    if opening <= 0.0:
        return whole
    slope = -1.0 / ((FOLLOWING - STILL) * opening)  # y points up
    return torch.stack([-slope * (upper[1] - STILL * opening), upper.new_tensor(slope)])


def initial_gaussians(
    config: BranchConfig, data: TrainingData, classes: tuple[Label, ...], generator: torch.Generator
) -> Gaussians:
    """Gaussians of a branch before its first step.

    Args:
        classes: what the branch shows (head and hair, or the inside of the mouth).

    Raises:
        InputError: if the subject shows none of ``classes``, or ``init`` is `surface` and it has no tracked 3-D shape.
    """
    count = config.initial_points
    visible = np.flatnonzero(sum(data.pixels_of(label) for label in classes))
    if not len(visible):
        names = " or ".join(label.name.lower() for label in classes)
        raise InputError(
            f"No frame of this subject shows {names}: check its parsing folder and prepare the clip again."
        )
    if config.init == "cube":
        points = (torch.rand(count, 3, generator=generator) * 2.0 - 1.0) * CUBE
        colours = torch.rand(count, 3, generator=generator) / 255.0
    else:
        points, colours = _on_surface(count, data, classes, visible, generator)
    return Gaussians(points, colours, config.sh_degree).to(data.device)


def _on_surface(
    count: int,
    data: TrainingData,
    classes: tuple[Label, ...],
    visible: Int64[np.ndarray, "S"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Random pixels of the classes in frames out of ``visible``, lifted onto the head's surface, with their colours."""
    if data.shape is None:
        raise InputError(
            "This subject has no tracked 3-D face shape, so Gaussians cannot start on it: "
            "complete the folder with 'emotalking import', or "
            "set model.face.init=cube and model.mouth.init=cube."
        )
    shape = data.shape.cpu().numpy()
    mouth = Label.MOUTH in classes
    frames = _most_open(data, visible) if mouth else _spread_by_yaw(data, visible)
    share = -(-count // len(frames))
    points, colours = [], []
    for frame in frames:
        pixels = class_mask(data.labels[frame], *classes).nonzero().cpu()
        chosen = pixels[torch.randint(len(pixels), (share,), generator=generator)]
        offset = torch.rand(share, 2, generator=generator)
        pixel = (chosen.flip(1) + offset).numpy().astype(np.float64)
        points.append(_lift(pixel, data, frame, shape, MOUTH_DEPTH if mouth else 0.0))
        colours.append(data.images[frame].cpu()[chosen[:, 0], chosen[:, 1]].float() / 255.0)
    return torch.from_numpy(np.concatenate(points)[:count]).float(), torch.cat(colours)[:count]


def _most_open(data: TrainingData, visible: Int64[np.ndarray, "S"]) -> list[int]:
    """Up to 16 of the frames ``visible`` with the widest open mouth."""
    return visible[np.argsort(-data.mouth_opening[visible], kind="stable")[:16]].tolist()


def _spread_by_yaw(data: TrainingData, visible: Int64[np.ndarray, "S"]) -> list[int]:
    """Up to five of ``visible`` from the leftmost to the rightmost view, so that both sides of the head get points."""
    yaw = torch.atan2(data.conditions.viewmats[:, 0, 2], data.conditions.viewmats[:, 2, 2]).cpu().numpy()
    order = visible[np.argsort(yaw[visible], kind="stable")]
    return order[np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int)].tolist()


def _lift(
    pixels: np.ndarray, data: TrainingData, frame: int, shape: np.ndarray, depth: float
) -> Float[np.ndarray, "M 3"]:
    """World points of pixels: intersection of the ray with the height field z(x, y) of the tracked shape."""
    inside = LinearNDInterpolator(shape[:, :2], shape[:, 2])
    nearest = NearestNDInterpolator(shape[:, :2], np.arange(len(shape)))

    def height(xy: np.ndarray) -> np.ndarray:
        z = inside(xy)
        border = shape[nearest(xy).astype(int)]
        outside = border[:, 2] - FALL_OFF * np.linalg.norm(xy - border[:, :2], axis=1)
        return np.where(np.isnan(z), outside, z) - depth

    view = data.conditions.viewmats[frame].cpu().numpy().astype(np.float64)
    rotation, centre = view[:3, :3], -view[:3, :3].T @ view[:3, 3]
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(data.K.cpu().numpy().astype(np.float64)).T
    rays = rays @ rotation
    z = np.full(len(pixels), np.median(shape[:, 2]))
    points = np.empty((len(pixels), 3))
    for _ in range(6):  # The view is nearly along z, so the fixed point contracts quickly.
        t = (z - centre[2]) / rays[:, 2]
        points = centre + t[:, None] * rays
        z = 0.5 * z + 0.5 * height(points[:, :2])
    return points
