"""Skin followed from keyframes, in images whose motion is known and on paths with a detector's errors."""

import cv2
import numpy as np

from emotalking.preprocess.pose.keyframes import LINKS, choose_keyframes, follow_keyframes


def test_keyframes_differ_and_no_frame_is_compared_with_itself() -> None:
    path = np.random.default_rng(0).normal(size=(60, 5, 2))
    usable = np.arange(60) % 7 > 0
    keys, links = choose_keyframes(path, usable, 12)
    assert len(set(keys)) == 12 and usable[keys].all()
    assert links.shape == (60, LINKS) and np.isin(links, keys).all()
    assert (links != np.arange(60)[:, None]).all()
    flat = path.reshape(60, -1)
    others = [key for key in keys if key != 30]
    assert links[30, 0] == min(others, key=lambda key: np.linalg.norm(flat[key] - flat[30]))


def test_points_are_followed_to_a_tenth_of_a_pixel() -> None:
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (200, 200)), (0, 0), 2.0)
    texture = np.clip((texture - texture.mean()) * 4 + 128, 0, 255)
    shifts = rng.uniform(-6, 6, (20, 2))
    images = []
    for shift in shifts:
        moved = cv2.warpAffine(texture, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), (200, 200))
        images.append(np.repeat(np.uint8(moved + 0.5)[..., None], 3, -1))
    images[5][:100] = 0  # something covers the upper points
    points = np.array([[70.0, 70.0], [130.0, 70.0], [100.0, 130.0], [80.0, 125.0]])
    path = points + shifts[:, None] + rng.normal(0, 0.7, (20, 1, 2))  # the path so far is off
    usable = np.arange(20) != 9
    _, links = choose_keyframes(path, usable, 8)
    tracks = follow_keyframes(iter(images), images.__getitem__, path, usable, links, face_px=300.0)
    assert np.isnan(tracks.moves[9]).all()
    assert 5 not in tracks.keys[[0, 1]] or np.isfinite(tracks.moves[5, :, 2:]).all()
    assert np.isnan(tracks.moves[5, :, :2]).all()
    true = np.broadcast_to((shifts[:, None] - shifts[tracks.keys])[:, :, None], tracks.moves.shape)
    found = np.isfinite(tracks.moves)
    assert found[usable & (np.arange(20) != 5)].mean() > 0.7
    assert np.abs(tracks.moves - true)[found].max() < 0.1
