"""Relighting: the surface that turns, the light that falls on it, and the normals that training sees."""

import math

import numpy as np
import torch
from generator_face import Scene

from emotalking.data.labels import Label
from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.mesh_warp.displacement import PITCH, TemplateGrid
from emotalking.emotion.mesh_warp.shading import MOST, Relight, fit_light, irradiance, unit_normals
from emotalking.emotion.mesh_warp.warp import MeshWarp

GRID = TemplateGrid((-1.0, -1.0), 126, 126)
ABOVE = torch.tensor([[0.5, 0.0, -0.4, 0.5]])
"""Light from above: y points down."""


def bowl(radius: float = 3.0) -> Relight:
    """A part of a sphere that faces the viewer."""
    x, y = (torch.from_numpy(a) for a in GRID.coordinates())
    depth = (radius**2 - x**2 - y**2).sqrt()
    slopes = torch.stack([-x / depth, -y / depth]).float()
    return Relight(slopes, slopes, torch.ones(1, GRID.height, GRID.width))


def flat_face() -> Relight:
    zeros = torch.zeros(2, GRID.height, GRID.width)
    return Relight(zeros, zeros, torch.ones(1, GRID.height, GRID.width))


def none(*shape: int) -> torch.Tensor:
    return torch.zeros(1, *shape, GRID.height, GRID.width)


def test_rest_is_not_relit() -> None:
    face = bowl()
    slopes, above = face.turned(none(2), none(1), GRID)
    assert face.gain(slopes, above, ABOVE).abs().max() < 1e-5


def test_sliding_skin_takes_the_normal_of_where_it_comes_to() -> None:
    """A uniform move neither squeezes nor folds; on a sphere each point's slope becomes that of its new place."""
    face, step = bowl(), 5
    moves = none(2)
    moves[:, 0] = step * PITCH
    slopes, above = face.turned(moves, none(1), GRID)
    inner = slice(20, -20)
    torch.testing.assert_close(
        slopes[0, :, inner, 20:-20], face.slopes[:, inner, 20 + step : -20 + step], atol=1e-4, rtol=0
    )
    assert above[..., inner, inner].abs().max() < 1e-4
    gain = face.gain(slopes, above, torch.tensor([[0.5, 0.4, 0.0, 0.5]]))
    assert (gain[..., inner, inner] > 0).all()  # moved to the right, where the light comes from


def test_squeezed_skin_swells() -> None:
    x, _ = (torch.from_numpy(a).float() for a in GRID.coordinates())
    moves = none(2)
    moves[0, 0] = -0.15 * torch.exp(-((x / 0.3) ** 2)) * x / 0.3  # towards the middle from both sides
    flat = flat_face()
    slopes, _ = flat.turned(moves, none(1), GRID)
    middle = GRID.height // 2
    assert slopes[0, 0, middle, middle - 12] > 0.02 and slopes[0, 0, middle, middle + 12] < -0.02


def test_a_fold_shows_the_side_that_the_light_comes_from() -> None:
    """A horizontal groove: lit from above its lower wall is light, lit from below its upper wall."""
    _, y = (torch.from_numpy(a).float() for a in GRID.coordinates())
    flat = flat_face()
    folds = -0.01 * torch.exp(-0.5 * (y / 0.05) ** 2)[None, None]
    slopes, above = flat.turned(none(2), folds, GRID)
    upper, lower = (int((0.05 * s + 1) / PITCH) for s in (-1, 1))
    for light, bright, dark in ((ABOVE, lower, upper), (ABOVE * torch.tensor([1, 1, -1, 1]), upper, lower)):
        gain = flat.gain(slopes, above, light)[0, 0, :, 60]
        assert gain[bright] > gain[dark] + 0.05
        assert gain.abs().max() <= MOST
        assert gain[round(1 / PITCH)] < -0.01  # and its bottom is darker than the skin around


def test_the_light_is_found_in_spite_of_spots() -> None:
    face = bowl(1.6)
    truth = torch.tensor([[0.55, 0.2, -0.25, 0.45]])
    brightness = 0.4 * irradiance(face.slopes[None], truth)
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(brightness.shape, generator=generator) < 0.1  # a beard
    brightness = torch.where(spots, 0.3 * brightness, brightness)
    slopes = face.slopes.flatten(1).T[None]
    found = fit_light(brightness.flatten(1), slopes, torch.ones(1, slopes.shape[1]))
    shown = [irradiance(face.slopes[None], light) for light in (found, truth)]
    ratio = (shown[0] / shown[1])[..., 20:-20, 20:-20]
    assert (ratio / ratio.mean() - 1).abs().max() < 0.08
    turned = [(light[0, 1] / light[0, 3], light[0, 2] / light[0, 3]) for light in (found, truth)]
    assert math.copysign(1, turned[0][0]) == 1 and math.copysign(1, turned[0][1]) == -1


def test_the_light_of_nothing_is_the_usual_one() -> None:
    found = fit_light(torch.zeros(2, 9), torch.zeros(2, 9, 2), torch.zeros(2, 9))
    assert found.isfinite().all() and (found[:, 0] + found[:, 3] - 1).abs().max() < 1e-5


def test_normals_turn_with_the_surface(scene: Scene) -> None:
    """The paper recomputes normals on the new face: ours stay unit vectors, turn on the skin, and nowhere else."""
    warp = MeshWarp(scene.shape, scene.layout, scene.K)
    normals = torch.zeros(1, 256, 256, 3)
    known = scene.labels[0] == 1
    normals[0, known] = torch.tensor([0.0, 0.0, -1.0])
    rest = warp(*scene.repeat(1), torch.zeros(1, 2), normals).normals
    happy = warp(*scene.repeat(1), torch.tensor([[0.74, 0.31]]), normals).normals
    assert rest is not None and happy is not None
    torch.testing.assert_close(rest, normals, atol=1e-3, rtol=0)
    length = happy.norm(dim=3)
    assert ((length - 1).abs() < 1e-3)[length > 0].all() and (length[0, known] > 0).float().mean() > 0.98
    angle = (happy * rest).sum(3).clamp(-1, 1).acos()[0][known & (length[0] > 0)]
    assert 0.1 < float(angle.max()) < 0.9
    assert float(np.median(angle)) < 0.1


def test_unit_normals() -> None:
    normal = unit_normals(torch.tensor([0.75, -1.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(normal.flatten(), torch.tensor([-0.75, 1.0, 1.0]) / math.sqrt(1 + 0.75**2 + 1))


def test_points_get_the_shade_of_their_pixels(scene: Scene) -> None:
    """On a grey face, whose pixels tell nothing but how they were relit."""
    warp = MeshWarp(scene.shape, scene.layout, scene.K)
    points = torch.from_numpy(scene.shape).float()
    layout = scene.layout
    eyes = [*layout.eye_loop("right"), *layout.eye_loop("left"), *layout.right_iris, *layout.left_iris]
    on_skin = np.setdiff1d(np.arange(len(points)), eyes)  # eyeballs are repaired after relighting
    images, landmarks, labels, viewmats = scene.repeat(1)
    grey, skin = torch.full_like(images, 0.5), torch.full_like(labels, Label.HEAD)
    light = warp.light_on(grey, landmarks, skin, viewmats)
    for name in ("angry", "happy", "surprised"):
        va = torch.tensor([PRESETS[name]])
        edited = warp(grey, landmarks, skin, viewmats, va)
        x, y = edited.landmarks[0, on_skin].round().long().T
        seen = edited.images[0, y, x].mean(-1) / 0.5 - 1
        told = warp.shades_at(points[on_skin], va, light)[0]
        assert seen.abs().max() > 0.005, name
        assert torch.corrcoef(torch.stack([seen, told]))[0, 1] > 0.95, name
