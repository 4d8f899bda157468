"""Blinks and emotions of real clips, against what a person saw in them."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from emotalking.emotion.estimator import ActionUnitEmotion
from emotalking.io.video import probe, read_frames
from emotalking.preprocess.action_units import action_units, head_points, raw_opening
from emotalking.preprocess.detectors import FaceFinder
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.preprocess.pose.solver import solve_pose
from emotalking.preprocess.pose.track import project
from emotalking.preprocess.smoothing import steady
from emotalking.preprocess.tracking import find_framing, track_landmarks

pytestmark = pytest.mark.realdata


def _units(clip: Path, seconds: float) -> dict[str, np.ndarray]:
    info, finder = probe(clip), FaceFinder()
    faces = [(0.0, finder.find(image)) for image in islice(read_frames(clip, 1), 2)]
    framing = find_framing(clip, (info.height, info.width), faces)
    size, provider = (framing.size, framing.size), MediaPipeMesh()
    images = islice(read_frames(clip), round(25 * seconds))
    found = track_landmarks((framing.apply(image) for image in images), provider)
    provider.close()
    points = found.points[..., :2].astype(np.float64)
    pose = solve_pose(points, found.points[..., 2].astype(np.float64), MEDIAPIPE_LAYOUT, size, 25, found.flow)
    calm = steady(points, project(pose.shape, pose.viewmats, pose.focal, size), MEDIAPIPE_LAYOUT)
    head = head_points(calm, pose.viewmats, pose.focal, pose.shape, size)
    opening = raw_opening(points, pose.viewmats, pose.focal, pose.shape, size, MEDIAPIPE_LAYOUT)
    return action_units(head, pose.viewmats, MEDIAPIPE_LAYOUT, 25, opening)


def test_the_reporters_blinks(real_data: Path) -> None:
    """Frames whose lids were seen shut, and (half open, not counted) the ones beside them."""
    blink = _units(real_data / "clips" / "reporter_512_71s.mp4", 8.0)["AU45"]
    shut, between = [1, 2, 3, 94, 95, 112, 113, 157, 158, 192, 193], [93, 96, 114, 159, 191, 194]
    counted = np.setdiff1d(np.arange(200), between)
    assert set(np.flatnonzero(blink[:200] >= 1)) & set(counted) == set(shut)
    peaks = [i for i in range(200) if blink[i] > 1 and blink[i] == blink[max(i - 4, 0) : i + 5].max()]
    np.testing.assert_allclose(peaks, [2, 94.5, 112.5, 157.5, 192.5], atol=1)


@pytest.mark.parametrize(
    ("name", "shown", "valence"),
    [("happy", ("AU06", "AU12"), 1), ("furious1", ("AU04",), -1), ("mead_disgusted", ("AU10", "AU15"), -1)],
)
def test_acted_emotions_show_their_units_and_valence(
    real_data: Path, name: str, shown: tuple[str, ...], valence: int
) -> None:
    units = _units(real_data / "emotion" / f"{name}_256.mp4", 6.0)
    assert min(units[unit].mean() for unit in shown) > 1
    assert ActionUnitEmotion().estimate(units)[:, 0].mean() * valence > 0.2
