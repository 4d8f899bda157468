"""rasterize_mesh and its companions against the slow reference and values by hand."""

import numpy as np
import pytest

from emotalking.ops.mesh import MeshFragments, interpolate_vertices, rasterize_mesh, vertex_normals


def _soup(seed: int, faces: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform([-5, -5, 0.5], [42, 36, 2.0], (3 * faces, 3)).astype(np.float32)
    return vertices, rng.permutation(3 * faces).astype(np.int32).reshape(-1, 3)


@pytest.mark.parametrize("faces", [0, 1, 60])
def test_compiled_equals_reference(faces: int) -> None:
    vertices, triangles = _soup(faces, faces)
    fast = rasterize_mesh(vertices, triangles, 37, 31, backend="cpu")
    slow = rasterize_mesh(vertices, triangles, 37, 31, backend="reference")
    np.testing.assert_array_equal(fast.face_id, slow.face_id)
    np.testing.assert_allclose(fast.bary, slow.bary, atol=2e-5)
    np.testing.assert_allclose(fast.depth, slow.depth, rtol=1e-5)
    values = np.random.default_rng(1).normal(size=(max(len(vertices), 1), 5)).astype(np.float32)
    np.testing.assert_allclose(
        interpolate_vertices(values, triangles, fast, backend="cpu"),
        interpolate_vertices(values, triangles, slow, backend="reference"),
        atol=1e-4,
    )


def test_part_of_a_picture_with_other_number_types() -> None:
    vertices, triangles = _soup(60, 60)
    seen = rasterize_mesh(vertices, triangles, 37, 31)
    values = np.random.default_rng(1).normal(size=(len(vertices), 5)).astype(np.float32)
    part = MeshFragments(*(each[2:30:2, 1:36:3] for each in seen))
    whole = interpolate_vertices(values, triangles, seen, backend="reference")
    np.testing.assert_allclose(
        interpolate_vertices(values, triangles, part, backend="cpu"), whole[2:30:2, 1:36:3], atol=1e-4
    )


def test_interpolation_is_perspective_correct() -> None:
    """The world x of a slanted plane, seen through a pinhole, must come back at every pixel."""
    world = np.array([[-1, -1, 2], [1, -1, 4], [1, 1, 4], [-1, 1, 2]], np.float32)
    pixels = np.concatenate([world[:, :2] / world[:, 2:] * 40 + 20, world[:, 2:]], axis=1)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    seen = rasterize_mesh(pixels, faces, 40, 40)
    position = interpolate_vertices(world, faces, seen)
    rows, columns = np.nonzero(seen.face_id >= 0)
    assert len(rows) > 200
    np.testing.assert_allclose(
        position[rows, columns, 0] / position[rows, columns, 2] * 40 + 20, columns + 0.5, atol=1e-3
    )
    np.testing.assert_allclose(position[rows, columns, 2], seen.depth[rows, columns], rtol=1e-5)


def test_the_nearer_face_is_seen_and_bad_faces_are_dropped() -> None:
    square = np.array([[0, 0], [8, 0], [0, 8]], np.float32)
    stacked = [np.column_stack([square, np.full(3, z)]) for z in (2.0, 1.0, -1.0, np.nan)]
    vertices = np.concatenate(stacked).astype(np.float32)
    seen = rasterize_mesh(vertices, np.arange(12, dtype=np.int32).reshape(4, 3), 8, 8)
    assert set(np.unique(seen.face_id)) == {-1, 1}
    np.testing.assert_allclose(seen.depth[seen.face_id == 1], 1.0)
    np.testing.assert_allclose(seen.bary[seen.face_id == 1].sum(-1), 1.0, rtol=1e-6)
    assert np.isinf(seen.depth[seen.face_id < 0]).all()


def test_bad_arguments_are_named() -> None:
    vertices = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match="faces"):
        rasterize_mesh(vertices, np.array([[0, 1, 3]], np.int32), 4, 4)
    with pytest.raises(ValueError, match="width"):
        rasterize_mesh(vertices, np.array([[0, 1, 2]], np.int32), 0, 4)


def test_vertex_normals_of_an_octahedron_point_outwards() -> None:
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [9, 9, 9]], np.float64)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], np.int64)
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(normals[:6], vertices[:6], atol=1e-6)
    assert (normals[6] == 0).all()
    np.testing.assert_allclose(normals, vertex_normals(vertices, faces, backend="reference"), atol=1e-6)
