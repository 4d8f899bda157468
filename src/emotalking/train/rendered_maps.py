"""What is splatted beside the colours: normals and attention maps, and the loss terms of normals."""

from jaxtyping import Float
from torch import Tensor

from emotalking.configs.train import LossConfig
from emotalking.losses.normals import normal_cosine, normal_l1, total_variation
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import Branch, Layer
from emotalking.models.motion import FaceMotion
from emotalking.ops.cameras import camera_centre, crop_intrinsics
from emotalking.ops.normals import encode_normals, normals_from_render, to_camera_frame
from emotalking.ops.rasterize import rasterize
from emotalking.train.data import TrainingData


def normal_channels(
    gaussians: Gaussians, deformed: Deformed, viewmats: Float[Tensor, "B 4 4"]
) -> Float[Tensor, "B N 3"]:
    """Normals as colours, in the axes of each frame's camera: what `render_layer` takes as ``extra`` (paper 3.2)."""
    normals = gaussians.normals(deformed, camera_centre(viewmats))
    return encode_normals(to_camera_frame(normals, viewmats))


def normal_terms(layer: Layer, wanted: Float[Tensor, "B H W 3"], weights: LossConfig) -> dict[str, Tensor]:
    """Weighted terms of a layer that was rendered with :func:`normal_channels` (eqs. 11, 14, 17).

    Args:
        wanted: unit normals in camera space, zero where unknown.
    """
    rendered = normals_from_render(layer.raster.features[:, 0, ..., 3:6], layer.alpha)
    terms = {}
    if weights.normal:
        terms["normal"] = weights.normal * normal_l1(rendered, wanted)
    if weights.normal_cosine:
        terms["normal_cosine"] = weights.normal_cosine * normal_cosine(rendered, wanted)
    if weights.normal_tv:
        known = wanted.abs().amax(-1) > 0
        terms["normal_tv"] = weights.normal_tv * total_variation(rendered, known)
    return terms


def rendered_attention(
    face: Branch[FaceMotion], deformed: Deformed, data: TrainingData, frame: int, box: list[int]
) -> Float[Tensor, "1 h w 2"]:
    """Strength of the audio and of the action-unit attention as the camera sees it (paper-spec 4.3).

    Gradient flows to the attention networks and their tri-plane alone; the geometry is held.

    Args:
        box: row_min, row_max, col_min, col_max of the part of the frame to render.
    """
    top, bottom, left, right = box
    raster = rasterize(
        deformed.means.detach(),
        deformed.quats.detach(),
        deformed.scales.detach(),
        deformed.opacities.detach(),
        face.motion.attention(face.gaussians.means.detach())[None],
        data.conditions.viewmats[frame : frame + 1, None],
        crop_intrinsics(data.K, data.K.new_tensor([left, top]))[None, None],
        right - left,
        bottom - top,
        validate=False,
    )
    return raster.features[:, 0]
