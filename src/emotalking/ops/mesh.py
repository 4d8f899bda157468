"""Triangle meshes to pixels: which face a pixel sees, where in it, how deep; and smooth vertex normals."""

import ctypes
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from emotalking.ops.cpu.build import NoCompiler, load_library
from emotalking.ops.reference import mesh as reference

Backend = Literal["auto", "cpu", "reference"]


class MeshFragments(NamedTuple):
    """What :func:`rasterize_mesh` found per pixel."""

    face_id: Int32[np.ndarray, "H W"]
    """Row of ``faces`` seen at the pixel centre, -1 where there is none."""
    bary: Float32[np.ndarray, "H W 3"]
    """Perspective-correct barycentric weights of that face's corners (sum 1), zero where there is none."""
    depth: Float32[np.ndarray, "H W"]
    """Depth of the surface, infinity where there is none."""


def _kernel(backend: Backend) -> ctypes.CDLL | None:
    """The compiled library, or None where the reference shall run."""
    if backend not in ("auto", "cpu", "reference"):
        raise ValueError(f"backend: expected 'auto', 'cpu' or 'reference', got {backend!r}")
    if backend == "reference":
        return None
    try:
        return load_library("mesh.cpp")
    except NoCompiler:
        if backend == "cpu":
            raise
        return None


def _check_faces(faces: np.ndarray, vertices: int) -> None:
    """Refuse indices that would make the compiled code read elsewhere."""
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"faces: expected indices in [0, {vertices}), got {faces.min()}..{faces.max()}")


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def rasterize_mesh(
    vertices_px: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    width: int,
    height: int,
    *,
    near: float = 1e-3,
    backend: Backend = "auto",
) -> MeshFragments:
    """Z-buffer a triangle mesh that is already projected.

    Args:
        vertices_px: ``(x, y)`` in pixels (pixel centres at .5) and depth (> 0 before the camera), any unit. [V, 3]
        faces: vertex indices; both windings are seen (no back-face culling). [F, 3]
        width: image width in pixels, > 0.
        height: image height in pixels, > 0.
        near: a face with a corner at or before this depth, or not finite, is dropped whole (no clipping).
        backend: "cpu" (compiled), "reference" (numpy, slow) or "auto" (the compiled one where a compiler is).

    Returns:
        Face index, perspective-correct barycentrics and depth per pixel. Where two faces are equally near, the first
        in ``faces`` is seen. No gradients.

    Raises:
        ValueError: if ``faces`` names a vertex that does not exist, or the size is not positive.
        NoCompiler: with ``backend="cpu"`` on a machine without a C++ compiler.
    """
    if width < 1 or height < 1:
        raise ValueError(f"width, height: expected positive, got {width}, {height}")
    _check_faces(faces, len(vertices_px))
    points = np.ascontiguousarray(vertices_px, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    library = _kernel(backend)
    if library is None:
        return MeshFragments(*reference.rasterize_mesh(points, triangles, width, height, near))
    face_id = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    library.rasterize_mesh(
        _pointer(points),
        _pointer(triangles),
        ctypes.c_int64(len(triangles)),
        ctypes.c_int32(width),
        ctypes.c_int32(height),
        ctypes.c_float(near),
        _pointer(face_id),
        _pointer(bary),
        _pointer(depth),
    )
    return MeshFragments(face_id, bary, depth)


def interpolate_vertices(
    values: Float[np.ndarray, "V D"],
    faces: Int[np.ndarray, "F 3"],
    fragments: MeshFragments,
    *,
    backend: Backend = "auto",
) -> Float32[np.ndarray, "H W D"]:
    """Vertex values (colours, normals, texture coordinates...) at every pixel of a rasterized mesh.

    Args:
        values: D numbers a vertex. [V, D]
        faces: the faces that were rasterized. [F, 3]
        fragments: result of :func:`rasterize_mesh` for these faces.
        backend: as in :func:`rasterize_mesh`.

    Returns:
        Mixed values, zero where no face is seen. [H, W, D]
    """
    _check_faces(faces, len(values))
    numbers = np.ascontiguousarray(values, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    library = _kernel(backend)
    if library is None:
        return reference.interpolate_vertices(numbers, triangles, fragments.face_id, fragments.bary)
    height, width = fragments.face_id.shape
    ids, bary = np.ascontiguousarray(fragments.face_id, np.int32), np.ascontiguousarray(fragments.bary, np.float32)
    out = np.empty((height, width, numbers.shape[1]), np.float32)
    library.interpolate_vertices(
        _pointer(numbers),
        ctypes.c_int32(numbers.shape[1]),
        _pointer(triangles),
        _pointer(ids),
        _pointer(bary),
        ctypes.c_int64(height * width),
        _pointer(out),
    )
    return out


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, backend: Backend = "auto"
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
    library = _kernel(backend)
    if library is None:
        return reference.vertex_normals(points, triangles)
    out = np.empty_like(points)
    library.vertex_normals(
        _pointer(points),
        ctypes.c_int64(len(points)),
        _pointer(triangles),
        ctypes.c_int64(len(triangles)),
        _pointer(out),
    )
    return out
