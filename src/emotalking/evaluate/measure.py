"""Anyone's frames of a subject, scored in one pass."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.emotion.circumplex import TEST_POINTS, TestPoint
from emotalking.errors import UserError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.faces import Condition, FaceMeter
from emotalking.evaluate.metric import METRICS, Metric, missing, single
from emotalking.evaluate.pixels import BackgroundMeter, GroundTruth, Meter, PixelMeter, RenderedFrame, as_image
from emotalking.evaluate.sync import SyncScores
from emotalking.preprocess.steps import map_frames

FrameLike = Shaped[np.ndarray, "_ _ 3"] | Shaped[Tensor, "_ _ 3"]
"""RGB: uint8, or floats in [0, 1]; a numpy array or a tensor on any device."""


class Stopwatch:
    """Frames as they come, and how long each was waited for: wrap a renderer with it to get the metric "fps".

    Example:
        >>> scored = measure(Stopwatch(reconstruct(avatar, subject, indices)), subject=subject, ...)
    """

    def __init__(self, frames: Iterable[FrameLike]) -> None:
        self._frames = frames
        self.seconds: list[float] = []

    def __iter__(self) -> Iterator[FrameLike]:
        """The frames."""
        rest = iter(self._frames)
        while True:
            begin = time.perf_counter()
            frame = next(rest, None)
            if isinstance(frame, Tensor) and frame.is_cuda:
                torch.cuda.synchronize(frame.device)
            if frame is None:
                return
            self.seconds.append(time.perf_counter() - begin)
            yield frame

    def metric(self) -> Metric:
        """Frames a second by the median wait: the first frames, which start things up, and stalls do not count."""
        if not self.seconds:
            return missing("fps", "no frame came")
        return single("fps", 1 / max(float(np.median(self.seconds)), 1e-9), frames=len(self.seconds))


@dataclass(frozen=True)
class Observation:
    """What the models saw of each frame of a run; nan where there was no face."""

    points: Float[np.ndarray, "N 68 2"]
    """iBUG landmarks, px."""
    opening: Float[np.ndarray, " N"]
    """Of the mouth, px."""
    va: Float[np.ndarray, "N 2"] | None
    """Measured valence and arousal."""
    classes: tuple[str, ...]
    """Expressions that the model knows."""
    scores: Float[np.ndarray, "N E"] | None
    """One a class; the highest is what the model sees."""
    sync: SyncScores | None
    """With the curve over offsets."""


@dataclass(frozen=True)
class Measurement:
    """The metrics of a run of frames, and what they were made of."""

    metrics: dict[str, Metric]
    observation: Observation | None
    """None without a detector, or where no frame shows a face."""


def measure(
    frames: Iterable[FrameLike],
    *,
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    samples: Float[np.ndarray, " S"] | None = None,
    va: Float[np.ndarray, "M 2"] | None = None,
    models: EvaluationModels,
    labels: Sequence[TestPoint] = TEST_POINTS,
    recorded: Iterable[UInt8[np.ndarray, "H W 3"]] | None = None,
) -> Measurement:
    """Score a run of frames of ``subject``; every frame is held only while it is looked at.

    Args:
        frames: RGB of the subject's size, consecutive in time.
        subject: whose frames they are.
        indices: the subject's frame that each should equal; None: there is no such frame.
        samples: the sound that they should speak, 16 kHz, beginning with the first frame; None: unknown.
        va: commanded valence and arousal; None: none was.
        models: who measures.
        labels: the expression that a classifier should read at each commanded point.
        recorded: what to compare with instead of the subject's own frames, one for each of ``indices``, in order.

    Raises:
        UserError: a frame has another size, or there are more or fewer frames than indices.
    """
    told = [len(known) for known in (indices, va) if known is not None]
    if len(set(told)) > 1:
        raise UserError(f"there are {told[1]} commanded emotions for {told[0]} frames: give one for each.")
    asked = Condition(indices, samples, va, labels)
    faces = FaceMeter(subject, models, asked)
    pixels = PixelMeter(models.lpips, models.no_lpips)
    meters: list[Meter] = [pixels, faces, BackgroundMeter(subject, asked.runs(max(told, default=0))[0])]
    count = 0
    try:
        for shown in _shown(frames, subject, indices, models.device, recorded):
            count += 1
            for meter in meters:
                meter.see(shown)
        if told and count != told[0]:
            raise UserError(f"there are {told[0]} commanded emotions for {count} frames: give one for each.")
        found = {metric.name: metric for meter in meters for metric in meter.metrics()}
    finally:
        faces.close()
    found["fps"] = frames.metric() if isinstance(frames, Stopwatch) else missing("fps", "the rendering was not timed")
    return Measurement({name: found[name] for name in METRICS if name in found}, _observation(faces, models))


def _observation(faces: FaceMeter, models: EvaluationModels) -> Observation | None:
    if faces.shown is None:
        return None
    points, said = faces.shown.points, faces.reading
    return Observation(
        points,
        lip_gap(points),
        None if said is None else said.va,
        () if models.emotion is None else models.emotion.classes,
        None if said is None else said.scores,
        faces.sync,
    )


def _shown(
    frames: Iterable[FrameLike],
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    device: torch.device,
    recorded: Iterable[np.ndarray] | None,
) -> Iterator[RenderedFrame]:
    """Each frame beside its truth, which is read ahead by threads."""
    if indices is None:
        for number, frame in enumerate(frames):
            yield RenderedFrame(number, _checked(frame, number, subject, device), None)
        return
    truths = map_frames(indices, lambda _, index: _truth(subject, int(index)))
    if recorded is not None:
        truths = (replace(truth, image=image) for truth, image in zip(truths, recorded, strict=True))
    for number, (frame, truth) in enumerate(zip_longest(frames, truths)):
        if frame is None or truth is None:
            raise UserError(
                f"there are {'fewer' if frame is None else 'more'} frames than the {len(indices)} of"
                f" {subject.files.root} that they are compared with: give one frame for each."
            )
        yield RenderedFrame(number, _checked(frame, number, subject, device), truth)


def _truth(subject: Subject, index: int) -> GroundTruth:
    return GroundTruth(subject.target(index), subject.masks(index).labels, subject.lips_rect(index))


def _checked(frame: FrameLike, number: int, subject: Subject, device: torch.device) -> Float[Tensor, "H W 3"]:
    height, width = int(frame.shape[0]), int(frame.shape[1])
    if (height, width) != (subject.height, subject.width):
        raise UserError(
            f"frame {number} is {width}x{height} and the subject {subject.files.root} {subject.width}x"
            f"{subject.height}: give frames of the subject's size."
        )
    return as_image(frame, device)
