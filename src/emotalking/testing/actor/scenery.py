"""Parts that do not move with the head: neck, shoulders and background."""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

import emotalking.testing.actor.paint as paint
import emotalking.testing.actor.parts as parts
import emotalking.testing.actor.shading as shading
from emotalking.data.labels import Label
from emotalking.ops.mesh import interpolate_vertices, rasterize_mesh, vertex_normals
from emotalking.testing.actor.body import Atlas
from emotalking.testing.actor.style import ActorStyle

_FINE = 3
_MARGIN = 0.06
"""The torso is drawn this much (image widths) beyond the image, so that it can sway."""


class Scenery:
    """Background plate and torso layer of one style, drawn once and shifted per frame."""

    def __init__(
        self, style: ActorStyle, size: int, K: Float[np.ndarray, "3 3"], viewmat: Float[np.ndarray, "4 4"]
    ) -> None:
        self._size = size
        self._margin = int(np.ceil(_MARGIN * size))
        self._pixels_per_metre = float(K[0, 0]) / float(viewmat[2, 3])
        self.background = _wall(style, size)
        self._torso, self._labels = self._draw(style, K, viewmat)

    def torso(self, shift: tuple[float, float]) -> tuple[Float32[np.ndarray, "H W 4"], UInt8[np.ndarray, "H W"]]:
        """Premultiplied colours of neck and clothes, and their classes, swayed by ``shift`` metres (right, up)."""
        limit = self._margin - 1
        dx, dy = (float(np.clip(s * self._pixels_per_metre, -limit, limit)) for s in (shift[0], -shift[1]))
        move = np.array([[1, 0, dx - self._margin], [0, 1, dy - self._margin]], np.float64)
        size = (self._size, self._size)
        layer = cv2.warpAffine(self._torso, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        labels = cv2.warpAffine(self._labels, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return layer, np.where(layer[..., 3] >= 0.5, labels, Label.BACKGROUND).astype(np.uint8)

    def _draw(self, style: ActorStyle, K: np.ndarray, viewmat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pieces = parts.torso(style)
        texture = max(self._size, 128)
        atlas = Atlas(
            {
                "cloth": paint.knit(texture, 110, 0.035),
                "collar": paint.knit(texture, 150, 0.02) * 0.97,
                "plain": np.ones((4, 4, 3), np.float32),
            }
        )
        starts = np.cumsum([0] + [len(piece.vertices) for piece in pieces])
        faces = np.concatenate([piece.faces + start for piece, start in zip(pieces, starts, strict=False)])
        labels = np.concatenate(
            [piece.labels if piece.labels is not None else np.full(len(piece.faces), piece.label) for piece in pieces]
        ).astype(np.uint8)
        vertices = np.concatenate([piece.vertices for piece in pieces]).astype(np.float32)
        colour = np.concatenate([piece.colour for piece in pieces]).astype(np.float32)
        uv = np.concatenate([atlas.place(piece.texture, piece.uv) for piece in pieces])
        skin = np.zeros(len(vertices), np.float32)
        skin[faces[labels == Label.NECK].ravel()] = 1
        uv = np.where(skin[:, None] > 0, atlas.place("plain", np.full((1, 2), 0.5)), uv).astype(np.float32)
        normals = (vertex_normals(vertices, faces) @ viewmat[:3, :3].T).astype(np.float32)
        open_sky = np.full(len(vertices), 0.85, np.float32)
        lit = shading.light(normals, open_sky, open_sky, skin)
        lit[:, :3] *= colour
        lit[:, 3] *= np.where(skin > 0, 0.6, 0.0)
        canvas = self._size + 2 * self._margin
        camera = vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
        px = camera[:, :2] / camera[:, 2:] * K[0, 0] + K[:2, 2] + self._margin
        fragments = rasterize_mesh(
            np.concatenate([px * _FINE, camera[:, 2:]], 1), faces, canvas * _FINE, canvas * _FINE
        )
        values = interpolate_vertices(np.concatenate([uv, lit], 1), faces, fragments)
        albedo = cv2.remap(atlas.image, np.ascontiguousarray(values[..., :2]), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        covered = fragments.face_id >= 0
        rgba = (
            np.concatenate([shading.shade(albedo, values[..., 2:6]), np.ones_like(values[..., :1])], -1)
            * covered[..., None]
        )
        rgba = cv2.resize(rgba.astype(np.float32), (canvas, canvas), interpolation=cv2.INTER_AREA)
        is_torso = cv2.resize(
            (covered & (labels[fragments.face_id] == Label.TORSO)).astype(np.float32),
            (canvas, canvas),
            interpolation=cv2.INTER_AREA,
        )
        classes = np.where(is_torso > 0.5 * rgba[..., 3], Label.TORSO, Label.NECK).astype(np.uint8)
        return rgba, classes


def _wall(style: ActorStyle, size: int) -> Float32[np.ndarray, "H W 3"]:
    """A plain wall with a soft pool of light."""
    axis = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    glow = np.exp(-(((x - 0.36) / 0.55) ** 2 + ((y - 0.30) / 0.62) ** 2))
    tone = 0.70 + 0.38 * glow - 0.05 * y
    warm = np.array([1.015, 1.0, 0.985]) ** (glow * 2 - 1)[..., None]
    return np.clip(np.array(style.background) * tone[..., None] * warm, 0, 1).astype(np.float32)
