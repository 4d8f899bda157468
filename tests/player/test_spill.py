"""The recorded background's colour at the outline goes where another background is shown."""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

from emotalking.models.compositor import torso_over_plate
from emotalking.ops.composite import to_uint8
from emotalking.player.finish import Behind
from emotalking.player.player import Player
from emotalking.player.spill import spilling_colour, without_spill

SIZE = 512
WALL = np.array([20, 60, 220], np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])
CPU = torch.device("cpu")


def _scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A person in two colours, as they are and with the wall's chroma in the outermost pixels; the distance inside."""
    y, x = np.mgrid[:SIZE, :SIZE]
    alpha = gaussian_filter(((y - SIZE) ** 2 + (x - SIZE / 2) ** 2 < 220**2).astype(float), 0.7)
    true = np.where((y < 400)[..., None], (120, 80, 60), (200, 190, 180)).astype(float)
    inside = np.asarray(distance_transform_edt(alpha > 0.5))
    share = 0.5 * np.clip(1 - inside / 4, 0, 1)[..., None]
    seen = true + share * ((WALL - WALL @ LUMA) - (true - (true @ LUMA)[..., None]))
    made = [np.dstack([colours.clip(0, 255), 255 * alpha]).round().astype(np.uint8) for colours in (true, seen)]
    true, seen = made
    return true, seen, inside


def test_the_rim_goes_and_all_else_stays() -> None:
    true, seen, inside = _scene()
    spilt = spilling_colour(np.broadcast_to(WALL, (SIZE, SIZE, 3)).copy(), CPU)
    assert spilt is not None
    made = without_spill(torch.from_numpy(seen)[None], spilt)[0].numpy()
    assert np.array_equal(made[..., 3], seen[..., 3])
    rim, within = (inside > 0) & (inside < 4), inside > 20
    before, after = (np.abs(image[rim, :3].astype(int) - true[rim, :3]).mean() for image in (seen, made))
    assert after < 0.3 * before
    assert np.array_equal(made[within], seen[within])
    bright = np.abs(made[..., :3] @ LUMA - seen[..., :3] @ LUMA)[rim]
    assert bright.mean() < 2
    clean = without_spill(torch.from_numpy(true)[None], spilt)[0].numpy()
    assert np.abs(clean.astype(int) - true)[true[..., 3] > 0].mean() < 0.3


def test_a_grey_wall_leaves_nothing_to_do(avatar) -> None:
    assert spilling_colour(np.full((40, 48, 3), 140, np.uint8), CPU) is None
    assert Behind.of(None, avatar).spilt is None
    assert Behind.of("white", avatar).spilt is not None  # this avatar's wall is blue


def test_frames_over_a_colour_are_the_transparent_ones_over_it(avatar, talk) -> None:
    bare = np.stack(list(Player(avatar).frames(talk, background="transparent")))
    green = np.stack(list(Player(avatar).frames(talk, background="#00ff00")))
    plates = torch.tensor([0.0, 1.0, 0.0]).expand(*green.shape)
    assert np.array_equal(to_uint8(torso_over_plate(torch.from_numpy(bare), plates)), green)
