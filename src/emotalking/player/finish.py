"""The last step of every frame that anyone is shown: head over torso over plate, in 8 bit."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.compositor import Conditions, torso_over_plate
from emotalking.ops.composite import quantised
from emotalking.player.protocols import PlayableAvatar
from emotalking.provenance.mark import Mark


def device_plate(
    plate: UInt8[np.ndarray, "H W 3"] | Literal["transparent"], device: torch.device
) -> Float[Tensor, "H W 3"] | None:
    """A plate of :func:`~emotalking.player.backgrounds.background_plate` in [0, 1] on ``device``; None: transparent."""
    if isinstance(plate, str):
        return None
    return torch.as_tensor(np.ascontiguousarray(plate, np.float32), device=device) / 255.0


@torch.no_grad()
def finished_frames(
    avatar: PlayableAvatar,
    conditions: Conditions,
    torso: UInt8[Tensor, "B H W 4"],
    plate: Float[Tensor, "*#B H W 3"] | None,
    numbers: Sequence[int],
    *,
    matte: bool = False,
    mark: Mark | None = None,
) -> UInt8[Tensor, "B H W channels"]:
    """Render B frames in one call of the avatar and finish them: the only way from conditions to shown frames.

    Args:
        avatar: the avatar.
        conditions: on its device.
        torso: straight-alpha torso layers, on its device.
        plate: what is behind the torso, one for all frames or one each (:func:`device_plate`); None: transparent.
        numbers: number of each frame in its video or stream, from 0.
        matte: add the head's coverage as a fourth channel.
        mark: put it into the frames; not with ``matte``, as what is composited later gets the mark then.

    Returns:
        RGB, or RGBA with straight alpha where transparent, or RGB and coverage with ``matte``; on the avatar's device.
    """
    if len(numbers) != len(torso):
        raise ValueError(f"numbers: expected one of each of the {len(torso)} frames, got {len(numbers)}")
    if matte and mark is not None:
        raise ValueError("mark: frames with a matte are marked when they are composited")
    frames = quantised(_unmarked(avatar, conditions, torso, plate, matte))
    return frames if mark is None else mark(frames)


def _unmarked(
    avatar: PlayableAvatar, conditions: Conditions, torso: Tensor, plate: Tensor | None, matte: bool
) -> Float[Tensor, "B H W channels"]:
    """Frames in [0, 1]; arguments as above."""
    inputs = conditions.viewmats, conditions.audio, conditions.aus, conditions.va
    if plate is None:
        head = avatar.render(*inputs, speech=conditions.speech)
        head_alpha, torso_alpha = head.alpha[..., None], torso[..., 3:].float() / 255.0
        colour = head.rgb + torso_over_plate(torso, torch.zeros_like(head.rgb)) * (1.0 - head_alpha)
        alpha = head_alpha + torso_alpha * (1.0 - head_alpha)
        return torch.cat([colour / alpha.clamp(min=1e-6), alpha], -1)
    image = avatar.render(*inputs, torso_over_plate(torso, plate), conditions.speech)
    return torch.cat([image.rgb, image.alpha[..., None]], -1) if matte else image.rgb
