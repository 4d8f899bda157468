"""Run the full pipeline on a synthetic clip, with the ground truth next to the result."""

import json
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS, preset
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate.held_out import HeldOut, evaluate_held_out, own_emotion, reconstruct
from emotalking.io.audio import iter_audio, save_wav
from emotalking.io.files import write_bytes
from emotalking.io.images import write_image
from emotalking.io.video_writer import AUDIO_RATE, VideoWriter
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8
from emotalking.ops.devices import choose_device
from emotalking.player.clip import render_clip
from emotalking.preprocess.prepare import prepare
from emotalking.progress import track
from emotalking.provenance.consent import read_consent
from emotalking.provenance.manifest import Origin
from emotalking.provenance.signing import finisher
from emotalking.report.contact_sheet import contact_sheet
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.emotion_model import ActorEmotionModel
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.spoken import spoken
from emotalking.train.run import train

_logger = logging.getLogger(__name__)

SIZE = 256
"""Side of the demo's frames in pixels."""
CLIP_SECONDS = 16.0
"""Length of the actor's clip."""
SPEECH_SECONDS = 10.0
"""Length of the new speech."""
CLIP_TEXT = (
    "Good morning, my name is Robin, and a face can learn to speak from a short clip. "
    "The boy plays his old violin, while both cooks wash five pots. "
    "Please use a smooth blue vase, and measure the edges. "
    "They put bread there, and the judge laughed out loud at church."
)
"""What the actor says in his clip: it holds every phoneme of English."""
SPEECH_TEXT = (
    "You have never heard me say these words before. Now I change my mood while I keep on talking: "
    "happy, surprised, angry, sad, and calm again, as you like."
)
"""The new speech."""
CONSENT = "The actor is drawn by emotalking.testing.actor and shows no person: nobody's consent is needed."
"""Statement in the demo's avatar."""
MEASURED_FRAMES = 4
"""Frames at which every test point of the circumplex is rendered and measured."""
EMOTIONS = ("neutral", "happy", "surprised", "angry", "sad", "calm")
"""Emotions of the contact sheet and, one after another, of the video."""


@dataclass(frozen=True)
class EmotionReadback:
    """Commanded against measured emotion, on the actor's own scale."""

    commanded: Float[np.ndarray, "n 2"]
    measured: Float[np.ndarray, "n 2"]

    def correlations(self) -> tuple[float, float]:
        """Pearson correlation of valence and of arousal."""
        pairs = [np.corrcoef(self.commanded[:, axis], self.measured[:, axis])[0, 1] for axis in range(2)]
        return float(pairs[0]), float(pairs[1])


@dataclass(frozen=True)
class DemoResult:
    """Files and measurements of the demo."""

    video: Path
    sheet: Path
    report: dict[str, float]


def run_demo(out: Path, *, device: str = "auto") -> DemoResult:
    """Film the actor, prepare, train, render new speech with changing emotion, and measure all of it.

    Args:
        out: folder for everything that is made.
        device: as in the other commands.

    Raises:
        InputError: no offline synthesizer is installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    clip = out / "actor.mp4"
    folder = out / "subject"
    avatar_file = out / "actor.safetensors"
    script = Performance.generate(CLIP_SECONDS, seed=1, speech=spoken(CLIP_TEXT, CLIP_SECONDS))
    _logger.info("1/5 filming the synthetic actor (%g s at %dx%d)", CLIP_SECONDS, SIZE, SIZE)
    film(clip, script, SIZE)
    _logger.info("2/5 preparing the clip: face, pose, masks, action units, sound")
    subject = prepare(clip, folder)
    _logger.info("3/5 training the avatar (preset tiny)")
    consent = read_consent(CONSENT)
    avatar = train(folder, avatar_file, "tiny", choose_device(device), consent=consent).avatar
    _logger.info("4/5 measuring: held-out frames, emotion on the actor's own scale")
    held_out = evaluate_held_out(avatar, subject)
    readback = read_back_emotion(avatar, subject, script)
    _logger.info("5/5 rendering new speech")
    speech = out / "speech.wav"
    said = spoken(SPEECH_TEXT, SPEECH_SECONDS)
    save_wav(speech, said.waveform, finish=finisher(speech, Origin()))
    video = out / "demo.mp4"
    render_clip(avatar, speech, video, emotion=EmotionTrack.tour(EMOTIONS, SPEECH_SECONDS))
    sheet = out / "sheet.png"
    write_image(sheet, emotion_sheet(avatar, subject, SIZE), finish=finisher(sheet, Origin.of_avatar(avatar)))
    report = _report(held_out, readback)
    write_bytes(out / "report.json", json.dumps(report, indent=1).encode())
    return DemoResult(video, sheet, report)


def film(clip: Path, script: Performance, size: int) -> None:
    """Write the actor's performance as an mp4 with its sound."""
    actor = Actor(size=size)
    sound = clip.with_suffix(".wav")
    save_wav(sound, script.waveform)
    with VideoWriter(clip, size, size, Fraction(script.fps), iter_audio(sound, AUDIO_RATE)) as writer:
        for state in track(script.states, "film"):
            writer.write(actor.render(state).image)


def read_back_emotion(avatar: Avatar, subject: Subject, script: Performance) -> EmotionReadback:
    """Render the twelve test points (docs/paper.md 9.3) on held-out frames and measure them with the actor's model.

    The model is given the true pose, viseme and action units of each frame, and searches valence and arousal.
    """
    pool = subject.val_indices
    indices = pool[np.linspace(0, len(pool) - 1, MEASURED_FRAMES).round().astype(int)]
    model = ActorEmotionModel()
    commanded, measured = [], []
    for point in track(TEST_POINTS, "measure"):
        va = np.tile(np.array([point.valence, point.arousal]), (len(indices), 1))
        for index, image in zip(indices, reconstruct(avatar, subject, indices, va), strict=True):
            # The targets keep the lips' opening and the skin's tint, so those must not count for or against them.
            known = replace(script.states[index], emotional_jaw=False, emotional_tint=False)
            found = model.fit(image.cpu().numpy(), known)
            commanded.append((point.valence, point.arousal))
            measured.append((found.valence, found.arousal))
    return EmotionReadback(np.array(commanded, np.float64), np.array(measured, np.float64))


def emotion_sheet(avatar: Avatar, subject: Subject, cell: int) -> np.ndarray:
    """Contact sheet: a held-out frame, its reconstruction, and the named emotions on it."""
    pool = subject.val_indices
    indices = pool[[0, len(pool) // 2, len(pool) - 1]]
    va = {"avatar": own_emotion(subject, indices)}
    va |= {name: np.tile(np.array(preset(name)), (len(indices), 1)) for name in EMOTIONS[1:]}
    columns = [("clip", [subject.frame(int(index)).image for index in indices])]
    columns += [(name, [to_uint8(image) for image in reconstruct(avatar, subject, indices, va[name])]) for name in va]
    cells = [(name, images[row]) for row in range(len(indices)) for name, images in columns]
    return contact_sheet([image for _, image in cells], [name for name, _ in cells], columns=len(columns), cell=cell)


def _report(held_out: HeldOut, readback: EmotionReadback) -> dict[str, float]:
    error = readback.measured - readback.commanded
    rmse = np.sqrt((error**2).mean(0))
    valence, arousal = readback.correlations()
    return held_out.summary() | {
        "valence_correlation": valence,
        "arousal_correlation": arousal,
        "valence_rmse": float(rmse[0]),
        "arousal_rmse": float(rmse[1]),
    }


def table(report: dict[str, float]) -> str:
    """The demo's figures as text."""
    rows = [
        ("held-out frames", f"{report['frames']:.0f}"),
        ("PSNR, whole frame", f"{report['psnr']:.2f} dB"),
        ("PSNR, head", f"{report['psnr_head']:.2f} dB"),
        ("SSIM", f"{report['ssim']:.4f}"),
        ("valence: correlation, RMSE", f"{report['valence_correlation']:.3f}, {report['valence_rmse']:.3f}"),
        ("arousal: correlation, RMSE", f"{report['arousal_correlation']:.3f}, {report['arousal_rmse']:.3f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
