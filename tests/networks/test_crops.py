"""Cuts around faces: where they lie, and that what is cut goes back to its place."""

import numpy as np
import pytest
import torch

from emotalking.errors import InputError
from emotalking.networks.crops import batches, crop, uncrop
from emotalking.networks.emonet import EmoNet, EmoNetEstimator, EmoNetOutput, emonet_square
from emotalking.networks.face_normals import check_directions, estimate_normals, normals_square
from emotalking.ops.box import Box


def ramp(height: int, width: int) -> np.ndarray:
    """A picture whose red grows with x and green with y, by one a pixel."""
    ys, xs = np.mgrid[:height, :width]
    return np.stack([xs, ys, np.zeros_like(xs)], -1).astype(np.uint8)


def face_points(left: float, top: float, width: float, height: float) -> np.ndarray:
    """68 points that fill a box."""
    points = np.random.default_rng(3).uniform(0, 1, (68, 2))
    points[:2] = [[0, 0], [1, 1]]
    return points * [width, height] + [left, top]


def test_emonets_crop_is_the_authors() -> None:
    square = emonet_square(face_points(30.0, 40.0, 100.0, 120.0))
    assert square.width == pytest.approx(200.0)
    assert (square.left + 100, square.top + 100) == (pytest.approx(80.0), pytest.approx(100.0))


def test_the_normals_crop_stays_in_the_picture() -> None:
    assert normals_square(face_points(100, 100, 50, 100), 512, 512) == Box(90.0, 65.0, 210.0, 185.0)
    square = normals_square(face_points(0, 10, 100, 60), 110, 160)
    assert square == Box(0.0, 0.0, 110.0, 110.0)
    assert normals_square(face_points(440, 10, 60, 60), 512, 512) == Box(4.0, 434.0, 76.0, 506.0)


def test_a_cut_keeps_places() -> None:
    cut = crop(ramp(128, 128), Box(20.0, 10.0, 84.0, 74.0), 64)
    assert (cut[..., 0] == 10 + np.arange(64)).all() and (cut[..., 1].T == 20 + np.arange(64)).all()
    doubled = crop(ramp(128, 128), Box(20.0, 10.0, 52.0, 42.0), 64).astype(float)
    inner = np.arange(2, 62)
    np.testing.assert_allclose(doubled[30, inner, 0], 10 + (inner + 0.5) / 2 - 0.5, atol=0.51)
    beyond = crop(ramp(128, 128), Box(0.0, -10.0, 64.0, 54.0), 64)
    assert (beyond[:, :9] == 0).all() and beyond[0, -1, 0] == 53


def test_what_is_cut_goes_back() -> None:
    image, square = ramp(100, 120), Box(30.5, 20.25, 78.5, 68.25)
    back, inside = uncrop(crop(image, square, 96).astype(np.float32), square, 100, 120)
    assert inside.sum() == pytest.approx(48**2, rel=0.05)
    rows, cols = slice(33, 76), slice(23, 66)
    np.testing.assert_allclose(back[rows, cols], image[rows, cols], atol=0.6)


def test_batches_keep_order() -> None:
    assert list(batches(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []


class Brightness(EmoNet):
    """A stand-in that finds valence in the red, arousal in the green of the face."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.calls: list[int] = []

    def forward(self, images: torch.Tensor) -> EmoNetOutput:
        """Means."""
        self.calls.append(len(images))
        va = images.mean((2, 3))[:, :2] * 4 - 1
        return EmoNetOutput(torch.zeros(len(images), 8), va, torch.zeros(len(images), 68, 1, 1))


def test_the_judge_reads_frames_in_order_and_within_bounds() -> None:
    points = np.stack([face_points(28, 28, 40, 40)] * 11)
    frames = [np.full((96, 96, 3), 10 * i, np.uint8) for i in range(11)]
    network = Brightness()
    values = np.stack(list(EmoNetEstimator(network).read(iter(frames), points)))
    assert network.calls == [8, 3]
    expected = np.clip(np.arange(11) * 10 / 255 * 4 - 1, -1, 1)
    np.testing.assert_allclose(values, np.stack([expected] * 2, 1), atol=1e-5)
    with pytest.raises(ValueError):
        list(EmoNetEstimator(network).read(iter(frames[:10]), points))


class Ball(torch.nn.Module):
    """A stand-in that sees a ball filling the crop, in the axes of the published network (y up, z to the viewer)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normals."""
        size = images.shape[-1]
        grid = (torch.arange(size) + 0.5) / size * 1.2 - 0.6
        x, y = grid[None, :].expand(size, size), -grid[:, None].expand(size, size)
        z = torch.sqrt(1 - x**2 - y**2)
        return torch.stack([x, y, z])[None].expand(len(images), -1, -1, -1)


def test_normals_come_in_opencv_axes_and_at_their_place() -> None:
    points = np.stack([face_points(40, 30, 50, 60), face_points(20, 50, 60, 40)])
    images = [np.zeros((128, 128, 3), np.uint8)] * 2
    normals, inside = estimate_normals(Ball(), images, points)
    for normal, mask, place in zip(normals, inside, points, strict=True):
        square = normals_square(place, 128, 128)
        assert mask.sum() == pytest.approx(square.width**2, rel=0.05)
        assert (normal[~mask] == 0).all()
        np.testing.assert_allclose(np.linalg.norm(normal[mask], axis=-1), 1, atol=1e-5)
        middle_x, middle_y = square.centre[0], square.centre[1]
        ys, xs = np.nonzero(mask)
        expected = np.stack([xs + 0.5 - middle_x, ys + 0.5 - middle_y], -1) / square.width * 1.2
        np.testing.assert_allclose(normal[mask][:, :2], expected, atol=0.02)
        assert (normal[mask][:, 2] < 0).all()
        check_directions(normal, mask, "a file")


@pytest.mark.parametrize("flip", [(-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_normals_with_other_axes_are_refused(flip: tuple[int, int, int]) -> None:
    images = [np.zeros((128, 128, 3), np.uint8)]
    normals, inside = estimate_normals(Ball(), images, face_points(40, 30, 50, 60)[None])
    with pytest.raises(InputError, match="odd.pth"):
        check_directions(normals[0] * np.array(flip, np.float32), inside[0], "odd.pth")
    check_directions(-normals[0], np.zeros_like(inside[0]), "odd.pth")  # no face, nothing to see
