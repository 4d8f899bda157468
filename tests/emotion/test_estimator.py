"""The landmark estimator on a parametric face: known displacements must give the right signs."""

from types import ModuleType

import numpy as np
import pytest

from emotalking.emotion.estimator import EmotionEstimator, LandmarkEmotion

N = 120


def clip(face: ModuleType, moves: dict[str, tuple[float, float]], yaw: float = 0.0) -> tuple:
    """A clip whose last third shows ``moves`` (group -> outward, down; eye-centre distances); the head turns."""
    shape, layout = face.face_shape()
    posed = shape.copy()
    for group, (out, down) in moves.items():
        ids = (
            list(getattr(layout, group)) if not group.startswith("corner") else [layout.lips_outer[k] for k in (0, 10)]
        )
        side = np.sign(shape[ids, 0])
        posed[ids] += np.stack([side * out, np.full(len(ids), -down), np.zeros(len(ids))], 1) * face.EYE_DISTANCE
    frames, viewmats = [], []
    for i in range(N):
        viewmat, K = face.look(512, yaw * np.sin(i / 15))
        frames.append(face.project(posed if i >= 2 * N // 3 else shape, viewmat, K))
        viewmats.append(viewmat)
    return np.stack(frames), np.stack(viewmats), K, shape, layout


def lids(upper: float, lower: float) -> dict[str, tuple[float, float]]:
    return {
        f"{side}_{part}_lid": (0, d) for side in ("right", "left") for part, d in (("upper", upper), ("lower", lower))
    }


def brows(out: float, down: float) -> dict[str, tuple[float, float]]:
    return {f"{side}_brow": (out, down) for side in ("right", "left")}


@pytest.mark.parametrize(
    ("moves", "valence", "arousal"),
    [
        ({"corner": (0.06, -0.05)}, 1, 1),
        ({"corner": (-0.01, 0.06)}, -1, 0),
        (brows(-0.04, 0.06), -1, 1),
        (brows(0, -0.08), 0, 1),
    ],
)
@pytest.mark.parametrize("yaw", [0.0, 0.3])
def test_signs(face: ModuleType, moves: dict, valence: int, arousal: int, yaw: float) -> None:
    out = LandmarkEmotion().estimate(*clip(face, moves, yaw))
    assert out.shape == (N, 2) and out.dtype == np.float32 and np.abs(out).max() <= 1
    assert np.abs(out[: N // 2]).max() < 0.03
    for value, sign in zip(out[-1], (valence, arousal), strict=True):
        assert value * sign > 0.12 if sign else abs(value) < 0.12


def test_wide_eyes_arouse_and_drooping_lids_calm(face: ModuleType) -> None:
    assert LandmarkEmotion().estimate(*clip(face, lids(-0.04, 0.02)))[-1, 1] > 0.2
    assert LandmarkEmotion().estimate(*clip(face, lids(0.04, 0.0)))[-1, 1] < -0.1


def test_blinks_and_words_are_taken_out(face: ModuleType) -> None:
    points, viewmats, K, shape, layout = clip(face, {})
    for start in (20, 60):
        upper, lower = (
            list(layout.right_upper_lid + layout.left_upper_lid),
            list(layout.right_lower_lid + layout.left_lower_lid),
        )
        points[start : start + 4, upper] = points[start : start + 4, lower]
    half = list(layout.lips_inner[11:])
    points[:, half, 1] += (5 * (np.sin(np.arange(N) * 2 * np.pi / 6) > 0))[:, None]
    out = LandmarkEmotion().estimate(points, viewmats, K, shape, layout)
    assert np.abs(out).max() < 0.05
    assert np.abs(np.diff(out, axis=0)).max() < 0.02


def test_short_and_empty_clips_and_bad_points(face: ModuleType) -> None:
    points, viewmats, K, shape, layout = clip(face, {})
    estimator = LandmarkEmotion()
    assert isinstance(estimator, EmotionEstimator)
    np.testing.assert_allclose(estimator.estimate(points[:1], viewmats[:1], K, shape, layout), 0, atol=1e-6)
    assert estimator.estimate(points[:0], viewmats[:0], K, shape, layout).shape == (0, 2)
    points[3, 4] = np.nan
    with pytest.raises(ValueError, match="finite"):
        estimator.estimate(points, viewmats, K, shape, layout)


def test_uncentred_reads_a_constant_smile(face: ModuleType) -> None:
    points, viewmats, K, shape, layout = clip(face, {"corner": (0.06, -0.06)})
    held = points[-1:].repeat(N, 0), viewmats[-1:].repeat(N, 0), K, shape, layout
    assert np.abs(LandmarkEmotion().estimate(*held)).max() < 1e-5
    difference = LandmarkEmotion(centred=False).estimate(*held) - LandmarkEmotion(centred=False).estimate(
        points[:1].repeat(N, 0), *held[1:]
    )
    assert (difference[:, 0] > 0.2).all()
