"""Metrics of what moves that should not, and of speed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float

from emotalking.audio.vad import voice_activity
from emotalking.data.frame import lip_gap
from emotalking.evaluate.faces import Faces
from emotalking.evaluate.metrics.base import Metric, MetricSpec, missing, per_frame, register, single
from emotalking.evaluate.observation import Observation

_SILENCE_S = 1.0
"""Silence, and speech, that the mouth's motion in silence must rest on: closing the lips takes .2 s."""


def second_difference(values: Float[np.ndarray, "N *rest"]) -> Float[np.ndarray, "N *rest"]:
    """v[t - 1] - 2 v[t] + v[t + 1]; nan in the first and last frame and next to nan.

    What moves evenly has none; motion that is slow against the frames has next to none.
    """
    out = np.full(values.shape, np.nan)
    out[1:-1] = values[:-2] - 2 * values[1:-1] + values[2:]
    return out


def point_jitter(points: Float[np.ndarray, "N R 2"]) -> Float[np.ndarray, " N"]:
    """Length of the second difference in time, mean over points that sit on the skull, px a frame squared.

    Real heads and every detector have some too: compare with the same metric of the recording.
    """
    return np.linalg.norm(second_difference(points), axis=-1).mean(1)


def flicker(tones: Float[np.ndarray, "N B B"]) -> Float[np.ndarray, " N"]:
    """Second difference in time of the brightness of B x B blocks of the face, absolute; the median over the blocks.

    The blocks move with the head; blinks and words change a few of them only, which the median passes over.
    """
    change = np.abs(second_difference(tones)).reshape(len(tones), -1)
    return np.median(change, 1)


def opening_energy(opening: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Squared change of the gap (``data.frame.lip_gap``) since the frame before, px^2; nan in the first frame."""
    return np.concatenate([[np.nan], np.diff(opening) ** 2])[: len(opening)]


def silence_ratio(energy: Float[np.ndarray, " N"], gate: Float[np.ndarray, " N"]) -> float:
    """Mean energy of the mouth's motion in silence over that in speech; 0: still in silence, 1: as lively as in speech.

    Args:
        energy: of :func:`opening_energy`.
        gate: 1 in speech, 0 in silence (:class:`emotalking.audio.vad.VoiceActivity`); frames between count for
            neither, since lips may close there.

    Returns:
        nan if there is no silence, no speech, or no motion in speech.
    """
    known = ~np.isnan(energy)
    quiet, loud = energy[known & (gate <= 0)], energy[known & (gate >= 1)]
    if len(quiet) == 0 or len(loud) == 0 or loud.mean() == 0:
        return float("nan")
    return float(quiet.mean() / loud.mean())


def _faces(name: str, run: Observation) -> Faces:
    """Faces that a metric is measured on: those of the recording for its reference."""
    return run.recorded_faces if name.endswith("_truth") else run.faces


def _jitter(name: str, run: Observation) -> Metric:
    return per_frame(name, run.by_run(point_jitter, _faces(name, run).rigid), run.detector, run.inside)


def _flicker(name: str, run: Observation) -> Metric:
    return per_frame(name, run.by_run(flicker, _faces(name, run).tones), run.detector, run.inside)


def _background(name: str, run: Observation) -> Metric:
    series = run.recorded_background if name.endswith("_truth") else run.background
    return per_frame(name, series, wanted=np.isfinite(series))


def _mouth_in_silence(name: str, run: Observation) -> Metric:
    faces, samples = _faces(name, run), run.condition.samples
    assert samples is not None
    gate = voice_activity([samples]).frames(0, run.count, run.clip_fps)
    energy = run.by_run(opening_energy, lip_gap(faces.points))
    known = np.isfinite(energy)
    quiet, loud = int((known & (gate <= 0)).sum()), int((known & (gate >= 1)).sum())
    lost, least = int((~faces.found).sum()), round(_SILENCE_S * run.clip_fps)
    if quiet < least or loud < least:
        reason = f"it would rest on {quiet} frames of silence and {loud} of speech: {least} of each are needed"
        return single(name, float("nan"), run.detector, quiet, lost, reason)
    ratio = silence_ratio(energy, gate)
    return single(name, ratio, run.detector, quiet, lost, "" if np.isfinite(ratio) else "the mouth never moves")


def _fps(name: str, run: Observation) -> Metric:
    """Frames per second by the median wait, without warm-up frames and stalls."""
    return rate_of(run.seconds or ())


def rate_of(seconds: Sequence[float]) -> Metric:
    """Metric "fps" of the waits for frames."""
    if not seconds:
        return missing("fps", "no frame came")
    return single("fps", 1 / max(float(np.median(seconds)), 1e-9), frames=len(seconds))


def _register(name: str, spec: MetricSpec) -> None:
    """A metric and its reference on the recording, where lower is better."""
    register(name, replace(spec, better="lower", consecutive=True, of_recording=True))
    needs = tuple("recorded_faces" if need == "faces" else need for need in spec.needs)
    needs = ("faces", *needs) if "faces" in spec.needs else ("recording",)
    register(f"{name}_truth", replace(spec, title=f"{spec.title} of the recording", needs=needs, reference=True))


_in_a_row = partial(MetricSpec, undefined="fewer than three frames in a row show a face", needs=("faces",))
_register("jitter_head", _in_a_row("head jitter", "px", measure=_jitter))
_register(
    "jitter_background",
    MetricSpec(
        "background jitter",
        "grey levels",
        measure=_background,
        undefined="the clip shows no background, or there are fewer than three frames in a row",
    ),
)
_register("flicker", _in_a_row("flicker", "grey levels", measure=_flicker))
_register(
    "mouth_in_silence", MetricSpec("mouth motion in silence", measure=_mouth_in_silence, needs=("faces", "sound"))
)
register(
    "fps",
    MetricSpec(
        "FPS",
        "frames/s",
        "higher",
        1,
        measure=_fps,
        needs=("timing",),
        source="clock",
        reproducible=False,
        columns={"self": 8},
    ),
)
