"""The rendered actor and its ground truth agree with each other."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from emotalking.data.labels import Label
from emotalking.testing.actor import STYLES, Actor, ActorState, Viseme, head_viewmat

POSES = [(0.0, 0.0, 0.0), (0.2, -0.08, 0.05), (-0.25, 0.1, -0.06)]


def _state(pose: tuple[float, float, float] = (0.0, 0.0, 0.0), **changes) -> ActorState:
    return replace(ActorState(head_viewmat(*pose)), **changes)


def test_layout_is_complete_and_ordered(actor: Actor) -> None:
    layout = actor.layout
    points = actor.neutral_landmarks()
    assert len(points) == len(np.unique(points, axis=0)) >= 150
    assert len(layout.ibug68) == len(set(layout.ibug68)) == 68
    for name, group in asdict(layout).items():
        if name != "name":
            assert len(group) >= 4 and 0 <= min(group) and max(group) < len(points), name
    x, y = points[:, 0], points[:, 1]
    for side, sign in (("right", -1), ("left", 1)):
        for lid in ("upper", "lower"):
            row = np.array(getattr(layout, f"{side}_{lid}_lid"))
            assert (np.diff(sign * x[row]) < 0).all()  # outer to inner corner
        assert (
            y[list(getattr(layout, f"{side}_upper_lid"))[1:-1]] > y[list(getattr(layout, f"{side}_lower_lid"))[1:-1]]
        ).all()
        iris = getattr(layout, f"{side}_iris")
        np.testing.assert_allclose(points[iris[0], 0], sign * 0.0315, atol=1e-4)
    for loop in (layout.lips_outer, layout.lips_inner):
        half = len(loop) // 2
        assert np.argmin(x[list(loop)]) == 0 and np.argmax(x[list(loop)]) == half
        assert y[list(loop[1:half])].mean() >= y[list(loop[half + 1 :])].mean()
    assert np.argmax(y[list(layout.oval)]) == 0
    ibug = points[list(layout.ibug68)]
    assert (np.diff(ibug[0:17, 0]) > 0).all() and np.argmin(ibug[0:17, 1]) == 8  # jaw, chin in the middle
    assert (np.diff(ibug[17:27, 0]) > 0).all()  # brows
    assert (np.diff(ibug[27:31, 1]) < 0).all() and np.argmax(ibug[:, 2]) == 30  # nose to its tip
    assert (np.diff(ibug[31:36, 0]) > 0).all()
    np.testing.assert_allclose(ibug[[36, 39]] * [-1, 1, 1], ibug[[45, 42]], atol=1e-6)  # eyes mirror each other
    np.testing.assert_allclose(ibug[[48, 49, 51, 60, 61]] * [-1, 1, 1], ibug[[54, 53, 51, 64, 63]], atol=1e-6)


@pytest.mark.parametrize("pose", POSES)
def test_points_are_projections_and_lie_on_their_features(actor: Actor, pose: tuple[float, float, float]) -> None:
    frame = actor.render(_state(pose, viseme=Viseme(jaw=0.7)))
    camera = frame.landmarks_world @ frame.state.viewmat[:3, :3].T + frame.state.viewmat[:3, 3]
    image = camera @ frame.K.T
    np.testing.assert_allclose(frame.landmarks, image[:, :2] / image[:, 2:], atol=1e-3)
    layout = actor.layout
    lips = np.zeros(frame.labels.shape, np.uint8)
    cv2.fillPoly(lips, [np.round(frame.landmarks[list(layout.lips_inner)]).astype(np.int32)], 1)
    mouth = frame.labels == Label.MOUTH
    assert (mouth & (lips > 0)).sum() > 0.8 * mouth.sum() > 30
    for iris in (layout.right_iris[0], layout.left_iris[0]):
        column, row = frame.landmarks[iris].astype(int)
        assert frame.image[row - 1 : row + 2, column - 1 : column + 2].mean(-1).min() < 70  # a dark pupil
        assert frame.labels[row, column] == Label.HEAD


def test_labels_teeth_layers_and_picture_agree(actor: Actor) -> None:
    frame = actor.render(_state(viseme=Viseme(jaw=0.8, width=0.3), torso_shift=(0.003, 0.002)))
    labels = frame.labels
    assert set(np.unique(labels)) == set(range(6))
    assert frame.teeth.any() and (labels[frame.teeth] == Label.MOUTH).all()
    assert frame.image[frame.teeth].mean() > frame.image[(labels == Label.MOUTH) & ~frame.teeth].mean() + 40
    edges = (
        cv2.dilate(cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), np.ones((3, 3), np.uint8))
        > 0
    )
    wall = (labels == Label.BACKGROUND) & ~edges
    np.testing.assert_array_equal(frame.image[wall], frame.background[wall])
    body = np.isin(labels, [Label.NECK, Label.TORSO]) & ~edges
    assert (frame.torso[body, 3] == 255).all()
    assert np.abs(frame.image[body].astype(int) - frame.torso[body, :3]).max() <= 1
    below_chin = frame.landmarks[actor.layout.ibug68[8]]
    behind = frame.torso[int(below_chin[1]) - 20 : int(below_chin[1]), int(below_chin[0])]
    assert (behind[:, 3] == 255).all()  # the neck goes on behind the head


@pytest.mark.parametrize("pose", POSES)
def test_normals_are_unit_and_face_the_camera(actor: Actor, pose: tuple[float, float, float]) -> None:
    frame = actor.render(_state(pose))
    head = np.isin(frame.labels, [Label.HEAD, Label.HAIR, Label.MOUTH])
    normals = frame.normals[head]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    assert (normals[:, 2] < 0).all()
    assert (frame.normals[np.isin(frame.labels, [Label.BACKGROUND, Label.TORSO])] == 0).all()
    column, row = frame.landmarks[actor.layout.ibug68[1]].astype(int)
    assert frame.normals[row, column + 3, 0] < -0.3  # the person's right cheek looks to the image's left


def test_jaw_lips_and_lids_obey(actor: Actor) -> None:
    ibug = np.array(actor.layout.ibug68)

    def gap(upper: int, lower: int, state: ActorState) -> float:
        points = actor.render(state).landmarks_world[ibug]
        return float(np.linalg.norm(points[upper] - points[lower]))

    openings = [gap(62, 66, _state(viseme=Viseme(jaw=jaw))) for jaw in (0.0, 0.3, 0.6, 1.0)]
    assert openings[0] < 5e-4 and (np.diff(openings) > 0.003).all()
    assert gap(62, 66, _state(viseme=Viseme(jaw=0.3, press=1.0))) < 1.2e-3
    narrow, rest, wide = (
        gap(48, 54, _state(viseme=viseme)) for viseme in (Viseme(pucker=1.0), Viseme(), Viseme(width=1.0))
    )
    assert narrow < rest - 0.008 and wide > rest + 0.004
    lids = [gap(37, 41, _state(aus={"AU45": blink})) for blink in (0.0, 1.0, 2.0, 3.0)]
    assert lids[0] > 0.008 and lids[1] < 0.7 * lids[0] and lids[2] < 5e-4 and lids[3] == lids[2]
    assert gap(37, 41, _state(aus={"AU05": 4.0})) > lids[0] + 0.002
    assert gap(37, 41, _state(aus={"AU07": 4.0})) < lids[0] - 0.002


def test_brows_and_cheeks_obey(actor: Actor) -> None:
    ibug = np.array(actor.layout.ibug68)
    rest = actor.neutral_landmarks()[ibug]

    def moved(**aus: float) -> np.ndarray:
        return actor.render(_state(aus=aus)).landmarks_world[ibug] - rest

    assert moved(AU01=5.0)[21, 1] > 0.005 and abs(moved(AU01=5.0)[17, 1]) < 0.001
    assert moved(AU02=5.0)[18, 1] > 0.005 and moved(AU02=5.0)[21, 1] < 0.002
    assert moved(AU04=5.0)[21, 1] < -0.004 and moved(AU04=5.0)[21, 0] > 0.001  # down and together
    assert moved(AU12=5.0)[54, 1] > 0.004 and moved(AU12=5.0)[54, 0] > 0.003
    assert moved(AU15=5.0)[54, 1] < -0.004
    assert np.abs(moved(AU04=5.0)[48:68]).max() < 1e-3  # the mouth stays


def test_frames_are_deterministic_and_fast_path_is_the_same(actor: Actor) -> None:
    state = _state((0.1, 0.0, 0.02), valence=0.4, arousal=-0.3)
    first, second = actor.render(state), Actor(size=128).render(state)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    quick = np.clip(actor.image_of(state) * 255 + 0.5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(first.image, quick)


@pytest.mark.parametrize("name", sorted(STYLES))
def test_every_style_renders(name: str) -> None:
    frame = Actor(STYLES[name], 64).render(_state(viseme=Viseme(jaw=0.8)))
    assert set(np.unique(frame.labels)) == set(range(6))
    assert frame.image.shape == (64, 64, 3) and np.isfinite(frame.landmarks).all()


def test_head_fits_the_cube_of_the_tri_planes(actor: Actor) -> None:
    vertices = actor._head.pose({}, Viseme())
    assert np.abs(vertices).max() < 0.145


def test_bad_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        Actor(size=8)
