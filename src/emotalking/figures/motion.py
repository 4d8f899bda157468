"""Moving figures, each a video and a strip of its frames: around the circle of emotions, and emotions during speech."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.figures.material import Material, Output
from emotalking.player.player import Player
from emotalking.player.strip import draw_strip
from emotalking.report.contact_sheet import contact_sheet
from emotalking.report.images import fit_width, with_emotion
from emotalking.tts.base import TimedLabel

RADIUS = 0.8
"""Of the circle, as in the paper's video (paper S, "360° valence-arousal interpolation")."""
EMOTIONS = ("neutral", "happy", "surprised", "angry", "sad", "calm")
"""Emotions during speech, one after another."""
_SHOWN = 12
"""Frames of the circle on its strip."""
_RATE, _COLUMNS = 3, 8
"""Frames a second on the strip of speech, about, and frames in its rows."""
_CELL = 160


def sweep_frames(material: Material) -> int:
    """Frames of the circle, a multiple of those on its strip."""
    return max(round(material.num_frames / _SHOWN), 1) * _SHOWN


def sweep(material: Material, output: Output) -> str:
    """Once around the circle."""
    count = sweep_frames(material)
    angles = 2 * np.pi * np.arange(count) / count
    va = (RADIUS * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.float32)
    shown = range(0, count, count // _SHOWN)
    faces: list[np.ndarray] = []

    def frames() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        rendered = material.rendered(np.full(count, material.still, np.int64), va)
        for number, (image, (valence, arousal)) in enumerate(zip(rendered, va.tolist(), strict=True)):
            if number in shown:
                faces.append(image[material.box.index])
            yield with_emotion(image, valence, arousal)

    output.video("sweep.mp4", frames())
    places = {360 * at // count: va[at].round(2) + 0.0 for at in shown}  # + 0: no minus before a zero
    captions = [f"{angle}°: v {valence:+.2f}, a {arousal:+.2f}" for angle, (valence, arousal) in places.items()]
    title = f"Around the circle of radius {RADIUS}"
    output.image("sweep.png", contact_sheet(faces, captions, columns=6, cell=240, title=title))
    return (
        f"One held-out frame ({material.still}) while the commanded emotion goes around the circle of radius {RADIUS}:"
        " 0° is pleasant, 90° excited, 180° unpleasant, 270° calm. Pose, speech and action units stay."
    )


def transitions(material: Material, output: Output) -> str:
    """Emotions one after another while the head speaks."""
    samples, fps = material.speech(), float(material.avatar.fps)
    player = Player(material.avatar)
    sound = player.audio_features(samples)
    count = min(material.num_frames, player.num_frames(sound))
    if count == 0:  # of a recording whose sound ends before its frames
        raise InputError(f"{material.subject.files.audio} ends before the frames do: give audio.")
    track = EmotionTrack.tour(EMOTIONS, count / fps)
    va, rows = track.at(np.arange(count) / fps), max(round(count / fps * _RATE / _COLUMNS), 1)
    every = -(-count // (rows * _COLUMNS))
    cuts: list[np.ndarray] = []

    def frames() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        rendered = player.frames(sound, track, seconds=count / fps)
        for number, (image, (valence, arousal)) in enumerate(zip(rendered, va.tolist(), strict=True)):
            if number % every == 0:
                cuts.append(fit_width(image[material.box.index], _CELL))
            material.advance()
            yield with_emotion(image, valence, arousal)

    output.video("transitions.mp4", frames(), samples)
    holds = [TimedLabel(name, *track.times[2 * at : 2 * at + 2].tolist()) for at, name in enumerate(EMOTIONS)]
    output.image("transitions.png", draw_strip(cuts, fps / every, samples, holds, emotion=track, columns=_COLUMNS))
    said = "the end of its own recording" if material.config.audio is None else "other speech"
    return (
        f"The head says {said} while the commanded emotion changes: {', '.join(EMOTIONS)}. The strip has"
        f" {fps / every:.1f} frames a second, above the emotion, the wave, and the commanded valence and arousal (1 at"
        " the top, -1 at the bottom)."
    )
