"""Faces against the recording's faces, against the commanded emotion, and against the sound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from emotalking.audio.vad import speech_track
from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.emotion.circumplex import TestPoint
from emotalking.errors import UserError
from emotalking.evaluate import metrics_emotion, metrics_face
from emotalking.evaluate.evaluation_models import EmotionJudge, Judges, Reading
from emotalking.evaluate.identity import EVERY_S, Person, identity_similarity
from emotalking.evaluate.observe import FaceObserver, Faces, Looker, Reference, runs_of
from emotalking.evaluate.pixels import NO_TRUTH, Shown
from emotalking.evaluate.sync import SyncMeter, SyncScores
from emotalking.evaluate.values import Figure, absent, per_frame, root_mean, single

NO_FACE = "no face was found in any frame"
NO_DETECTOR = "no detector of faces was asked for"
NO_COMMAND = "no emotion was commanded"
NO_SOUND = "the sound of these frames is not known"
_AUE = {
    "aue_u": metrics_face.UPPER_AUS,
    "aue_l": metrics_face.LOWER_AUS,
    "aue": metrics_face.UPPER_AUS + metrics_face.LOWER_AUS,
}
_AUE_REST = {"aue_u_rest": metrics_face.UPPER_AUS, "aue_l_rest": metrics_face.LOWER_AUS}
_COMPARED = ("lmd", *_AUE, *_AUE_REST)
_STEADY = ("jitter_head", "flicker")
_EMOTION = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3")
_SYNC = ("sync_e", "sync_c")
_ALL = (*_COMPARED, *_SYNC, *_EMOTION, "identity", *_STEADY, "mouth_in_silence")
_SILENCE_S = 1.0
"""Silence, and speech, that the mouth's motion in silence must rest on: a closing of the lips takes .2 s."""


@dataclass(frozen=True)
class Asked:
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

    def __init__(self, subject: Subject, judges: Judges, asked: Asked) -> None:
        self._asked, self._judge, self._fps = asked, judges.emotion, float(subject.fps)
        self._expert, self._identity, self._count = judges.sync, judges.identity, 0
        self._no_sync, self._no_identity, self._person = judges.no_sync, judges.no_identity, None
        self.shown: Faces | None = None
        """What was seen of the scored frames, after :meth:`figures`."""
        self.reading: Reading | None = None
        """What the judge of emotion said of them; nan where there was no face."""
        self.sync: SyncScores | None = None
        """What the expert said of lips and sound."""
        self._observer = self._true_observer = None
        self._why = NO_DETECTOR
        if judges.landmarks is None:
            return
        provider = judges.landmarks()
        self._detector, self._reference = provider.name, Reference.of(subject, provider)
        if self._reference is None:
            provider.close()
            self._why = f"no face was found in the frames of {subject.files.root}"
            return
        lookers = {} if judges.emotion is None else {"emotion": Looker(judges.emotion.look)}
        if self._identity is not None:
            self._person = self._identity.person(subject, provider)
            self._no_identity = f"no face was found in the training frames of {subject.files.root}"
            lookers["identity"] = Looker(self._identity.recogniser.describe, self._stride())
        provider.close()
        self._lips = None if self._expert is None else SyncMeter(self._expert, self._fps)
        then = None if self._lips is None else self._lips.add
        self._observer = FaceObserver(self._reference, judges.landmarks, lookers, then)
        if asked.indices is not None:
            self._true_observer = FaceObserver(self._reference, judges.landmarks)

    def _stride(self) -> int:
        """Frames from one look of the recogniser to the next."""
        indices = self._asked.indices
        step = 1 if indices is None else self._asked.runs(len(indices))[1]
        return max(round(EVERY_S * self._fps / step), 1)

    def see(self, shown: Shown) -> None:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        self._count += 1
        if self._observer is not None:
            self._observer.see(shown.picture)
        if self._true_observer is not None and shown.truth is not None:
            self._true_observer.see(shown.truth.picture)

    def close(self) -> None:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        for observer in (self._observer, self._true_observer):
            if observer is not None:
                observer.close()

    def figures(self) -> list[Figure]:
        """See :class:`~emotalking.evaluate.pixels.Meter`."""
        if self._observer is None:
            return [absent(name, self._why) for name in _ALL]
        faces, truth = self._observer.faces(), None if self._true_observer is None else self._true_observer.faces()
        if faces is None:
            return [absent(name, NO_FACE, self._count) for name in _ALL]
        self.shown = faces
        runs, step = self._asked.runs(self._count)
        rate = self._fps / step
        assert self._reference is not None
        units = faces.units(self._reference.rest, runs, rate)
        own = [*self._identities(faces), *self._steadiness(faces, runs), self._silence(faces, runs)]
        if truth is None:
            why = NO_TRUTH if self._true_observer is None else "no face was found in the recorded frames"
            compared = [absent(name, why, self._count) for name in _COMPARED]
        else:
            compared = self._compare(faces, truth, units, truth.units(self._reference.rest, runs, rate))
            own += [_as_truth(f) for f in (*self._steadiness(truth, runs), self._silence(truth, runs))]
        return [*compared, *self._in_sync(faces), *self._emotion(faces, units, runs, rate), *own]

    def _compare(
        self, faces: Faces, truth: Faces, units: dict[str, np.ndarray], true_units: dict[str, np.ndarray]
    ) -> list[Figure]:
        why = "no frame shows a face both in the recording and in what is scored"
        distance = metrics_face.landmark_distance(faces.points, truth.points)
        errors = {name: metrics_face.unit_error(units, true_units, aus) for name, aus in _AUE.items()}
        errors |= {name: metrics_face.unit_power(true_units, aus) for name, aus in _AUE_REST.items()}
        reader = f"action units ({self._detector})"
        return [
            per_frame("lmd", distance, self._detector, why),
            *(per_frame(name, values, reader, why) for name, values in errors.items()),
        ]

    def _in_sync(self, faces: Faces) -> list[Figure]:
        samples = self._asked.samples
        lost = int((~faces.found).sum())
        if self._expert is None or self._lips is None or samples is None:
            why = NO_SOUND if self._expert is not None else self._no_sync
            return [absent(name, why, self._count) for name in _SYNC]
        try:
            self.sync = self._lips.scores(samples)
        except UserError as error:
            return [absent(name, str(error), self._count) for name in _SYNC]
        found = self.sync
        values = {"sync_e": (found.error, found.per_window), "sync_c": (found.confidence, found.margin)}
        return [
            replace(single(name, value, found.expert, int(np.isfinite(each).sum()), lost), per_frame=each)
            for name, (value, each) in values.items()
        ]

    def _steadiness(self, faces: Faces, runs: Sequence[slice]) -> list[Figure]:
        why = "fewer than three frames in a row show a face"
        jitter = _by_run(metrics_face.point_jitter, faces.rigid, runs)
        flicker = _by_run(metrics_face.flicker, faces.tones, runs)
        inside = _inside(self._count, runs)
        return [
            per_frame("jitter_head", jitter, self._detector, why, wanted=inside),
            per_frame("flicker", flicker, self._detector, why, wanted=inside),
        ]

    def _silence(self, faces: Faces, runs: Sequence[slice]) -> Figure:
        samples, name = self._asked.samples, "mouth_in_silence"
        if samples is None:
            return absent(name, NO_SOUND, self._count)
        gate = speech_track([samples]).frames(0, self._count, self._fps)
        energy = _by_run(metrics_face.opening_energy, lip_gap(faces.points), runs)
        known = np.isfinite(energy)
        quiet, loud = int((known & (gate <= 0)).sum()), int((known & (gate >= 1)).sum())
        lost, least = int((~faces.found).sum()), round(_SILENCE_S * self._fps)
        if quiet < least or loud < least:
            why = f"it would rest on {quiet} frames of silence and {loud} of speech: {least} of each are needed"
            return single(name, float("nan"), self._detector, quiet, lost, why)
        ratio = metrics_face.silence_ratio(energy, gate)
        return single(name, ratio, self._detector, quiet, lost, "" if np.isfinite(ratio) else "the mouth never moves")

    def _identities(self, faces: Faces) -> list[Figure]:
        """Of the frames, and of the recording's own held-out frames."""
        names, judge, person = ("identity", "identity_truth"), self._identity, self._person
        if judge is None or person is None:
            return [absent(name, self._no_identity, self._count) for name in names]
        wanted = np.arange(self._count) % self._stride() == 0
        seen = faces.looks.get("identity")
        alike = np.full(self._count, np.nan) if seen is None else identity_similarity(seen, person.vector)
        why = "no frame that was looked at shows a face"
        return [per_frame(names[0], alike, judge.name, why, wanted=wanted), _own_identity(person, judge.name)]

    def _emotion(self, faces: Faces, units: dict[str, np.ndarray], runs: Sequence[slice], rate: float) -> list[Figure]:
        judge, va = self._judge, self._asked.va
        if judge is None:
            return [absent(name, "no judge of emotion was asked for", self._count) for name in _EMOTION]
        self.reading = read_emotion(judge, faces, units, runs, rate)
        if va is None:
            return [absent(name, NO_COMMAND, self._count) for name in _EMOTION]
        measured = self.reading.va
        out = []
        for axis, letter in enumerate("va"):
            error = metrics_emotion.squared_error(measured[:, axis], va[:, axis].astype(np.float64))
            out.append(per_frame(f"{letter}_rmse", error, judge.name, summary=root_mean))
        for axis, letter in enumerate("va"):
            same = metrics_emotion.sign_agreement(measured[:, axis], va[:, axis].astype(np.float64))
            out.append(per_frame(f"{letter}_sa", same, judge.name))
        labels = metrics_emotion.label_of(va.astype(np.float64), self._asked.labels)
        place = metrics_emotion.ranks(self.reading.scores, judge.classes, labels)
        why = "the commanded emotions are none of the labelled points, or the judge knows none of their labels"
        labelled = np.array([label is not None for label in labels])
        out += [
            per_frame(f"e_top{k}", metrics_emotion.top_k(place, k), judge.name, why, wanted=labelled) for k in (1, 3)
        ]
        return out


def read_emotion(
    judge: EmotionJudge, faces: Faces, units: dict[str, np.ndarray], runs: Sequence[slice], fps: float | int
) -> Reading:
    """The judge's verdict on all frames, each run for itself; nan where there is no face."""
    count = len(faces.found)
    va, scores = np.full((count, 2), np.nan), np.full((count, len(judge.classes)), np.nan)
    for run in runs:
        seen = np.arange(count)[run][faces.found[run]]
        if len(seen):
            said = judge.read(faces.looks["emotion"][seen], {name: values[seen] for name, values in units.items()}, fps)
            va[seen], scores[seen] = said
    return Reading(va, scores)


def _by_run(work: Callable[[np.ndarray], np.ndarray], values: np.ndarray, runs: Sequence[slice]) -> np.ndarray:
    return np.concatenate([work(values[run]) for run in runs])


def _inside(count: int, runs: Sequence[slice]) -> Bool[np.ndarray, " N"]:
    """Frames that have a neighbour on both sides within their run."""
    inside = np.zeros(count, bool)
    for run in runs:
        inside[run.start + 1 : run.stop - 1] = True
    return inside


def _own_identity(person: Person, judge: str) -> Figure:
    if len(person.own) == 0:
        return absent("identity_truth", "no held-out frame of the recording shows a face", person.missed)
    return single("identity_truth", float(person.own.mean()), judge, len(person.own), person.missed)


def _as_truth(figure: Figure) -> Figure:
    """The same figure, of the recording."""
    name = f"{figure.name}_truth"
    if figure.per_frame is None:
        return single(name, figure.value, figure.judge, figure.frames, figure.missing, figure.why_not)
    return per_frame(name, figure.per_frame, figure.judge, figure.why_not)
