"""FFHQ's square: the published recipe, the way back, gradients, parts beyond the image."""

import numpy as np
import pytest
import torch

from emotalking.stylegan.ffhq import FaceAlignment, aligned_crops, in_groups, paste_back


def face(centre: tuple[float, float], size: float, tilt: float = 0.0) -> torch.Tensor:
    """68 points whose eyes are ``size`` apart, the mouth as far below; turned by ``tilt`` radians."""
    points = torch.zeros(68, 2)
    points[36:42] = torch.tensor([-0.5, 0.0])
    points[42:48] = torch.tensor([0.5, 0.0])
    points[48:60] = torch.tensor([0.0, 1.1])
    points[48], points[54] = torch.tensor([-0.4, 1.1]), torch.tensor([0.4, 1.1])
    turn = torch.tensor([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]], dtype=torch.float32)
    return points * size @ turn + torch.tensor(centre)


def middle_of(weights: torch.Tensor) -> torch.Tensor:
    """Their centre (x, y)."""
    x, y = (torch.arange(count) + 0.5 for count in (weights.shape[1], weights.shape[0]))
    return torch.stack([(weights.sum(0) * x).sum(), (weights.sum(1) * y).sum()]) / weights.sum()


def smooth(height: int, width: int) -> torch.Tensor:
    """A soft image [H, W, 3]."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / 60, (torch.arange(width) + 0.5) / 60, indexing="ij")
    return torch.stack(
        [0.5 + 0.4 * torch.sin(5 * x + 2 * y), 0.5 + 0.3 * torch.cos(6 * y), 0.4 + 0.3 * torch.sin(4 * x)], 2
    )


def test_the_square_is_the_published_one() -> None:
    """The recipe once more in numpy, for random points."""
    points = torch.rand(5, 68, 2, dtype=torch.double) * 200
    alignment = FaceAlignment.around(points)
    for row, p in enumerate(points.numpy()):
        eyes = [p[36:42].mean(0), p[42:48].mean(0)]
        across, mouth = eyes[1] - eyes[0], (p[48] + p[54]) / 2
        down = mouth - (eyes[0] + eyes[1]) / 2
        x = across - np.flipud(down) * [-1, 1]
        x /= np.hypot(*x)
        x *= max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
        y = np.flipud(x) * [-1, 1]
        c = (eyes[0] + eyes[1]) / 2 + down * 0.1
        quad = torch.from_numpy(np.stack([c - x - y, c - x + y, c + x + y, c + x - y]))
        corners = torch.tensor([[-1.0, -1], [-1, 1], [1, 1], [1, -1]], dtype=torch.double)
        torch.testing.assert_close(alignment.pick([row]).to_frame(corners[None])[0], quad)
        torch.testing.assert_close(alignment.sides[row], torch.tensor(np.hypot(*x) * 2))
        torch.testing.assert_close(alignment.pick([row]).from_frame(quad[None])[0], corners)


def test_eyes_and_mouth_come_to_their_places() -> None:
    """Aligned crop of any tilted face: a dark dot on each eye and on the mouth."""
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    places = []
    for tilt, size in ((0.0, 30.0), (0.4, 22.0), (-0.3, 35.0)):
        points = face((120, 90), size, tilt)
        dots = [points[36:42].mean(0), points[42:48].mean(0), (points[48] + points[54]) / 2]
        image = 1 - sum(torch.exp(-((x - d[0]) ** 2 + (y - d[1]) ** 2) / 8) for d in dots)
        alignment = FaceAlignment.around(points[None])
        cut = aligned_crops(image[None, ..., None].expand(-1, -1, -1, 3), alignment, 64)[0, ..., 0]
        dark = (1 - cut).clamp_min(0) ** 4
        half = [dark[:40, :32], dark[:40, 32:], dark[40:]]
        offsets = torch.tensor([[0.0, 0.0], [32.0, 0.0], [0.0, 40.0]])
        places.append(torch.stack([middle_of(part) for part in half]) + offsets)
    torch.testing.assert_close(places[0], places[1], atol=0.15, rtol=0)
    torch.testing.assert_close(places[0], places[2], atol=0.15, rtol=0)
    assert abs(places[0][2, 0] - 32) < 0.1 and abs(places[0][:2, 0].mean() - 32) < 0.1


@pytest.mark.parametrize("size", [32, 128, 256])
def test_there_and_back(size: int) -> None:
    """Squares smaller, as large and larger than the cut; two frames at once."""
    images = torch.stack([smooth(160, 200), smooth(160, 200).flip(1)])
    alignment = FaceAlignment.around(torch.stack([face((100, 75), 26, 0.2), face((90, 70), 30, -0.3)]))
    crops = aligned_crops(images, alignment, size)
    back, inside = paste_back(alignment, crops, images * 0)
    assert back[~inside].abs().max() == 0 and 0.25 < inside.float().mean() < 0.5
    grid = torch.stack(torch.meshgrid(torch.arange(160) + 0.5, torch.arange(200) + 0.5, indexing="ij")[::-1], 2)
    interior = (alignment.from_frame(grid.expand(2, -1, -1, -1)).abs() < 0.9).all(-1)
    off = (back - images).abs()[interior] * 255
    assert off.max() < (6.0 if size == 32 else 1.0) and off.mean() < (1.0 if size == 32 else 0.15)
    kept, _ = paste_back(alignment, crops, images)
    assert torch.equal(kept[~inside], images[~inside])


def test_no_frame_depends_on_its_neighbours() -> None:
    images = torch.rand(3, 90, 110, 3)
    alignment = FaceAlignment.around(torch.stack([face((50, 40), 9), face((55, 40), 20, 0.3), face((30, 30), 30)]))
    crops = aligned_crops(images, alignment, 32)
    back, inside = paste_back(alignment, crops, images)
    for row in range(3):
        alone = aligned_crops(images[row : row + 1], alignment.pick([row]), 32)
        torch.testing.assert_close(alone[0], crops[row])
        again, there = paste_back(alignment.pick([row]), alone, images[row : row + 1])
        torch.testing.assert_close(again[0], back[row])
        assert torch.equal(there[0], inside[row])
    assert list(in_groups([2, 1, 2])) == [(2, [0, 2]), (1, [1])]


def test_gradients_reach_pictures_and_cuts() -> None:
    images = torch.rand(1, 20, 24, 3, dtype=torch.double, requires_grad=True)
    alignment = FaceAlignment.around(face((12, 9), 4, 0.2)[None].double())
    assert torch.autograd.gradcheck(lambda i: aligned_crops(i, alignment, 8), (images,), fast_mode=True)
    crops = torch.rand(1, 8, 8, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, i: paste_back(alignment, c, i)[0], (crops, images), fast_mode=True)


def test_beyond_the_picture_it_is_mirrored_and_fades() -> None:
    draw = torch.Generator().manual_seed(0)
    image = smooth(120, 120) + 0.2 * torch.randn(120, 120, 3, generator=draw)
    alignment = FaceAlignment.around(torch.stack([face((60, 12), 22), face((60, 55), 16)]))
    top, whole = aligned_crops(image.expand(2, -1, -1, -1), alignment, 128)
    beyond = (
        (alignment.pick([0]).sides.item() / 2 - (alignment.centres[0, 1]).item())
        / alignment.pick([0]).sides.item()
        * 128
    )
    assert 20 < beyond < 50
    rough = [(part[1:] - part[:-1]).abs().mean() for part in (top[:5], top[int(beyond) + 20 :])]
    assert rough[0] < 0.1 * rough[1]
    # The last rows near the median colour, and well inside the image nothing is touched.
    assert top[:2].flatten(0, 1).std(0).max() < 0.3 * whole.flatten(0, 1).std(0).max()
    larger = torch.zeros(320, 320, 3)
    larger[100:220, 100:220] = image
    far = FaceAlignment(alignment.centres[1:] + 100, alignment.axes[1:])
    torch.testing.assert_close(aligned_crops(larger[None], far, 128)[0], whole, atol=1e-4, rtol=0)
