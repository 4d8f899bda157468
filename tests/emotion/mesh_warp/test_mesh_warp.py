"""Promises of the mesh warp, checked on a parametric face."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_face import Scene, face_shape, make_scene

from emotalking.data.labels import Label
from emotalking.emotion.circumplex import preset
from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.mesh_warp.displacement import PITCH
from emotalking.emotion.mesh_warp.expressions import coefficients, load_expressions
from emotalking.emotion.mesh_warp.eyes import LEAST_SEEN, EyeIndices
from emotalking.emotion.mesh_warp.template import RINGS
from emotalking.emotion.mesh_warp.warp import MeshWarp, MeshWarpConfig
from emotalking.ops.geometry import project

RIM = torch.tensor([[0.8 * math.cos(math.radians(a)), 0.8 * math.sin(math.radians(a))] for a in range(0, 360, 15)])
"""The circle where the moves reach their full size."""


def make_warp(scene: Scene, config: MeshWarpConfig | None = None) -> MeshWarp:
    return MeshWarp(scene.shape, scene.layout, scene.K, config)


def run(warp: MeshWarp, scene: Scene, va: torch.Tensor):
    return warp(*scene.repeat(len(va)), va)


@pytest.fixture(scope="module")
def rim(scene: Scene):
    """The face on the rim of the circumplex."""
    return run(make_warp(scene), scene, RIM)


def test_follows_the_protocol(scene: Scene, rim) -> None:
    assert isinstance(make_warp(scene), EmotionGenerator)
    n = len(RIM)
    assert rim.images.shape == (n, 256, 256, 3) and rim.labels.dtype == torch.uint8
    assert rim.landmarks.shape == (n, *scene.landmarks.shape[1:])
    assert 0 <= rim.images.min() and rim.images.max() <= 1 and rim.images.isfinite().all()


@pytest.mark.parametrize("fixture", ["scene", "scene_without_irises", "turned_scene"])
def test_no_emotion_changes_nothing(request: pytest.FixtureRequest, fixture: str) -> None:
    scene = request.getfixturevalue(fixture)
    out = run(make_warp(scene, MeshWarpConfig(resting_expression=(0.5, 0.1))), scene, torch.zeros(1, 2))
    assert (out.images - scene.images).abs().max() < 1 / 255
    assert (out.labels == scene.labels).all()
    torch.testing.assert_close(out.landmarks, scene.landmarks)


@pytest.mark.parametrize("fixture", ["scene", "scene_without_irises", "turned_scene"])
def test_every_emotion_changes_the_face(request: pytest.FixtureRequest, fixture: str) -> None:
    scene = request.getfixturevalue(fixture)
    va = torch.tensor([[0.74, 0.31], [0.31, 0.74], [-0.31, 0.74], [-0.74, 0.31], [-0.74, -0.31]])
    out = run(make_warp(scene), scene, va)
    moves = (out.landmarks - scene.landmarks).norm(dim=2)
    assert (moves.amax(1) > 2).all() and moves.max() < 15
    apart = (out.landmarks[:, None] - out.landmarks[None]).norm(dim=3).amax(2)
    assert apart[~torch.eye(5, dtype=torch.bool)].min() > 1


def test_moves_have_the_right_signs(scene: Scene) -> None:
    happy, surprised, angry, sad = run(
        make_warp(scene), scene, torch.tensor([[0.74, 0.31], [0.31, 0.74], [-0.74, 0.31], [-0.74, -0.31]])
    ).landmarks - scene.landmarks.expand(4, -1, -1)
    layout = scene.layout
    corner, brow = layout.lips_outer[0], list(layout.right_brow)
    assert happy[corner, 1] < -1 and sad[corner, 1] > 1  # y points down
    assert surprised[brow, 1].mean() < -1 and angry[brow, 1].mean() > 1
    upper = layout.right_upper_lid[4]
    assert surprised[upper, 1] < -0.5 and sad[upper, 1] > 0.3
    assert angry[layout.right_lower_lid[4], 1] < -0.5


def test_lips_keep_their_opening_and_smiles_widen_them(scene: Scene, rim) -> None:
    inner, outer = list(scene.layout.lips_inner), list(scene.layout.lips_outer)

    def opening(points: torch.Tensor) -> torch.Tensor:
        lips = points[:, inner]
        return (lips[:, [15, 14, 16]] - lips[:, [5, 6, 4]])[..., 1]

    assert (opening(rim.landmarks) - opening(scene.landmarks)).abs().max() < 0.3
    new, old = (points[:, outer[10], 0] - points[:, outer[0], 0] for points in (rim.landmarks, scene.landmarks))
    # A smile widens the mouth (actors': by a quarter), surprise rounds it (by a twentieth).
    assert 0.95 < (new / old).min() < 0.99 and 1.08 < (new / old).max() < 1.16


def test_width_changes_in_proportion_while_lips_move(scene: Scene) -> None:
    """Speech stays: a mouth half as wide gets half the change, so that the factor is constant over a clip."""
    lips = list(scene.layout.lips_outer + scene.layout.lips_inner)
    pursed = scene.landmarks.clone()
    middle = pursed[:, lips].mean(1)
    pursed[:, lips, 0] = middle[:, None, 0] + 0.7 * (pursed[:, lips, 0] - middle[:, None, 0])
    warp, va = make_warp(scene), torch.tensor([[0.74, 0.31]])
    a, b = scene.layout.lips_outer[0], scene.layout.lips_outer[10]
    factors = []
    for points in (scene.landmarks, pursed):
        new = run(warp, replace(scene, landmarks=points), va).landmarks
        factors.append(float((new[0, b, 0] - new[0, a, 0]) / (points[0, b, 0] - points[0, a, 0])))
    assert 1.02 < min(factors) and max(factors) / min(factors) < 1.04


def test_arousal_shows_at_every_valence(scene: Scene) -> None:
    """Of two faces with one valence the more aroused one has the wider eyes and the higher brows."""
    layout = scene.layout
    lids = [layout.right_upper_lid[4], layout.right_lower_lid[4]]
    for valence in (-0.55, 0.0, 0.55):
        places = torch.tensor([[valence, arousal] for arousal in (-0.55, 0.0, 0.55)])
        points = run(make_warp(scene), scene, places).landmarks
        opening = points[:, lids[1], 1] - points[:, lids[0], 1]
        assert (opening.diff() > 0.5).all(), (valence, opening)
        if valence >= 0:  # anger lowers brows, sorrow raises them in the middle
            assert points[2, list(layout.right_brow), 1].mean() < points[0, list(layout.right_brow), 1].mean() - 1


def test_lowered_lids_leave_the_irises_to_be_seen(scene: Scene) -> None:
    """Of an eye that rests half closed, too: it would seem to roll up."""
    eyes, drop = EyeIndices(scene.layout), torch.tensor([0.05])
    irises = torch.tensor(scene.layout.right_iris + scene.layout.left_iris)
    unit = float((eyes.centres(scene.landmarks)[0, 1] - eyes.centres(scene.landmarks)[0, 0]).norm())
    assert eyes.room_to_fall(scene.landmarks, drop) > 0.8 and eyes.room_to_fall(scene.landmarks, -drop) == 1
    for lower in (0.02, 0.04, 0.1):
        high = scene.landmarks.clone()
        high[:, irises, 1] -= lower * unit
        open_by = 0.07 - lower  # the upper lids' height over the irises' centres
        left = open_by - float(drop * eyes.room_to_fall(high, drop))
        assert left > min(open_by, LEAST_SEEN) - 1e-3


def test_the_coverage_of_the_head_moves_with_its_outline(scene: Scene) -> None:
    head = (scene.labels != int(Label.BACKGROUND)).float()
    out = make_warp(scene)(*scene.repeat(len(RIM)), RIM, coverage=head.expand(len(RIM), -1, -1))
    assert out.coverage is not None
    assert ((out.coverage > 0.5) == (out.labels != int(Label.BACKGROUND))).float().mean() > 0.999
    assert (out.coverage - head).abs().amax() > 0.5


def test_lips_are_untouched_without_corners(scene: Scene) -> None:
    out = run(make_warp(scene, MeshWarpConfig(corners=False)), scene, RIM)
    lips = list(scene.layout.lips_outer + scene.layout.lips_inner)
    assert (out.landmarks - scene.landmarks)[:, lips].abs().max() < 5e-3
    mouth = scene.labels[0] == 3
    assert (out.images - scene.images)[:, mouth].abs().max() < 1 / 255


def test_irises_are_pinned(scene: Scene, rim) -> None:
    for side in ("right", "left"):
        iris = list(getattr(scene.layout, f"{side}_iris"))
        assert torch.equal(rim.landmarks[:, iris], scene.landmarks[:, iris].expand(len(RIM), -1, -1))
        x, y = scene.landmarks[0, iris[0]].long().tolist()
        assert (rim.images - scene.images)[:, y, x].abs().max() < 2 / 255


def test_nothing_moves_beyond_the_outer_ring(scene: Scene, rim) -> None:
    oval = scene.landmarks[0, list(scene.layout.oval)].numpy()
    import cv2

    ring = (oval.mean(0) + RINGS[1] * (oval - oval.mean(0))).round().astype(np.int32)
    inside = cv2.fillPoly(np.zeros((256, 256), np.uint8), [ring], 1).astype(bool)
    outside = torch.from_numpy(~inside)
    assert outside.sum() > 5000
    assert (rim.images - scene.images)[:, outside].abs().max() < 1 / 255
    assert (rim.labels == scene.labels)[:, outside].all()


def test_a_symmetric_face_stays_symmetric(scene: Scene, rim) -> None:
    shift = rim.landmarks - scene.landmarks
    layout = scene.layout
    pairs = [(layout.right_brow, layout.left_brow), (layout.right_upper_lid, layout.left_upper_lid)]
    for right, left in pairs:
        mirrored = shift[:, list(left)] * torch.tensor([-1.0, 1.0])
        torch.testing.assert_close(shift[:, list(right)], mirrored, atol=0.1, rtol=0)


def test_lids_of_unequal_eyes_move_alike(scene: Scene) -> None:
    shape, right = scene.shape.copy(), [*scene.layout.right_upper_lid, *scene.layout.right_lower_lid]
    shape[right, 1] = shape[right, 1].mean() + 0.7 * (shape[right, 1] - shape[right, 1].mean())
    points = project(torch.from_numpy(shape)[None], scene.viewmats, torch.from_numpy(scene.K)[None])
    uneven = replace(scene, shape=shape, landmarks=points)
    shift = run(make_warp(uneven), uneven, torch.tensor([preset("surprised"), preset("afraid")])).landmarks - points
    lids = [shift[:, list(side)[1:-1], 1] for side in (scene.layout.right_upper_lid, scene.layout.left_upper_lid)]
    assert lids[1].amin() < -1
    torch.testing.assert_close(lids[0].amin(1), lids[1].amin(1), atol=0.05, rtol=0.03)


def test_contempt_draws_up_one_corner_and_disgust_the_upper_lip(scene: Scene) -> None:
    places = torch.tensor([preset("contemptuous"), preset("disgusted"), preset("sad")])
    shift = run(make_warp(scene), scene, places).landmarks - scene.landmarks
    lips, layout = scene.layout.lips_outer, scene.layout
    right, left = shift[:, lips[0], 1], shift[:, lips[len(lips) // 2], 1]
    assert left[0] - right[0] < -1.5  # px; up is negative
    assert (left[1:] - right[1:]).abs().max() < 0.7
    lip = shift[:, list(layout.lips_outer[3:8]), 1].mean(1)
    assert lip[1] < lip[2] - 0.15  # AU9, AU10


def test_knots_of_the_file_are_kept_and_those_between_interpolated() -> None:
    table = load_expressions()
    assert len(table.knots) == 32
    column = table.columns.index("SNEER")
    assert table.knots[:, column].count_nonzero() <= 3  # contempt alone
    between = (table.knots[0] + table.knots[2]) / 2
    torch.testing.assert_close(table.knots[1], between)


def test_smooth_in_valence_and_arousal(scene: Scene) -> None:
    angle = torch.linspace(0, 2 * math.pi, 145)
    va = torch.stack([angle.cos(), angle.sin()], 1) * torch.linspace(0.2, 1, 145)[:, None]
    knots = load_expressions().knots
    steps = coefficients(va, knots).diff(dim=0).abs().max()
    assert steps < 0.15  # 2.5 degrees; the steepest segment of the table moves 0.86 in 22.5
    small = coefficients(torch.tensor([[1e-3, 0.0], [-1e-3, 0.0]]), knots)
    assert small.abs().max() < 0.01
    full = coefficients(torch.tensor([[0.8, 0.0], [1.0, 0.0]]), knots)
    torch.testing.assert_close(full[0], full[1])


@pytest.mark.parametrize("brow_gap", [0.0, 0.10])
def test_no_folds(scene: Scene, brow_gap: float) -> None:
    """Also for a person whose brows lie low, close to the eyes."""
    shape = scene.shape.copy()
    shape[list(scene.layout.right_brow + scene.layout.left_brow), 1] -= brow_gap * 0.063
    warp = make_warp(replace(scene, shape=shape))
    skin, edges, _ = warp._fields(coefficients(RIM, load_expressions().knots))
    field = skin + edges
    (xy, xx), (yy, yx) = (torch.gradient(field[:, c], spacing=PITCH, dim=(1, 2)) for c in (0, 1))
    determinant = (1 + xx) * (1 + yy) - xy * yx
    assert determinant.min() > 0.1


@pytest.mark.parametrize("emotion", ["surprised", "afraid", "angry", "sad"])
def test_brows_keep_their_height(scene: Scene, emotion: str) -> None:
    """Their hair moves as a piece: its upper and lower edge by the same."""
    warp = make_warp(scene)
    skin, edges, _ = warp._fields(coefficients(torch.tensor([preset(emotion)]), load_expressions().knots))
    upper = warp._tensors["points"][list(scene.layout.right_brow[1:4] + scene.layout.left_brow[1:4])]
    below = torch.linspace(0, 0.12, 7)[:, None, None] * torch.tensor([0.0, 1.0])
    moves = warp._sample(skin + edges, (upper + below)[None])[0, 1]
    assert ((moves[-1] - moves[0]) / 0.12).abs().max() < 0.1
    assert (moves - moves[0]).abs().max() < 0.1 * moves.abs().max()


def test_gain_is_clamped_and_scales(scene: Scene) -> None:
    va = torch.tensor([[0.5, 0.3]])
    outs = [run(make_warp(scene, MeshWarpConfig(gain=g)), scene, va) for g in (0.0, 0.5, 1.0, 3.0)]
    moves = [(out.landmarks - scene.landmarks).norm(dim=2).mean() for out in outs]
    assert moves[0] == 0 and moves[1] < 0.8 * moves[2]
    torch.testing.assert_close(outs[2].images, outs[3].images)


def test_shading_can_be_turned_off_and_stays_on_skin(scene: Scene) -> None:
    va = torch.tensor([[-0.74, 0.31]])
    with_shade = run(make_warp(scene), scene, va)
    without = run(make_warp(scene, MeshWarpConfig(shading=False)), scene, va)
    change = (with_shade.images - without.images).abs().amax(3)[0]
    assert 0.01 < change.max() < 0.25
    assert change[(scene.labels[0] != 1)].mean() < 0.1 * change[scene.labels[0] == 1].mean()


def test_resting_expression_is_taken_away(scene: Scene) -> None:
    va = torch.tensor([[-0.74, 0.31]])
    plain = run(make_warp(scene), scene, va)
    smiler = run(make_warp(scene, MeshWarpConfig(resting_expression=(0.5, 0.1))), scene, va)
    corner = scene.layout.lips_outer[0]
    assert smiler.landmarks[0, corner, 1] > plain.landmarks[0, corner, 1] + 0.5


def test_a_constant_smile_is_read_from_the_neutral_face(scene: Scene) -> None:
    """Corners a tenth of the eyes' distance higher: the man is read as smiling, and anger lowers them more."""
    assert make_warp(scene).resting_expression == (0.0, 0.0)
    shape = scene.shape.copy()
    lips = list(scene.layout.lips_outer + scene.layout.lips_inner)
    shape[lips, 1] += 0.1 * 0.063 * (shape[lips, 0] / np.abs(shape[lips, 0]).max()) ** 2
    smiler = make_warp(replace(scene, shape=shape))
    assert 0.2 < smiler.resting_expression[0] < 0.5
    va = torch.tensor([[-0.74, 0.31]])
    plain = run(
        make_warp(replace(scene, shape=shape), MeshWarpConfig(resting_expression=(0.0, 0.0))), scene, va
    ).landmarks
    corner = scene.layout.lips_outer[0]
    assert run(smiler, scene, va).landmarks[0, corner, 1] > plain[0, corner, 1] + 0.5


def test_batch_equals_single(scene: Scene, turned_scene: Scene) -> None:
    warp = make_warp(scene)
    va = torch.tensor([[0.7, 0.3], [-0.7, 0.3]])
    batch = warp(*(torch.cat([a, b]) for a, b in zip(scene.repeat(1), turned_scene.repeat(1), strict=True)), va)  # pyright: ignore[reportCallIssue]
    for k, one in enumerate((scene, turned_scene)):
        single = warp(*one.repeat(1), va[k : k + 1])
        torch.testing.assert_close(batch.images[k], single.images[0], atol=3e-3, rtol=0)
        assert (batch.labels[k] == single.labels[0]).float().mean() > 0.9995
        torch.testing.assert_close(batch.landmarks[k], single.landmarks[0], atol=1e-3, rtol=0)


def test_repeats_exactly(scene: Scene) -> None:
    va = torch.tensor([[-0.3, 0.7]])
    a, b = (run(make_warp(scene), scene, va) for _ in range(2))
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def test_a_blink_stays_shut(scene: Scene) -> None:
    shut = scene.landmarks.clone()
    for side in ("right", "left"):
        upper, lower = (list(getattr(scene.layout, f"{side}_{part}_lid")) for part in ("upper", "lower"))
        shut[:, upper] = shut[:, lower]
    out = run(make_warp(scene), replace(scene, landmarks=shut), torch.tensor([[0.31, 0.74]]))
    upper, lower = (list(getattr(scene.layout, f"right_{part}_lid"))[4] for part in ("upper", "lower"))
    assert (out.landmarks[0, upper] - out.landmarks[0, lower]).abs().max() < 0.1


def test_face_at_the_edge_or_out_of_the_picture(scene: Scene) -> None:
    warp, va = make_warp(scene), torch.tensor([[0.7, 0.3]])
    moved = scene.landmarks + torch.tensor([120.0, -60.0])
    assert run(warp, replace(scene, landmarks=moved), va).images.isfinite().all()
    gone = run(warp, replace(scene, landmarks=scene.landmarks + 2000), va)
    torch.testing.assert_close(gone.images, scene.images)


def test_large_images_use_the_coarse_field() -> None:
    small, large = make_scene(256), make_scene(512)
    va = torch.tensor([[-0.74, 0.31]])
    a, b = (run(make_warp(s), s, va) for s in (small, large))
    torch.testing.assert_close(a.landmarks * 2, b.landmarks, atol=0.05, rtol=0)
    shrunk = torch.nn.functional.avg_pool2d(b.images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert (shrunk - a.images).abs().mean() < 2e-3


def test_a_part_of_a_large_frame_is_edited_as_the_whole() -> None:
    scene, va, rows = make_scene(512), torch.tensor([[-0.74, 0.31]]), slice(100, 480)
    warp = make_warp(scene)
    part = replace(
        scene,
        images=scene.images[:, rows],
        labels=scene.labels[:, rows],
        landmarks=scene.landmarks - torch.tensor([0.0, rows.start]),
    )
    whole, cut = run(warp, scene, va), run(warp, part, va)
    torch.testing.assert_close(cut.images, whole.images[:, rows], atol=2e-3, rtol=0)


def test_wrong_inputs_are_named(scene: Scene) -> None:
    warp = make_warp(scene)
    images, landmarks, labels, viewmats = scene.repeat(1)
    with pytest.raises(ValueError, match="landmarks must have .* points, got 5"):
        warp(images, landmarks[:, :5], labels, viewmats, torch.zeros(1, 2))
    shape, layout = face_shape()
    with pytest.raises(ValueError, match="layout test names point"):
        MeshWarp(shape[:20], layout, scene.K)
    shape[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        MeshWarp(shape, layout, scene.K)


@pytest.mark.gpu
def test_gpu_agrees(scene: Scene) -> None:
    va = torch.tensor([[0.7, 0.3], [-0.7, 0.3]])
    warp = make_warp(scene)
    here = run(warp, scene, va)
    there = warp(*(t.cuda() for t in scene.repeat(2)), va.cuda())  # pyright: ignore[reportCallIssue]
    assert (there.images.cpu() - here.images).abs().mean() < 1e-4


def test_points_move_as_the_pixels_that_show_them(scene: Scene) -> None:
    warp, va = make_warp(scene), torch.tensor([[0.74, 0.31], [-0.31, 0.74], [-0.74, -0.31]])
    moved = run(warp, scene, va).landmarks - scene.landmarks
    shape = torch.from_numpy(np.float32(scene.shape))
    strengths = warp.coefficients(va, scene.landmarks.expand(3, -1, -1))
    found = warp.fields_at(shape).moves(strengths)
    some = torch.tensor([5, 3, 40])
    torch.testing.assert_close(warp.fields_at(shape).moves(strengths, some), found[:, some])
    K, view = torch.from_numpy(np.float32(scene.K)), scene.viewmats
    cameras = view.expand(3, -1, -1), K.expand(3, 3, 3)
    before, after = (project(points, *cameras) for points in (shape.expand(3, -1, -1), shape + found))
    kept = [*scene.layout.right_brow, *scene.layout.left_brow, *scene.layout.lips_outer]
    assert (moved[:, kept] - (after - before)[:, kept]).norm(dim=2).max() < 0.1 * moved[:, kept].norm(dim=2).max()
    behind = shape * torch.tensor([1.0, 1.0, -1.0]) - torch.tensor([0.0, 0.0, 0.01])
    assert not warp.fields_at(behind).moves(strengths).any()
    irises = [*scene.layout.right_iris[:1], *scene.layout.left_iris[:1]]
    assert found[:, irises].norm(dim=2).max() < 0.02 * found.norm(dim=2).max()
