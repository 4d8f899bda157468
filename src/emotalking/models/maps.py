"""What a head's Gaussians hold beside their colours, as maps: attention (paper S7), normals, depth, coverage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.compositor import Conditions
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Layer, TalkingHead, render_layer
from emotalking.ops.normals import camera_normals, normals_from_render

Attention = dict[str, Float[Tensor, "*batch N"]]
"""L2 norm of each point's attention vector, by what it attends to: ``audio``, ``units`` (the six action units), and
``emotion`` and ``gaze`` where the head takes them (docs/paper.md 4.3, 4.5)."""


@dataclass(frozen=True)
class HeadMaps:
    """Maps of B frames, all with the same geometry."""

    face: Layer
    """Colours and coverage of the face; without its ``extra``."""
    mouth: Layer
    """The same of the inside of the mouth."""
    normals: Float[Tensor, "B H W 3"]
    """Of the face: unit vectors in camera space (OpenCV axes), zero where nothing of it was drawn."""
    depth: Float[Tensor, "B H W"]
    """Expected camera z of face and inside of the mouth, world units; 0 where there is neither."""
    attention: dict[str, Float[Tensor, "B H W"]]
    """:data:`Attention` of the face's points, splatted like a colour over black."""


def attention_of(head: TalkingHead, face: Deformed | None = None) -> Attention:
    """Attention of the face's Gaussians.

    Args:
        face: the face as speech and action units have moved it, where a separate emotion branch reads its features;
            None: at rest.
    """
    motion, means = head.face.motion, head.face.gaussians.means
    vectors = motion.maps(motion.canonical(means))
    if head.emotion is not None:
        vectors["emotion"] = head.emotion.attention(head.emotion.encoder(means if face is None else face.means))
    return {name: torch.linalg.vector_norm(vector, dim=-1) for name, vector in vectors.items()}


@torch.no_grad()
def head_maps(head: TalkingHead, given: Conditions, K: Float[Tensor, "3 3"], size: tuple[int, int]) -> HeadMaps:
    """Render all maps of the frames of B conditions, by the differentiable rasterizer.

    Args:
        size: (width, height) in pixels.
    """
    va = given.va if head.face.motion.takes_emotion else None
    face = head.deform_face(given.audio, given.aus, va=va, speech=given.speech, gaze=given.gaze)
    attention = attention_of(head, face)
    if given.va is not None and head.emotion is not None:
        face = head.add_emotion(face, given.va)
    views, residuals = given.viewmats, head.face.gaussians.normal_residuals
    frames, count, _ = face.means.shape
    channels = [
        camera_normals(face.quats, face.scales, face.means, views, residuals),
        _camera_z(face, views),
        *(strength.expand(frames, count)[..., None] for strength in attention.values()),
    ]
    front = render_layer(head.face.gaussians, face, views, K, size, extra=torch.cat(channels, -1))
    mouth = head.deform_mouth(given.audio, given.speech)
    inside = render_layer(head.mouth.gaussians, mouth, views, K, size, extra=_camera_z(mouth, views))
    encoded, z, *splatted = front.extra.split([3, 1, *[1] * len(attention)], dim=-1)
    left = 1.0 - front.alpha
    cover = front.alpha + left * inside.alpha
    return HeadMaps(
        front,
        inside,
        normals=normals_from_render(encoded, front.alpha),
        depth=(z[..., 0] + left * inside.extra[..., 0]) / cover.clamp(min=1e-6),
        attention={name: image[..., 0] for name, image in zip(attention, splatted, strict=True)},
    )


def _camera_z(deformed: Deformed, viewmats: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B N 1"]:
    """Distance of the Gaussians' centres along the camera's axis."""
    return deformed.means @ viewmats[:, 2, :3, None] + viewmats[:, 2, 3, None, None]
