"""Rasterization of triangle meshes (face, barycentrics and depth per pixel), and smooth vertex normals."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32

from emotalking.ops.backends import Backend, Operation, builds

MeshBackend = Literal["auto", "cpu", "reference"]
_ON_HOST = torch.empty(0)
"""Sample of numpy arrays, which are on the host and float32, for :meth:`Operation.choose`."""


def _operation(name: str) -> Operation:
    """``name`` of ops/cpu/mesh.py and of ops/reference/mesh.py."""
    cpu = Backend("cpu", f"emotalking.ops.cpu.mesh:{name}", device="cpu", available=builds("emotalking.ops.cpu.mesh"))
    return Operation(name, cpu, Backend("reference", f"emotalking.ops.reference.mesh:{name}"))


RASTERIZE_MESH = _operation("rasterize_mesh")
INTERPOLATE_VERTICES = _operation("interpolate_vertices")
VERTEX_NORMALS = _operation("vertex_normals")


class MeshFragments(NamedTuple):
    """Result of :func:`rasterize_mesh` per pixel."""

    face_id: Int32[np.ndarray, "H W"]
    """Row of ``faces`` visible at the pixel centre, -1 where there is none."""
    bary: Float32[np.ndarray, "H W 3"]
    """Perspective-correct barycentric weights of that face's corners (sum 1), zero where there is none."""
    depth: Float32[np.ndarray, "H W"]
    """Depth of the surface, infinity where there is none."""


def _check_faces(faces: np.ndarray, vertices: int) -> None:
    """Refuse indices that would make the compiled code read elsewhere."""
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"faces: expected indices in [0, {vertices}), got {faces.min()}..{faces.max()}")


def rasterize_mesh(
    vertices_px: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    width: int,
    height: int,
    *,
    near: float = 1e-3,
    backend: MeshBackend = "auto",
) -> MeshFragments:
    """Z-buffer a triangle mesh that is already projected.

    Args:
        vertices_px: ``(x, y)`` in pixels (pixel centres at .5) and depth (> 0 before the camera), any unit. [V, 3]
        faces: vertex indices; both windings are drawn (no back-face culling). [F, 3]
        width: image width in pixels, > 0.
        height: image height in pixels, > 0.
        near: a face with a corner at or before this depth, or not finite, is dropped (no clipping).
        backend: "cpu" (compiled), "reference" (numpy, slow) or "auto" (the compiled one where a compiler is).

    Returns:
        Face index, perspective-correct barycentrics and depth per pixel. Where two faces are equally near, the first
        in ``faces`` is visible. No gradients.

    Raises:
        ValueError: if ``faces`` names a vertex that does not exist, or the size is not positive.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if width < 1 or height < 1:
        raise ValueError(f"width, height: expected positive, got {width}, {height}")
    _check_faces(faces, len(vertices_px))
    points = np.ascontiguousarray(vertices_px, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    return MeshFragments(*RASTERIZE_MESH.choose(backend, _ON_HOST)(points, triangles, width, height, near))


def interpolate_vertices(
    values: Float[np.ndarray, "V D"],
    faces: Int[np.ndarray, "F 3"],
    fragments: MeshFragments,
    *,
    backend: MeshBackend = "auto",
) -> Float32[np.ndarray, "H W D"]:
    """Vertex values (colours, normals, texture coordinates...) at every pixel of a rasterized mesh.

    Args:
        values: D numbers a vertex. [V, D]
        faces: the faces that were rasterized. [F, 3]
        fragments: result of :func:`rasterize_mesh` for these faces.
        backend: as in :func:`rasterize_mesh`.

    Returns:
        Mixed values, zero where no face is visible. [H, W, D]
    """
    _check_faces(faces, len(values))
    numbers = np.ascontiguousarray(values, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    ids, bary = np.ascontiguousarray(fragments.face_id, np.int32), np.ascontiguousarray(fragments.bary, np.float32)
    return INTERPOLATE_VERTICES.choose(backend, _ON_HOST)(numbers, triangles, ids, bary)


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, backend: MeshBackend = "auto"
) -> Float32[np.ndarray, "V 3"]:
    """Unit normals of a smooth surface: the area-weighted mean of the faces around each vertex.

    Args:
        vertices: positions. [V, 3]
        faces: counter-clockwise as seen from outside in a right-handed frame. [F, 3]
        backend: as in :func:`rasterize_mesh`.

    Returns:
        Outward unit normals; zero at a vertex without a face. [V, 3]

    Raises:
        ValueError: if ``faces`` names a vertex that does not exist.
    """
    _check_faces(faces, len(vertices))
    points = np.ascontiguousarray(vertices, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    return VERTEX_NORMALS.choose(backend, _ON_HOST)(points, triangles)
