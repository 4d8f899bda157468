"""A seeded script of how the actor moves and speaks, like a short clip of a person talking to the camera."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from emotalking.testing.actor.actor import head_viewmat
from emotalking.testing.actor.speech import Segment, babble, synthesize, viseme_curves
from emotalking.testing.actor.spoken import SpokenText
from emotalking.testing.actor.state import ActorState, Viseme


def wander(
    times: Float[np.ndarray, "T"], rng: np.random.Generator, slowest_hz: float, fastest_hz: float
) -> Float[np.ndarray, "T"]:
    """Smooth random curve of mean 0 and standard deviation about 1."""
    count = 7
    frequency = np.exp(rng.uniform(np.log(slowest_hz), np.log(fastest_hz), count))
    weight = (slowest_hz / frequency) ** 0.5
    phase = rng.uniform(0, 2 * np.pi, count)
    curve = (weight * np.sin(2 * np.pi * frequency * times[:, None] + phase)).sum(1)
    return curve / np.sqrt((weight**2).sum() / 2)


def _blinks(times: Float[np.ndarray, "T"], rng: np.random.Generator) -> Float[np.ndarray, "T"]:
    """AU45 over time: a blink every few seconds, closing fast and opening slower."""
    level = np.zeros_like(times)
    at = rng.uniform(0.6, 1.6)
    while at < times[-1] + 0.5:
        late = times - at
        shape = np.where(late < 0, np.exp(-((late / 0.045) ** 2)), np.exp(-((np.maximum(late - 0.03, 0) / 0.085) ** 2)))
        level = np.maximum(level, rng.uniform(1.8, 2.0) * shape)
        at += rng.uniform(1.6, 4.2)
    return level


@dataclass(frozen=True)
class Performance:
    """State of each frame, and the audio."""

    states: tuple[ActorState, ...]
    waveform: Float32[np.ndarray, "S"]
    """16 kHz mono; frame i shows the middle of ``[i / fps, (i + 1) / fps)``."""
    segments: tuple[Segment, ...]
    """The sounds and their times."""
    fps: float

    @classmethod
    def generate(
        cls,
        seconds: float,
        seed: int = 0,
        fps: float = 25.0,
        emotion: tuple[float, float] = (0.0, 0.0),
        speech: SpokenText | None = None,
    ) -> "Performance":
        """A talking take: slow head motion, blinks, brows, speech; emotion wanders a little about ``emotion``.

        Args:
            seconds: length, at least one frame.
            seed: same seed, same take.
            fps: frames per second.
            emotion: mean (valence, arousal), each in [-1, 1].
            speech: what is said, as long as the take; None: the actor's own babble.

        Raises:
            ValueError: if the take has no frame.
        """
        count = round(seconds * fps)
        if count < 1:
            raise ValueError(f"seconds: expected at least one frame (1/{fps} s), got {seconds}")
        rng = np.random.default_rng(seed)
        times = (np.arange(count) + 0.5) / fps
        own = babble(count / fps, int(rng.integers(2**31)))  # drawn with speech too: the head moves the same
        segments = own if speech is None else speech.segments
        mouth = viseme_curves(segments, times)
        yaw = np.radians(7.0) * wander(times, rng, 0.06, 0.35)
        pitch = np.radians(2.8) * wander(times, rng, 0.08, 0.5) + np.radians(0.8) * wander(times, rng, 0.5, 1.5)
        roll = np.radians(2.0) * wander(times, rng, 0.06, 0.4)
        shift = np.stack(
            [
                0.005 * wander(times, rng, 0.05, 0.3),
                0.003 * wander(times, rng, 0.05, 0.3),
                0.008 * wander(times, rng, 0.04, 0.2),
            ],
            -1,
        )
        brows = {
            "AU01": np.clip(0.9 * wander(times, rng, 0.15, 1.0) - 0.1, 0, 3),
            "AU02": np.clip(0.9 * wander(times, rng, 0.15, 1.0) - 0.1, 0, 3),
            "AU04": np.clip(0.9 * wander(times, rng, 0.1, 0.7) - 0.3, 0, 3),
            "AU05": np.clip(0.6 * wander(times, rng, 0.15, 0.9) - 0.2, 0, 2),
            "AU06": np.clip(0.6 * wander(times, rng, 0.08, 0.5) - 0.2, 0, 2),
            "AU07": np.clip(0.6 * wander(times, rng, 0.08, 0.5) - 0.2, 0, 2),
            "AU45": _blinks(times, rng),
        }
        valence = np.clip(emotion[0] + 0.14 * wander(times, rng, 0.05, 0.25), -1, 1)
        arousal = np.clip(emotion[1] + 0.12 * wander(times, rng, 0.05, 0.25), -1, 1)
        glance = np.round(np.stack([wander(times, rng, 0.2, 0.8), 0.5 * wander(times, rng, 0.2, 0.8)], -1)) * 0.05
        gaze = glance - 0.9 * np.stack([yaw, pitch], -1)  # the eyes stay on the camera
        sway = 0.35 * shift[:, :2] + np.stack(
            [0.0012 * wander(times, rng, 0.05, 0.3), 0.0008 * wander(times, rng, 0.15, 0.3)], -1
        )
        states = tuple(
            ActorState(
                viewmat=head_viewmat(yaw[i], pitch[i], roll[i], (shift[i, 0], shift[i, 1], shift[i, 2])),
                aus={name: float(curve[i]) for name, curve in brows.items()},
                viseme=Viseme(*(float(value) for value in mouth[i])),
                valence=float(valence[i]),
                arousal=float(arousal[i]),
                gaze=(float(gaze[i, 0]), float(gaze[i, 1])),
                torso_shift=(float(sway[i, 0]), float(sway[i, 1])),
            )
            for i in range(count)
        )
        waveform = synthesize(segments, seed) if speech is None else speech.waveform
        return cls(states, waveform, segments, fps)
