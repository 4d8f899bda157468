"""The compiled mesh operations behind `emotalking.ops.mesh`; all arrays contiguous."""

import numpy as np
from jaxtyping import Float32, Int32

from emotalking.ops.cpu.build import kernels

library = kernels(
    "mesh.cpp",
    rasterize_mesh="ppliifppp",
    interpolate_vertices="pippplp",
    vertex_normals="plplp",
)


def rasterize_mesh(
    vertices_px: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"], width: int, height: int, near: float
) -> tuple[Int32[np.ndarray, "H W"], Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """See :func:`emotalking.ops.mesh.rasterize_mesh`."""
    face_id = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    library().rasterize_mesh(
        vertices_px.ctypes.data, faces.ctypes.data, len(faces), width, height, near, face_id.ctypes.data,
        bary.ctypes.data, depth.ctypes.data,
    )  # fmt: skip
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
        values.ctypes.data, values.shape[1], faces.ctypes.data, face_id.ctypes.data, bary.ctypes.data, height * width,
        out.ctypes.data,
    )  # fmt: skip
    return out


def vertex_normals(vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
    """See :func:`emotalking.ops.mesh.vertex_normals`."""
    out = np.empty_like(vertices)
    library().vertex_normals(vertices.ctypes.data, len(vertices), faces.ctypes.data, len(faces), out.ctypes.data)
    return out
