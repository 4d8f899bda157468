"""What the points of a landmark set mean."""

import numpy as np
import torch

from emotalking.data.layouts import EYE_DISTANCE, IBUG68
from emotalking.emotion.mesh_warp.template import build_template
from emotalking.preprocess.pose.rigid import head_frame


def test_eye_centres_are_the_middles_of_the_lids() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (2, 68, 3))
    lower = {37: 41, 38: 40, 44: 46, 43: 47}
    across, up = np.array([0.4, 0.15, 0.0]), np.array([0.0, 0.2, 0.1])
    for corner, step, middle in ((36, 1, [-1.0, 0.5, 2.0]), (45, -1, [1.0, 0.4, 1.5])):
        for index, at in zip(range(corner, corner + 4 * step, step), (-3, -1, 1, 3), strict=True):  # the upper lid
            points[1, index] = middle + across * at + up * (abs(at) == 1)
            points[1, lower.get(index, index)] = middle + across * at - up * (abs(at) == 1)
    right, left = IBUG68.eye_centres(points)
    assert right.shape == left.shape == (2, 3)
    np.testing.assert_allclose([right[1], left[1]], [[-1.0, 0.5, 2.0], [1.0, 0.4, 1.5]])
    for array, tensor in zip((right, left), IBUG68.eye_centres(torch.from_numpy(points)), strict=True):
        np.testing.assert_allclose(tensor.numpy(), array)


def test_all_rooms_mean_the_same_eye_distance() -> None:
    shape = np.random.default_rng(1).uniform(-1, 1, (68, 3))
    scale, rotation, offset = head_frame(shape, IBUG68)
    world = scale * shape @ rotation.T + offset
    right, left = IBUG68.eye_centres(world)
    np.testing.assert_allclose(left - right, [EYE_DISTANCE, 0, 0], atol=1e-9)
    template = build_template(world, IBUG68)
    assert abs(template.unit_length - EYE_DISTANCE) < 1e-9
    np.testing.assert_allclose(template.centre, (right + left) / 2, atol=1e-6)
