"""The head start of the face's motion."""

import pytest
import torch

from emotalking.data.gaze import IRIS_RADIUS
from emotalking.io.settings import override
from emotalking.models.head import TalkingHead
from emotalking.ops.geometry import project
from emotalking.train.data import TrainingData, eye_boxes
from emotalking.train.motion_pretraining import convex_eyes, mesh_motion, pretrain_motion
from emotalking.train.presets import preset
from emotalking.train.run import build_head

pytestmark = pytest.mark.usefixtures("one_thread")


def untrained(data: TrainingData) -> TalkingHead:
    few = [
        "model.face.initial_points=300",
        "model.mouth.initial_points=60",
        "audio_pretraining=0",
        "motion_pretraining=0",
    ]
    return build_head(override(preset("tiny"), few), data, torch.Generator().manual_seed(0))


def test_mesh_motion_is_what_moved_the_points_and_not_the_pose(data: TrainingData) -> None:
    assert data.shape is not None
    moved = data.shape.clone()
    lid = data.layout.right_upper_lid[3]
    moved[lid, 1] -= 0.01
    frames = data.count
    view, K = data.conditions.viewmats, data.K.expand(frames, 3, 3)
    data.points = project(data.shape.expand(frames, -1, -1), view, K)
    data.points[4] = project(moved[None], view[4:5], K[4:5])[0]
    data.points[7] = float("nan")
    mesh = mesh_motion(data, data.shape)
    assert 7 not in mesh.frames and len(mesh.frames) == frames - 1
    rest = mesh.moves.clone()
    vertex = int((mesh.vertices - data.shape[lid]).norm(dim=1).argmin())
    across = data.conditions.viewmats[4, 2, :3]  # along the view nothing can be seen
    true = torch.tensor([0.0, -0.01, 0.0])
    torch.testing.assert_close(rest[4, vertex], true - across * (across @ true), atol=3e-5, rtol=0.0)
    rest[4, vertex] = 0.0
    assert float(rest.abs().max()) < 1e-4


def test_irises_move_where_they_are_seen(data: TrainingData) -> None:
    assert data.shape is not None
    layout, frames = data.layout, data.count
    irises, lids = [*layout.right_iris, *layout.left_iris], list(layout.eye_loop("left"))
    shapes = data.shape.expand(frames, -1, -1).clone()
    shapes[9, irises, 0] += 0.003
    shapes[5, irises, 0] += 0.1  # behind closing lids, nothing is seen
    shapes[5, lids, 1] -= 0.004
    data.points = project(shapes, data.conditions.viewmats, data.K.expand(frames, 3, 3))
    data.blink[:] = 0.0
    data.blink[5] = 1.0
    mesh, plain = mesh_motion(data, data.shape, irises=True), mesh_motion(data, data.shape)
    at = [int((mesh.vertices - data.shape[i]).norm(dim=1).argmin()) for i in irises]
    assert torch.isin(mesh.triangles, torch.tensor(at)).any(1).float().mean() > 0.1
    assert len(mesh.vertices) == len(plain.vertices) + len(irises)
    assert mesh.irises.nonzero()[:, 0].tolist() == sorted(at) and not plain.irises.any()
    moves = mesh.moves[:, at]
    torch.testing.assert_close(moves[9, :, 0], torch.full((len(at),), 0.003), atol=2e-4, rtol=0.0)
    of_left = moves[5, len(layout.right_iris) :]
    torch.testing.assert_close(of_left[:, 1], torch.full((len(of_left),), -0.004), atol=3e-4, rtol=0.0)
    moves[[5, 9]] = 0.0
    assert float(moves.abs().max()) < 1e-4


def test_rings_carry_half_of_the_oval_and_nothing(data: TrainingData) -> None:
    assert data.shape is not None
    mesh = mesh_motion(data, data.shape)
    oval = len(data.layout.oval)
    assert float(mesh.moves[:, -2 * oval : -oval].abs().max()) > 0.0
    assert not mesh.moves[:, -oval:].any()
    assert int(mesh.triangles.max()) == len(mesh.vertices) - 1


def test_start_shuts_the_eyes(data: TrainingData) -> None:
    assert data.shape is not None
    data.conditions.aus[:, 5] = 0.0
    data.conditions.aus[::3, 5] = 2.0
    lids = [*data.layout.right_upper_lid[2:-2], *data.layout.left_upper_lid[2:-2]]
    low = data.points[:, lids, 1].clone()
    low[::3] += 6.0
    data.points[:, lids, 1] = low
    face = untrained(data).face
    assert pretrain_motion(face, data, 60, torch.Generator().manual_seed(1)) > 0.3
    aus = torch.zeros(2, 6)
    aus[1, 5] = 2.0
    with torch.no_grad():
        canonical = face.motion.canonical(data.shape[lids])
        d_means = face.motion(canonical, face.audio(data.conditions.audio[:2]), aus)["d_means"]
    assert float((d_means[1] - d_means[0])[:, 1].max()) < -0.001


def test_irises_learn_to_turn_as_eyeballs_do(data: TrainingData) -> None:
    assert data.shape is not None and data.conditions.gaze is not None
    data.shape = convex_eyes(data.shape, data.layout)
    centres = data.shape[[data.layout.right_iris[0], data.layout.left_iris[0]]]

    def rate(reach: float) -> float:
        face = untrained(data).face
        face.motion.eyes = centres.clone()
        pretrain_motion(face, data, 60, torch.Generator().manual_seed(1), gaze_reach=reach)
        aside = torch.tensor([[-0.2, 0.0], [0.2, 0.0]])
        with torch.no_grad():
            code, aus = face.audio(data.conditions.audio[:1]), torch.zeros(2, 6)
            moves = face.motion(face.motion.canonical(centres), code.expand(2, -1), aus, gaze=aside)["d_means"]
        return float((moves[1] - moves[0])[:, 0].mean()) / 0.4

    turned, recorded = rate(0.35), rate(0.0)
    assert 1.6 * recorded < turned < 1.2 * IRIS_RADIUS  # .0058 and .0026 after these few steps


def test_start_is_deterministic(data: TrainingData) -> None:
    made = [untrained(data).face for _ in range(2)]
    for face in made:
        assert pretrain_motion(face, data, 6, torch.Generator().manual_seed(1)) != 0.0
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True))


def test_no_steps_and_no_shape_change_nothing(data: TrainingData) -> None:
    face = untrained(data).face
    before = [parameter.clone() for parameter in face.parameters()]
    assert pretrain_motion(face, data, 0, torch.Generator()) == 0.0
    data.shape = None
    assert pretrain_motion(face, data, 5, torch.Generator()) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, face.parameters(), strict=True))


def test_eye_boxes_hold_the_lids(data: TrainingData) -> None:
    data.points[2] = float("nan")
    boxes = eye_boxes(data).tolist()
    assert boxes[2] == [0, 0, 0, 0]
    lids = data.points[0, [*data.layout.right_upper_lid, *data.layout.left_lower_lid]]
    top, left, bottom, right = boxes[0]
    assert left < float(lids[:, 0].min()) and float(lids[:, 0].max()) < right <= data.size[0]
    assert top < float(lids[:, 1].min()) and float(lids[:, 1].max()) < bottom


def test_start_leaves_the_audio_encoder_alone(data: TrainingData) -> None:
    face = untrained(data).face
    before = {name: value.clone() for name, value in face.audio.state_dict().items()}
    still = face.motion.trunk[1].weight.clone()
    assert pretrain_motion(face, data, 5, torch.Generator().manual_seed(1)) != 0.0
    assert not torch.equal(face.motion.trunk[1].weight, still)
    for name, value in face.audio.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in face.audio.parameters())
