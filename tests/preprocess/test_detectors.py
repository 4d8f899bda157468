"""Detectors on drawn hands and the actor's face; grouping of overlapping predictions; regions of images."""

import cv2
import numpy as np
import pytest

from emotalking.ops.box import Box
from emotalking.preprocess.detectors import FACES, FaceFinder, HandFinder, _merged, hand_before_face
from emotalking.preprocess.regions import Region, level_angle
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.state import ActorState

SKIN, SHADE = (224, 172, 140), (180, 125, 100)


def draw_hand(angle: float, centre: tuple[float, float] = (128.0, 140.0), scale: float = 0.7) -> np.ndarray:
    """A raised hand, fingers upwards at angle 0, on a grey wall of 256 x 256 pixels."""
    image = np.full((256, 256, 3), (90, 110, 130), np.uint8)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale

    def place(x: float, y: float) -> tuple[int, int]:
        return int(centre[0] + cos * x - sin * y), int(centre[1] + sin * x + cos * y)

    def line(a: tuple[int, int], b: tuple[int, int], colour: tuple[int, int, int], width: int) -> None:
        cv2.line(image, place(*a), place(*b), colour, max(1, int(width * scale)))

    fingers = [((-30, -15), (-42, -70)), ((-11, -20), (-15, -88)), ((10, -20), (13, -86)), ((29, -12), (38, -66))]
    palm = ((-40, -18), (38, -18), (40, 10), (26, 55), (-26, 55), (-42, 15))
    line((0, 40), (0, 120), SKIN, 46)
    cv2.fillConvexPoly(image, np.array([place(*corner) for corner in palm]), SKIN)
    for a, b in [*fingers, ((-32, 25), (-68, -8))]:
        line(a, b, SHADE, 21)
        line(a, b, SKIN, 17)
    for a, b in (((-30, 15), (25, -2)), ((-25, 0), (30, -10)), ((-20, 45), (-28, 5))):
        line(a, b, SHADE, 1)
    return cv2.GaussianBlur(image, (0, 0), 1)


@pytest.mark.parametrize("angle", [0.0, 1.2, -0.8, 3.1])
def test_a_hand_is_found_at_any_angle(angle: float) -> None:
    (hand,) = HandFinder().find(draw_hand(angle))
    scale, turn = 0.7, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tips = np.array([[-42, -70], [-15, -88], [13, -86], [38, -66]]) @ turn.T * scale + [128, 140]
    found = hand[[8, 12, 16, 20]]
    order = found if np.linalg.norm(found - tips) < np.linalg.norm(found[::-1] - tips) else found[::-1]
    assert np.linalg.norm(order - tips, axis=1).max() < 14
    assert np.linalg.norm(hand[0] - (turn @ [0, 55] * scale + [128, 140])) < 16  # the wrist


def test_no_hand_on_a_wall_and_none_in_a_face() -> None:
    assert HandFinder().find(np.full((200, 320, 3), (90, 110, 130), np.uint8)) == []
    assert HandFinder().find(Actor(size=256).render(ActorState(viewmat=head_viewmat())).image) == []


def test_a_hand_is_before_the_face_that_it_touches() -> None:
    (hand,) = HandFinder().find(draw_hand(0.0))
    around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    assert hand_before_face(hand, around * 20 + hand[9])
    assert not hand_before_face(hand, around * 20 + hand[9] + [0, 250])


@pytest.mark.parametrize("frame", [(256, 256), (256, 600), (500, 256)])
def test_the_actors_face_is_found_in_frames_of_any_shape(frame: tuple[int, int]) -> None:
    height, width = frame
    actor = Actor(size=256).render(ActorState(viewmat=head_viewmat()))
    image = np.full((height, width, 3), 128, np.uint8)
    top, left = (height - 256) // 2, (width - 256) // 2
    image[top : top + 256, left : left + 256] = actor.image
    boxes = FaceFinder().find(image)
    assert len(boxes) == 1
    truth = Box.around(actor.landmarks[:, :2]).shifted(left, top)
    (x, y), (true_x, true_y) = boxes[0].centre, truth.centre
    assert abs(x - true_x) < 0.1 * truth.width and abs(y - true_y) < 0.15 * truth.height
    assert 0.6 < boxes[0].height / truth.height < 1.1


def test_a_face_that_fills_the_image_is_found() -> None:
    """The detector of far faces overlooks some of them."""
    actor = Actor(size=256).render(ActorState(viewmat=head_viewmat()))
    truth = Box.around(actor.landmarks[:, :2])
    near = np.ascontiguousarray(actor.image[Box(*map(int, truth.grown(6))).index])
    assert len(FaceFinder().find(near)) == 1


def test_key_points_of_a_face_are_its_eyes() -> None:
    actor = Actor(size=256)
    frame = actor.render(ActorState(viewmat=head_viewmat(0.1, 0.05)))
    found = FACES.find(frame.image, 0.5)[0]
    for point, eye in zip(found.points[:2], actor.layout.eye_centres(frame.landmarks[:, :2]), strict=True):
        assert np.linalg.norm(point - eye) < 8


def test_overlapping_predictions_are_averaged_by_score() -> None:
    rows = np.array([[[0.5, 0.5], [0.2, 0.2]], [[0.52, 0.5], [0.2, 0.2]], [[0.1, 0.1], [0.2, 0.2]]])
    found = _merged(rows, np.array([0.9, 0.6, 0.7]))
    assert [score for _, score in found] == [0.9, 0.7]
    np.testing.assert_allclose(found[0][0][0], [(0.5 * 0.9 + 0.52 * 0.6) / 1.5, 0.5])
    np.testing.assert_allclose(found[1][0][0], [0.1, 0.1])
    assert _merged(rows[:0], np.zeros(0)) == []


def test_a_predictions_own_box_counts_even_without_area() -> None:
    rows = np.zeros((2, 2, 2))
    assert len(_merged(rows, np.array([0.9, 0.8]))) == 2


@pytest.mark.parametrize("pixels", [40, 64, 200])
def test_a_crop_shows_what_its_matrix_says(pixels: int) -> None:
    """A ramp of x and y, sampled or averaged, at the crop's pixel centres."""
    columns, rows = np.meshgrid(np.arange(240.0), np.arange(160.0))
    image = np.stack([columns, rows, 0 * rows], -1).round().astype(np.uint8)
    region = Region(120.0, 80.0, 96.0, 0.3)
    crop = region.crop(image, pixels, cv2.BORDER_REPLICATE)[0].numpy() * 255
    inside = (np.stack(np.meshgrid(np.arange(pixels), np.arange(pixels)), -1) + 0.5) / pixels
    expected = region.to_image(inside.reshape(-1, 2)).reshape(pixels, pixels, 2) - 0.5
    assert np.abs(crop[..., :2] - expected).max() < 1.5
    assert np.abs((crop[..., :2] - expected).mean((0, 1))).max() < 0.05


def test_a_smaller_crop_averages_the_cameras_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    region = Region.whole(noise)
    assert region.crop(noise, 400, cv2.BORDER_CONSTANT).std() > 0.28
    assert region.crop(noise, 100, cv2.BORDER_CONSTANT).std() < 0.08


def test_a_level_region_follows_the_line() -> None:
    assert level_angle(np.array([3.0, 4.0]), np.array([9.0, 4.0])) == 0
    region = Region(0.0, 0.0, 2.0, level_angle(np.array([0.0, 0.0]), np.array([1.0, 1.0])))
    first, second = region.to_image(np.array([[0.0, 0.5], [1.0, 0.5]]))
    np.testing.assert_allclose(second - first, [np.sqrt(2), np.sqrt(2)])
