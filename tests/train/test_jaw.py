"""What of the mouth follows the jaw."""

import numpy as np
import pytest
import torch

from emotalking.io.settings import override
from emotalking.train.data import TrainingData
from emotalking.train.initial import jaw_line
from emotalking.train.presets import preset
from emotalking.train.run import build_head

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["model.face.initial_points=60", "model.mouth.initial_points=60", "audio_pretraining=0", "motion_pretraining=0"]


def test_the_share_rises_from_the_upper_to_the_lower_lip(data: TrainingData) -> None:
    assert data.shape is not None
    upper = data.shape[list(data.layout.ibug68[61:64])].mean(0)
    depth = (data.conditions.viewmats[:, 2, :3] @ upper + data.conditions.viewmats[:, 2, 3]).mean()
    data.mouth_opening = np.full(data.count, 8.0)
    data.mouth_opening[2] = np.nan
    opening = 8.0 * float(depth / data.K[1, 1])
    jaw = jaw_line(data)
    heights = upper[1] - opening * torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(jaw[0] + jaw[1] * heights, torch.tensor([0.0, 0.5, 1.0]), atol=1e-3, rtol=0.0)


def test_all_moves_where_no_mouth_was_tracked_or_open(data: TrainingData) -> None:
    data.mouth_opening = np.zeros(data.count)
    assert jaw_line(data).tolist() == [1.0, 0.0]
    data.mouth_opening = np.full(data.count, np.nan)
    assert jaw_line(data).tolist() == [1.0, 0.0]
    data.mouth_opening, data.shape = np.full(data.count, 8.0), None
    assert jaw_line(data).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("init", ["surface", "cube"])
def test_mouths_that_start_on_the_surface_have_a_jaw(data: TrainingData, init: str) -> None:
    config = override(preset("tiny"), [*FEW, f"model.mouth.init={init}"])
    jaw = build_head(config, data, torch.Generator().manual_seed(0)).mouth.motion.jaw
    assert torch.equal(jaw, jaw_line(data) if init == "surface" else torch.tensor([1.0, 0.0]))
    assert init == "cube" or float(jaw[1]) < 0.0
