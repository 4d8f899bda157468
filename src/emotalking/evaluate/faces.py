"""Faces against the recording's faces, against the commanded emotion, and against the sound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from emotalking.audio.vad import voice_activity
from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.emotion.circumplex import TestPoint
from emotalking.errors import UserError
from emotalking.evaluate import emotion_metrics, face_metrics
from emotalking.evaluate.evaluation_models import EmotionModel, EvaluationModels, Prediction
from emotalking.evaluate.identity import EVERY_S, Person, identity_similarity
from emotalking.evaluate.metric import Metric, missing, per_frame, root_mean, single
from emotalking.evaluate.observe import FaceDescriber, FaceObserver, Faces, Reference, runs_of
from emotalking.evaluate.pixels import NO_TRUTH, RenderedFrame
from emotalking.evaluate.sync import SyncMeter, SyncScores

NO_FACE = "no face was found in any frame"
NO_DETECTOR = "no detector of faces was asked for"
NO_COMMAND = "no emotion was commanded"
NO_SOUND = "the sound of these frames is not known"
_AUE = {
    "aue_u": face_metrics.UPPER_AUS,
    "aue_l": face_metrics.LOWER_AUS,
    "aue": face_metrics.UPPER_AUS + face_metrics.LOWER_AUS,
}
_AUE_REST = {"aue_u_rest": face_metrics.UPPER_AUS, "aue_l_rest": face_metrics.LOWER_AUS}
_COMPARED = ("lmd", *_AUE, *_AUE_REST)
_STEADY = ("jitter_head", "flicker")
_EMOTION = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3")
_SYNC = ("sync_e", "sync_c")
_ALL = (*_COMPARED, *_SYNC, *_EMOTION, "identity", *_STEADY, "mouth_in_silence")
_SILENCE_S = 1.0
"""Silence, and speech, that the mouth's motion in silence must rest on: a closing of the lips takes .2 s."""


@dataclass(frozen=True)
class Condition:
    """What the run was to show."""

    indices: Int[np.ndarray, " N"] | None
    """The subject's frames that it should equal."""
    samples: Float[np.ndarray, " S"] | None
    """The sound, 16 kHz; None: not known."""
    va: Float[np.ndarray, "N 2"] | None
    """Commanded valence and arousal."""
    labels: Sequence[TestPoint]

    def runs(self, count: int) -> tuple[list[slice], int]:
        """:func:`~emotalking.evaluate.observe.runs_of` ``count`` frames."""
        return runs_of(count, self.indices, self.va)


class FaceMeter:
    """LMD, AUE, sync, emotion, identity, the head's jitter, flicker, and the mouth in silence."""

    def __init__(self, subject: Subject, models: EvaluationModels, asked: Condition) -> None:
        self._asked, self._model, self._fps = asked, models.emotion, float(subject.fps)
        self._expert, self._identity, self._count = models.sync, models.identity, 0
        self._no_sync, self._no_identity, self._person = models.no_sync, models.no_identity, None
        self.shown: Faces | None = None
        """What was seen of the scored frames, after :meth:`metrics`."""
        self.reading: Prediction | None = None
        """What the model of emotion said of them; nan where there was no face."""
        self.sync: SyncScores | None = None
        """What the expert said of lips and sound."""
        self._observer = self._true_observer = None
        self._why = NO_DETECTOR
        if models.landmarks is None:
            return
        provider = models.landmarks()
        self._detector, self._reference = provider.name, Reference.of(subject, provider)
        if self._reference is None:
            provider.close()
            self._why = f"no face was found in the frames of {subject.files.root}"
            return
        lookers = {} if models.emotion is None else {"emotion": FaceDescriber(models.emotion.look)}
        if self._identity is not None:
            self._person = self._identity.person(subject, provider)
            self._no_identity = f"no face was found in the training frames of {subject.files.root}"
            lookers["identity"] = FaceDescriber(self._identity.recogniser.describe, self._stride())
        provider.close()
        self._lips = None if self._expert is None else SyncMeter(self._expert, self._fps)
        then = None if self._lips is None else self._lips.add
        self._observer = FaceObserver(self._reference, models.landmarks, lookers, then)
        if asked.indices is not None:
            self._true_observer = FaceObserver(self._reference, models.landmarks)

    def _stride(self) -> int:
        """Frames from one look of the recogniser to the next."""
        indices = self._asked.indices
        step = 1 if indices is None else self._asked.runs(len(indices))[1]
        return max(round(EVERY_S * self._fps / step), 1)

    def see(self, shown: RenderedFrame) -> None:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        self._count += 1
        if self._observer is not None:
            self._observer.see(shown.uint8)
        if self._true_observer is not None and shown.truth is not None:
            self._true_observer.see(shown.truth.image)

    def close(self) -> None:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        for observer in (self._observer, self._true_observer):
            if observer is not None:
                observer.close()

    def metrics(self) -> list[Metric]:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        if self._observer is None:
            return [missing(name, self._why) for name in _ALL]
        faces, truth = self._observer.faces(), None if self._true_observer is None else self._true_observer.faces()
        if faces is None:
            return [missing(name, NO_FACE, self._count) for name in _ALL]
        self.shown = faces
        runs, step = self._asked.runs(self._count)
        rate = self._fps / step
        assert self._reference is not None
        units = faces.units(self._reference.rest, runs, rate)
        own = [*self._identities(faces), *self._steadiness(faces, runs), self._silence(faces, runs)]
        if truth is None:
            why = NO_TRUTH if self._true_observer is None else "no face was found in the recorded frames"
            compared = [missing(name, why, self._count) for name in _COMPARED]
        else:
            compared = self._compare(faces, truth, units, truth.units(self._reference.rest, runs, rate))
            own += [_as_truth(f) for f in (*self._steadiness(truth, runs), self._silence(truth, runs))]
        return [*compared, *self._in_sync(faces), *self._emotion(faces, units, runs, rate), *own]

    def _compare(
        self, faces: Faces, truth: Faces, units: dict[str, np.ndarray], true_units: dict[str, np.ndarray]
    ) -> list[Metric]:
        why = "no frame shows a face both in the recording and in what is scored"
        distance = face_metrics.landmark_distance(faces.points, truth.points)
        errors = {name: face_metrics.unit_error(units, true_units, aus) for name, aus in _AUE.items()}
        errors |= {name: face_metrics.unit_power(true_units, aus) for name, aus in _AUE_REST.items()}
        reader = f"action units ({self._detector})"
        return [
            per_frame("lmd", distance, self._detector, why),
            *(per_frame(name, values, reader, why) for name, values in errors.items()),
        ]

    def _in_sync(self, faces: Faces) -> list[Metric]:
        samples = self._asked.samples
        lost = int((~faces.found).sum())
        if self._expert is None or self._lips is None or samples is None:
            why = NO_SOUND if self._expert is not None else self._no_sync
            return [missing(name, why, self._count) for name in _SYNC]
        try:
            self.sync = self._lips.scores(samples)
        except UserError as error:
            return [missing(name, str(error), self._count) for name in _SYNC]
        found = self.sync
        values = {"sync_e": (found.error, found.per_window), "sync_c": (found.confidence, found.margin)}
        return [
            replace(single(name, value, found.expert, int(np.isfinite(each).sum()), lost), per_frame=each)
            for name, (value, each) in values.items()
        ]

    def _steadiness(self, faces: Faces, runs: Sequence[slice]) -> list[Metric]:
        why = "fewer than three frames in a row show a face"
        jitter = _by_run(face_metrics.point_jitter, faces.rigid, runs)
        flicker = _by_run(face_metrics.flicker, faces.tones, runs)
        inside = _inside(self._count, runs)
        return [
            per_frame("jitter_head", jitter, self._detector, why, wanted=inside),
            per_frame("flicker", flicker, self._detector, why, wanted=inside),
        ]

    def _silence(self, faces: Faces, runs: Sequence[slice]) -> Metric:
        samples, name = self._asked.samples, "mouth_in_silence"
        if samples is None:
            return missing(name, NO_SOUND, self._count)
        gate = voice_activity([samples]).frames(0, self._count, self._fps)
        energy = _by_run(face_metrics.opening_energy, lip_gap(faces.points), runs)
        known = np.isfinite(energy)
        quiet, loud = int((known & (gate <= 0)).sum()), int((known & (gate >= 1)).sum())
        lost, least = int((~faces.found).sum()), round(_SILENCE_S * self._fps)
        if quiet < least or loud < least:
            why = f"it would rest on {quiet} frames of silence and {loud} of speech: {least} of each are needed"
            return single(name, float("nan"), self._detector, quiet, lost, why)
        ratio = face_metrics.silence_ratio(energy, gate)
        return single(name, ratio, self._detector, quiet, lost, "" if np.isfinite(ratio) else "the mouth never moves")

    def _identities(self, faces: Faces) -> list[Metric]:
        """Of the frames, and of the recording's own held-out frames."""
        names, model, person = ("identity", "identity_truth"), self._identity, self._person
        if model is None or person is None:
            return [missing(name, self._no_identity, self._count) for name in names]
        wanted = np.arange(self._count) % self._stride() == 0
        seen = faces.looks.get("identity")
        alike = np.full(self._count, np.nan) if seen is None else identity_similarity(seen, person.vector)
        why = "no frame that was looked at shows a face"
        return [per_frame(names[0], alike, model.name, why, wanted=wanted), _own_identity(person, model.name)]

    def _emotion(self, faces: Faces, units: dict[str, np.ndarray], runs: Sequence[slice], rate: float) -> list[Metric]:
        model, va = self._model, self._asked.va
        if model is None:
            return [missing(name, "no model of emotion was asked for", self._count) for name in _EMOTION]
        self.reading = read_emotion(model, faces, units, runs, rate)
        if va is None:
            return [missing(name, NO_COMMAND, self._count) for name in _EMOTION]
        measured = self.reading.va
        out = []
        for axis, letter in enumerate("va"):
            error = emotion_metrics.squared_error(measured[:, axis], va[:, axis].astype(np.float64))
            out.append(per_frame(f"{letter}_rmse", error, model.name, summary=root_mean))
        for axis, letter in enumerate("va"):
            same = emotion_metrics.sign_agreement(measured[:, axis], va[:, axis].astype(np.float64))
            out.append(per_frame(f"{letter}_sa", same, model.name))
        labels = emotion_metrics.label_of(va.astype(np.float64), self._asked.labels)
        place = emotion_metrics.ranks(self.reading.scores, model.classes, labels)
        why = "the commanded emotions are none of the labelled points, or the model knows none of their labels"
        labelled = np.array([label is not None for label in labels])
        out += [
            per_frame(f"e_top{k}", emotion_metrics.top_k(place, k), model.name, why, wanted=labelled) for k in (1, 3)
        ]
        return out


def read_emotion(
    model: EmotionModel, faces: Faces, units: dict[str, np.ndarray], runs: Sequence[slice], fps: float | int
) -> Prediction:
    """The model's verdict on all frames, each run for itself; nan where there is no face."""
    count = len(faces.found)
    va, scores = np.full((count, 2), np.nan), np.full((count, len(model.classes)), np.nan)
    for run in runs:
        seen = np.arange(count)[run][faces.found[run]]
        if len(seen):
            said = model.read(faces.looks["emotion"][seen], {name: values[seen] for name, values in units.items()}, fps)
            va[seen], scores[seen] = said
    return Prediction(va, scores)


def _by_run(work: Callable[[np.ndarray], np.ndarray], values: np.ndarray, runs: Sequence[slice]) -> np.ndarray:
    return np.concatenate([work(values[run]) for run in runs])


def _inside(count: int, runs: Sequence[slice]) -> Bool[np.ndarray, " N"]:
    """Frames that have a neighbour on both sides within their run."""
    inside = np.zeros(count, bool)
    for run in runs:
        inside[run.start + 1 : run.stop - 1] = True
    return inside


def _own_identity(person: Person, model: str) -> Metric:
    if len(person.own) == 0:
        return missing("identity_truth", "no held-out frame of the recording shows a face", person.missed)
    return single("identity_truth", float(person.own.mean()), model, len(person.own), person.missed)


def _as_truth(metric: Metric) -> Metric:
    """The same metric, of the recording."""
    name = f"{metric.name}_truth"
    if metric.per_frame is None:
        return single(name, metric.value, metric.model, metric.frames, metric.missing, metric.reason)
    return per_frame(name, metric.per_frame, metric.model, metric.reason)
