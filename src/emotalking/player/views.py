"""What frames can show of a head instead of its image: attention, normals, depth, coverage."""

from collections.abc import Mapping
from functools import cache
from typing import get_args

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.errors import InputError
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import ComposedFrames, Compositor, Conditions
from emotalking.models.maps import HeadMaps, attention_of, head_maps
from emotalking.ops.composite import LUMA
from emotalking.ops.normals import encode_normals
from emotalking.options import View
from emotalking.player.protocols import PlayableAvatar

ATTENTION = {"audio": "audio", "units": "action units", "emotion": "emotion", "gaze": "gaze"}
"""Names of :data:`emotalking.models.maps.Attention` in words; the first three are red, green and blue together."""
_ABSENT = {"emotion": "was trained without its emotion stage", "gaze": "does not take the direction of the eyes"}
DEPTH_COLOURS = "viridis: near yellow, far violet"
_NEAR_FAR, _POSES = (0.001, 0.99), 32
"""Quantiles of the depth of the face's Gaussians in a pose (few are at the nose), and poses that are looked at."""
_WHOLE = 0.99
"""Quantile of the Gaussians' attention that is shown at full strength."""
_GREY, _HEAT = 0.5, 0.6
"""Brightness of the image under an overlay, and share of the overlay's colour where the face is."""


class ViewedAvatar:
    """An avatar whose frames show a view of its Gaussians; a ``player.protocols.PlayableAvatar``.

    Frames are rendered without graphs and without the kernels for inference, which hold colours alone.

    Args:
        avatar: the avatar.
        view: attention: overlay of the image, red for audio, green for action units, blue for emotion, each from zero
            to the 99th percentile over the Gaussians; attention-...: one of them as a heat map (turbo); normals: of the
            face, in camera space, red to the right, green up, blue to the camera, 0.5 n + 0.5; depth: camera z of the
            head within :func:`depth_range` (:data:`DEPTH_COLOURS`); alpha: coverage of the head. The last three are
            over black.

    Raises:
        InputError: the avatar has no such attention.
    """

    def __init__(self, avatar: Avatar, view: View) -> None:
        self.avatar, self.view = avatar, view
        self.width, self.height, self.fps = avatar.width, avatar.height, avatar.fps
        self.viewmats, self.aus, self.background = avatar.viewmats, avatar.aus, avatar.background
        self.audio_features, self.device = avatar.audio_features, avatar.device
        self.closes_lips, self.emotional = avatar.closes_lips, avatar.emotional
        self.gaze, self.gaze_reach = avatar.gaze, avatar.gaze_reach
        self._full, self._depths = full_attention(avatar), depth_range(avatar)
        self._attention = view.partition("-")[2]
        if self._attention and self._attention not in self._full:
            why = _ABSENT[self._attention]
            raise InputError(f"this avatar {why}, so it has no attention to {self._attention}: choose another view.")

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of a recorded pose."""
        return self.avatar.torso(index)

    @torch.no_grad()
    def render(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C steps"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        background: Float[Tensor, "B H W 3"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> ComposedFrames:
        """The view of B conditions; arguments as of ``Avatar.render``."""
        given = self.avatar.conditions(viewmats, audio_windows, aus, va, speech, gaze)
        maps, frames = maps_of(self.avatar, given, background)
        if self.view.startswith("attention"):
            shown = attention_view(maps, frames.rgb, self._full, self._attention)
        elif self.view == "normals":
            shown = normal_colours(maps.normals, maps.face.alpha)
        elif self.view == "depth":
            shown = depth_colours(maps.depth, frames.alpha, self._depths)
        else:
            shown = frames.alpha[..., None].expand(*frames.alpha.shape, 3)
        return ComposedFrames(shown.clamp(0.0, 1.0), frames.alpha, frames.face_alpha)


def maps_of(
    avatar: Avatar, given: Conditions, background: Float[Tensor, "B H W 3"] | None
) -> tuple[HeadMaps, ComposedFrames]:
    """Maps of an avatar, and its composed frames; ``background``: as of ``Avatar.render``."""
    size = (avatar.width, avatar.height)
    maps = head_maps(avatar.head, given, avatar.K, size)
    behind = torch.zeros_like(maps.face.rgb) if background is None else background.expand_as(maps.face.rgb)
    return maps, Compositor(avatar.K, size).compose(maps.face.rgb, maps.face.alpha, maps.mouth, behind)


def full_attention(avatar: Avatar) -> dict[str, float]:
    """Attention that is shown at full strength, by name."""
    with torch.no_grad():
        strengths = attention_of(avatar.head)
    return {name: max(float(torch.quantile(strength, _WHOLE)), 1e-6) for name, strength in strengths.items()}


def attention_view(
    maps: HeadMaps, image: Float[Tensor, "B H W 3"], full: Mapping[str, float], name: str = ""
) -> Float[Tensor, "B H W 3"]:
    """Attention over the darkened grey image.

    Args:
        full: strength of each attention that is shown at full strength.
        name: the one that is shown as a heat map; empty: all in red, green and blue.
    """
    grey = _GREY * (image @ image.new_tensor(LUMA))[..., None].expand_as(image)
    shares = {each: maps.attention[each] / full[each] for each in maps.attention}
    alpha = maps.face.alpha[..., None]
    if name:
        share = _HEAT * alpha
        return grey * (1.0 - share) + share * _coloured(shares[name] / maps.face.alpha.clamp(min=1e-3), "TURBO")
    none = torch.zeros_like(maps.face.alpha)
    colours = torch.stack([shares.get(each, none) for each in list(ATTENTION)[:3]], -1).clamp(0.0, 1.0)
    return grey + colours * (1.0 - grey)


def normal_colours(normals: Float[Tensor, "B H W 3"], alpha: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W 3"]:
    """Normals in camera space (OpenCV axes) as colours over black: red to the right, green up, blue to the camera."""
    return encode_normals(normals * normals.new_tensor([1.0, -1.0, -1.0])) * alpha[..., None]


def depth_colours(
    depth: Float[Tensor, "B H W"], alpha: Float[Tensor, "B H W"], limits: tuple[float, float]
) -> Float[Tensor, "B H W 3"]:
    """Depth as colours over black, :data:`DEPTH_COLOURS`."""
    near, far = limits
    return _coloured((far - depth) / (far - near), "VIRIDIS") * alpha[..., None]


def depth_range(avatar: Avatar) -> tuple[float, float]:
    """Least and greatest camera z of the face in the recorded poses, without stray Gaussians; world units."""
    views = avatar.viewmats[np.linspace(0, len(avatar.viewmats) - 1, _POSES).round().astype(int)].astype(np.float64)
    means = avatar.head.face.gaussians.means.detach().cpu().numpy().astype(np.float64)
    depths = np.quantile(views[:, 2, :3] @ means.T + views[:, 2, 3:], _NEAR_FAR, axis=1)
    near, far = float(depths[0].min()), float(depths[1].max())
    return near, max(far, near + 1e-6)


def viewed(avatar: PlayableAvatar, view: View) -> PlayableAvatar:
    """What renders a view of an avatar.

    Raises:
        InputError: the avatar has no such view.
        ValueError: there is no view of this name.
    """
    known = get_args(get_args(View)[0])
    if view not in known:
        raise ValueError(f"view: expected one of {', '.join(known)}, got {view!r}")
    if view == "image":
        return avatar
    if not isinstance(avatar, Avatar):
        raise InputError(f"the view '{view}' is of avatars that were loaded from their files: omit the view.")
    return ViewedAvatar(avatar, view)


def _coloured(values: Float[Tensor, "*batch"], colours: str) -> Float[Tensor, "*batch 3"]:
    """Values in [0, 1] as colours of one of OpenCV's maps."""
    table = torch.from_numpy(_table(colours)).to(values.device)
    return table[(values.clamp(0.0, 1.0) * 255.0).round().long()]


@cache
def _table(colours: str) -> Float[np.ndarray, "256 3"]:
    """The 256 colours of a map, RGB."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    bgr = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colours}"))
    return np.ascontiguousarray(bgr[:, 0, ::-1], np.float32) / 255.0
