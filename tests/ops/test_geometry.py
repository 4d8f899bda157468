"""Quaternions, cameras and normals."""

import math

import pytest
import torch

from emotalking.ops import geometry, normals


def random_quats(*shape: int) -> torch.Tensor:
    return geometry.normalize(torch.randn(*shape, 4, dtype=torch.float64))


def test_quarter_turn_by_hand() -> None:
    half = math.sqrt(0.5)
    about_z = geometry.to_matrix(torch.tensor([half, 0, 0, half]))
    torch.testing.assert_close(about_z, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), rtol=0, atol=1e-6)


def test_zero_quaternion_is_the_identity() -> None:
    assert torch.equal(geometry.to_matrix(torch.zeros(4)), torch.eye(3))


def test_gradients_of_quaternion_functions() -> None:
    quats = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(geometry.to_matrix, quats)


def test_shortest_axis_is_that_column_of_the_rotation() -> None:
    quats, scales = random_quats(2, 40), torch.rand(2, 40, 3, dtype=torch.float64)
    columns = geometry.to_matrix(quats)
    index = scales.argmin(-1)[..., None, None].expand(2, 40, 3, 1)
    torch.testing.assert_close(normals.shortest_axes(quats, scales), columns.gather(-1, index).squeeze(-1))


def test_normals_face_the_camera_and_take_the_residual() -> None:
    quats, scales = random_quats(30), torch.rand(30, 3, dtype=torch.float64)
    means, camera = torch.randn(30, 3, dtype=torch.float64), torch.tensor([0, 0, 5.0], dtype=torch.float64)
    plain = normals.gaussian_normals(quats, scales, means, camera)
    assert ((plain * (camera - means)).sum(-1) >= 0).all()
    torch.testing.assert_close(plain.norm(dim=-1), torch.ones(30, dtype=torch.float64))
    residual = 0.3 * torch.randn(30, 3, dtype=torch.float64)
    bent = normals.gaussian_normals(quats, scales, means, camera, residual)
    expected = (plain + residual) / (plain + residual).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(bent, expected)


def test_gradient_of_normals() -> None:
    quats = random_quats(6).requires_grad_()
    residual = (0.1 * torch.randn(6, 3, dtype=torch.float64)).requires_grad_()
    scales, means = torch.rand(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    camera = torch.tensor([0, 0, 5.0], dtype=torch.float64)
    function = lambda q, r: normals.gaussian_normals(q, scales, means, camera, r)  # noqa: E731
    assert torch.autograd.gradcheck(function, (quats, residual))


def test_facing_normal_points_at_the_camera_in_its_frame() -> None:
    viewmat = torch.diag(torch.tensor([1.0, -1, -1, 1]))  # looks at the head from 0.7 in front of it
    viewmat[2, 3] = 0.7
    seen = normals.to_camera_frame(torch.tensor([[0.0, 0, 1]]), viewmat)
    torch.testing.assert_close(seen, torch.tensor([[0.0, 0, -1]]))


def test_splatted_normals_come_back_whatever_the_coverage() -> None:
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.4, 0.8]), dim=-1)
    alpha = torch.tensor([[0.0, 0.2, 1.0]])
    splat = alpha[..., None] * normals.encode_normals(normal)
    back = normals.normals_from_render(splat, alpha)
    torch.testing.assert_close(back, torch.stack((torch.zeros(3), normal, normal))[None], rtol=0, atol=1e-5)
    torch.testing.assert_close(normals.decode_normals(normals.encode_normals(normal)), normal)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_shapes_follow_the_batch(shape: tuple[int, ...]) -> None:
    quats, scales, means = torch.randn(*shape, 5, 4), torch.rand(*shape, 5, 3), torch.randn(*shape, 5, 3)
    assert normals.gaussian_normals(quats, scales, means, torch.zeros(*shape, 3)).shape == (*shape, 5, 3)
    eye = torch.eye(4).expand(*shape, 4, 4)
    assert geometry.project(means + 5, eye, eye[..., :3, :3]).shape == (*shape, 5, 2)


def test_a_part_of_the_picture_is_the_picture_moved() -> None:
    K, corners = torch.tensor([[500.0, 0, 128], [0, 500, 96], [0, 0, 1]]), torch.tensor([[40.0, 30], [0, 7]])
    points = torch.randn(9, 3) + torch.tensor([0.0, 0, 5])
    for corner, part in zip(corners, geometry.crop_intrinsics(K, corners), strict=True):
        moved = geometry.project(points, torch.eye(4), part)
        torch.testing.assert_close(moved, geometry.project(points, torch.eye(4), K) - corner)
