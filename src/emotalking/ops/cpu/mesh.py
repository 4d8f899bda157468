"""The compiled mesh operations behind `emotalking.ops.mesh`; all arrays contiguous."""

import ctypes
from functools import cache

import numpy as np
from jaxtyping import Float32, Int32

from emotalking.ops.cpu.build import load_library


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    return load_library("mesh.cpp")


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def rasterize_mesh(
    vertices_px: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"], width: int, height: int, near: float
) -> tuple[Int32[np.ndarray, "H W"], Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """See :func:`emotalking.ops.mesh.rasterize_mesh`."""
    face_id = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    library().rasterize_mesh(
        _pointer(vertices_px),
        _pointer(faces),
        ctypes.c_int64(len(faces)),
        ctypes.c_int32(width),
        ctypes.c_int32(height),
        ctypes.c_float(near),
        _pointer(face_id),
        _pointer(bary),
        _pointer(depth),
    )
    return face_id, bary, depth


def interpolate_vertices(
    values: Float32[np.ndarray, "V D"],
    faces: Int32[np.ndarray, "F 3"],
    face_id: Int32[np.ndarray, "H W"],
    bary: Float32[np.ndarray, "H W 3"],
) -> Float32[np.ndarray, "H W D"]:
    """See :func:`emotalking.ops.mesh.interpolate_vertices`."""
    height, width = face_id.shape
    out = np.empty((height, width, values.shape[1]), np.float32)
    library().interpolate_vertices(
        _pointer(values),
        ctypes.c_int32(values.shape[1]),
        _pointer(faces),
        _pointer(face_id),
        _pointer(bary),
        ctypes.c_int64(height * width),
        _pointer(out),
    )
    return out


def vertex_normals(vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
    """See :func:`emotalking.ops.mesh.vertex_normals`."""
    out = np.empty_like(vertices)
    library().vertex_normals(
        _pointer(vertices),
        ctypes.c_int64(len(vertices)),
        _pointer(faces),
        ctypes.c_int64(len(faces)),
        _pointer(out),
    )
    return out
