"""The step "gaze": where the eyes look in each frame."""

from typing import Any

from emotalking.data.gaze import measure_gaze
from emotalking.data.readers import read_intensities
from emotalking.data.writer import write_gaze
from emotalking.preprocess.job import Job


def make_gaze(job: Job) -> dict[str, Any]:
    """Measure the gaze from the tracked irises, and write it."""
    pose = job.pose()
    closure = read_intensities(job.files.action_units)["AU45"]
    height, width = job.size
    values = measure_gaze(job.points(), pose.viewmats, pose.focal, (width, height), pose.shape, job.layout, closure)
    assert values is not None  # the layout has irises
    write_gaze(job.files.root, values)
    return {"provider": "irises"}
