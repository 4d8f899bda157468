"""Torso layer and training target on a drawn bust."""

import cv2
import numpy as np
import torch

from emotalking.data.files import SubjectFiles
from emotalking.data.labels import Label, Masks
from emotalking.data.writer import write_background, write_masks, write_original
from emotalking.models.compositor import torso_over_plate
from emotalking.ops.composite import to_uint8
from emotalking.preprocess.layers import NECK_EXTENSION_PX, draw_layers, torso_layer, training_target

HEIGHT = WIDTH = 256
SKIN, CLOTH, WALL = (200, 150, 130), (40, 50, 120), (90, 160, 90)


def bust() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.rectangle(labels, (40, 200), (215, 255), int(Label.TORSO), -1)
    cv2.rectangle(labels, (104, 140), (152, 205), int(Label.NECK), -1)
    cv2.ellipse(labels, (128, 105), (48, 62), 0, 0, 360, int(Label.HEAD), -1)
    cv2.ellipse(labels, (128, 135), (12, 5), 0, 0, 360, int(Label.MOUTH), -1)
    colours = np.array([WALL, SKIN, (0, 0, 0), (60, 10, 10), (180, 130, 110), CLOTH], np.uint8)
    return colours[labels], labels


def test_the_body_is_kept_and_the_head_is_not() -> None:
    image, labels = bust()
    layer = torso_layer(image, labels)
    body = cv2.erode(np.isin(labels, [Label.NECK, Label.TORSO]).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert (layer[body, 3] == 255).all()
    np.testing.assert_array_equal(layer[body, :3], image[body])
    assert (layer[:80, :, 3] == 0).all()
    far = cv2.dilate((labels != 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert (layer[far] == 0).all()


def test_the_neck_continues_behind_the_chin() -> None:
    image, labels = bust()
    layer = torso_layer(image, labels)
    chin = np.flatnonzero(labels[:, 128] == Label.HEAD).max()
    reach = int(NECK_EXTENSION_PX * HEIGHT / 512)
    column = layer[chin - reach + 4 : chin + 3, 128]
    assert (column[:, 3] == 255).all()
    # Skin-coloured all the way, darker upwards, without jumps.
    assert (column[:, 0].astype(int) > column[:, 2]).all()
    steps = np.diff(column[:, 0].astype(int))
    assert (steps >= -2).all() and (steps <= 6).all()
    assert (layer[: chin - reach - 4, 128, 3] == 0).all()


def test_the_extension_stays_inside_the_head() -> None:
    """Moved by two pixels the head still hides it, except where it touches the body; there the layer has no notch."""
    image, labels = bust()
    alpha = torso_layer(image, labels)[..., 3]
    person = cv2.erode((labels != Label.BACKGROUND).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    body = np.isin(labels, [Label.NECK, Label.TORSO]).astype(np.uint8)
    near, beside = (cv2.dilate(body, np.ones((size, size), np.uint8)).astype(bool) for size in (5, 3))
    outline = ~person & (labels == Label.HEAD)
    assert (alpha[outline & ~near] < 128).all()
    assert (alpha[outline & beside] > 128).all()


def test_no_jacket_continues_above_the_tip_of_a_collar() -> None:
    """Beside the neck, skin does."""
    _, labels = bust()
    collar = np.array([[60, 200], [103, 150], [103, 200]], np.int32)
    cv2.fillPoly(labels, [collar], int(Label.TORSO))
    image = np.array([WALL, SKIN, (0, 0, 0), (60, 10, 10), (180, 130, 110), CLOTH], np.uint8)[labels]
    layer = torso_layer(image, labels)
    hidden = (labels == Label.HEAD) & (layer[..., 3] > 128)
    hidden[:, :101] = hidden[:, 104:] = False
    assert hidden.sum() > 10
    assert (layer[hidden][:, 0] > layer[hidden][:, 2]).all()


def test_soft_border() -> None:
    image, labels = bust()
    row = torso_layer(image, labels)[225, :60, 3].astype(int)
    partial = np.count_nonzero((row > 5) & (row < 250))
    assert 1 <= partial <= 4
    assert (np.diff(row) >= 0).all()


def test_target_is_the_frame_over_the_plate() -> None:
    image, labels = bust()
    plate = np.full_like(image, 250)
    target = training_target(image, labels, plate)
    person = labels != 0
    np.testing.assert_allclose(target[person].astype(int), image[person], atol=40)
    inner = cv2.erode(person.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    np.testing.assert_array_equal(target[inner], image[inner])
    far = cv2.dilate(person.astype(np.uint8), np.ones((11, 11), np.uint8)) == 0
    np.testing.assert_array_equal(target[far], plate[far])


def test_layer_over_plate_equals_target_on_the_body() -> None:
    """What lies behind the head is the training target where no head is near."""
    image, labels = bust()
    plate = np.full_like(image, WALL)
    layer = torch.from_numpy(torso_layer(image, labels))
    composed = to_uint8(torso_over_plate(layer, torch.from_numpy(plate) / 255.0))
    target = training_target(image, labels, plate)
    away = cv2.dilate(np.isin(labels, [Label.HEAD, Label.MOUTH]).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    difference = np.abs(composed[away].astype(int) - target[away])
    assert difference.mean() < 1
    assert difference.max() < 90  # one pixel of soft border between cloth and wall


def test_a_shoulder_out_of_focus_is_as_recorded_and_has_no_dots() -> None:
    """The colours next to a soft border are mixtures, too; the layer over the plate is the frame all the same."""
    _, labels = bust()
    soft = cv2.GaussianBlur((labels == Label.TORSO).astype(np.float32), (0, 0), 1.5)[..., None]
    plate = np.full((HEIGHT, WIDTH, 3), (20, 120, 230), np.uint8)
    image = training_target((soft * CLOTH + (1 - soft) * plate).round().astype(np.uint8), labels, plate)
    layer = torso_layer(image, labels, plate)
    composed = to_uint8(torso_over_plate(torch.from_numpy(layer), torch.from_numpy(plate) / 255.0))
    difference = np.abs(composed.astype(int) - image)[190:, :80]
    assert difference.max() <= 4  # measured: 1; 15 with the colours of the nearest body
    assert np.count_nonzero(np.ptp(layer[190:, :80, 3], 1)) > 40


def test_no_body() -> None:
    image, _ = bust()
    assert (torso_layer(image, np.zeros((HEIGHT, WIDTH), np.uint8)) == 0).all()


def test_files(tmp_path) -> None:
    image, labels = bust()
    files = SubjectFiles(tmp_path)
    write_original(tmp_path, 0, image)
    write_masks(tmp_path, 0, Masks(labels, np.zeros(labels.shape, bool)))
    write_background(tmp_path, np.full_like(image, WALL))
    draw_layers(files, iter([image]), 1)
    assert files.torso(0).exists() and files.target(0).exists()


def test_a_raised_head_opens_no_gap() -> None:
    """The head moved up by the reach of the neck: background shows nowhere between chin and collar."""
    image, labels = bust()
    layer = torso_layer(image, labels)
    reach = int(NECK_EXTENSION_PX * HEIGHT / 512) - 4
    head = np.isin(labels, [Label.HEAD, Label.MOUTH])
    raised = np.roll(head, -reach, 0)
    chin = np.flatnonzero(head[:, 128]).max()
    column = raised[:, 120:137] | (layer[:, 120:137, 3] > 200)
    assert column[chin - reach - 4 : chin + 10].all()


def test_the_chins_colour_does_not_leak_into_the_neck() -> None:
    """A frame's border between chin and neck is a mixture; moved away, the chin must leave no line."""
    image, labels = bust()
    rim = cv2.dilate((labels == Label.HEAD).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    image[rim & (labels == Label.NECK)] = (0, 0, 255)
    layer = torso_layer(image, labels)
    body = layer[..., 3] == 255
    assert layer[body][:, 2].max() < 200


def test_body_continues_behind_long_hair() -> None:
    image, labels = bust()
    hair = np.zeros_like(labels, bool)
    hair[100:, 78:104] = True
    hair &= labels != Label.HEAD
    labels[hair] = Label.HAIR
    image[hair] = (20, 15, 10)
    layer = torso_layer(image, labels)
    assert (layer[215:250, 80:100, 3] > 200).all()
    assert (layer[215:250, 85:98, :3].astype(int).sum(-1) > 100).all()  # not the hair's colour
    assert (layer[100:140, 78:85, 3] == 0).all()  # none above the chin


def test_a_strip_of_neck_along_the_jaw_is_no_body_and_a_corner_is() -> None:
    image, labels = bust()
    beyond = cv2.ellipse(np.zeros_like(labels), (128, 105), (50, 64), 0, -60, 60, 1, -1) > 0
    strip = beyond & (labels == Label.BACKGROUND) & (np.arange(HEIGHT)[:, None] < 140)
    assert strip.sum() > 100
    plate = np.full_like(image, WALL)
    before = torso_layer(image, labels, plate)
    wrong = np.where(strip, np.uint8(Label.NECK), labels)
    np.testing.assert_array_equal(torso_layer(image, wrong, plate)[:130, 130:], before[:130, 130:])
    corner = labels.copy()
    cv2.fillPoly(corner, [np.array([[152, 170], [152, 150], [158, 150]])], int(Label.NECK))
    assert torso_layer(image, corner)[153:160, 153, 3].min() > 128


def test_a_narrow_strip_of_neck_has_the_colour_of_the_neck_and_no_stitches() -> None:
    image, labels = bust()
    head = labels == Label.HEAD
    labels[150:, :] = np.where(head[150:] | (labels[150:] == Label.NECK), labels[150:], np.uint8(Label.TORSO))
    strip = (cv2.dilate(head.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~head & (labels == Label.TORSO)
    labels[strip] = Label.NECK
    image[labels == Label.TORSO], image[labels == Label.NECK] = (235, 235, 245), (180, 130, 110)
    layer = torso_layer(image, labels)
    assert strip.sum() > 20
    assert np.abs(layer[strip, :3].astype(int) - (180, 130, 110)).max() < 20  # measured: 4; 95 with the nearest body
