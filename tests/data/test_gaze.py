"""Where the eyes look, measured from irises that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.gaze import IRIS_DEPTH, IRIS_RADIUS, camera_direction, measure_gaze
from emotalking.data.layouts import IBUG68
from emotalking.errors import InputError
from emotalking.train.motion_pretraining import convex_eyes

SIZE, FOCAL, FRAMES = (320, 240), 600.0, 60
LAYOUT = replace(IBUG68, right_iris=(68, 69), left_iris=(70, 71))
SHAPE = np.zeros((72, 3))
SHAPE[[36, 39, 42, 45], 0] = -0.045, -0.018, 0.018, 0.045
SHAPE[[36, 39, 42, 45], 1:] = 0.02, 0.06


def head_poses() -> np.ndarray:
    """A head that turns, and goes to and fro."""
    time = np.linspace(0, 2 * np.pi, FRAMES)
    views = np.tile(np.eye(4), (FRAMES, 1, 1))
    turns = np.column_stack([0.08 * np.sin(3 * time), 0.2 * np.sin(time), 0.05 * np.cos(time)])
    views[:, :3, :3] = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec(turns).as_matrix()
    views[:, :3, 3] = np.column_stack([0.02 * np.cos(time), 0.01 * np.sin(time), 0.7 + 0.05 * np.sin(time)])
    return views


def irises(views: np.ndarray, gaze: np.ndarray, off: float = 0.0) -> np.ndarray:
    """Landmarks of eyes that look so; ``off``: the eyes' axes point outwards by so much more than the eyes look."""
    points = np.tile(SHAPE, (FRAMES, 1, 1))
    for iris, (outer, inner) in (((68, 69), (36, 39)), ((70, 71), (42, 45))):
        middle = SHAPE[[outer, inner]].mean(0)
        for index in iris:
            points[:, index, :2] = middle[:2] + IRIS_RADIUS * np.sin(gaze + off)
            points[:, index, 2] = middle[2] + IRIS_DEPTH
    camera = np.einsum("nij,nkj->nki", views[:, :3, :3], points) + views[:, None, :3, 3]
    return camera[..., :2] / camera[..., 2:] * FOCAL + np.array(SIZE) / 2


def measured(views: np.ndarray, points: np.ndarray, closure: np.ndarray) -> np.ndarray:
    found = measure_gaze(points, views, FOCAL, SIZE, SHAPE, LAYOUT, closure)
    assert found is not None and found.dtype == np.float32
    return found


def test_eyes_on_the_camera_look_along_its_direction_however_the_head_moves() -> None:
    views = head_poses()
    camera = camera_direction(views)
    assert np.ptp(camera[:, 0]) > 0.3
    glances = np.zeros((FRAMES, 2))
    glances[40:50] = 0.15, -0.1
    found = measured(views, irises(views, camera + glances, off=0.07), np.zeros(FRAMES))
    np.testing.assert_allclose(found, camera + glances, atol=3e-3)


def test_the_camera_is_to_the_right_of_a_head_that_turns_to_the_left() -> None:
    view = np.eye(4)
    view[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec([0.0, -0.2, 0.0]).as_matrix()
    view[2, 3] = 0.7
    np.testing.assert_allclose(camera_direction(view), [0.2, 0.0], atol=1e-6)
    view[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec([0.1, 0.0, 0.0]).as_matrix()
    np.testing.assert_allclose(camera_direction(view), [0.0, 0.1], atol=1e-6)


def test_blinks_are_bridged() -> None:
    views = np.tile(head_poses()[:1], (FRAMES, 1, 1))
    gaze = np.zeros((FRAMES, 2))
    gaze[30:] = 0.2, 0.1
    points, closure = irises(views, gaze), np.zeros(FRAMES)
    closure[27:33] = 2.0
    points[28:32, 68:] += 30.0
    found = measured(views, points, closure) - camera_direction(views)
    assert np.allclose(found[:27] - found[0], 0, atol=1e-4) and np.allclose(found[33:] - found[-1], 0, atol=1e-4)
    assert (np.diff(found[26:34, 0]) > 0).all() and np.diff(found[26:34, 0]).max() < 0.05


def test_hollow_eyes_become_convex() -> None:
    hollow = torch.tensor(SHAPE)
    hollow[[68, 69, 70, 71], 2] = 0.05
    found = convex_eyes(hollow, LAYOUT)
    torch.testing.assert_close(found[[68, 70], 2], torch.full((2,), 0.06 + IRIS_DEPTH, dtype=found.dtype))
    assert torch.equal(found[:68], hollow[:68]) and float(hollow[68, 2]) == pytest.approx(0.05)


def test_without_open_eyes_the_camera_is_looked_at_and_without_irises_nothing_is_known() -> None:
    views = head_poses()
    points = irises(views, np.zeros((FRAMES, 2)))
    np.testing.assert_allclose(measured(views, points, np.full(FRAMES, 2.0)), camera_direction(views), atol=1e-6)
    assert measure_gaze(points, views, FOCAL, SIZE, SHAPE, IBUG68, np.zeros(FRAMES)) is None


def test_a_folder_keeps_it_and_an_older_one_is_measured(actor_subject: Subject, tmp_path) -> None:
    measured_now = actor_subject.gaze
    assert not actor_subject.files.gaze.exists() and measured_now is not None
    assert measured_now.shape == (actor_subject.num_frames, 2) and np.ptp(measured_now, 0).min() > 0.01
    root = tmp_path / "subject"
    root.mkdir()
    for path in actor_subject.files.root.iterdir():
        (root / path.name).symlink_to(path)
    kept = np.linspace(-0.2, 0.2, 2 * actor_subject.num_frames).reshape(-1, 2).astype(np.float32)
    write.write_gaze(root, kept)
    np.testing.assert_allclose(Subject.open(root).gaze, kept, atol=1e-5)  # pyright: ignore[reportArgumentType]
    write.write_gaze(root, kept[1:])
    with pytest.raises(InputError, match="rows for"):
        _ = Subject.open(root).gaze
    SubjectFiles(root).gaze.write_text("frame,a,b\n0,1,2\n")
    with pytest.raises(InputError, match="columns x and y"):
        _ = Subject.open(root).gaze
