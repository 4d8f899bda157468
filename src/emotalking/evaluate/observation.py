"""The observer of a run of frames and its result, the observation; metrics are functions of it.

Rendered and recorded frames are given to the same kind of landmark detector, both as 8-bit images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.errors import InputError
from emotalking.evaluate.background import BackgroundObserver
from emotalking.evaluate.evaluation_models import EmotionModel, EvaluationModels, Person, Prediction
from emotalking.evaluate.faces import FaceDescriber, FaceObserver, FaceReference, Faces, MirroredFrames, runs_of
from emotalking.evaluate.sync import SyncMeter
from emotalking.lipsync.scores import SyncScores
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8

Need = Literal[
    "recording", "lpips", "faces", "recorded_faces", "sync", "sound", "emotion_model", "command", "identity", "timing"
]
"""Input that a metric may need; see :attr:`Observation.lacks`."""
NO_TRUTH = "there is no recorded frame to compare with"
NO_SOUND = "the sound of these frames is not known"
IDENTITY_EVERY_S = 0.2
"""Seconds between frames whose identity is measured: it changes slowly, and the network is slow (a tenth of a second
per face on a CPU)."""


@dataclass(frozen=True)
class Condition:
    """Intended content of a run of frames."""

    indices: Int[np.ndarray, " N"] | None
    """The subject's frames that it should equal."""
    samples: Float[np.ndarray, " S"] | None
    """The sound, 16 kHz; None: not known."""
    va: Float[np.ndarray, "N 2"] | None
    """Commanded valence and arousal."""
    of_recording: bool = False
    """The frames are the recorded ones themselves."""


@dataclass(frozen=True)
class GroundTruth:
    """The recorded frame that a frame should equal."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB, over the clean background (``gt_imgs``)."""
    labels: UInt8[np.ndarray, "H W"]
    """Classes (:class:`emotalking.data.labels.Label`)."""
    lips: Box
    """Square around the lips, px."""


@dataclass(frozen=True)
class RenderedFrame:
    """One frame that is scored."""

    number: int
    """Its place in the run, from 0."""
    image: Float[Tensor, "H W 3"]
    """RGB in [0, 1], on the models' device, without rounding."""
    truth: GroundTruth | None

    @cached_property
    def uint8(self) -> UInt8[np.ndarray, "H W 3"]:
        """The frame as 8 bit, for models that take nothing else."""
        return to_uint8(self.image)

    @property
    def recorded(self) -> GroundTruth:
        """:attr:`truth`, for metrics that need it."""
        assert self.truth is not None
        return self.truth

    @cached_property
    def true_image(self) -> Float[Tensor, "H W 3"]:
        """The recorded frame in [0, 1], on the device of ``image``."""
        return torch.from_numpy(self.recorded.image).to(self.image.device).float() / 255


class Lack(NamedTuple):
    """Reason why an input of metrics is not available."""

    reason: str
    frames: int
    """Frames that they would have been taken from."""


@dataclass(frozen=True)
class Observation:
    """Everything observed of a run of frames."""

    condition: Condition
    models: EvaluationModels
    count: int
    """Frames."""
    clip_fps: float
    runs: list[slice]
    """Parts without a cut."""
    step: int
    """Frames of the clip from one frame to the next."""
    reference: FaceReference | None
    detector: str
    person: Person | None
    lacks: dict[str, Lack]
    """Inputs that are not available, by :data:`Need`."""
    frame_values: Mapping[str, Float[np.ndarray, " R"]]
    """Values per frame of each metric that has ``of_frame``."""
    background: Float[np.ndarray, " N"]
    """Restlessness of the background in grey levels; nan at the ends of a run."""
    recorded_background: Float[np.ndarray, " R"]
    """The same of the recording; empty without one."""
    seconds: Sequence[float] | None
    """Wait for each frame; None: not timed."""
    found: Faces | None
    """Faces of the scored frames; see :attr:`faces`."""
    recorded_found: Faces | None
    """Faces of the recorded frames; see :attr:`recorded_faces`."""
    mirrored_found: Faces | None
    """Faces of the mirrored images of the scored frames, in these images; None unless they are the recorded ones."""
    sync: SyncScores | None

    @property
    def faces(self) -> Faces:
        """Faces of the scored frames, for metrics that need them."""
        assert self.found is not None
        return self.found

    @property
    def recorded_faces(self) -> Faces:
        """Faces of the recorded frames, for metrics that need them."""
        assert self.recorded_found is not None
        return self.recorded_found

    @property
    def lost(self) -> int:
        """Scored frames without a face."""
        return int((~self.faces.found).sum())

    @property
    def rate(self) -> float:
        """Scored frames per second."""
        return self.clip_fps / self.step

    @property
    def identity_stride(self) -> int:
        """Distance in frames between identity measurements."""
        return identity_stride(self.clip_fps, self.step)

    @cached_property
    def units(self) -> dict[str, Float[np.ndarray, " N"]]:
        """Action units of the scored frames."""
        return self._units(self.faces)

    @cached_property
    def recorded_units(self) -> dict[str, Float[np.ndarray, " N"]]:
        """Action units of the recorded frames."""
        return self._units(self.recorded_faces)

    def _units(self, faces: Faces) -> dict[str, np.ndarray]:
        assert self.reference is not None
        return faces.units(self.reference.rest, self.runs, self.rate)

    @cached_property
    def prediction(self) -> Prediction | None:
        """Prediction of the emotion model; nan without a face, None without a model or any face."""
        if self.models.emotion is None or self.found is None:
            return None
        return predict_emotion(self.models.emotion, self.found, self.units, self.runs, self.rate)

    @property
    def va(self) -> Float[np.ndarray, "N 2"] | None:
        """Measured valence and arousal."""
        return None if self.prediction is None else self.prediction.va

    @property
    def points(self) -> Float[np.ndarray, "N 68 2"]:
        """iBUG landmarks, px."""
        return self.faces.points

    @cached_property
    def opening(self) -> Float[np.ndarray, " N"]:
        """Opening of the mouth, px."""
        return lip_gap(self.faces.points)

    @property
    def inside(self) -> Bool[np.ndarray, " N"]:
        """Frames that have a neighbour on both sides within their run."""
        inside = np.zeros(self.count, bool)
        for run in self.runs:
            inside[run.start + 1 : run.stop - 1] = True
        return inside

    def by_run(self, work: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        """Apply ``work`` to ``values``, each run on its own."""
        return np.concatenate([work(values[run]) for run in self.runs])


def identity_stride(clip_fps: float | int, step: int) -> int:
    """Distance in frames between identity measurements; consecutive frames are ``step`` frames of the clip apart."""
    return max(round(IDENTITY_EVERY_S * clip_fps / step), 1)


def predict_emotion(
    model: EmotionModel, faces: Faces, units: dict[str, np.ndarray], runs: Sequence[slice], fps: float | int
) -> Prediction:
    """Predict the emotion of all frames, each run on its own; nan without a face."""
    count = len(faces.found)
    va, scores = np.full((count, 2), np.nan), np.full((count, len(model.classes)), np.nan)
    for run in runs:
        found_frames = np.arange(count)[run][faces.found[run]]
        if len(found_frames):
            units_found = {name: values[found_frames] for name, values in units.items()}
            va[found_frames], scores[found_frames] = model.predict(
                faces.descriptions["emotion"][found_frames], units_found, fps
            )
    return Prediction(va, scores)


class RunObserver:
    """Measure each frame of a run once, in order, and store a few numbers per frame.

    Args:
        subject: of the frames.
        models: evaluation models.
        condition: ground truth and commands of the frames.
        per_frame: metrics of single frames by name.
    """

    def __init__(
        self,
        subject: Subject,
        models: EvaluationModels,
        condition: Condition,
        per_frame: Mapping[str, Callable[[RenderedFrame, EvaluationModels], Tensor]],
    ) -> None:
        self._models = models
        self._condition = condition
        self._fps = float(subject.fps)
        self._per_frame, self._rows = per_frame, list[list[float]]()
        counts = [len(values) for values in (condition.indices, condition.va) if values is not None]
        self._background = BackgroundObserver(subject, self._runs(max(counts, default=0))[0])
        self._count = self._compared = 0
        self._reference = self._person = None
        self._detector = ""
        self._observer = self._true_observer = self._mirror_observer = self._lips = None
        self._no_faces = "no detector of faces was asked for"
        self._no_identity = models.no_identity
        if models.landmarks is not None:
            self._open_observers(subject, models)

    def _open_observers(self, subject: Subject, models: EvaluationModels) -> None:
        assert models.landmarks is not None
        provider = models.landmarks()
        self._detector = provider.name
        self._reference = FaceReference.of(subject, provider)
        if self._reference is None:
            provider.close()
            self._no_faces = f"no face was found in the frames of {subject.files.root}"
            return
        describers = {} if models.emotion is None else {"emotion": FaceDescriber(models.emotion.describe)}
        if models.identity is not None:
            self._person = models.identity.person(subject, provider)
            self._no_identity = f"no face was found in the training frames of {subject.files.root}"
            indices = self._condition.indices
            step = 1 if indices is None else self._runs(len(indices))[1]
            describers["identity"] = FaceDescriber(
                models.identity.recogniser.describe, identity_stride(self._fps, step)
            )
        provider.close()
        self._lips = None if models.sync is None else SyncMeter(models.sync, self._fps)
        then = None if self._lips is None else self._lips.add
        self._observer = FaceObserver(self._reference, models.landmarks, describers, then)
        if self._condition.indices is not None:
            self._true_observer = FaceObserver(self._reference, models.landmarks)
        if self._condition.of_recording:
            make = models.landmarks
            self._mirror_observer = FaceObserver(self._reference, lambda: MirroredFrames(make()))

    def _runs(self, count: int) -> tuple[list[slice], int]:
        return runs_of(count, self._condition.indices, self._condition.va)

    @torch.no_grad()
    def add(self, frame: RenderedFrame) -> None:
        """Take the next frame."""
        self._count += 1
        recorded = None if frame.truth is None else torch.from_numpy(frame.truth.image)
        self._background.add(frame.number, frame.image, recorded)
        if self._observer is not None:
            self._observer.add(frame.uint8)
        if self._mirror_observer is not None:
            self._mirror_observer.add(frame.uint8)
        if frame.truth is None:
            return
        self._compared += 1
        values = [of_frame(frame, self._models).float() for of_frame in self._per_frame.values()]
        self._rows.append(torch.stack(values).tolist())
        if self._true_observer is not None:
            self._true_observer.add(frame.truth.image)

    def close(self) -> None:
        """Free the detectors; no more frames can be added."""
        for observer in (self._observer, self._true_observer, self._mirror_observer):
            if observer is not None:
                observer.close()

    def finish(self, seconds: Sequence[float] | None = None) -> Observation:
        """Return all measurements after the last frame; ``seconds``: the wait for each."""
        found = None if self._observer is None else self._observer.faces()
        recorded = None if found is None or self._true_observer is None else self._true_observer.faces()
        lacks = self._lacks(found, recorded)
        if seconds is None:
            lacks["timing"] = Lack("the rendering was not timed", 0)
        sync = None
        if self._lips is not None and self._condition.samples is not None and found is not None:
            try:
                sync = self._lips.scores(self._condition.samples)
            except InputError as error:
                lacks["sync"] = Lack(str(error), self._count)
        runs, step = self._runs(self._count)
        series = np.array(self._rows, np.float64).reshape(len(self._rows), len(self._per_frame)).T
        return Observation(
            condition=self._condition,
            models=self._models,
            count=self._count,
            clip_fps=self._fps,
            runs=runs,
            step=step,
            reference=self._reference,
            detector=self._detector,
            person=self._person,
            lacks=lacks,
            frame_values=dict(zip(self._per_frame, series, strict=True)),
            background=self._background.rendered.series,
            recorded_background=self._background.recorded.series,
            seconds=seconds,
            found=found,
            recorded_found=recorded,
            mirrored_found=None if self._mirror_observer is None else self._mirror_observer.faces(),
            sync=sync,
        )

    def _lacks(self, found: Faces | None, recorded: Faces | None) -> dict[str, Lack]:
        """Inputs that are not available, with the reason."""
        models = self._models
        condition = self._condition
        count = self._count
        lacks: dict[str, Lack] = {}
        if self._compared == 0:
            lacks["recording"] = Lack(NO_TRUTH, 0)
        if models.lpips is None:
            lacks["lpips"] = Lack("LPIPS was not asked for", 0)
        if self._observer is None:
            lacks["faces"] = Lack(self._no_faces, 0)
        elif found is None:
            lacks["faces"] = Lack("no face was found in any frame", count)
        if self._true_observer is None:
            lacks["recorded_faces"] = Lack(NO_TRUTH, count)
        elif recorded is None:
            lacks["recorded_faces"] = Lack("no face was found in the recorded frames", count)
        if condition.samples is None:
            lacks["sound"] = lacks["sync"] = Lack(NO_SOUND, count)
        if models.sync is None:
            lacks["sync"] = Lack(models.no_sync, count)
        if models.emotion is None:
            lacks["emotion_model"] = Lack("no model of emotion was asked for", count)
        if condition.va is None:
            lacks["command"] = Lack("no emotion was commanded", count)
        if models.identity is None or self._person is None:
            lacks["identity"] = Lack(self._no_identity, count)
        return lacks
