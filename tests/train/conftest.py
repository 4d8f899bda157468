"""What the tests of training share."""

from collections.abc import Iterator

import numpy as np
import pytest

from emotalking.data import Subject
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.train import emotion_pretraining, motion_pretraining, prune, run
from emotalking.train.callbacks import report as recording
from emotalking.train.data import TrainingData

from .small import training_data

_WARPS: dict[tuple[bytes, bytes], MeshWarp] = {}


def shared_warp(shape: np.ndarray, layout, K: np.ndarray) -> MeshWarp:
    """One generator of emotional targets for all runs of a subject; its own tests make theirs."""
    key = shape.tobytes(), K.tobytes()
    if key not in _WARPS:
        _WARPS[key] = MeshWarp(shape, layout, K)
    return _WARPS[key]


@pytest.fixture(autouse=True, scope="module")
def short_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs spend their time on steps: no page is drawn, and what surrounds the stages looks at little.

    The test of the page, test_run_record.py, does not have it, and that of the motion draws more.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "MeshWarp", shared_warp)
        patch.setattr(prune, "FRAMES", 4)
        own = request.path.name == "test_motion_pretraining.py"
        patch.setattr(motion_pretraining, "FRAMES", 8 if own else 4)
        patch.setattr(motion_pretraining, "POINTS", 512 if own else 128)
        patch.setattr(emotion_pretraining, "POINTS", 512)
        if request.path.name != "test_run_record.py":
            patch.setattr(recording, "write_page", lambda folder: None)
        yield


@pytest.fixture
def data(actor_subject: Subject) -> TrainingData:
    """The actor's training frames."""
    return training_data(actor_subject)
