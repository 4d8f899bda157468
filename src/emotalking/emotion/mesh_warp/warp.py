"""Lip-aligned emotional faces by warping the subject's face mesh: the embedded generator.

Replaces the paper's StyleGAN2 with a lip encoder (docs/paper.md 12.2); it needs no network and no weights.

Deviation: the paper edits a face in StyleGAN2's latent space and pastes eyes and mouth back by Poisson cloning. Here
the frame's own pixels are moved (FACS action units on the tracked mesh) and relit as their surface turns, so identity,
gaze, lips' opening and background are kept by construction, and wide teeth-showing smiles are out of reach.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data.blink import OPENNESS_BLINK
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.emotion.generator import GeneratedFaces
from emotalking.emotion.mesh_warp.displacement import face_map, template_grid
from emotalking.emotion.mesh_warp.expressions import coefficients, load_expressions, resting_expression_of
from emotalking.emotion.mesh_warp.eyes import EyeIndices, mesh_box, openness, pin_eyeballs
from emotalking.emotion.mesh_warp.points import PointFields, limit
from emotalking.emotion.mesh_warp.prepared import mouth_width, prepared_tensors
from emotalking.emotion.mesh_warp.resampling import rasterize_attributes, remap_normals
from emotalking.emotion.mesh_warp.shading import Relight, fit_light, unit_normals
from emotalking.emotion.mesh_warp.template import RINGS, build_template, corner_lift
from emotalking.models.skin import SHADE_COLOUR
from emotalking.ops.warp import invert_field, remap

WIDTHS = (0.5, 1.3)
"""Limits of a frame's mouth width, relative to the neutral face's, in proportion to which smiles widen it."""
FINE_FIELD_BELOW = 384
"""Height of the frames in pixels under which the field is computed at every pixel instead of every second one."""


@dataclass(frozen=True)
class MeshWarpConfig:
    """Settings of :class:`MeshWarp`."""

    gain: float = 1.0
    """Strength of the expressions, clamped to [0, 1]: stronger moves are caricature and fold the face."""
    corners: bool = True
    """Let the corners of the mouth rise and fall slowly (both lips equally, so that their opening stays)."""
    shading: bool = True
    """Relight the skin as its surface turns."""
    resting_expression: tuple[float, float] | None = None
    """Valence and arousal that the person's resting face already shows (a constant smile: (0.5, 0.1)). It is taken
    away from every commanded emotion, in proportion to that emotion's strength; the neutral command has no effect.
    None: read from the neutral shape (:func:`emotalking.emotion.mesh_warp.expressions.resting_expression_of`)."""


class MeshWarp:
    """An :class:`~emotalking.emotion.generator.EmotionGenerator` that moves the pixels of the frame itself.

    Each action unit is a smooth field over the subject's frontal template; a frame's mesh gives the template point
    each pixel shows; the summed field is carried into the image by the head pose, inverted by fixed-point steps, and
    the frame is sampled once. Deterministic; no gradient flows through.

    Example::

        warp = MeshWarp(track.shape, track.layout, subject.K)
        faces = warp(images, landmarks, labels, viewmats, torch.tensor([[0.7, 0.3]]))
    """

    def __init__(
        self,
        shape: Float[np.ndarray, "K 3"],
        layout: FaceLayout,
        K: Float[np.ndarray, "3 3"],
        config: MeshWarpConfig | None = None,
    ) -> None:
        """Prepare a subject's fields.

        Args:
            shape: neutral 3-D landmarks in the head frame, world units.
            layout: meaning of the landmarks.
            K: camera intrinsics in pixels.
            config: settings.

        Raises:
            ValueError: if shape and layout do not fit.
        """
        self.config = config or MeshWarpConfig()
        self.layout = layout
        table = load_expressions()
        template = build_template(np.asarray(shape, np.float64), layout)
        self._grid = template_grid(template)
        # Shade is smooth: every second texel holds it.
        self._coarse = self._grid.coarse()
        self._relight = Relight.of(template, self._coarse, face_map(template, self._coarse, table.anchors))
        self._focal = float(K[0, 0])
        # Of whole frames, also where a part of one is edited: the principal point is their middle.
        self._scale = 4 if 2 * K[1, 2] < FINE_FIELD_BELOW else 2
        self._unit_length = template.unit_length
        self._lids = EyeIndices(layout)
        self.resting_expression = (
            resting_expression_of(corner_lift(template))
            if self.config.resting_expression is None
            else self.config.resting_expression
        )
        """Valence and arousal of the resting face."""
        self._tensors = prepared_tensors(template, self._grid, table, corners=self.config.corners)

    @property
    def name(self) -> str:
        """``mesh-warp``."""
        return "mesh-warp"

    def to(self, device: torch.device | str) -> "MeshWarp":
        """Move the prepared fields; a call moves them to the device of its images by itself."""
        self._tensors = {key: value.to(device) for key, value in self._tensors.items()}
        self._lids.to(device)
        self._relight.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
        va: Float[Tensor, "B 2"],
        normals: Float[Tensor, "B H W 3"] | None = None,
        coverage: Float[Tensor, "B H W"] | None = None,
    ) -> GeneratedFaces:
        """Edit a batch of frames of this subject.

        Arguments as in :class:`~emotalking.emotion.generator.EmotionGenerator`.

        Raises:
            ValueError: if the landmarks are not those of the layout.
        """
        if self._tensors["basis"].device != images.device:
            self.to(images.device)
        count = len(self._tensors["mobile"])
        if landmarks.shape[1] != count:
            raise ValueError(f"landmarks must have {count} points, got {landmarks.shape[1]}")
        landmarks, viewmats = landmarks.to(images.dtype), viewmats.to(images.dtype)
        skin, edges, folds = self._fields(self.coefficients(va.to(images.dtype), landmarks))
        mesh = torch.cat([landmarks, self._ring(landmarks)], 1)
        jacobian = self._image_per_template(viewmats)
        shift = self._sample(skin + edges, self._tensors["points"][None, None, :count])[:, :, 0].transpose(1, 2)
        shift = shift * self._tensors["mobile"]
        moved = landmarks + shift @ jacobian.transpose(1, 2)

        unit_px = torch.linalg.det(jacobian).abs().sqrt()
        box, patch = mesh_box(mesh, unit_px, images.shape[1], images.shape[2])
        if box is None:
            return GeneratedFaces(images.clone(), labels.clone(), moved, normals, coverage=coverage)
        inside = (slice(None), *box.index)
        offset = mesh.new_tensor([box.left, box.top])
        source, crop_labels = images[inside].permute(0, 3, 1, 2), labels[inside]
        width, height = box.size
        template_xy = self._template_coordinates(mesh - offset, viewmats, height, width)
        view = None if normals is None else viewmats
        appearance = self._appearance(skin, folds, self._light(source, crop_labels, template_xy), view)
        planes = torch.cat([skin + edges, appearance], 1)
        flow, appearance = invert_field(planes, self._texels(template_xy), jacobian, self._scale, 4 // self._scale)
        layers = source if coverage is None else torch.cat([source, coverage[inside][:, None]], 1)
        new_layers, new_labels = remap(layers, crop_labels, flow, appearance[:, :1], Label.HEAD, SHADE_COLOUR)
        new_images = pin_eyeballs(
            new_layers[:, :3], source, landmarks - offset, moved - offset, self._lids, unit_px, patch
        )
        out_images, out_labels = images.clone(), labels.clone()
        out_images[inside] = new_images.clamp(0, 1).permute(0, 2, 3, 1)
        out_labels[inside] = new_labels
        out_normals = None
        if normals is not None:
            out_normals = normals.clone()
            recorded = normals[inside].permute(0, 3, 1, 2)
            out_normals[inside] = remap_normals(recorded, flow, appearance[:, 1:]).permute(0, 2, 3, 1)
        if coverage is not None:
            coverage = coverage.clone()
            coverage[inside] = new_layers[:, 3].clamp(0, 1)
        return GeneratedFaces(out_images, out_labels, moved, out_normals, coverage=coverage)

    @torch.no_grad()
    def fields_at(self, points: Float[Tensor, "N 3"]) -> PointFields:
        """The fields at points of the head frame; eyeballs and the head's back rest."""
        where, axes = self._places(points)
        planes = self._tensors["basis"].view(-1, 5, self._grid.height, self._grid.width)[:, :4]
        moves = self._sample(planes * self._tensors["off_eyeballs"], where)[:, :, 0].permute(2, 0, 1)
        skin, edges = (moves * axes.repeat(2) * (points[:, 2, None, None] > 0)).split(2, 2)
        reach = self._sample(self._tensors["reach"][None], where)[0, :, 0].T * self._unit_length
        return PointFields(skin, edges, reach.clamp_min(1e-6))  # it is 0 beyond the grid

    @torch.no_grad()
    def light_on(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
    ) -> Float[Tensor, "4"]:
        """Mean light on the skin of whole frames, as :meth:`shades_at` takes it."""
        if self._tensors["basis"].device != images.device:
            self.to(images.device)
        mesh = torch.cat([landmarks, self._ring(landmarks)], 1)
        template_xy = self._template_coordinates(mesh, viewmats, *images.shape[1:3])
        return self._light(images.permute(0, 3, 1, 2), labels, template_xy).mean(0)

    @torch.no_grad()
    def shades_at(
        self, points: Float[Tensor, "N 3"], va: Float[Tensor, "B 2"], light: Float[Tensor, "4"]
    ) -> Float[Tensor, "B N"]:
        """Change of the skin's brightness, as a share of it, at points on the face in the head frame."""
        where, _ = self._places(points)
        neutral = self._tensors["points"][None, : len(self._tensors["mobile"])].expand(len(va), -1, -1)
        skin, _, folds = self._fields(self.coefficients(va, neutral))
        gain = self._appearance(skin, folds, light.expand(len(va), 4), None)
        return self._sample(gain, where)[:, 0, 0].exp() - 1

    def _places(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "1 1 N 2"], Float[Tensor, "2"]]:
        """Template coordinates of points of the head frame, and the template's axes in world units."""
        if self._tensors["basis"].device != points.device:
            self.to(points.device)
        axes = points.new_tensor([self._unit_length, -self._unit_length])
        return ((points[:, :2] - self._tensors["centre"][:2]) / axes)[None, None], axes

    @torch.no_grad()
    def coefficients(self, va: Float[Tensor, "B 2"], landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B columns"]:
        """Unit strengths for the commanded emotion, the resting expression and the present state of the eyes."""
        knots = self._tensors["knots"]
        out = coefficients(va, knots)
        if any(self.resting_expression):
            resting = coefficients(va.new_tensor([self.resting_expression]), knots)
            out = out - (va.norm(dim=1, keepdim=True) / 0.5).clamp(max=1.0) * resting
        out = out * min(max(self.config.gain, 0.0), 1.0)
        # In a blink there is no eye to widen or narrow.
        shut, awake = OPENNESS_BLINK
        awake_share = openness(landmarks[:, self._tensors["eyes"]]) / self._tensors["openness"]
        share = ((awake_share - shut) / (awake - shut)).clamp(0, 1)
        share = (share * share * (3 - 2 * share))[:, None]
        # Speech stays: a pursed mouth is widened in proportion.
        width = (mouth_width(landmarks, self._tensors["mouth"]) / self._tensors["width"]).clamp(*WIDTHS)[:, None]
        out = out * (1 + self._tensors["is_lid"] * (share - 1)) * (1 + self._tensors["is_width"] * (width - 1))
        # Lids that fall leave the pupil to be seen.
        per_unit = self._tensors["lid_drop"]
        return out * torch.where(per_unit != 0, self._lids.room_to_fall(landmarks, out @ per_unit)[:, None], 1.0)

    def _fields(
        self, weights: Float[Tensor, "B columns"]
    ) -> tuple[Float[Tensor, "B 2 h w"], Float[Tensor, "B 2 h w"], Float[Tensor, "B 1 h w"]]:
        """Over the template: moves (x, y) of the skin, moves of lids and lips, heights of folds; template units."""
        planes = weights @ self._tensors["basis"].to(weights.dtype)
        skin, edges, folds = planes.view(-1, 5, self._grid.height, self._grid.width).split((2, 2, 1), 1)
        return skin * limit(skin, self._tensors["reach"][None], skin[:, 1:] < 0, 1), edges, folds

    def _light(
        self, source: Float[Tensor, "B 3 h w"], labels: UInt8[Tensor, "B h w"], template_xy: Float[Tensor, "B m n 3"]
    ) -> Float[Tensor, "B 4"]:
        """Light on each frame's skin, in head axes (:func:`~emotalking.emotion.mesh_warp.shading.fit_light`)."""
        # The pixels in the middles of the field's cells are enough.
        rows, columns = (
            ((torch.arange(n, device=source.device) + 0.5) * size / n).long()
            for n, size in zip(template_xy.shape[1:3], source.shape[2:], strict=True)
        )
        brightness = source[:, :, rows[:, None], columns].mean(1)
        is_skin = (labels[:, rows[:, None], columns] == Label.HEAD).to(source.dtype)
        surface = torch.cat([self._relight.slopes, self._relight.skin])[None].to(source.dtype)
        surface = self._sample(surface.expand(len(source), -1, -1, -1), template_xy[..., :2])
        weight = is_skin * surface[:, 2]
        return fit_light(brightness.flatten(1), surface[:, :2].flatten(2).transpose(1, 2), weight.flatten(1))

    def _appearance(
        self,
        skin: Float[Tensor, "B 2 h w"],
        folds: Float[Tensor, "B 1 h w"],
        light: Float[Tensor, "B 4"],
        viewmats: Float[Tensor, "B 4 4"] | None,
    ) -> Float[Tensor, "B _ h w"]:
        """Over the template: log-gain of the skin; where poses are given, how far its normals turn (camera axes)."""
        every = np.s_[..., ::2, ::2]
        slopes, above = self._relight.turned(skin[every], folds[every], self._coarse)
        gain = self._relight.gain(slopes, above, light) * float(self.config.shading)
        if viewmats is None:
            return self._fine(gain)
        turn = unit_normals(slopes) - unit_normals(self._relight.slopes[None])
        turn = torch.einsum("bij,bjhw->bihw", viewmats[:, :3, :3] * viewmats.new_tensor([1.0, -1.0, 1.0]), turn)
        return self._fine(torch.cat([gain, turn * self._relight.skin], 1))

    def _fine(self, coarse: Float[Tensor, "B C m n"]) -> Float[Tensor, "B C h w"]:
        """At the resolution of the moves."""
        return F.interpolate(coarse, (self._grid.height, self._grid.width), mode="bilinear", align_corners=True)

    def _sample(self, textures: Float[Tensor, "B C h w"], xy: Float[Tensor, "b m n 2"]) -> Float[Tensor, "B C m n"]:
        """Sample textures at template coordinates; zero outside."""
        origin, size = xy.new_tensor(self._grid.origin), xy.new_tensor(self._grid.size)
        where = (xy - origin) / size * 2 - 1
        return F.grid_sample(
            textures,
            where.expand(textures.shape[0], -1, -1, -1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=True,
        )

    def _texels(self, template_xy: Float[Tensor, "B m n 3"]) -> Float[Tensor, "B 3 m n"]:
        """Template coordinates as columns and rows of the textures; the third value stays."""
        origin = template_xy.new_tensor([*self._grid.origin, 0.0])
        return ((template_xy - origin) / template_xy.new_tensor([self._grid.pitch] * 2 + [1.0])).permute(0, 3, 1, 2)

    def _ring(self, landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B R 2"]:
        """The template's closing rings, around the oval of the frame."""
        oval = landmarks[:, self._tensors["oval"]]
        centre = oval.mean(1, keepdim=True)
        return torch.cat([centre + scale * (oval - centre) for scale in RINGS], 1)

    def _image_per_template(self, viewmats: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 2 2"]:
        """Pixels by which the middle of the face moves for a template unit right and down."""
        rotation = viewmats[:, :3, :3]
        x, y, z = (rotation @ self._tensors["middle"] + viewmats[:, :3, 3]).unbind(1)
        axes = rotation[:, :, :2] * rotation.new_tensor([1.0, -1.0]) * self._unit_length
        slope = torch.stack([x / z, y / z], 1)[:, :, None] * axes[:, 2:3]
        return self._focal / z[:, None, None] * (axes[:, :2] - slope)

    def _template_coordinates(
        self, mesh: Float[Tensor, "B V 2"], viewmats: Float[Tensor, "B 4 4"], height: int, width: int
    ) -> Float[Tensor, "B h w 3"]:
        """Template point of each pixel (of every fourth row and column), and 1 on the mesh, 0 off it.

        An affine fit covers the whole plane; the mesh adds its deviation from it. Off the mesh of a turned face the fit
        alone may name a point that moves.
        """
        points = self._tensors["points"].to(mesh.dtype)
        batch = mesh.shape[0]
        ones = mesh.new_ones(batch, mesh.shape[1], 1)
        design = torch.cat([mesh / height, ones], 2)
        gram = design.transpose(1, 2) @ design
        affine = torch.linalg.solve(gram, design.transpose(1, 2) @ points)  # [B, 3, 2]
        residual = points - design @ affine
        vertices = self._tensors["vertices"].to(mesh.dtype)
        depth = (vertices @ viewmats[:, 2, :3, None])[..., 0] + viewmats[:, 2, 3:4]
        stride = 4 if height >= 4 else 1
        h, w = -(-height // stride), -(-width // stride)
        known = torch.cat([residual, ones], 2)
        coarse = rasterize_attributes(mesh / stride, depth, known, self._tensors["triangles"], h, w)
        rows = (torch.arange(h, device=mesh.device, dtype=mesh.dtype) + 0.5) * stride / height
        columns = (torch.arange(w, device=mesh.device, dtype=mesh.dtype) + 0.5) * stride / height
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        plane = torch.stack([x, y, torch.ones_like(x)], 2).expand(batch, -1, -1, -1)
        everywhere = (plane.flatten(1, 2) @ affine).view(batch, h, w, 2)
        return torch.cat([coarse[..., :2] + everywhere, coarse[..., 2:]], 3)
