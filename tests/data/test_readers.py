"""Cameras of TalkingGaussian's files."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from emotalking.data.readers import opengl_to_viewmats
from emotalking.ops import geometry


def test_opengl_door_by_hand() -> None:
    """A camera at z = 0.7 looks at the head: the origin lies 0.7 in front of it, and world up is image up."""
    camera_to_world = np.eye(4)[None]
    camera_to_world[0, 2, 3] = 0.7
    viewmat = torch.from_numpy(opengl_to_viewmats(camera_to_world))[0]
    K = torch.tensor([[1000.0, 0, 256], [0, 1000, 256], [0, 0, 1]])
    pixels = geometry.project(torch.tensor([[0.0, 0, 0], [0.07, 0, 0], [0, 0.07, 0]]), viewmat, K)
    expected = torch.tensor([[256.0, 256], [356, 256], [256, 156]])
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(geometry.camera_centre(viewmat), torch.tensor([0, 0, 0.7]))


def test_viewmats_invert_opengls_cameras() -> None:
    draw = np.random.default_rng(0)
    camera_to_world = np.tile(np.eye(4), (6, 1, 1))
    camera_to_world[:, :3, :3] = Rotation.random(6, random_state=0).as_matrix()
    camera_to_world[:, :3, 3] = draw.normal(size=(6, 3))
    viewmats = opengl_to_viewmats(camera_to_world)
    centres = geometry.camera_centre(torch.from_numpy(viewmats)).numpy()
    np.testing.assert_allclose(centres, camera_to_world[:, :3, 3], atol=1e-6)
    back = viewmats @ camera_to_world @ np.diag([1.0, -1, -1, 1])
    np.testing.assert_allclose(back, np.tile(np.eye(4), (6, 1, 1)), atol=1e-6)
