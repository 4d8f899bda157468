"""What the head hides of the body, from frames of a drawn bust whose head moves over a textured neck and collar."""

import cv2
import numpy as np
import pytest

from emotalking.data.labels import Label
from emotalking.preprocess.hidden_body import HiddenBody, _composed, _join
from emotalking.preprocess.layers import torso_layer

SIZE = 256
WALL = (90, 160, 90)


def frame(head: int, body: tuple[int, int] = (0, 0), light: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, labels, and the image without the head: ``head`` and ``body`` are shifts in pixels."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    cv2.rectangle(labels, (30, 190), (225, 290), int(Label.TORSO), -1)
    cv2.rectangle(labels, (100, 120), (156, 195), int(Label.NECK), -1)
    noise = cv2.resize(np.random.default_rng(0).integers(0, 90, (64, 64, 3)).astype(np.uint8), (SIZE, SIZE + 40))[:SIZE]
    colours = np.array([WALL, (0, 0, 0), (0, 0, 0), (0, 0, 0), (150, 100, 80), (40, 50, 120)], np.uint8)
    image = np.where((labels > 0)[..., None], colours[labels] + noise, colours[labels])
    matrix = np.array([[1.0, 0, body[0]], [0, 1, body[1]]])
    image = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderValue=WALL)
    labels = cv2.warpAffine(labels, matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST)
    behind = np.clip(image.astype(int) + light, 0, 255).astype(np.uint8)
    image = behind.copy()
    centre = (128 + head, 105)
    cv2.ellipse(image, centre, (44, 58), 0, 0, 360, (200, 150, 130), -1)
    cv2.ellipse(labels, centre, (44, 58), 0, 0, 360, int(Label.HEAD), -1)
    return image, labels, behind


HEADS = np.linspace(-34, 34, 12).round().astype(int).tolist()


@pytest.fixture(scope="module")
def body() -> HiddenBody:
    return HiddenBody(lambda i: frame(HEADS[i], (HEADS[i] // 8, -HEADS[i] // 12))[:2], range(len(HEADS)))


def error(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - truth)[where].mean())


def test_the_neck_behind_a_head_is_that_of_frames_which_show_it(body: HiddenBody) -> None:
    image, labels, truth = frame(30, (5, 3), light=12)
    _, bare, _ = frame(300, (5, 3))
    found, classes = body.behind(image, labels)
    hidden = (labels == Label.HEAD) & (bare == Label.NECK) & (classes == Label.NECK)
    assert hidden.sum() > 0.5 * ((labels == Label.HEAD) & (bare == Label.NECK))[140:].sum()
    layer = torso_layer(image, labels)
    assert error(found, truth, hidden) < 8 < 0.4 * error(layer[..., :3], truth, hidden)  # measured: 5 and 40
    outside = cv2.dilate((labels == Label.HEAD).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    np.testing.assert_array_equal(found[outside], image[outside])
    np.testing.assert_array_equal(classes[outside], labels[outside])


def test_the_colours_of_other_frames_begin_with_those_of_the_frames_own_body() -> None:
    own = np.zeros((20, 40), bool)
    own[:, :20] = True
    moved, image = np.full((20, 40, 3), 100, np.uint8), np.full((20, 40, 3), 130, np.uint8)
    _join(moved, image, own, ~own, 1.0)
    steps = np.diff(moved[10, 20:, 0].astype(int))
    assert moved[10, 20, 0] > 115 and (moved[10, 25:] == 100).all() and (steps <= 0).all()


def test_the_edge_of_what_is_known_is_mixed_with_no_black() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = Label.NECK
    image = np.where((labels > 0)[..., None], np.uint8(150), np.zeros((40, 40, 3), np.uint8))
    colour, _ = _composed(np.stack([image] * 4), np.stack([labels] * 4))
    assert (colour == 150).all()


def test_where_frames_show_background_the_layer_has_no_body(body: HiddenBody) -> None:
    image, labels, _ = frame(30)
    _, classes = body.behind(image, labels)
    beside = (slice(140, 150), slice(166, 180))
    assert (labels[beside] == Label.HEAD).any() and (classes[beside][labels[beside] == Label.HEAD] == 0).all()
    plate = np.broadcast_to(np.uint8(WALL), image.shape)
    assert (torso_layer(image, labels, np.ascontiguousarray(plate), body)[beside][..., 3] < 10).all()


def test_a_frame_of_another_body_stays_as_it_is(body: HiddenBody) -> None:
    image, labels, _ = frame(30)
    other = np.random.default_rng(3).integers(0, 255, image.shape).astype(np.uint8)
    for given in (other, np.full_like(image, 128)):
        found, classes = body.behind(given, labels)
        np.testing.assert_array_equal(found, given)
        np.testing.assert_array_equal(classes, labels)


def test_clips_without_a_textured_body_or_without_frames_have_nothing_to_add() -> None:
    image, labels, _ = frame(0)
    plain = np.where((labels > Label.HEAD)[..., None], np.uint8(100), image)
    for samples in ([], [(plain, labels)] * 5, [(image, labels)] * 2):
        found, classes = HiddenBody(samples.__getitem__, range(len(samples))).behind(image, labels)
        assert np.array_equal(found, image) and np.array_equal(classes, labels)


def test_the_plate_tells_how_much_of_its_border_the_body_covers() -> None:
    image, labels, _ = frame(0)
    plate = np.ascontiguousarray(np.broadcast_to(np.uint8(WALL), image.shape))
    image[190, 40:80] = 0.25 * image[190, 40:80] + 0.75 * plate[190, 40:80]
    alpha = torso_layer(image, labels, plate)[190, 44:76, 3] / 255
    assert np.abs(alpha - 0.25).mean() < 0.12 < np.abs(torso_layer(image, labels)[190, 44:76, 3] / 255 - 0.25).mean()
