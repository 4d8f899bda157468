"""The head as one mesh: parts joined, textures packed into one atlas, soft shadows baked in."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int32

import emotalking.testing.actor.hair as hair_parts
import emotalking.testing.actor.paint as paint
import emotalking.testing.actor.parts as parts
from emotalking.data.labels import Label
from emotalking.ops.mesh import rasterize_mesh, vertex_normals
from emotalking.testing.actor.parts import Part
from emotalking.testing.actor.rig import Rig, rotate_jaw
from emotalking.testing.actor.skin import Skin, build_skin, collect_landmarks
from emotalking.testing.actor.state import Viseme
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import EYE_RADIUS, EYE_X, EYE_Y, bump

KEY_LIGHT = np.array([-0.46, 0.58, 0.67]) / np.linalg.norm([-0.46, 0.58, 0.67])
"""Towards the main light, in the room (x right in the image, y up, z to the viewer)."""


class Atlas:
    """Several textures in one image, each with a border so that bilinear sampling does not mix neighbours."""

    def __init__(self, textures: Mapping[str, Float32[np.ndarray, "h w 3"]]) -> None:
        width = max(texture.shape[1] for texture in textures.values()) + 4
        height = sum(texture.shape[0] + 4 for texture in textures.values())
        self.image = np.zeros((height, width, 3), np.float32)
        self._boxes: dict[str, tuple[int, int, int, int]] = {}
        row = 0
        for name, texture in textures.items():
            h, w = texture.shape[:2]
            self.image[row : row + h + 4, : w + 4] = np.pad(texture, ((2, 2), (2, 2), (0, 0)), mode="edge")
            self._boxes[name] = (row + 2, 2, h, w)
            row += h + 4

    def place(self, name: str, uv: Float[np.ndarray, "V 2"]) -> Float32[np.ndarray, "V 2"]:
        """Pixel coordinates for :func:`cv2.remap` (pixel centres at whole numbers)."""
        top, left, h, w = self._boxes[name]
        uv = np.clip(uv, 0, 1)
        return np.stack([left + uv[:, 0] * w - 0.5, top + uv[:, 1] * h - 0.5], -1).astype(np.float32)


def _textures(style: ActorStyle, size: int) -> dict[str, Float32[np.ndarray, "h w 3"]]:
    return {
        "skin": paint.skin(style, size),
        "hair": paint.hair(style, size // 2),
        "curtain": paint.curtain(style, size // 2),
        "eye": paint.eye(style, max(size // 4, 64)),
        "teeth": paint.teeth(max(size // 4, 64), True),
        "teeth_lower": paint.teeth(max(size // 4, 64), False),
        "plain": np.ones((4, 4, 3), np.float32),
    }


class Head:
    """The assembled head of one style; :meth:`pose` gives its vertices for a frame."""

    def __init__(self, style: ActorStyle, texture_size: int) -> None:
        self.style = style
        self.skin: Skin = build_skin(style)
        self.rig = Rig(self.skin, style)
        self._strips = self._strip_parts()
        eye = parts.eyeball()
        self._eye = eye
        rigid = [*parts.mouth_parts(), *hair_parts.hair(style)]
        if style.hair_style != "long":  # long hair falls over them
            rigid += parts.ears(style)
        if style.glasses:
            rigid += parts.glasses()
        whole = np.ones((len(self.skin.x), 3))
        places = paint.skin_uv(self.skin.theta, self.skin.t)
        skin_part = Part(self.skin.rest, self.skin.faces, whole, places, Label.HEAD, "skin")
        everything = [skin_part, *self._strips, eye, eye, *rigid]
        starts = np.cumsum([0] + [len(part.vertices) for part in everything])
        first_eye = 1 + len(self._strips)
        self.eye_starts = {"right": int(starts[first_eye]), "left": int(starts[first_eye + 1])}
        self._rigid_start = int(starts[first_eye + 2])
        self.faces: Int32[np.ndarray, "F 3"] = np.concatenate(
            [part.faces + start for part, start in zip(everything, starts, strict=False)]
        ).astype(np.int32)
        counts = [len(part.faces) for part in everything]
        self.face_label = np.repeat([part.label for part in everything], counts).astype(np.uint8)
        self.face_teeth = np.repeat([part.teeth for part in everything], counts)
        # one byte each for the votes teeth, hair, head, mouth (see actor._HeadLayer.classes)
        byte = {Label.HAIR: 1 << 8, Label.HEAD: 1 << 16, Label.MOUTH: 1 << 24}
        self.face_code = np.array([byte[Label(label)] for label in self.face_label], np.uint32) + self.face_teeth
        self.face_code = self.face_code.astype(np.uint32)
        self.face_gloss = np.repeat([part.gloss for part in everything], counts).astype(np.float32)
        self.colour = np.concatenate([part.colour for part in everything]).astype(np.float32)
        sizes = [len(part.vertices) for part in everything]
        is_skin = [part.label == Label.HEAD and part.texture != "eye" for part in everything]
        self.soft = np.repeat(is_skin, sizes).astype(np.float32)
        # open surfaces are lit from the visible side
        open_sheet = [part.label == Label.MOUTH or any(part is strip for strip in self._strips) for part in everything]
        self.two_sided = np.repeat(open_sheet, sizes)
        atlas = Atlas(_textures(style, texture_size))
        self.atlas = atlas.image
        self.uv = np.concatenate([atlas.place(part.texture, part.uv) for part in everything])
        self._rigid = np.concatenate([part.vertices for part in rigid])
        self._jaw = np.concatenate([np.broadcast_to(part.jaw, len(part.vertices)) for part in rigid])
        self._jaw_moves = np.flatnonzero(self._jaw > 0)
        self.landmarks = collect_landmarks(self.skin, self.eye_starts)
        side, t = np.abs(self.skin.x), self.skin.t
        front = np.abs(self.skin.theta) < 1.4
        self._cheeks = (front * bump(side, t, (0.040, -0.022), (0.016, 0.014))).astype(np.float32)
        self._furrow = (front * bump(side, t, (0.0050, 0.0225), (0.0016, 0.0050))).astype(np.float32)
        self._bake()

    # -- strips along lids and lips -------------------------------------------------------------------------------

    def _strip_parts(self) -> list[Part]:
        """Edges of the lids, lashes, inner sides of the lips: meshes that hang on the contours of the skin."""
        skin = np.array(self.style.skin)
        edge = skin * np.array([0.86, 0.66, 0.62])
        dark = np.array(self.style.brows) * 0.35
        inner = np.array(self.style.lips) * 0.62
        lid_parts = [
            parts.sheet(np.zeros((2, 17, 3)), colour, Label.HEAD) for colour in (edge, edge, edge, edge, dark, dark)
        ]
        lip = np.stack([np.tile(inner, (25, 1)), np.tile(inner * 0.45, (25, 1))])
        return [*lid_parts, *(parts.sheet(np.zeros((2, 25, 3)), lip, Label.HEAD) for _ in ("upper", "lower"))]

    def _strip_vertices(self, skin: Float[np.ndarray, "V 3"]) -> list[Float[np.ndarray, "n 3"]]:
        rows = self.skin.rows
        rims, lashes = [], []
        for lid in ("upper_lid", "lower_lid"):
            for side, sign in (("right", -1), ("left", 1)):
                contour = skin[rows[f"{side}_{lid}"]].astype(np.float64)
                centre = parts.eye_centre(sign)
                ray = contour - centre
                ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
                rims.append(np.concatenate([contour, centre + ray * (EYE_RADIUS * 0.985)]))
                if lid == "upper_lid":
                    u = np.linspace(1, -1, 17)
                    length = 0.0034 * self.style.lashes * np.clip(1 - u**4, 0, 1) * (0.8 + 0.4 * u)
                    way = np.stack([0.45 * sign * u, 0.55 + 0 * u, 0.75 + 0 * u], -1)
                    lashes.append(np.concatenate([contour + 0.0002 * ray, contour + length[:, None] * way]))
        lips = []
        for lip, up in (("upper", 1), ("lower", -1)):
            contour = skin[rows[f"lip_inner_{lip}"]].astype(np.float64)
            lips.append(np.concatenate([contour, contour + np.array([0, 0.0016 * up, -0.0075])]))
        return [*rims, *lashes, *lips]

    # -- a frame ------------------------------------------------------------------------------------------------------

    def pose(
        self, aus: Mapping[str, float], viseme: Viseme, gaze: tuple[float, float] = (0.0, 0.0)
    ) -> Float32[np.ndarray, "V 3"]:
        """Vertices of the whole head for visible action units, a viseme and a gaze."""
        skin = self.rig.deform(aus, viseme, gaze[1])
        yaw, pitch = gaze
        cy, sy = np.cos(yaw), np.sin(yaw)
        cp, sp = np.cos(pitch), np.sin(pitch)
        turn = np.array([[cy, sy * -sp, sy * cp], [0, cp, sp], [-sy, -cy * sp, cy * cp]])
        eyes = [self._eye.vertices @ turn.T + parts.eye_centre(sign) for sign in (-1, 1)]
        rigid = self._rigid
        if viseme.jaw:
            rigid = rigid.copy()
            rigid[self._jaw_moves] = rotate_jaw(rigid[self._jaw_moves], viseme.jaw * self._jaw[self._jaw_moves])
        return np.concatenate([skin, *self._strip_vertices(skin), *eyes, rigid]).astype(np.float32)

    def lid_shade(self, vertices: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V"]:
        """Light that the upper lid lets onto the eyeball: 1 everywhere but under the lid."""
        shade = self._ambient.copy()
        count = len(self._eye.vertices)
        for side in ("right", "left"):
            contour = vertices[self.skin.rows[f"{side}_upper_lid"]]
            order = np.argsort(contour[:, 0])
            start = self.eye_starts[side]
            eye = vertices[start : start + count]
            below = np.interp(eye[:, 0], contour[order, 0], contour[order, 1]) - eye[:, 1]
            e = np.abs(np.abs(eye[:, 0]) - EYE_X) / 0.0142
            shade[start : start + count] = (0.48 + 0.52 * np.clip(below / 0.0042, 0, 1)) * (
                1 - 0.22 * np.clip(e, 0, 1) ** 3
            )
        return shade

    def flush(self, aus: Mapping[str, float], arousal: float) -> Float32[np.ndarray, "n 3"]:
        """Tint of the skin's vertices: excitement reddens the cheeks, a frown darkens the furrow between the brows."""
        red = self._cheeks[:, None] * np.array([-0.015, 0.07, 0.065], np.float32) * np.float32(arousal)
        frown = self._furrow[:, None] * np.array([0.20, 0.28, 0.30], np.float32)
        return 1 - red - frown * np.float32(np.clip(aus.get("AU04", 0.0) / 5.0, 0, 1))

    def mouth_light(self, vertices: Float32[np.ndarray, "V 3"]) -> float:
        """Share of light that the open lips let into the mouth."""
        upper, lower = (vertices[self.skin.rows[f"lip_inner_{lip}"][12]] for lip in ("upper", "lower"))
        return 0.45 + 0.55 * float(np.clip((upper[1] - lower[1]) / 0.010, 0, 1))

    # -- baked light --------------------------------------------------------------------------------------------------

    def _bake(self) -> None:
        """Visibility of the surroundings (ambient) and of the key light (shadow) from every vertex at rest."""
        vertices = self.pose({}, Viseme())
        normals = vertex_normals(vertices, self.faces)
        k = np.arange(56) + 0.5
        z = 1 - 1.75 * k / 56
        ring = np.sqrt(1 - z * z)
        around = np.pi * (1 + 5**0.5) * k
        sphere = np.stack([ring * np.cos(around), 0.25 + ring * np.sin(around), z], -1)
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        near_key = KEY_LIGHT + 0.16 * np.random.default_rng(0).normal(size=(14, 3))
        near_key /= np.linalg.norm(near_key, axis=1, keepdims=True)
        visible = np.zeros(len(vertices))
        total = np.full(len(vertices), 1e-6)
        for direction in sphere:
            weight = np.clip(normals @ direction, 0, 1)
            visible += weight * self._visible(vertices, normals, direction)
            total += weight
        ambient = visible / total
        shadow = np.mean([self._visible(vertices, normals, direction) for direction in near_key], axis=0)
        inside = np.zeros(len(vertices), bool)
        self.mouth_vertices = np.unique(self.faces[self.face_label == Label.MOUTH])
        inside[self.mouth_vertices] = True
        first, last = len(self.skin.x), self._rigid_start
        inside[first:last] = True  # strips and eyes: their light is painted
        eyes = np.zeros(len(vertices))  # as if a card threw light into the sockets
        eyes[:first] = 0.85 * bump(np.abs(self.skin.x), self.skin.t, (EYE_X, EYE_Y + 0.009), (0.018, 0.010))
        eyes[:first] += 0.55 * bump(np.abs(self.skin.x), self.skin.t, (0.0, -0.0435), (0.018, 0.007))
        ambient, shadow = ambient + eyes * (1 - ambient), shadow + eyes * (1 - shadow)
        for _ in range(2):
            ambient, shadow = (self._smooth(values) for values in (ambient, shadow))
        self._ambient = np.where(inside, 0.8, ambient).astype(np.float32)
        self.shadow = np.where(inside, 0.85, shadow).astype(np.float32)

    def _visible(
        self,
        vertices: Float32[np.ndarray, "V 3"],
        normals: Float32[np.ndarray, "V 3"],
        direction: Float[np.ndarray, "3"],
    ) -> Float[np.ndarray, "V"]:
        """1 where the straight way along ``direction`` is free."""
        size = 256
        side = np.cross([0.1, 1.0, 0.2], direction)
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(direction, side), -direction])
        at = (vertices + 0.0008 * normals) @ frame.T
        px = np.stack([(at[:, 0] / 0.42 + 0.5) * size, (at[:, 1] / 0.42 + 0.5) * size, at[:, 2] + 10.0], -1)
        depth = rasterize_mesh(px, self.faces, size, size).depth
        column, row = (np.clip(px[:, axis].astype(np.int64), 0, size - 1) for axis in (0, 1))
        facing = normals @ direction
        return np.clip(1 - (px[:, 2] - depth[row, column] - 0.0022) / 0.002, 0, 1) * (facing > -0.2)

    def _smooth(self, values: Float[np.ndarray, "V"]) -> Float[np.ndarray, "V"]:
        """Mean over each vertex and its neighbours."""
        of_faces = values[self.faces].mean(1)
        flat = self.faces.ravel()
        total = np.bincount(flat, np.repeat(of_faces, 3), len(values))
        count = np.bincount(flat, minlength=len(values))
        return np.where(count > 0, total / np.maximum(count, 1), values)
