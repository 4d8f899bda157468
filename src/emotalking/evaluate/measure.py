"""Measure every metric on a run of frames of a subject, whoever rendered them, in one pass."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.metrics import METRICS, Metric, missing, per_frame
from emotalking.evaluate.observation import Condition, GroundTruth, Observation, RenderedFrame, RunObserver
from emotalking.preprocess.steps import map_frames

FrameLike = Shaped[np.ndarray, "_ _ 3"] | Shaped[Tensor, "_ _ 3"]
"""RGB: uint8, or floats in [0, 1]; a numpy array or a tensor on any device."""
_OF_RECORDING = ("recording", "faces", "recorded_faces")
"""Needs without which a reference metric is left out."""


class Stopwatch:
    """Frames as they come, and how long each was waited for: wrap a renderer with it to get the metric "fps".

    Example:
        >>> measured = measure(Stopwatch(reconstruct(avatar, subject, indices)), subject=subject, ...)
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


@dataclass(frozen=True)
class Measurement:
    """The metrics of a run of frames, and what they were measured on."""

    metrics: dict[str, Metric]
    observation: Observation


def measure(
    frames: Iterable[FrameLike],
    *,
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    samples: Float[np.ndarray, " S"] | None = None,
    va: Float[np.ndarray, "M 2"] | None = None,
    models: EvaluationModels,
    recorded: Iterable[UInt8[np.ndarray, "H W 3"]] | None = None,
    of_recording: bool = False,
) -> Measurement:
    """Measure a run of frames of ``subject``; each frame is in memory only while it is measured.

    Args:
        frames: RGB of the subject's size, consecutive in time.
        subject: of the frames.
        indices: ground-truth frame of the subject for each; None: there is none.
        samples: the speech, 16 kHz, starting with the first frame; None: unknown.
        va: commanded valence and arousal; None: none was.
        models: evaluation models.
        recorded: ground truth instead of the subject's own frames, one for each of ``indices``, in order.
        of_recording: ``frames`` are the recorded ones; faces are then also found in their mirrored images, for the
            error of the detector itself.

    Raises:
        InputError: a frame has another size, or there are more or fewer frames than indices.
    """
    counts = [len(values) for values in (indices, va) if values is not None]
    if len(set(counts)) > 1:
        raise InputError(f"there are {counts[1]} commanded emotions for {counts[0]} frames: give one for each.")
    of_frame = {name: spec.of_frame for name, spec in METRICS.items() if spec.of_frame is not None}
    observer = RunObserver(subject, models, Condition(indices, samples, va, of_recording), of_frame)
    count = 0
    try:
        for rendered in _rendered(frames, subject, indices, models.device, recorded):
            count += 1
            observer.add(rendered)
        if counts and count != counts[0]:
            raise InputError(f"there are {counts[0]} commanded emotions for {count} frames: give one for each.")
        observation = observer.finish(frames.seconds if isinstance(frames, Stopwatch) else None)
        return Measurement(metrics_of(observation), observation)
    finally:
        observer.close()


def metrics_of(observation: Observation) -> dict[str, Metric]:
    """Every registered metric of an observation; a metric with a missing input states it."""
    found: dict[str, Metric] = {}
    for name, spec in METRICS.items():
        need = next((need for need in spec.needs if need in observation.lacks), None)
        if need is None and spec.measure is not None:
            found[name] = spec.measure(name, observation)
        elif need is None:
            found[name] = per_frame(name, observation.frame_values[name])
        elif not spec.reference or need not in _OF_RECORDING:
            found[name] = missing(name, *observation.lacks[need])
    return found


def _rendered(
    frames: Iterable[FrameLike],
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    device: torch.device,
    recorded: Iterable[np.ndarray] | None,
) -> Iterator[RenderedFrame]:
    """Each frame and the recorded frame that it should equal, which threads read ahead."""
    if indices is None:
        for number, frame in enumerate(frames):
            yield RenderedFrame(number, _checked(frame, number, subject, device), None)
        return
    truths = map_frames(indices, lambda _, index: _truth(subject, int(index)))
    if recorded is not None:
        truths = (replace(truth, image=image) for truth, image in zip(truths, recorded, strict=True))
    for number, (frame, truth) in enumerate(zip_longest(frames, truths)):
        if frame is None or truth is None:
            raise InputError(
                f"there are {'fewer' if frame is None else 'more'} frames than the {len(indices)} of"
                f" {subject.files.root} that they are compared with: give one frame for each."
            )
        yield RenderedFrame(number, _checked(frame, number, subject, device), truth)


def _truth(subject: Subject, index: int) -> GroundTruth:
    return GroundTruth(subject.target(index), subject.masks(index).labels, subject.lips_rect(index))


def _checked(frame: FrameLike, number: int, subject: Subject, device: torch.device) -> Float[Tensor, "H W 3"]:
    """The frame as float32 in [0, 1] on ``device``."""
    height, width = int(frame.shape[0]), int(frame.shape[1])
    if (height, width) != (subject.height, subject.width):
        raise InputError(
            f"frame {number} is {width}x{height} and the subject {subject.files.root} {subject.width}x"
            f"{subject.height}: give frames of the subject's size."
        )
    tensor = torch.from_numpy(np.ascontiguousarray(frame)) if isinstance(frame, np.ndarray) else frame
    if tensor.ndim != 3 or tensor.shape[-1] != 3:
        raise ValueError(f"frame: expected [H, W, 3], got {list(tensor.shape)}")
    if tensor.dtype == torch.uint8:
        return tensor.to(device).float() / 255
    if not tensor.is_floating_point():
        raise ValueError(f"frame: expected uint8 or floats in [0, 1], got {tensor.dtype}")
    return tensor.detach().to(device, torch.float32)
