"""What the models saw in a run, as the plots need it: small, and ready for JSON."""

from typing import Any

import numpy as np
from jaxtyping import Float

from emotalking.evaluate.observation import Observation
from emotalking.evaluate.results import to_json

RIGID = (27, 28, 29, 30, 36, 39, 42, 45)
"""iBUG points that move with the skull alone: bridge of the nose, corners of the eyes."""
_SHORTEST = 16
"""Frames that a spectrum needs."""


def observation_record(observation: Observation, fps: float | int, consecutive: bool) -> dict[str, Any]:
    """Valence/arousal and expression per frame, the sync curve, and the head's jitter by frequency.

    Args:
        fps: frames a second.
        consecutive: the frames follow each other in time; else there is no spectrum.

    Returns:
        `va` [N, 2]; `classes` and `expressions` (the likeliest class of each frame, -1 without a face); `sync` with
        `expert`, `error`, `confidence`, `offset` [frames] and `curve`; `spectrum` with `hz` and `px`; each None where
        nobody looked.
    """
    facts: dict[str, Any] = {"va": None, "classes": None, "expressions": None, "sync": None, "spectrum": None}
    if observation.found is None:
        return facts
    prediction, model = observation.prediction, observation.models.emotion
    if prediction is not None and model is not None:
        blind = np.isnan(prediction.scores).any(-1)
        facts["va"] = prediction.va
        facts["classes"] = list(model.classes)
        facts["expressions"] = np.where(blind, -1, np.nan_to_num(prediction.scores).argmax(-1)).tolist()
    if observation.sync is not None:
        names = ("error", "confidence", "offset")
        facts["sync"] = {"expert": observation.sync.expert, "curve": np.asarray(observation.sync.curve, np.float64)}
        facts["sync"] |= {name: float(getattr(observation.sync, name)) for name in names}
    if consecutive:
        facts["spectrum"] = jitter_spectrum(observation.points, fps)
    return to_json(facts)


def jitter_spectrum(points: Float[np.ndarray, "N 68 2"], fps: float | int) -> dict[str, Any] | None:
    """Amplitude of the head's motion in the image by frequency: RMS over rigid points and both axes.

    Args:
        points: landmarks in pixels, nan without a face (bridged by straight lines).
        fps: frames a second.

    Returns:
        `hz` and `px` (a sine of amplitude a stands out as a); None for fewer than 16 frames with a face.
    """
    tracks = points[:, RIGID].reshape(len(points), -1).astype(np.float64)
    there = ~np.isnan(tracks).any(-1)
    if there.sum() < _SHORTEST:
        return None
    times = np.arange(len(tracks))
    whole = np.stack([np.interp(times, times[there], track[there]) for track in tracks.T], -1)
    slope = np.stack([np.ones(len(times)), times], -1)
    whole = whole - slope @ np.linalg.lstsq(slope, whole, rcond=None)[0]
    window = np.hanning(len(whole) + 2)[1:-1, None]
    amplitude = 2 * np.abs(np.fft.rfft(whole * window, axis=0)) / window.sum()
    return {"hz": np.fft.rfftfreq(len(whole), 1 / float(fps)), "px": np.sqrt((amplitude**2).mean(-1))}
