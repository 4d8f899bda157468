"""Slow, obvious triangle rasterization in numpy (the reference of ``ops/cpu/mesh.cpp``)."""

import numpy as np
from jaxtyping import Float32, Int32


def rasterize_mesh(
    vertices_px: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"], width: int, height: int, near: float
) -> tuple[Int32[np.ndarray, "H W"], Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Nearest triangle of every pixel centre; see :func:`emotalking.ops.mesh.rasterize_mesh`."""
    face_id = np.full((height, width), -1, np.int32)
    bary = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    px, py = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for index, face in enumerate(faces):
        a, b, c = vertices_px[face].astype(np.float64)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if not (min(a[2], b[2], c[2]) > near and abs(area) > 1e-12):
            continue
        wa = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
        wb = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
        weights = np.stack([wa, wb, 1 - wa - wb], axis=-1)
        inside = (weights >= 0).all(-1)
        with np.errstate(divide="ignore"):
            z = 1 / (weights / np.array([a[2], b[2], c[2]])).sum(-1)
        wins = inside & (z.astype(np.float32) < depth)
        depth[wins] = z[wins]
        face_id[wins] = index
        bary[wins] = (weights / np.array([a[2], b[2], c[2]]) * z[..., None])[wins]
    return face_id, bary, depth


def interpolate_vertices(
    values: Float32[np.ndarray, "V D"],
    faces: Int32[np.ndarray, "F 3"],
    face_id: Int32[np.ndarray, "H W"],
    bary: Float32[np.ndarray, "H W 3"],
) -> Float32[np.ndarray, "H W D"]:
    """Barycentric mixture of vertex values per pixel, zero where no face is."""
    if not len(faces):
        return np.zeros((*face_id.shape, values.shape[1]), np.float32)
    corners = values[faces[np.maximum(face_id, 0)]]  # [H, W, 3, D]
    mixed = (corners * bary[..., None]).sum(-2)
    return np.where(face_id[..., None] >= 0, mixed, 0).astype(np.float32)


def vertex_normals(vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
    """Area-weighted mean normal of the faces around each vertex, zero where there is none."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(summed, faces[:, corner], across)
    length = np.linalg.norm(summed, axis=-1, keepdims=True)
    return (summed / np.where(length > 0, length, 1)).astype(np.float32)
