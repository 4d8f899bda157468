"""Landmark clean-up on made-up tracks, the layout's laws, and the detector on real frames."""

from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import UserError
from emotalking.io.video import probe, read_frames
from emotalking.ops.box import Box
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.landmarks import FaceFinder, MediaPipeTask, open_provider
from emotalking.preprocess.tracking import FlowTracker, check_faces, find_framing, track_landmarks


def test_layout_is_consistent() -> None:
    assert len(LAYOUT.ibug68) == len(set(LAYOUT.ibug68)) == 68
    assert len(LAYOUT.rigid) == len(set(LAYOUT.rigid))
    for group in (LAYOUT.oval, LAYOUT.lips_outer, LAYOUT.lips_inner, LAYOUT.rigid, LAYOUT.nose):
        assert 0 <= min(group) and max(group) < 468
    for upper, lower in (
        (LAYOUT.right_upper_lid, LAYOUT.right_lower_lid),
        (LAYOUT.left_upper_lid, LAYOUT.left_lower_lid),
    ):
        assert (upper[0], upper[-1]) == (lower[0], lower[-1])
    lips = {*LAYOUT.lips_outer, *LAYOUT.lips_inner}
    assert set(LAYOUT.ibug68[48:60]) <= set(LAYOUT.lips_outer)
    assert set(LAYOUT.ibug68[60:]) <= set(LAYOUT.lips_inner)
    assert not lips & set(LAYOUT.rigid)
    assert set(LAYOUT.ibug68[:17]) <= set(LAYOUT.oval)


def test_long_gap_is_refused_with_its_times() -> None:
    detected = np.ones(250, bool)
    detected[50:60] = False
    check_faces(detected, Path("a.mp4"))
    detected[100:150] = False
    with pytest.raises(UserError, match=r"a\.mp4 shows no face at 2\.0-2\.4 s, 4\.0-6\.0 s; cut"):
        check_faces(detected, Path("a.mp4"))


def test_flow_of_a_shifted_picture() -> None:
    import cv2

    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (160, 160, 3), dtype=np.uint8), (0, 0), 2.0)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    points = np.array([[60.0, 60.0], [90.0, 70.0], [np.nan, np.nan]])
    tracker = FlowTracker()
    for i in range(3):
        shift = np.array([[1, 0, 0.6 * i], [0, 1, -0.3 * i]])
        tracker.advance(cv2.warpAffine(texture, shift, (160, 160)), points, 160.0)
    flow = tracker.result(3)
    assert flow.valid.tolist() == [[True, True, False]] * 2
    np.testing.assert_allclose(flow.displacement[:, :2], np.tile([0.6, -0.3], (2, 2, 1)), atol=0.08)


def test_no_face_at_all() -> None:
    finder = FaceFinder()
    faces = [(float(i), finder.find(np.full((128, 128, 3), 90, np.uint8))) for i in range(4)]
    with pytest.raises(UserError, match=r"wall\.mp4: no face was found in 4 frames"):
        find_framing(Path("wall.mp4"), (128, 128), faces)


def test_a_second_face_in_few_frames_is_no_reason_to_refuse() -> None:
    """As in the footage check, which leaves them out of the part or warns of them."""
    speaker, other = Box(40, 50, 80, 90), Box(40, 120, 75, 155)
    faces = [(float(i), [speaker, other] if i == 2 else [speaker]) for i in range(8)]
    framing = find_framing(Path("a.mp4"), (120, 200), faces)
    assert framing.side == 100 and framing.left == 20
    with pytest.raises(UserError, match=r"a\.mp4 shows two faces at 0\.0 s"):
        find_framing(Path("a.mp4"), (120, 200), [(time, [speaker, other]) for time, _ in faces])


def test_missing_task_model() -> None:
    with pytest.raises(UserError, match="there is no such file"):
        MediaPipeTask("nowhere.task")


@pytest.mark.realdata
def test_detector_on_a_real_clip(real_data: Path) -> None:
    clip = real_data / "clips" / "suit_256_60s.mp4"
    provider = open_provider()
    track = track_landmarks(read_frames(clip, limit_seconds=1.0), provider)
    provider.close()
    assert track.points.shape == (25, 478, 3)
    assert track.detected.all()
    first = track.points[0]
    assert first[LAYOUT.right_iris[0], 0] < first[LAYOUT.left_iris[0], 0]
    right_eye = first[list(LAYOUT.right_upper_lid + LAYOUT.right_lower_lid), :2].mean(0)
    assert np.linalg.norm(first[LAYOUT.right_iris[0], :2] - right_eye) < 8
    assert first[LAYOUT.oval[0], 1] < right_eye[1] < first[LAYOUT.lips_outer[0], 1] < first[LAYOUT.ibug68[8], 1]
    assert track.flow.valid.mean() > 0.8


@pytest.mark.realdata
def test_task_model_agrees_with_the_embedded_mesh(real_data: Path) -> None:
    image = next(iter(read_frames(real_data / "clips" / "reporter_512_71s.mp4")))
    task = MediaPipeTask(real_data / "models" / "mediapipe" / "face_landmarker_v2_with_blendshapes.task")
    mesh = open_provider()
    a, b = task.detect(image), mesh.detect(image)
    task.close()
    mesh.close()
    assert a is not None and b is not None
    assert np.median(np.linalg.norm(a[:, :2] - b[:, :2], axis=-1)) < 4


@pytest.mark.realdata
def test_wide_clip_is_cropped_around_the_head(real_data: Path) -> None:
    clip = next((real_data / "clips" / "grid_s1").glob("*.mpg"))
    info, finder = probe(clip), FaceFinder()
    faces = [(float(i), finder.find(image)) for i, image in enumerate(read_frames(clip, 2))]
    framing = find_framing(clip, (info.height, info.width), faces)
    assert framing.side == framing.size == 288
    assert 0 <= framing.left <= 72 and framing.top == 0


@pytest.mark.realdata
def test_two_faces_name_the_time(real_data: Path) -> None:
    clip = real_data / "clips" / "suit_256_60s.mp4"
    image = next(iter(read_frames(clip)))
    faces = FaceFinder().find(np.hstack([image, image]))
    with pytest.raises(UserError, match=r"pair\.mp4 shows two faces at 1\.5 s"):
        find_framing(Path("pair.mp4"), (256, 512), [(1.5, faces)])
