"""The last step of every frame that anyone is shown: head over torso over plate, in 8 bit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.compositor import Conditions, torso_over_plate
from emotalking.ops.composite import quantised
from emotalking.player.backgrounds import Background, background_plate
from emotalking.player.on_device import graphs_of
from emotalking.player.protocols import PlayableAvatar
from emotalking.player.spill import spilling_colour, without_spill
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import swing


@dataclass(frozen=True)
class Behind:
    """What is behind the torso, on the avatar's device."""

    plate: Float[Tensor, "H W 3"] | None
    """In [0, 1]; None: transparent."""
    spilt: Float[Tensor, "1 3 h w"] | None
    """Colour of the recorded background where another is shown (:mod:`emotalking.player.spill`); None: it is shown."""

    @classmethod
    def of(cls, background: Background, avatar: PlayableAvatar) -> "Behind":
        """Read a background.

        Raises:
            InputError: neither a colour nor an image.
        """
        plate = background_plate(background, avatar.background)
        spilt = None if background is None else spilling_colour(avatar.background, avatar.device)
        if isinstance(plate, str):
            return cls(None, spilt)
        return cls(torch.as_tensor(np.ascontiguousarray(plate, np.float32), device=avatar.device) / 255.0, spilt)


@torch.no_grad()
def finished_frames(
    avatar: PlayableAvatar,
    conditions: Conditions,
    torsos: Sequence[UInt8[Tensor, "H W 4"]],
    plates: Sequence[Float[Tensor, "H W 3"]] | None,
    *,
    matte: bool = False,
    mark: Mark | None = None,
    times: Float[np.ndarray, " B"] | None = None,
    spilt: Float[Tensor, "1 3 h w"] | None = None,
) -> UInt8[Tensor, "B H W channels"]:
    """Render B frames in one call and finish them: the only way from conditions to shown frames.

    On a GPU a graph does all of it, where the avatar suits one (:mod:`emotalking.player.graphs`).

    Args:
        avatar: the avatar.
        conditions: on the host or its device.
        torsos: straight-alpha torso layers, on its device.
        plates: what is behind each torso (:class:`Behind`); None: transparent.
        matte: add the head's coverage as a fourth channel.
        mark: put it into the frames; not with ``matte``, as what is composited later gets the mark then.
        times: when the frames are shown [s], which the mark's sign depends on; None: all as at the beginning.
        spilt: colour of the recorded background, where another is shown (:class:`Behind`): one more pass over the
            frames; not with ``matte``.

    Returns:
        RGB, or RGBA with straight alpha where transparent, or RGB and coverage with ``matte``; on the avatar's device.
    """
    count = len(conditions.viewmats)
    if len(torsos) != count or (plates is not None and len(plates) != count):
        raise ValueError(f"torsos, plates: expected one of each of the {count} frames, got {len(torsos)}")
    if matte and (mark is not None or spilt is not None):
        raise ValueError("mark, spilt: frames with a matte get both when they are composited")
    if spilt is not None:
        bare = without_spill(finished_frames(avatar, conditions, torsos, None), spilt)
        frames = bare if plates is None else quantised(torso_over_plate(bare, torch.stack(list(plates))))
        return frames if mark is None else mark(frames, _swings(times, count))
    swings = _swings(times, count)
    if (graphs := graphs_of(avatar)) is not None:
        lips = getattr(avatar, "articulates", False)
        made = graphs.frames(conditions, torsos, plates, matte=matte, mark=mark, swings=swings, articulated=lips)
        if made is not None:
            return made
    frames = quantised(_unmarked(avatar, conditions, torsos, plates, matte))
    return frames if mark is None else mark(frames, swings)


def _swings(times: Float[np.ndarray, " B"] | None, count: int) -> Float[Tensor, " B"]:
    """The mark's factor in each frame."""
    return torch.from_numpy(swing(np.zeros(count) if times is None else times))


def _unmarked(
    avatar: PlayableAvatar,
    conditions: Conditions,
    torsos: Sequence[Tensor],
    plates: Sequence[Tensor] | None,
    matte: bool,
) -> Float[Tensor, "B H W channels"]:
    """Frames in [0, 1]; arguments as above."""
    conditions = conditions.each(lambda part: part.to(avatar.device))
    inputs = conditions.viewmats, conditions.audio, conditions.aus, conditions.va
    gaze = {} if conditions.gaze is None else {"gaze": conditions.gaze}  # avatars of programs may know none
    torso = torch.stack(list(torsos))
    if plates is None:
        head = avatar.render(*inputs, speech=conditions.speech, **gaze)
        head_alpha, torso_alpha = head.alpha[..., None], torso[..., 3:].float() / 255.0
        colour = head.rgb + torso_over_plate(torso, torch.zeros_like(head.rgb)) * (1.0 - head_alpha)
        alpha = head_alpha + torso_alpha * (1.0 - head_alpha)
        return torch.cat([colour / alpha.clamp(min=1e-6), alpha], -1)
    plate = plates[0] if all(each is plates[0] for each in plates) else torch.stack(list(plates))
    image = avatar.render(*inputs, torso_over_plate(torso, plate), conditions.speech, **gaze)
    return torch.cat([image.rgb, image.alpha[..., None]], -1) if matte else image.rgb


def on_host(images: UInt8[Tensor, "*batch H W channels"]) -> UInt8[np.ndarray, "*batch H W channels"]:
    """Images as arrays; from a GPU through memory that it writes to directly."""
    if images.device.type == "cpu":
        return images.numpy()
    host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
    host.copy_(images, non_blocking=True)
    torch.cuda.current_stream(images.device).synchronize()
    return host.numpy()
