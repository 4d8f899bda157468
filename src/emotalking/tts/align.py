"""Word and sound times of a recording whose words are known, by warping a synthetic reading of them onto it.

Source: dynamic time warping (Sakoe and Chiba 1978) against synthesised speech, as in aeneas and, before it, Malfrere
and Dutoit 1997; the spectra are the house's normalised mel steps, which forget voice and microphone.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from emotalking.audio.mel import HOP, log_mel
from emotalking.errors import UserError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.tts.base import Timed, Utterance

LONGEST_S = 60.0
"""Recordings longer than this are left without times: the path through them costs their length squared."""
_STEP_S = HOP / SAMPLE_RATE
_STALL = 0.4
"""Cost of a recorded step without a step of the reading, or with two, relative to the mean distance: keeps the path
near the diagonal where the spectra do not decide."""


def align(utterance: Utterance) -> Utterance:
    """``utterance`` with the times of its words and sounds; unchanged if it has no text, is longer than a minute, or
    espeak-ng is not installed or does not speak its language."""
    if not utterance.text or utterance.seconds > LONGEST_S:
        return utterance
    from emotalking.tts.espeak import EspeakSpeaker

    try:
        reading = EspeakSpeaker().say(utterance.text, language=utterance.language)
    except UserError:
        return utterance
    return warped(reading, utterance)


def warped(reading: Utterance, recording: Utterance) -> Utterance:
    """``recording`` with the times of ``reading``, moved to where the recording has the same sounds.

    Words and sounds without a place in the recording are left out. Unchanged if one of them is silent, or the
    recording is less than half as long as the reading.
    """
    theirs, ours = (log_mel([each.samples])[:] for each in (reading, recording))
    if not theirs.any() or not ours.any():
        return recording
    first, last = _extent(theirs)
    if last - first + 2 > 2 * len(ours) - 1:
        return recording
    # A step of silence at both ends of the reading takes what the recording has before and behind the words.
    steps = first - 1 + warp_path(ours, np.pad(theirs[first:last], ((1, 1), (0, 0))))

    def moved(timed: tuple[Timed, ...] | None) -> tuple[Timed, ...] | None:
        if timed is None:
            return None
        edges = np.array([[each.start_s, each.end_s] for each in timed]).reshape(-1, 2) / _STEP_S
        times = np.interp(edges.clip(first, last), steps + 0.5, np.arange(len(steps)) + 0.5) * _STEP_S
        placed = zip(timed, times, strict=True)
        return tuple(Timed(each.label, float(start), float(stop)) for each, (start, stop) in placed if stop > start)

    return replace(recording, words=moved(reading.words), phonemes=moved(reading.phonemes))


def _extent(spectra: np.ndarray) -> tuple[int, int]:
    """First step that sounds, and the one behind the last."""
    sounding = np.flatnonzero(spectra.any(1))
    return int(sounding[0]), int(sounding[-1]) + 1


def warp_path(ours: Float[np.ndarray, "n channels"], theirs: Float[np.ndarray, "m channels"]) -> Int[np.ndarray, " n"]:
    """For each of our steps the step of theirs that sounds most alike: non-decreasing, from the first to the last.

    Each of our steps takes the same step of theirs again, the next, or the one after the next, which needs m < 2 n.
    """
    n, m = len(ours), len(theirs)
    squares = (ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2.0 * ours @ theirs.T
    distance = np.sqrt(np.maximum(squares, 0.0))
    uneven = np.where(theirs.any(1), _STALL * distance.mean(), 0.0)  # silence may last
    total = np.full(m, np.inf)
    total[0] = distance[0, 0]
    moves = np.zeros((n, m), np.uint8)
    for step in range(1, n):
        options = np.full((3, m), np.inf)
        options[0] = total + uneven
        options[1, 1:] = total[:-1]
        options[2, 2:] = total[:-2] + uneven[2:]
        moves[step] = options.argmin(0)
        total = options.min(0) + distance[step]
    path = np.empty(n, np.int64)
    path[-1] = m - 1
    for step in range(n - 1, 0, -1):
        path[step - 1] = max(path[step] - moves[step, path[step]], 0)
    return path
