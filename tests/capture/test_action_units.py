"""Action units of a drawn face whose lids, brows and lips are moved by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.capture.action_units import ALL_AUS, action_units, head_points, lid_opening, read_openface
from emotalking.capture.pose import project
from emotalking.errors import UserError
from emotalking.subject import write
from emotalking.subject.layouts import IBUG68

FRAMES = 400


def _face() -> np.ndarray:
    """A resting face in the head frame, 68 points, eyes open by a quarter of their width."""
    face = np.zeros((68, 3))
    face[:17, :2] = np.stack([-0.07 * np.cos(np.linspace(0, np.pi, 17)), -0.11 * np.sin(np.linspace(0, np.pi, 17))], -1)
    for first, x in ((36, -0.0315), (42, 0.0315)):
        face[first : first + 6, 0] = x + 0.014 * np.array([-1, -0.4, 0.4, 1, 0.4, -0.4])
        face[first : first + 6, 1] = 0.0035 * np.array([0, 1, 1, 0, -1, -1])
    face[17:22, :2] = np.stack([np.linspace(-0.05, -0.012, 5), np.full(5, 0.022)], -1)
    face[22:27, :2] = np.stack([np.linspace(0.012, 0.05, 5), np.full(5, 0.022)], -1)
    angle = np.linspace(np.pi, -np.pi, 13)[:12]
    face[48:60, :2] = np.stack([0.025 * np.cos(angle), -0.07 + 0.010 * np.sin(angle)], -1)
    angle = np.linspace(np.pi, -np.pi, 9)[:8]
    face[60:68, :2] = np.stack([0.020 * np.cos(angle), -0.07 + 0.0005 * np.sin(angle)], -1)
    face[27:36, 1] = np.linspace(0.0, -0.04, 9)
    face[:, 2] = 0.06
    return face


@pytest.fixture
def clip() -> np.ndarray:
    """A still clip with a little noise."""
    noise = np.random.default_rng(0).normal(0, 1e-4, (FRAMES, 68, 3))
    return np.tile(_face(), (FRAMES, 1, 1)) + noise


def _blink(clip: np.ndarray, at: int, depth: float = 1.0) -> None:
    for offset, share in zip(range(-2, 4), (0.3, 0.8, 1.0, 0.8, 0.5, 0.2), strict=True):
        lids = [37, 38, 43, 44]
        clip[at + offset, lids, 1] += depth * share * -0.0068


def test_a_still_face_shows_nothing(clip: np.ndarray) -> None:
    values = action_units(clip, IBUG68)
    assert tuple(values) == ALL_AUS
    for name, value in values.items():
        assert value.shape == (FRAMES,)
        assert value.max() < 0.8, name


def test_blinks_are_found_at_their_frames(clip: np.ndarray) -> None:
    for at in (60, 140, 300):
        _blink(clip, at)
    blink = action_units(clip, IBUG68)["AU45"]
    peaks = [i for i in range(1, FRAMES - 1) if blink[i] > 2 and blink[i] == blink[i - 1 : i + 2].max()]
    assert peaks == [60, 140, 300]
    assert blink[[60, 140, 300]].min() > 4
    quiet = np.ones(FRAMES, bool)
    for at in (60, 140, 300):
        quiet[at - 4 : at + 6] = False
    assert blink[quiet].max() < 0.5


def test_looking_down_for_long_is_no_blink(clip: np.ndarray) -> None:
    _blink(clip, 60)
    clip[200:280, [37, 38, 43, 44], 1] -= 0.0025
    blink = action_units(clip, IBUG68)["AU45"]
    assert blink[220:260].max() < 0.6
    assert blink[60] > 4


@pytest.mark.parametrize(
    ("name", "points", "move"),
    [
        ("AU01", [20, 21, 22, 23], (0.0, 0.006)),
        ("AU04", [20, 21, 22, 23], (0.0, -0.004)),
        ("AU05", [37, 38, 43, 44], (0.0, 0.0025)),
        ("AU07", [40, 41, 46, 47], (0.0, 0.0015)),
        ("AU25", [65, 66, 67], (0.0, -0.010)),
    ],
)
def test_each_movement_raises_its_unit(
    clip: np.ndarray, name: str, points: list[int], move: tuple[float, float]
) -> None:
    moved = clip.copy()
    moved[250:300, points, :2] += move
    values = action_units(moved, IBUG68)
    assert values[name][260:290].min() > 1.2
    assert values[name][50:200].max() < 0.5
    if name in ("AU01", "AU25"):
        assert values["AU45"].max() < 0.6


def test_turning_the_head_moves_no_unit() -> None:
    t = np.arange(FRAMES) / 25
    angles = np.radians(np.stack([20 * np.sin(1.1 * t), 10 * np.sin(1.7 * t), 5 * np.sin(t)], -1))
    path = np.tile(np.eye(4), (FRAMES, 1, 1))
    path[:, :3, :3] = Rotation.from_euler("YXZ", angles).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    path[:, 2, 3] = 0.7
    face = _face()
    head = head_points(project(face, path, 1100.0, (512, 512)), path, 1100.0, face, (512, 512))
    np.testing.assert_allclose(head, np.tile(face, (FRAMES, 1, 1)), atol=1e-9)


def test_lid_opening_is_height_over_width() -> None:
    opening = lid_opening(_face()[None], IBUG68)
    np.testing.assert_allclose(opening, 0.25, atol=1e-6)


def test_openface_table(tmp_path: Path) -> None:
    values = {name: np.linspace(0, 5, 7) for name in ALL_AUS}
    write.write_action_units(tmp_path, values, 25)
    read = read_openface(tmp_path / "au.csv", 7)
    np.testing.assert_allclose(read["AU45"], values["AU45"], atol=1e-3)
    with pytest.raises(UserError, match="7 rows for 9 frames"):
        read_openface(tmp_path / "au.csv", 9)
    del values["AU07"]
    write.write_action_units(tmp_path, values, 25)
    with pytest.raises(UserError, match="lacks the columns AU07_r"):
        read_openface(tmp_path / "au.csv", 7)
