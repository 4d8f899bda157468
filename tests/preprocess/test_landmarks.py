"""Landmark clean-up on made-up tracks, the layout's laws, and the detector on real frames."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.video import probe, read_frames
from emotalking.ops.box import Box
from emotalking.preprocess import landmarks
from emotalking.preprocess.detectors import FaceFinder
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.tracking import FlowTracker, check_faces, find_framing, track_landmarks
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.state import ActorState


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
    with pytest.raises(InputError, match=r"a\.mp4 shows no face at 2\.0-2\.4 s, 4\.0-6\.0 s; cut"):
        check_faces(detected, Path("a.mp4"))


def test_flow_of_a_shifted_picture() -> None:
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
    with pytest.raises(InputError, match=r"wall\.mp4: no face was found in 4 frames"):
        find_framing(Path("wall.mp4"), (128, 128), faces)


def test_a_second_face_in_few_frames_is_no_reason_to_refuse() -> None:
    """As in the footage check, which leaves them out of the part or warns of them."""
    speaker, other = Box(40, 50, 80, 90), Box(40, 120, 75, 155)
    faces = [(float(i), [speaker, other] if i == 2 else [speaker]) for i in range(8)]
    framing = find_framing(Path("a.mp4"), (120, 200), faces)
    assert framing.side == 100 and framing.left == 20
    with pytest.raises(InputError, match=r"a\.mp4 shows two faces at 0\.0 s"):
        find_framing(Path("a.mp4"), (120, 200), [(time, [speaker, other]) for time, _ in faces])


SEEN_BY_MEDIAPIPE = {
    1: (125.78, 137.68, -21.21), 10: (124.52, 68.32, -9.94), 152: (121.97, 182.62, 6.67), 234: (69.98, 116.34, 36.77),
    61: (105.70, 151.56, 1.25), 13: (123.42, 153.09, -4.99), 14: (123.38, 153.02, -5.62), 159: (98.83, 103.33, -3.92),
    145: (98.93, 110.46, -2.58), 386: (144.98, 102.62, 1.82), 105: (93.21, 86.29, -8.75), 334: (152.65, 86.78, -2.31),
    468: (99.73, 107.80, -1.64), 473: (144.49, 107.09, 3.88),
}  # fmt: skip
"""Some points of :func:`turned_actor` by mediapipe 0.10.21 (``solutions.face_mesh`` with irises), as fourth frame."""


def turned_actor() -> np.ndarray:
    return Actor(size=224).render(ActorState(viewmat=head_viewmat(0.15, -0.1))).image


def test_mesh_agrees_with_mediapipe() -> None:
    """Which lays its crop a little beside the pixel centres: 0.07 pixels here."""
    provider, image = open_provider(), turned_actor()
    for _ in range(4):
        found = provider.detect(image)
    assert found is not None
    np.testing.assert_allclose(found[list(SEEN_BY_MEDIAPIPE)], list(SEEN_BY_MEDIAPIPE.values()), atol=0.15)


def test_mesh_has_no_preferred_side() -> None:
    """Points of the middle of a face and of its mirror image meet, on the whole."""
    image = cv2.resize(turned_actor(), (448, 448), interpolation=cv2.INTER_CUBIC)
    middle = [10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 0, 13, 14, 17, 152]
    found, mirrored = (open_provider().detect(one) for one in (image, np.ascontiguousarray(image[:, ::-1])))
    assert found is not None and mirrored is not None
    assert abs(float((found[middle, 0] + mirrored[middle, 0] - 448).mean())) < 1.5


def test_mesh_finds_a_face_again_that_jumps_and_loses_one_that_goes() -> None:
    image = turned_actor()
    wall, moved = np.full_like(image, 90), np.roll(image, 60, 1)
    provider = open_provider()
    first = provider.detect(image)
    assert provider.detect(wall) is None
    again = provider.detect(moved)
    assert first is not None and again is not None
    assert abs(float(again[1, 0] - first[1, 0]) - 60) < 3


def moving_actor() -> list[np.ndarray]:
    """The face stands, jumps, is away for two frames, and comes back elsewhere."""
    image = turned_actor()
    wall = np.full_like(image, 90)
    return [image] * 5 + [np.roll(image, 8, 1)] * 6 + [wall] * 2 + [np.roll(image, 40, 1)] * 3


def test_frames_read_together_agree_with_frames_one_by_one() -> None:
    images, provider, other = moving_actor(), open_provider(), open_provider()
    one_by_one, together = [provider.detect(image) for image in images], other.detect_many(images)
    assert [found is None for found in together] == [found is None for found in one_by_one]
    for one, same in zip(one_by_one, together, strict=True):
        if one is not None and same is not None:
            # The square may lag by a fortieth of its side: measured 0.13 px on average.
            assert np.linalg.norm(one[:, :2] - same[:, :2], axis=1).mean() < 0.5


@pytest.mark.gpu
def test_landmarks_on_a_gpu_agree_with_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "_BATCH", {"cpu": 8, "cuda": 8})  # the same squares
    images, provider, other = moving_actor(), open_provider(), open_provider("cuda")
    for one, same in zip(provider.detect_many(images), other.detect_many(images), strict=True):
        assert (one is None) == (same is None)
        if one is not None and same is not None:
            np.testing.assert_allclose(same, one, atol=0.2)  # with numbers of ten bits, as a GPU takes: .03


@pytest.mark.realdata
def test_detector_on_a_real_clip(real_data: Path) -> None:
    clip = real_data / "clips" / "suit_256_60s.mp4"
    provider = open_provider()
    track = track_landmarks(islice(read_frames(clip), 25), provider)
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
    with pytest.raises(InputError, match=r"pair\.mp4 shows two faces at 1\.5 s"):
        find_framing(Path("pair.mp4"), (256, 512), [(1.5, faces)])
