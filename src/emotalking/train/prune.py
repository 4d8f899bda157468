"""Gaussians that hardly show: found by their blending weights over the recorded, emotional and turned frames."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.compositor import Conditions
from emotalking.models.fixed import FixedHead
from emotalking.models.gaussians import Gaussians
from emotalking.ops.rasterize import rasterize
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.densify import resize

FRAMES = 64
"""Recorded frames that are looked at, evenly spread."""
EMOTION = 0.8
"""Distance from the neutral face of the eight emotions that are looked at."""
TURNS = ((0.3, 0.0), (-0.3, 0.0), (0.0, 0.2), (0.0, -0.2))
"""Yaw and pitch, radians, beyond the recorded pose: motion of the player's own, and views from elsewhere."""

Weights = dict[str, Float[Tensor, " N"]]
"""Of the Gaussians of "face" and "mouth"."""


def drop_unseen(context: Context, share: float) -> dict[str, int]:
    """Remove the Gaussians of each branch with the least :func:`blending_weights`, in place.

    A share of what is shown, not a number of pixels, means the same at every size of frames and density of Gaussians.
    Optimizers of before hold the old parameters. At least one Gaussian of a branch stays.

    Args:
        context: of the run; its head changes.
        share: of the branch's sum of all weights that those which are removed have at most, in [0, 1].

    Returns:
        How many were removed, by branch.
    """
    removed = {}
    for name, weights in blending_weights(context).items():
        gaussians: Gaussians = getattr(context.head, name).gaussians
        order = weights.argsort(stable=True)
        going = weights[order].double().cumsum(0) <= share * float(weights.double().sum())
        going[-1] = False
        kept = order[~going].sort().values
        removed[name] = gaussians.count - len(kept)
        resize(gaussians, None, kept, kept[:0])
    return removed


def blending_weights(context: Context) -> Weights:
    """The most that each Gaussian gives to any frame: its blending weights, summed over the pixels.

    Looked at are :data:`FRAMES` recorded frames, each with its own emotion, with one of a ring of emotions, and once
    more turned by :data:`TURNS`, so that what is seen only in an emotion or from elsewhere counts as well. The mouth's
    weights are those behind the face.
    """
    head, data = context.head, context.data
    fixed = FixedHead(head)
    count = min(FRAMES, data.count)
    rows = torch.linspace(0, data.count - 1, count).round().long().to(data.device)
    most = {name: torch.zeros(getattr(head, name).gaussians.count, device=data.device) for name in ("face", "mouth")}
    for number, row in enumerate(rows.split(1)):
        recorded = data.conditions.at(row)
        turn = _rotation(*TURNS[number % len(TURNS)]).to(data.device)
        emotional = replace(recorded, va=_emotion(2 * number, data.device))
        turned = replace(recorded, viewmats=recorded.viewmats @ turn, va=_emotion(2 * number + 1, data.device))
        for conditions in (recorded, emotional, turned):
            for name, weights in _weights(fixed, data, conditions).items():
                most[name] = torch.maximum(most[name], weights)
    return most


def _emotion(number: int, device: torch.device) -> Float[Tensor, "1 2"]:
    angle = number * math.pi / 4
    return torch.tensor([[EMOTION * math.cos(angle), EMOTION * math.sin(angle)]], device=device)


def _rotation(yaw: float, pitch: float) -> Float[Tensor, "4 4"]:
    """About the origin of the head, as a transform of world points."""
    c, s, d, t = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about_y = torch.tensor([[c, 0.0, s, 0.0], [0.0, 1.0, 0.0, 0.0], [-s, 0.0, c, 0.0], [0.0, 0.0, 0.0, 1.0]])
    about_x = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, d, -t, 0.0], [0.0, t, d, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return about_y @ about_x


def _weights(fixed: FixedHead, data: TrainingData, given: Conditions) -> Weights:
    """Of one frame. The gradient of a channel's sum with respect to a Gaussian's value is its weight in that sum."""
    moved = dict(zip(("face", "mouth"), fixed.deformed(given.audio, given.aus, given.va, given.gaze), strict=True))
    values, front = {}, torch.ones((), device=data.device)
    total = torch.zeros((), device=data.device)
    for name, deformed in moved.items():
        values[name] = torch.ones(*deformed.means.shape[:2], 1, device=data.device, requires_grad=True)
        drawn = rasterize(
            deformed.means,
            deformed.quats,
            deformed.scales,
            deformed.opacities,
            values[name],
            given.viewmats[:, None],
            data.K.expand(1, 1, 3, 3),
            *data.size,
            validate=False,
        )
        total = total + (drawn.features[..., 0] * front).sum()
        front = 1.0 - drawn.alpha.detach()
    gradients = torch.autograd.grad(total, list(values.values()))
    return {name: gradient[0, :, 0] for name, gradient in zip(values, gradients, strict=True)}
