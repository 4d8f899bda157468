"""Audio features that are hidden states of a phoneme recogniser: what the lips follow best, of any voice.

144 numbers every 20 ms: the state after the second block of the package hama's network (:mod:`audio.hama_model`), less
that of digital silence, so that 0 is about silence, as is the time outside a recording. They need neither the
recording's level nor its mean, so the same values come from a whole file and from a live stream (:class:`HamaWindows`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby, islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.audio.hama_model import STRIDE, WIDTH, hama_network
from emotalking.audio.pieces import overlapping
from emotalking.audio.streams import FeatureStream, PendingWindow, known_window
from emotalking.audio.tracks import StepFeatures
from emotalking.audio.windows import PAST_FRAMES
from emotalking.data.audio_features import AudioFeature
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows

PIECE, MARGIN = 1000, 100
"""Steps of a piece of a long recording, and steps of context on each side of it (20 s and 2 s)."""
BATCH = 4
"""Pieces computed at once."""
LIVE_S = 2.0
"""Sound that a live window is computed of."""

_SHORTEST = 2 * STRIDE
"""Samples that the network needs; less is followed by silence."""


def track(chunks: Iterable[Float[np.ndarray, " n"]], feature: AudioFeature) -> StepFeatures:
    """Features of one recording, two steps of 20 ms a video frame, in memory that does not grow with its length.

    Attention sees a piece of 20 s and 2 s on either side of it. The result does not depend on the chunks.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        feature: the row of these features.

    Raises:
        MissingModelError: the package hama is missing.
        InputError: its weight file is another one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = hama_network(device)
    values = GrowingRows(WIDTH)
    total = 0
    for _, same in groupby(overlapping(chunks, PIECE, MARGIN, STRIDE), lambda piece: len(piece.samples)):
        while batch := list(islice(same, BATCH)):
            samples = torch.from_numpy(np.stack([padded(piece.samples) for piece in batch])).to(device)
            for piece, states in zip(batch, network.states(samples), strict=True):
                values.append(_steps(states, piece.before, piece.steps, _silence(device)).cpu().numpy())
                total += piece.length
    return StepFeatures(values, feature.rate_hz, feature.steps, total / SAMPLE_RATE, lead=1)


def padded(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Samples that the network can take."""
    if len(samples) < _SHORTEST:
        samples = np.pad(samples, (0, _SHORTEST - len(samples)))
    return samples.clip(-1.0, 1.0)


def _steps(
    states: Float[Tensor, "T 144"], first: int, steps: int, silence: Float[Tensor, " 144"]
) -> Float[Tensor, "steps 144"]:
    """Features of ``steps`` steps from ``first`` on: states lie on the edges of steps, and the mean of two between."""
    edges = states[first : first + steps + 1]
    if len(edges) <= steps:  # the recording ends within the last step
        edges = torch.cat([edges, edges[-1:]])
    return (edges[:-1] + edges[1:]) / 2 - silence


@cache
def _silence(device: str) -> Float[Tensor, " 144"]:
    """State of digital silence, far from where it begins and ends."""
    states = hama_network(device).states(torch.zeros(1, PIECE * STRIDE, device=device))[0]
    return states[len(states) // 2]


def streams(feature: AudioFeature, device: torch.device) -> Callable[[], FeatureStream]:
    """What makes a stream of these features for each utterance; the network is read here.

    Raises:
        MissingModelError: the package hama is missing.
        InputError: its weight file is another one.
    """
    network = _windows(feature, str(device))
    return lambda: HamaWindows(network)


@cache
def _windows(feature: AudioFeature, device: str) -> "_Windows":
    """One for all who hear on a device: their windows are computed together."""
    return _Windows(feature, device)


@dataclass(frozen=True)
class _Heard:
    """Sound that a window is computed of."""

    sound: Float[np.ndarray, " n"]
    first: int
    """Step of the utterance at which it begins."""
    frame: int
    fps: Fraction


class _Windows:
    """The network for windows, many at once."""

    def __init__(self, feature: AudioFeature, device: str) -> None:
        self._feature = feature
        self._network = hama_network(device)
        self._silence = _silence(device).cpu()

    def __call__(self, windows: Sequence[PendingWindow]) -> list[Float[Tensor, "8 C steps"]]:
        heard = [window.inputs for window in windows if isinstance(window.inputs, _Heard)]
        counts = [len(each.sound) // STRIDE for each in heard]
        # Not below 0, where the sound ended before a window begins.
        wanted = [max(0, min(count, self._wanted(each))) for count, each in zip(counts, heard, strict=True)]
        # A sound that was too short is followed by silence, whose states are not wanted.
        after = [max(0, _SHORTEST // STRIDE - count) for count in counts]
        last = max(map(sum, zip(wanted, after, strict=True))) + 1
        states = self._network.last_states([padded(each.sound) for each in heard], last).cpu()  # one copy for all
        made = []
        for each, count, steps, rest, row in zip(heard, counts, wanted, after, states, strict=True):
            edges = row[len(row) - rest - steps - 1 :]
            known = _steps(edges, 0, steps, self._silence).numpy()
            made.append(known_window(known, each.first + count - steps, self._feature, each.frame, each.fps, lead=1))
        return made

    def _wanted(self, heard: _Heard) -> int:
        """Last steps of the sound that the window has."""
        begin = int((heard.frame - PAST_FRAMES) * self._feature.rate_hz / heard.fps) - 1
        return heard.first + len(heard.sound) // STRIDE - max(heard.first, begin)


class HamaWindows:
    """Windows of one utterance while it comes in (:class:`~emotalking.audio.streams.FeatureStream`).

    Each is computed anew of the last `LIVE_S` seconds, so that its first steps have the future that its last ones
    lack. With 80 ms of future the steps differ from those of the whole file by a third of a channel's standard
    deviation (root mean square), since attention has less past; benchmarks/lips.py --causal measures what lips lose.
    """

    def __init__(self, network: _Windows) -> None:
        self._network = network
        self._sound = np.zeros(0, np.float32)
        self._first = 0
        """Step at which the sound that is kept begins."""

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append sound."""
        sound = np.concatenate([self._sound, samples])
        dropped = max(0, len(sound) // STRIDE - round(LIVE_S * SAMPLE_RATE) // STRIDE)
        self._sound = sound[dropped * STRIDE :]
        self._first += dropped

    def finish(self) -> None:
        """No sound follows: a step that was begun counts."""
        self._sound = np.pad(self._sound, (0, -len(self._sound) % STRIDE))

    def window(self, frame: int, fps: Fraction) -> PendingWindow:
        """The window of a frame."""
        whole = len(self._sound) // STRIDE * STRIDE
        return PendingWindow(None, self._network, _Heard(self._sound[:whole], self._first, frame, fps))
