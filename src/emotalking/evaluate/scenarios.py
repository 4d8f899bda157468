"""The paper's three scenarios (4.1): self-reconstruction, cross-domain audio, emotion-conditioned."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from emotalking.data import Subject
from emotalking.data.frame import to_runs
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate import images
from emotalking.evaluate.config import EvaluateConfig, Scenario
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import OnHeldOut, own_emotion, own_emotion_track, pick_frames, reconstruct
from emotalking.evaluate.measure import FrameLike, Stopwatch, measure
from emotalking.evaluate.metrics import METRICS, missing
from emotalking.evaluate.observation import Observation
from emotalking.evaluate.results import AVATAR, NEUTRAL, RECORDED, Run, to_json
from emotalking.evaluate.speech import Speech
from emotalking.io.audio import load_audio
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player
from emotalking.player.protocols import Emotion

EMOTION_SECONDS = 4.0
"""Seconds of speech of each of the twelve points, unless a number of frames is given. The paper does not state it."""
RIGID = (27, 28, 29, 30, 36, 39, 42, 45)
"""iBUG points that move with the skull alone: bridge of the nose, corners of the eyes."""
_SHORTEST = 16
"""Frames that a spectrum needs."""

ScenarioResult = tuple[list[Run], list[images.NamedImage], list[str]]
"""Runs, images and notes of a scenario."""


@dataclass
class Session:
    """A running evaluation: state that its scenarios share."""

    avatar: Avatar
    subject: Subject
    options: EvaluateConfig
    models: EvaluationModels
    sounds: tuple[Speech, ...]
    advance: Callable[[], object] = field(default=lambda: None)
    """Called after each scored frame."""

    @property
    def fps(self) -> float:
        """Frame rate of the subject."""
        return float(self.subject.fps)

    @property
    def emotion_frames(self) -> int:
        """Frames of each of the twelve points, at most."""
        requested = self.options.frames
        return max(int(EMOTION_SECONDS * self.fps), 1) if requested is None else requested

    def count(self, sound: Speech, limit: int | None) -> int:
        """Number of frames of a sound that are rendered."""
        return max(sound.frames(self.fps, limit), 1)

    def score(
        self,
        frames: Iterable[FrameLike],
        title: str,
        indices: Int64[np.ndarray, " N"] | None,
        samples: Float[np.ndarray, " S"] | None,
        va: Float[np.ndarray, "N 2"] | None,
        *,
        keep: dict[int, np.ndarray | None] | None = None,
        consecutive: bool = True,
        of_recording: bool = False,
    ) -> Run:
        """Measure frames of the avatar (:func:`emotalking.evaluate.measure.measure`).

        Args:
            keep: the frames whose numbers are its keys are stored there, as uint8.
            consecutive: the frames follow each other in time; else metrics that need that are missing.
            of_recording: the frames are the recorded ones.
        """
        watch = Stopwatch(self._watched(frames, keep or {}))
        scored = measure(
            watch,
            subject=self.subject,
            indices=indices,
            samples=samples,
            va=va,
            models=self.models,
            of_recording=of_recording,
        )
        metrics = scored.metrics
        if not consecutive:
            reason = "the frames are not consecutive"
            metrics = {n: missing(n, reason) if METRICS[n].consecutive else metric for n, metric in metrics.items()}
        observed = observation_record(scored.observation, self.fps, consecutive)
        return Run(AVATAR, title, scored.observation.count, metrics, observed=observed)

    def speak(
        self,
        sound: Speech,
        title: str,
        count: int,
        track: Emotion,
        va: Float[np.ndarray, "N 2"] | None,
        keep: dict[int, np.ndarray | None],
    ) -> Run:
        """Score the avatar saying the first ``count`` frames of a sound, over the held-out frames' poses and torso.

        Args:
            track: emotion for the player; an avatar without an emotion branch ignores it.
            va: commanded valence and arousal; None: none that is measured.
            keep: see :meth:`score`.
        """
        samples = sound.under(count, self.fps)
        # A commanded emotion moves the lips as a user sees them; a borrowed one leaves them to the sound.
        avatar = self.avatar if va is not None else replace(self.avatar, lips="strict")
        player = Player(OnHeldOut(avatar, self.subject))
        frames = player.frames(samples, track if self.avatar.emotional else None, batch=1)
        run = self.score(frames, title, None, samples, va, keep=keep)
        return replace(run, sound=sound.name, sound_sha256=sound.sha256)

    def poses(self, count: int) -> Int64[np.ndarray, " N"]:
        """The subject's held-out frame whose pose and torso each of ``count`` spoken frames has."""
        return self.subject.val_indices[Player(OnHeldOut(self.avatar, self.subject)).recorded(count)]

    def _watched(self, frames: Iterable[FrameLike], keep: dict[int, np.ndarray | None]) -> Iterator[FrameLike]:
        for number, frame in enumerate(frames):
            if number in keep:
                keep[number] = frame if isinstance(frame, np.ndarray) else to_uint8(frame)
            yield frame
            self.advance()


def self_reconstruction(session: Session) -> ScenarioResult:
    """Held-out frames from their own sound, action units, valence/arousal, poses and torso, and the recording."""
    avatar = session.avatar
    subject = session.subject
    indices = pick_frames(subject, session.options.frames, evenly=session.options.evenly)
    va = own_emotion(subject, indices)
    together = bool((np.diff(indices) == 1).all())
    samples = None
    if together and subject.files.audio.exists():
        samples = load_audio(subject.files.audio, float(indices[0] / session.fps), len(indices) / session.fps)
    systems: dict[str, Callable[[], Iterable[FrameLike]]] = {
        AVATAR: lambda: reconstruct(avatar, subject, indices, va if avatar.emotional else None),
        RECORDED: lambda: (subject.target(int(index)) for index in indices),
    }
    runs = []
    for system, frames in systems.items():
        run = session.score(
            frames(), "held-out frames", indices, samples, va, consecutive=together, of_recording=system == RECORDED
        )
        # The recording has a row of its own.
        metrics = {name: metric for name, metric in run.metrics.items() if not METRICS[name].reference}
        if system == RECORDED:
            metrics = {name: metric for name, metric in metrics.items() if METRICS[name].of_recording}
        runs.append(replace(run, system=system, metrics=metrics, subject_frames=to_runs(indices), sound="its own"))
    notes = [] if together else ["The frames are not consecutive, so nothing that needs time was measured."]
    return runs, images.of_reconstruction(avatar, subject, indices, va, runs[0].metrics["psnr"]), notes


def cross_domain(session: Session) -> ScenarioResult:
    """Speech that the subject never spoke, with the held-out frames' poses, action units, emotion and torso."""
    runs = []
    named = []
    for number, sound in enumerate(session.sounds):
        count = session.count(sound, session.options.frames)
        poses = session.poses(count)
        borrowed = own_emotion_track(session.subject, poses)
        stretch = images.loudest_stretch(sound.under(count, session.fps), count, session.fps)
        keep: dict[int, np.ndarray | None] = dict.fromkeys(stretch)
        runs.append(session.speak(sound, sound.name, count, borrowed, None, keep))
        named.append(images.of_speech(session.subject, number, sound.name, keep, poses))
    return runs, named, speech_in_training(session)


def emotion_conditioned(session: Session) -> ScenarioResult:
    """The twelve points of docs/paper.md 9.3, each on unheard speech with the held-out frames' poses and torso.

    Before them, each sound with the neutral command: what the emotion model reads on the person's own face.
    """
    runs = []
    for sound in session.sounds[: len(TEST_POINTS)]:
        count = session.count(sound, session.emotion_frames)
        va = np.zeros((count, 2))
        run = session.speak(sound, f"neutral, {sound.name}", count, EmotionTrack.constant(0.0, 0.0), va, {})
        runs.append(replace(run, system=NEUTRAL, commanded=(0.0, 0.0), label="neutral", metrics={}))
    faces = []
    shown = []
    for number, point in enumerate(TEST_POINTS):
        sound = session.sounds[number % len(session.sounds)]
        count = session.count(sound, session.emotion_frames)
        poses = session.poses(count)
        moment = images.open_eyed(session.subject.blink[poses])
        keep: dict[int, np.ndarray | None] = {moment: None}
        pair = (point.valence, point.arousal)
        title = f"V {point.valence:+.2f}, A {point.arousal:+.2f} ({point.label})"
        va = np.tile(np.array(pair), (count, 1))
        run = session.speak(sound, title, count, EmotionTrack.constant(*pair), va, keep)
        runs.append(replace(run, commanded=pair, label=point.label))
        faces += keep.values()
        shown.append(poses[moment])
    notes = speech_in_training(session)
    if not session.avatar.emotional:
        notes.append("This avatar has no emotion branch: every point shows the same face.")
    return runs, [images.of_emotion(session.subject, faces, np.array(shown))], notes


@dataclass(frozen=True)
class ScenarioSpec:
    """One scenario: how it is scored, and what the reports call it."""

    score: Callable[[Session], ScenarioResult]
    num_frames: Callable[[Session], int]
    """Number of frames that it scores, for the progress bar."""
    title: str
    heading: str
    """On the page."""
    table: int
    """Number of the paper's table."""
    prefix: str = ""
    """Of its columns in the ablation's table."""


SCENARIO_SPECS: dict[Scenario, ScenarioSpec] = {
    "self": ScenarioSpec(
        self_reconstruction,
        lambda session: 2 * len(pick_frames(session.subject, session.options.frames)),
        "Self-reconstruction",
        "Self-reconstruction: held-out frames from their own sound, action units and emotion",
        1,
    ),
    "cross": ScenarioSpec(
        cross_domain,
        lambda session: sum(session.count(sound, session.options.frames) for sound in session.sounds),
        "Cross-domain audio",
        "Cross-domain audio: sounds that the person never said",
        2,
        "cross-domain ",
    ),
    "emotion": ScenarioSpec(
        emotion_conditioned,
        lambda session: sum(
            session.count(sound, session.emotion_frames)
            for sound in (
                *session.sounds[: len(TEST_POINTS)],
                *(session.sounds[number % len(session.sounds)] for number in range(len(TEST_POINTS))),
            )
        ),
        "Emotion-conditioned",
        "Emotion-conditioned: twelve points of the valence/arousal plane",
        3,
        "emotion ",
    ),
}


def speech_in_training(session: Session) -> list[str]:
    """A warning where the test's speech was in the training."""
    sync = session.avatar.metadata.get("sync")
    spoken = sync.get("speech", "none") if isinstance(sync, dict) else "none"
    if spoken == "none" or session.options.audio:
        return []
    return [
        f"The avatar was trained with synthetic speech ({spoken}), so these sentences may not be new to it: "
        "evaluate with other speech."
    ]


def observation_record(observation: Observation, fps: float | int, consecutive: bool) -> dict[str, Any]:
    """Valence/arousal and expression per frame, the sync curve, and the head's jitter by frequency.

    Args:
        fps: frames per second.
        consecutive: the frames follow each other in time; else there is no spectrum.

    Returns:
        `va` [N, 2]; `classes` and `expressions` (the likeliest class of each frame, -1 without a face); `sync` with
        `expert`, `error`, `confidence`, `offset` [frames] and `curve`; `spectrum` with `hz` and `px`; each None where
        no model measured.
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


def jitter_spectrum(points: Float[np.ndarray, "N 68 2"], fps: float | int) -> dict[str, np.ndarray] | None:
    """Amplitude of the head's motion in the image by frequency: RMS over rigid points and both axes.

    Args:
        points: landmarks in pixels, nan without a face (bridged by straight lines).
        fps: frames per second.

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
