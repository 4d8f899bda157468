"""Drive the lips with an audio feature of your own: python custom_audio_feature.py SUBJECT AVATAR [KEY=VALUE ...].

The feature here is the level in four frequency bands. Training computes it for the clip's sound and keeps it in the
subject folder; a program that renders the avatar registers it in the same way.
"""

import sys
from collections.abc import Iterable

import numpy as np

import emotalking
from emotalking.audio.tracks import StepFeatures
from emotalking.data.audio_features import AUDIO_FEATURES, AudioFeature

RATE_HZ, STEP = 50.0, 320
"""Steps per second, and samples per step at 16 kHz."""
BANDS_HZ = ((0, 500), (500, 1500), (1500, 3500), (3500, 8000))


def track(chunks: Iterable[np.ndarray], feature: AudioFeature) -> StepFeatures:
    """Levels of the bands in each 20 ms of float32 mono sound at 16 kHz, scaled to deviation 1."""
    samples = np.concatenate(list(chunks))
    steps = np.pad(samples, (0, -len(samples) % STEP)).reshape(-1, STEP)
    power = np.abs(np.fft.rfft(steps * np.hanning(STEP))) ** 2
    frequency = np.fft.rfftfreq(STEP, 1 / 16000)
    bands = [power[:, (frequency >= low) & (frequency < high)].sum(1) for low, high in BANDS_HZ]
    level = np.log(np.stack(bands, 1) + 1e-6)
    values = ((level - level.mean(0)) / (level.std(0) + 1e-6)).astype(np.float32)
    return StepFeatures(values, RATE_HZ, feature.steps, len(samples) / 16000)


AUDIO_FEATURES["level"] = AudioFeature("level", "level", steps=16, channels=len(BANDS_HZ), module=__name__)

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    subject, avatar, *settings = sys.argv[1:]
    emotalking.train(subject, avatar, preset="tiny", settings=["model.audio.features=level", *settings])
