"""Colours of one clip in those of another."""

import numpy as np

from emotalking.data.colours import ColourMatch, skin_colours, skin_points
from emotalking.data.layouts import EYE_DISTANCE
from emotalking.testing.actor.actor import Actor

ACTOR = Actor(size=64)
SHAPE, LAYOUT = ACTOR.neutral_landmarks(), ACTOR.layout
CHOSEN = skin_points(LAYOUT)


def test_light_and_white_balance_are_found_in_spite_of_a_blush() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0.35, 0.65, (len(CHOSEN), 3))
    place = (SHAPE[CHOSEN] - SHAPE.mean(0))[:, :2] / EYE_DISTANCE
    gain = np.array([1.25, 1.1, 0.9])
    target = source * (gain + 0.12 * place[:, :1]) + 0.01
    flushed = rng.random(len(CHOSEN)) < 0.1
    target[flushed, 0] += 0.2
    found = ColourMatch.fit(source, target, SHAPE, LAYOUT).coefficients
    brought = source * (found[:, 0] + place[:, :1] * found[:, 1] + place[:, 1:] * found[:, 2]) + found[:, 3]
    assert np.abs(brought - target)[~flushed].max() < 0.03 < np.abs(source - target)[~flushed].max()
    assert np.abs(found[:, 1] - 0.12).max() < 0.03


def test_the_same_clip_stays_as_it_is() -> None:
    colours = np.random.default_rng(0).uniform(0.2, 0.8, (len(CHOSEN), 3))
    found = ColourMatch.fit(colours, colours, SHAPE, LAYOUT)
    assert np.allclose(found.coefficients, [[1, 0, 0, 0]] * 3, atol=1e-9)


def test_the_match_is_applied_where_the_face_is() -> None:
    points = 100 + 400 * SHAPE[:, :2] * [1, -1]  # pixels go down, the head's y goes up
    image = np.full((200, 200, 3), 100, np.uint8)
    match = ColourMatch(np.array([[1.0, 0.5, 0.0, 0.0], [1.0, 0.0, 0.5, 0.0], [1.5, 0.0, 0.0, 0.1]]))
    out = match.apply(image, points, SHAPE).astype(float)
    x, y = (int(v) for v in points.mean(0))
    step = int(400 * EYE_DISTANCE)
    assert np.abs(out[y, x] - [100, 100, 175.5]).max() < 3
    assert abs(out[y, x + step, 0] - 150) < 4 and abs(out[y - step, x, 1] - 150) < 4
    assert match.apply(np.full_like(image, 250), points, SHAPE).max() == 255


def test_skin_is_read_at_its_points() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 200
    points = np.tile([16.0, 32.0], (len(SHAPE), 1))
    points[CHOSEN[0]] = (50.0, 10.0)
    read = skin_colours([image, image], np.stack([points, points]), LAYOUT)
    assert np.allclose(read[0], 200 / 255) and np.allclose(read[1:], 0)
