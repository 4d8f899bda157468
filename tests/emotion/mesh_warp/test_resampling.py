"""The batched triangle rasteriser against values by hand."""

import torch

from emotalking.emotion.mesh_warp.resampling import rasterize_attributes


def test_interpolates_inside_and_leaves_the_rest_zero() -> None:
    points = torch.tensor([[[1.0, 1.0], [9.0, 1.0], [1.0, 9.0]]])
    out = rasterize_attributes(points, torch.ones(1, 3), points + 5, torch.tensor([[0, 1, 2]]), 10, 10)
    y, x = torch.meshgrid(torch.arange(10) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    inside = (x >= 1) & (y >= 1) & (x + y <= 10)
    assert torch.equal(out[0, ..., 0] != 0, inside)
    torch.testing.assert_close(out[0][inside], torch.stack([x, y], 2)[inside] + 5)


def test_nearest_triangle_wins_in_any_order() -> None:
    points = torch.tensor([[[0.0, 0], [8, 0], [0, 8], [0, 0], [8, 0], [0, 8]]])
    depth = torch.tensor([[2.0, 2, 2, 1, 1, 1]])
    values = torch.tensor([[[1.0]] * 3 + [[2.0]] * 3]).view(1, 6, 1)
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 5, 4], [0, 1, 2]]):
        out = rasterize_attributes(points, depth, values, torch.tensor(faces), 8, 8)
        assert set(out.unique().tolist()) == {0.0, 2.0}


def test_batches_and_triangles_outside_or_flat() -> None:
    near = torch.tensor([[1.0, 1.0], [9.0, 1.0], [1.0, 9.0]])
    flat = torch.tensor([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]])
    points = torch.stack([near, near - 50, flat, near + 3])
    triangles = torch.tensor([[0, 1, 2]])
    out = rasterize_attributes(points, torch.ones(4, 3), torch.ones(4, 3, 1), triangles, 10, 10)
    single = rasterize_attributes(points[3:], torch.ones(1, 3), torch.ones(1, 3, 1), triangles, 10, 10)
    assert out[1].sum() == 0 and out[2].sum() == 0 and out[0].sum() > 0
    assert torch.equal(out[3], single[0])
