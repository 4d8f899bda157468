"""Recorded frames whose eyes look elsewhere: what the face stage learns of a gaze that the person never showed.

A person who talks to a camera looks at it. Measured sideways, the eyes then turn with the head and hardly else, and by
a pixel or two, so that a network follows commanded eyes but a little. Here recorded irises are moved between the lids
(:func:`emotalking.emotion.mesh_warp.eyes.turn_eyeballs`). Sideways alone: lids follow eyes that look up or down.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from emotalking.data.gaze import IRIS_RADIUS
from emotalking.data.layouts import EYE_DISTANCE
from emotalking.emotion.mesh_warp.eyes import PATCH_HALF, EyeIndices, turn_eyeballs
from emotalking.ops.geometry import project
from emotalking.train.data import TrainingData, as_index

SHARE = 0.25
"""Share of frames whose eyes are turned."""
BEYOND = 1.1
"""They are turned as many times as far as the head is to reach: an end is learned worst."""


def sideways(
    gaze: Float[Tensor, "B 2"], reach: float, share: float, generator: torch.Generator
) -> Float[Tensor, "B 2"]:
    """Gaze [rad] of frames, of which a ``share`` look anywhere sideways, up to ``reach`` and a little more."""
    chosen, places = torch.rand(2, len(gaze), generator=generator).to(gaze)
    turned = gaze.clone()
    turned[:, 0] = torch.where(chosen < share, (2.0 * places - 1.0) * BEYOND * reach, gaze[:, 0])
    return turned


def iris_moves(gaze: Float[Tensor, "B 2"], turned: Float[Tensor, "B 2"]) -> Float[Tensor, "B 3"]:
    """How irises move, world units, where eyes that looked along ``gaze`` [rad] are ``turned``; depth is left out."""
    return F.pad(IRIS_RADIUS * (turned.sin() - gaze.sin()), (0, 1))


class Glances:
    """Turns the eyes of training frames.

    Args:
        data: frames with irises, a gaze and the person's shape (``motion_pretraining.convex_eyes``).
        reach: how far to each side in the head the eyes may look, radians.
    """

    @classmethod
    def of(cls, data: TrainingData, reach: float) -> "Glances | None":
        """None where eyes are not turned, as ``reach`` is 0."""
        return cls(data, reach) if reach else None

    def __init__(self, data: TrainingData, reach: float) -> None:
        assert data.shape is not None and data.conditions.gaze is not None  # the config's (`run.resolve_config`)
        self._data, self._reach, self._eyes = data, reach, EyeIndices(data.layout)
        self._eyes.to(data.device)
        assert self._eyes.iris is not None
        self._irises = data.shape[self._eyes.iris[:, 0]]
        self._points = data.points.nan_to_num(0.0)
        views = data.conditions.viewmats
        depth = (self._irises.mean(0) * views[:, 2, :3]).sum(1) + views[:, 2, 3]
        self._unit_px = data.K[0, 0] * EYE_DISTANCE / depth
        largest = float(self._unit_px.max())
        self._patch = int(2 * PATCH_HALF[0] * largest) + 2, int(2 * PATCH_HALF[1] * largest) + 2
        self._found = torch.isfinite(data.points).flatten(1).all(1).cpu()
        self._gaze = data.conditions.gaze.cpu()

    def draw(self, frame: int, generator: torch.Generator) -> Float[Tensor, "2"]:
        """How far the eyes of a frame are turned [rad]: mostly not at all, never without a face."""
        recorded = self._gaze[frame : frame + 1]
        return (sideways(recorded, self._reach, SHARE, generator) - recorded)[0] * self._found[frame]

    def turned(self, frame: int | Int64[Tensor, "1"], glance: Float[Tensor, "2"]) -> Float[Tensor, "1 H W 3"]:
        """A frame whose eyes are turned by ``glance``, radians to the viewer's right and up."""
        data, row = self._data, as_index(frame)
        assert data.conditions.gaze is not None
        gaze = data.conditions.gaze[row]
        ends = torch.cat([self._irises, self._irises + iris_moves(gaze, gaze + glance)])[None]
        before, after = project(ends, data.conditions.viewmats[row], data.K.expand(1, 3, 3)).chunk(2, 1)
        image = data.image(frame).permute(0, 3, 1, 2)
        turned = turn_eyeballs(image, self._points[row], after - before, self._eyes, self._unit_px[row], self._patch)
        return turned.clamp(0.0, 1.0).permute(0, 2, 3, 1)
