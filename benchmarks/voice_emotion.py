"""Emotion that is heard in voices: what it says of recordings, and what must not change it.

    python benchmarks/voice_emotion.py [--pair WAV ...] [--recordings WAV ...] [--stream FILE]

``--pair`` are takes of one person: calm, and with strong emotion; the mean arousal of each alone, and of both in one
recording (there their levels can be compared). Of every recording: mean and 5th to 95th percentile of valence and
arousal, and how far (mean absolute difference) they move when the level is 20 dB lower or higher, through a telephone
(300 to 3400 Hz, 8 kHz), and in noise 20 dB under the speech. Speech of the built-in synthesizer is manipulated in what
the rules listen for: pitch, brightness and rate. The stream is timed, and compared with the whole recording, also with
what that was some time ago.
"""

import time
from typing import Any

import numpy as np
from _report import arguments, write
from scipy.signal import butter, sosfilt

from emotalking.emotion.voice import VoiceEmotion, voice_emotion
from emotalking.io.audio import SAMPLE_RATE, load_audio, resample
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.timing import change_tempo

TEXT = (
    "I went to the market this morning, and there was nobody at all. She told me that the train would be late, so we "
    "walked along the river and talked about the summer."
)
PUSH = SAMPLE_RATE // 25


def curve(samples: np.ndarray) -> np.ndarray:
    """Valence and arousal every 0.2 s [T, 2]."""
    times = np.arange(0.1, len(samples) / SAMPLE_RATE, 0.2)
    return voice_emotion([samples]).at(times)


def telephone(samples: np.ndarray) -> np.ndarray:
    """A narrow band, at 8 kHz and back."""
    band = butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE, output="sos")
    return resample(resample(np.asarray(sosfilt(band, samples)), SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)


def noisy(samples: np.ndarray) -> np.ndarray:
    """Pink noise 20 dB under the mean power."""
    white = np.fft.rfft(np.random.default_rng(0).normal(size=len(samples)))
    pink = np.fft.irfft(white / np.sqrt(np.arange(len(white)) + 20), len(samples))
    return (samples + pink / pink.std() * samples.std() / 10).astype(np.float32)


def brighter(samples: np.ndarray, db: float) -> np.ndarray:
    """Power raised by ``db`` an octave around 1 kHz, between 250 Hz and 4 kHz."""
    octaves = np.log2(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE).clip(250, 4000) / 1000)
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (db * octaves / 20), len(samples)).astype(np.float32)


def higher(samples: np.ndarray, semitones: float) -> np.ndarray:
    """Pitch and formants raised, at the same rate."""
    factor = 2 ** (semitones / 12)
    return resample(change_tempo(samples, 1 / factor), round(SAMPLE_RATE * factor), SAMPLE_RATE)


def facts(values: np.ndarray) -> dict[str, Any]:
    """Mean and range of a curve."""
    return {
        name: {"mean": float(column.mean()), "p5_p95": np.quantile(column, (0.05, 0.95)).tolist()}
        for name, column in zip(("valence", "arousal"), values.T, strict=True)
    }


def recording(samples: np.ndarray) -> dict[str, Any]:
    """One recording, and changes of it that should not matter."""
    whole = curve(samples)
    changed = {
        "20 dB lower": samples * np.float32(0.1),
        "20 dB higher": samples * np.float32(10),
        "telephone": telephone(samples),
        "pink noise, 20 dB": noisy(samples),
    }
    moved = {}
    for name, sound in changed.items():
        other = curve(sound)[: len(whole)]
        moved[name] = dict(
            zip(("valence", "arousal"), np.abs(other - whole[: len(other)]).mean(0).tolist(), strict=True)
        )
    return {"seconds": len(samples) / SAMPLE_RATE, **facts(whole), "moved_by": moved}


def manipulated() -> dict[str, Any]:
    """Mean arousal of synthesised speech, changed in one thing at a time."""
    speaker = open_synthesizer("hibari")
    plain = speaker.synthesize(TEXT).samples
    changed: dict[str, np.ndarray] = {"as it is": plain}
    for semitones in (-3, 3, 6):
        changed[f"pitch {semitones:+} semitones"] = higher(plain, semitones)
    for db in (-3, 3, 6):
        changed[f"brightness {db:+} dB an octave"] = brighter(plain, db)
    for rate in (0.7, 1.4):
        changed[f"rate {rate}"] = speaker.synthesize(TEXT, rate=rate).samples
    changed["all: +6 semitones, +6 dB, rate 1.4"] = brighter(higher(changed["rate 1.4"], 6), 6)
    return {name: float(curve(sound)[:, 1].mean()) for name, sound in changed.items()}


def stream(samples: np.ndarray) -> dict[str, Any]:
    """The stream against the whole recording, from the fifth second on, and its cost."""
    emotion, followed = VoiceEmotion(), []
    begin = time.perf_counter()
    for start in range(0, len(samples), PUSH):
        followed.append(emotion.push(samples[start : start + PUSH]))
    cost = (time.perf_counter() - begin) / (len(samples) / SAMPLE_RATE)
    times = (np.arange(len(followed)) + 1) * PUSH / SAMPLE_RATE
    whole, live = voice_emotion([samples]).at(times)[125:], np.array(followed)[125:]
    return {
        "cpu_seconds_per_second": cost,
        "arousal_difference": float(np.abs(live - whole)[:, 1].mean()),
        "arousal_correlation_by_delay_s": {
            f"{0.04 * lag:g}": float(np.corrcoef(live[lag:, 1], whole[: len(whole) - lag, 1])[0, 1])
            for lag in (0, 25, 37, 50)
        },
        "largest_step_of_a_frame": float(np.abs(np.diff(followed, axis=0)).max()),
    }


def main() -> None:
    args = arguments(__doc__)
    results: dict[str, Any] = {"manipulated": manipulated(), "recordings": {}}
    for path in args.recordings:
        results["recordings"][path.stem] = recording(load_audio(path))
    if args.pair:
        calm, strong = (load_audio(path) for path in args.pair)
        both = curve(np.concatenate([calm, strong]))[:, 1]
        half = round(len(calm) / SAMPLE_RATE / 0.2)
        results["pair"] = {
            "alone": [float(curve(sound)[:, 1].mean()) for sound in (calm, strong)],
            "in_one_recording": [float(both[:half].mean()), float(both[half:].mean())],
        }
    if args.stream:
        results["stream"] = stream(load_audio(args.stream))
    for name, value in results["manipulated"].items():
        print(f"{name:<40} arousal {value:+.2f}")
    for name, one in results["recordings"].items():
        moved = ", ".join(f"{change} {by['arousal']:.3f}" for change, by in one["moved_by"].items())
        print(
            f"{name:<40} arousal {one['arousal']['mean']:+.2f}, valence {one['valence']['mean']:+.2f}; moved: {moved}"
        )
    print(results.get("pair"), results.get("stream"))
    print(write("voice_emotion", results))


if __name__ == "__main__":
    main()
