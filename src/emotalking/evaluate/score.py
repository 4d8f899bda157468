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
from emotalking.evaluate.evaluation_models import Judges
from emotalking.evaluate.faces import Asked, FaceMeter
from emotalking.evaluate.pixels import BackgroundMeter, Meter, PixelMeter, Shown, Truth, as_image
from emotalking.evaluate.sync import SyncScores
from emotalking.evaluate.values import KINDS, Figure, absent, single
from emotalking.preprocess.steps import map_frames

Picture = Shaped[np.ndarray, "_ _ 3"] | Shaped[Tensor, "_ _ 3"]
"""RGB: uint8, or floats in [0, 1]; a numpy array or a tensor on any device."""


class Stopwatch:
    """Frames as they come, and how long each was waited for: wrap a renderer with it to get the figure "fps".

    Example:
        >>> scored = measure(Stopwatch(reconstruct(avatar, subject, indices)), subject=subject, ...)
    """

    def __init__(self, frames: Iterable[Picture]) -> None:
        self._frames = frames
        self.seconds: list[float] = []

    def __iter__(self) -> Iterator[Picture]:
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

    def figure(self) -> Figure:
        """Frames a second by the median wait: the first frames, which start things up, and stalls do not count."""
        if not self.seconds:
            return absent("fps", "no frame came")
        return single("fps", 1 / max(float(np.median(self.seconds)), 1e-9), frames=len(self.seconds))


@dataclass(frozen=True)
class Seen:
    """What the judges saw of each frame of a run; nan where there was no face."""

    points: Float[np.ndarray, "N 68 2"]
    """iBUG landmarks, px."""
    opening: Float[np.ndarray, " N"]
    """Of the mouth, px."""
    va: Float[np.ndarray, "N 2"] | None
    """Measured valence and arousal."""
    classes: tuple[str, ...]
    """Expressions that the judge knows."""
    scores: Float[np.ndarray, "N E"] | None
    """One a class; the highest is what the judge sees."""
    sync: SyncScores | None
    """With the curve over offsets."""


@dataclass(frozen=True)
class Scored:
    """The figures of a run of frames, and what they were made of."""

    figures: dict[str, Figure]
    seen: Seen | None
    """None without a detector, or where no frame shows a face."""


def measure(
    frames: Iterable[Picture],
    *,
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    samples: Float[np.ndarray, " S"] | None = None,
    va: Float[np.ndarray, "M 2"] | None = None,
    judges: Judges,
    labels: Sequence[TestPoint] = TEST_POINTS,
    recorded: Iterable[UInt8[np.ndarray, "H W 3"]] | None = None,
) -> Scored:
    """Score a run of frames of ``subject``; every frame is held only while it is looked at.

    Args:
        frames: RGB of the subject's size, consecutive in time.
        subject: whose frames they are.
        indices: the subject's frame that each should equal; None: there is no such frame.
        samples: the sound that they should speak, 16 kHz, beginning with the first frame; None: unknown.
        va: commanded valence and arousal; None: none was.
        judges: who measures.
        labels: the expression that a classifier should read at each commanded point.
        recorded: what to compare with instead of the subject's own frames, one for each of ``indices``, in order.

    Raises:
        UserError: a frame has another size, or there are more or fewer frames than indices.
    """
    told = [len(known) for known in (indices, va) if known is not None]
    if len(set(told)) > 1:
        raise UserError(f"there are {told[1]} commanded emotions for {told[0]} frames: give one for each.")
    asked = Asked(indices, samples, va, labels)
    faces = FaceMeter(subject, judges, asked)
    pixels = PixelMeter(judges.lpips, judges.no_lpips)
    meters: list[Meter] = [pixels, faces, BackgroundMeter(subject, asked.runs(max(told, default=0))[0])]
    count = 0
    try:
        for shown in _shown(frames, subject, indices, judges.device, recorded):
            count += 1
            for meter in meters:
                meter.see(shown)
        if told and count != told[0]:
            raise UserError(f"there are {told[0]} commanded emotions for {count} frames: give one for each.")
        found = {figure.name: figure for meter in meters for figure in meter.figures()}
    finally:
        faces.close()
    found["fps"] = frames.figure() if isinstance(frames, Stopwatch) else absent("fps", "the rendering was not timed")
    return Scored({name: found[name] for name in KINDS if name in found}, _seen(faces, judges))


def _seen(faces: FaceMeter, judges: Judges) -> Seen | None:
    if faces.shown is None:
        return None
    points, said = faces.shown.points, faces.reading
    return Seen(
        points,
        lip_gap(points),
        None if said is None else said.va,
        () if judges.emotion is None else judges.emotion.classes,
        None if said is None else said.scores,
        faces.sync,
    )


def _shown(
    frames: Iterable[Picture],
    subject: Subject,
    indices: Int[np.ndarray, " N"] | None,
    device: torch.device,
    recorded: Iterable[np.ndarray] | None,
) -> Iterator[Shown]:
    """Each frame beside its truth, which is read ahead by threads."""
    if indices is None:
        for number, frame in enumerate(frames):
            yield Shown(number, _checked(frame, number, subject, device), None)
        return
    truths = map_frames(indices, lambda _, index: _truth(subject, int(index)))
    if recorded is not None:
        truths = (replace(truth, picture=picture) for truth, picture in zip(truths, recorded, strict=True))
    for number, (frame, truth) in enumerate(zip_longest(frames, truths)):
        if frame is None or truth is None:
            raise UserError(
                f"there are {'fewer' if frame is None else 'more'} frames than the {len(indices)} of"
                f" {subject.files.root} that they are compared with: give one frame for each."
            )
        yield Shown(number, _checked(frame, number, subject, device), truth)


def _truth(subject: Subject, index: int) -> Truth:
    return Truth(subject.target(index), subject.labels_and_teeth(index)[0], subject.lips_rect(index))


def _checked(frame: Picture, number: int, subject: Subject, device: torch.device) -> Float[Tensor, "H W 3"]:
    height, width = int(frame.shape[0]), int(frame.shape[1])
    if (height, width) != (subject.height, subject.width):
        raise UserError(
            f"frame {number} is {width}x{height} and the subject {subject.files.root} {subject.width}x"
            f"{subject.height}: give frames of the subject's size."
        )
    return as_image(frame, device)
