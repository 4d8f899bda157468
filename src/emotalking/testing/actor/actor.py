"""A synthetic talking person with exact ground truth: state in, image and everything about it out."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

import emotalking.testing.actor.shading as shading
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.ops.mesh import MeshFragments, interpolate_vertices, rasterize_mesh, vertex_normals
from emotalking.testing.actor.body import Head
from emotalking.testing.actor.scenery import Scenery
from emotalking.testing.actor.state import JAW_OF_AROUSAL, ActorFrame, ActorState, Viseme, visible_aus
from emotalking.testing.actor.style import ROBIN, ActorStyle

FOCAL = 2.1
"""Focal length in image heights."""
DISTANCE = 0.74
"""Distance from the camera to the head's origin, metres."""
RISE = 0.012
"""Height of the head's origin above the middle of the image, metres."""
NECK_PIVOT = np.array([0.0, -0.065, -0.025])


def head_viewmat(
    yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float32[np.ndarray, "4 4"]:
    """World-to-camera matrix of a head that turns on its neck before the actor's fixed camera.

    Args:
        yaw: radians, positive turns the face to the image's right.
        pitch: radians, positive lifts the chin.
        roll: radians, positive tilts the crown to the image's left.
        shift: metres in the room: right, up, towards the viewer.
    """
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    T_room_world = np.eye(4)
    T_room_world[:3, :3] = about_y @ about_x @ about_z
    T_room_world[:3, 3] = NECK_PIVOT - T_room_world[:3, :3] @ NECK_PIVOT + np.array(shift)
    T_cam_room = np.diag([1.0, -1.0, -1.0, 1.0])
    T_cam_room[:3, 3] = (0.0, -RISE, DISTANCE)
    return (T_cam_room @ T_room_world).astype(np.float32)


class Actor:
    """Renders :class:`ActorState` into :class:`ActorFrame`; deterministic, CPU only.

    Args:
        style: appearance of the person.
        size: image width and height in pixels, >= 32.
    """

    def __init__(self, style: ActorStyle = ROBIN, size: int = 256) -> None:
        if size < 32:
            raise ValueError(f"size: expected at least 32 pixels, got {size}")
        self.style, self.size = style, size
        self.K = np.array([[FOCAL * size, 0, size / 2], [0, FOCAL * size, size / 2], [0, 0, 1]], np.float32)
        self._fine = 2 if size > 128 else 3  # samples a pixel and axis: thin lines need more in small images
        self._head = Head(style, int(np.clip(2.5 * size, 192, 1280)))
        self.scenery = Scenery(style, size, self.K, head_viewmat())

    @property
    def layout(self) -> FaceLayout:
        """Index groups of the landmarks."""
        return self._head.landmarks.layout

    def neutral_landmarks(self) -> Float32[np.ndarray, "K 3"]:
        """Landmarks of the face at rest, head frame, metres."""
        return self._head.pose({}, Viseme())[self._head.landmarks.vertices]

    def landmarks_world(self, state: ActorState) -> Float32[np.ndarray, "K 3"]:
        """Landmarks of the deformed face in the head frame, metres, without rendering."""
        aus = visible_aus(state.aus, state.valence, state.arousal)
        return self._head.pose(aus, _with_emotion(state), state.gaze)[self._head.landmarks.vertices]

    def image_of(self, state: ActorState) -> Float32[np.ndarray, "H W 3"]:
        """The image alone, float in [0, 1], without the ground truth (faster)."""
        layers = self._draw(state)
        torso, background = self.scenery.torso(state.torso_shift)[0], self.scenery.background
        return layers.over(torso, background)

    def render(self, state: ActorState) -> ActorFrame:
        """The image and its ground truth."""
        layers = self._draw(state)
        torso, torso_labels = self.scenery.torso(state.torso_shift)
        image = layers.over(torso, self.scenery.background)
        head_labels, teeth = layers.classes()
        labels = np.where(head_labels != Label.BACKGROUND, head_labels, torso_labels)
        alpha = torso[..., 3:]
        straight = np.where(alpha > 0, torso[..., :3] / np.maximum(alpha, 1e-6), 0)
        world = layers.vertices[self._head.landmarks.vertices]
        return ActorFrame(
            image=_to_uint8(image),
            labels=labels.astype(np.uint8),
            teeth=teeth,
            normals=layers.normals(head_labels),
            torso=_to_uint8(np.concatenate([straight, alpha], -1)),
            background=_to_uint8(self.scenery.background),
            landmarks=project(world, state.viewmat, self.K)[:, :2],
            landmarks_world=world,
            K=self.K,
            state=state,
            aus={name: max(value, 0.0) for name, value in visible_aus(state.aus, state.valence, state.arousal).items()},
        )

    def _draw(self, state: ActorState) -> "_HeadLayer":
        head, size = self._head, self.size * self._fine
        aus = visible_aus(state.aus, state.valence, state.arousal)
        vertices = head.pose(aus, _with_emotion(state), state.gaze)
        pixels = project(vertices, state.viewmat, self.K) * np.array([self._fine, self._fine, 1], np.float32)
        normals = vertex_normals(vertices, head.faces) @ np.asarray(state.viewmat, np.float32)[:3, :3].T
        towards = np.einsum("vd,vd->v", normals, _rays(vertices, state.viewmat))
        normals = np.where(head.two_sided & (towards > 0), -1, 1)[:, None].astype(np.float32) * normals
        lit = shading.light(normals, head.lid_shade(vertices), head.shadow, head.soft)
        lit[:, :3] *= head.colour
        count = len(head.skin.x)
        lit[:count, :3] *= head.flush(*(aus, state.arousal) if state.emotional_tint else (state.aus, 0.0))
        lit[head.mouth_vertices] *= np.float32(head.mouth_light(vertices))
        fragments = rasterize_mesh(pixels, head.faces, size, size)
        return _HeadLayer(head, self._fine, vertices, fragments, np.concatenate([head.uv, lit, normals], 1))


class _HeadLayer:
    """Head, hair and mouth as a premultiplied layer with labels and normals."""

    def __init__(
        self,
        head: Head,
        samples: int,
        vertices: Float32[np.ndarray, "V 3"],
        fragments: MeshFragments,
        attributes: np.ndarray,
    ) -> None:
        self.vertices = vertices
        self._head, self._samples = head, samples
        self._size = fragments.face_id.shape
        self._at = np.flatnonzero(fragments.face_id >= 0)  # samples that hit the head
        self._face = fragments.face_id.ravel()[self._at]
        count = len(self._at)
        few = MeshFragments(
            self._face[None], fragments.bary.reshape(-1, 3)[self._at][None], fragments.depth.ravel()[self._at][None]
        )
        values = interpolate_vertices(attributes, head.faces, few)[0]
        self._normals = values[:, 6:9]
        # remap wants an image, not a list: fold the samples into rows
        places = np.zeros((-(-max(count, 1) // 1024) * 1024, 2), np.float32)
        places[:count] = values[:, :2]
        albedo = cv2.remap(head.atlas, places.reshape(-1, 1024, 2), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        colour = shading.shade(albedo.reshape(-1, 3)[:count], values[:, 2:6])
        gloss = head.face_gloss[self._face]
        wet = np.flatnonzero(gloss)
        normal = self._normals[wet] / np.maximum(np.linalg.norm(self._normals[wet], axis=-1, keepdims=True), 1e-6)
        colour[wet] += (gloss[wet] * shading.highlight(normal))[:, None]
        rgba = np.zeros((self._size[0] * self._size[1], 4), np.float32)
        rgba[self._at, :3] = np.minimum(colour, 1)
        rgba[self._at, 3] = 1
        self.rgba = self._shrink(rgba.reshape(*self._size, 4))

    def over(self, torso: np.ndarray, background: np.ndarray) -> Float32[np.ndarray, "H W 3"]:
        """The finished image."""
        behind = torso[..., :3] + (1 - torso[..., 3:]) * background
        return self.rgba[..., :3] + (1 - self.rgba[..., 3:]) * behind

    def classes(self) -> tuple[UInt8[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
        """Most frequent class of a pixel's samples where at least half hit the head, else background; and the teeth."""
        fine = np.zeros(self._size[0] * self._size[1], np.uint32)
        fine[self._at] = self._head.face_code[self._face]
        fine = fine.reshape(self._size)
        step = self._samples
        total = np.zeros((self._size[0] // step, self._size[1] // step), np.uint32)
        for row in range(step):
            for column in range(step):
                total += fine[row::step, column::step]
        half = step * step / 2
        votes = np.stack([(total >> shift) & 255 for shift in (24, 16, 8)])  # mouth, head, hair
        best = np.array([Label.MOUTH, Label.HEAD, Label.HAIR], np.uint8)[votes.argmax(0)]
        labels = np.where(votes.sum(0) >= half, best, np.uint8(Label.BACKGROUND))
        return labels, ((total & 255) >= half) & (labels == Label.MOUTH)

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        """Mean over the samples of each pixel."""
        size = (image.shape[1] // self._samples, image.shape[0] // self._samples)
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def normals(self, labels: UInt8[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
        """Unit normals where ``labels`` is not background."""
        fine = np.zeros((self._size[0] * self._size[1], 3), np.float32)
        fine[self._at] = self._normals
        unit = self._shrink(fine.reshape(*self._size, 3))
        unit /= np.maximum(np.sqrt(np.einsum("hwd,hwd->hw", unit, unit)), 1e-6)[..., None]
        # interpolated normals may point slightly away from the camera at the outline: turn those to edge-on
        unit[..., 2] = np.minimum(unit[..., 2], -0.02)
        unit /= np.sqrt(np.einsum("hwd,hwd->hw", unit, unit))[..., None]
        unit[labels == Label.BACKGROUND] = 0
        return unit


def project(
    points: Float[np.ndarray, "n 3"], viewmat: Float[np.ndarray, "4 4"], K: Float[np.ndarray, "3 3"]
) -> Float32[np.ndarray, "n 3"]:
    """World points to ``(x, y, depth)``: pixels and metres."""
    camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = camera[:, 2:]
    flat = camera[:, :2] / depth * np.array([K[0, 0], K[1, 1]]) + K[:2, 2]
    return np.concatenate([flat, depth], 1).astype(np.float32)


def _rays(points: np.ndarray, viewmat: np.ndarray) -> np.ndarray:
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def _with_emotion(state: ActorState) -> Viseme:
    """The viseme with the jaw that arousal drops; pressed lips stay pressed."""
    v = state.viseme
    drop = JAW_OF_AROUSAL * max(state.arousal, 0.0) ** 2 * (1 - v.press) if state.emotional_jaw else 0.0
    return Viseme(v.jaw + drop, v.width, v.pucker, v.press)


def _to_uint8(image: np.ndarray) -> UInt8[np.ndarray, "H W D"]:
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
