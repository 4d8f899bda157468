"""The paper's three scenarios (4.1): self-reconstruction, cross-domain audio, emotion-conditioned."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import emotalking
from emotalking.data import Subject
from emotalking.data.frame import to_runs
from emotalking.emotion.circumplex import TEST_POINTS, TestPoint
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate import images
from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.estimator_error import error_record
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import OnHeldOut, check_pair, own_emotion, pick_frames, reconstruct
from emotalking.evaluate.measure import Stopwatch
from emotalking.evaluate.metrics import METRICS, Metric, missing
from emotalking.evaluate.plots import observation_record
from emotalking.evaluate.provenance import file_sha256, provenance
from emotalking.evaluate.results import AVATAR, RECORDED, Report, ReportImage, Result, Run, read_result, write_result
from emotalking.evaluate.session import Session
from emotalking.evaluate.speech import Speech, sounds_to_speak
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.models.avatar import Avatar
from emotalking.player.player import Player
from emotalking.progress import bar

SPEECH = "speech"
"""Folder of a report for its synthesized sentences."""
EMOTION_SECONDS = 4.0
"""Seconds of speech of each of the twelve points, unless a number of frames is given. The paper does not state it."""


def run_scenarios(
    avatar_file: Path,
    subject: Subject,
    options: EvaluateConfig,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    command: str = "",
    log: Callable[[str], Any] = print,
) -> Report:
    """Evaluate an avatar on its subject.

    A finished scenario is stored in ``folder``; the same evaluation, restarted, resumes after it.

    Args:
        avatar_file: trained avatar.
        subject: the folder that it was trained on.
        folder: results and images of the scenarios; made if missing.
        command: how it was called, for the report.
        log: called with a line of progress.

    Raises:
        UserError: avatar and subject do not belong together (see ``held_out.check_pair``), or a sound, expert or
            model cannot be used.
    """
    avatar = Avatar.load(avatar_file, device)
    check_pair(avatar, subject)
    models = EvaluationModels.open(
        lpips=options.lpips, emotion=options.emotion_model, sync=options.expert, subject=subject, device=device
    )
    longest = None if options.frames is None else options.frames / float(subject.fps)
    speak = any(name != "self" for name in options.scenarios)
    sounds = sounds_to_speak([Path(file) for file in options.audio], folder / SPEECH, longest) if speak else ()
    facts = provenance(subject, avatar_file, command)
    facts |= {"source_sha256": source_sha256(), "device": str(device), "evaluation_models": model_names(models)}
    facts["training"] = {key: avatar.metadata.get(key) for key in ("run", "sync", "command", "versions")}
    facts["estimator_error"] = None if models.emotion is None else error_record(models.emotion.name)
    facts["sounds"] = [{"name": sound.name, "sha256": sound.sha256} for sound in sounds]
    session = Session(avatar, subject, options, models, sounds, folder)
    totals = {name: PLANS[name](session) for name in options.scenarios}
    results = []
    with bar() as progress:
        task = progress.add_task("evaluate", total=sum(totals.values()), note="")
        session.advance = lambda: progress.advance(task)
        for name in options.scenarios:
            progress.update(task, note=name)
            key = fingerprint(name, facts, options)
            place = folder / f"{name}.json"
            result = read_result(place, key)
            if result is None:
                result = _timed(name, key, session)
                write_result(result, place)
                log(f"{name}: {totals[name]} frames in {result.seconds:.0f} s")
            else:
                progress.advance(task, totals[name])
                log(f"{name}: kept from before (nothing has changed)")
            results.append(result)
    requested = asdict(options) | {"avatar": str(avatar_file), "subject": str(subject.files.root)}
    return Report(requested, facts, tuple(results), facts["command"])


def fingerprint(scenario: str, facts: dict[str, Any], options: EvaluateConfig) -> str:
    """Hash of everything that a scenario's metrics depend on: code, packages, machine, data, avatar, sounds, models."""
    parts = ("source_sha256", "packages", "machine", "device", "data", "avatar", "evaluation_models")
    relevant: dict[str, Any] = {part: facts[part] for part in parts} | {"scenario": scenario, "frames": options.frames}
    relevant |= {"evenly": options.evenly} if scenario == "self" else {"sounds": facts["sounds"]}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()


def source_sha256() -> str:
    """Hash of this package's modules: results of another source are not reused."""
    root = Path(emotalking.__file__).parent
    sums = [file_sha256(path) for path in sorted(root.rglob("*.py"))]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def model_names(models: EvaluationModels) -> dict[str, str]:
    """Names of the evaluation models, for the report."""
    named = {"perceptual distance": models.lpips, "emotion": models.emotion, "lip sync": models.sync}
    named |= {"identity": models.identity}
    return {what: "none" if model is None else model.name for what, model in named.items()}


def _timed(name: str, key: str, session: Session) -> Result:
    begin = time.perf_counter()
    runs, images_saved, notes = SCORERS[name](session)
    return Result(name, key, time.perf_counter() - begin, tuple(runs), tuple(images_saved), tuple(notes))


ScenarioResult = tuple[list[Run], list[ReportImage], list[str]]
"""Runs, images and notes of a scenario; with key and seconds they are a :class:`Result`."""


def self_reconstruction(session: Session) -> ScenarioResult:
    """Held-out frames from their own sound, action units, valence/arousal, poses and torso, and the recording."""
    avatar = session.avatar
    subject = session.subject
    options = session.options
    indices = pick_frames(subject, options.frames, evenly=options.evenly)
    va = own_emotion(subject, indices)
    together = bool((np.diff(indices) == 1).all())
    samples = None
    if together and subject.files.audio.exists():
        begin, length = indices[0] / session.fps, len(indices) / session.fps
        samples = load_audio(subject.files.audio, float(begin), length)
    systems: dict[str, Callable[[], Iterable[Any]]] = {
        AVATAR: lambda: reconstruct(avatar, subject, indices, va if avatar.head.emotional else None),
        RECORDED: lambda: (subject.target(int(index)) for index in indices),
    }
    runs = []
    for system, frames in systems.items():
        scored = session.measure(Stopwatch(session.watched(frames())), indices, samples, va)
        metrics = scored.metrics if together else _without_time(scored.metrics)
        # The recording has a row of its own.
        metrics = {name: metric for name, metric in metrics.items() if not METRICS[name].reference}
        if system == RECORDED:
            metrics = {name: metric for name, metric in metrics.items() if METRICS[name].of_recording}
        observed = observation_record(scored.observation, session.fps, together)
        runs.append(
            Run(system, "held-out frames", len(indices), metrics, to_runs(indices), "its own", observed=observed)
        )
    notes = [] if together else ["The frames are not consecutive, so nothing that needs time was measured."]
    return runs, images.of_reconstruction(session, indices, va, runs[0].metrics["psnr"]), notes


def cross_domain(session: Session) -> ScenarioResult:
    """Speech that the subject never spoke, with the held-out frames' poses, action units, emotion and torso."""
    runs, images_saved = [], []
    for number, sound in enumerate(session.sounds):
        player = Player(OnHeldOut(session.avatar, session.subject))
        count, samples = _speech(session, sound, session.options.frames)
        poses = session.subject.val_indices[player.recorded(count)]
        own = own_emotion(session.subject, poses)
        borrowed = _FrameEmotion(own, session.fps) if session.avatar.head.emotional else None
        keep: dict[int, Any] = dict.fromkeys(images.loudest_stretch(samples, count, session.fps))
        frames = player.frames(samples, borrowed, batch=1)
        scored = session.measure(Stopwatch(session.watched(frames, keep)), None, samples, None)
        observed = observation_record(scored.observation, session.fps, True)
        runs.append(Run(AVATAR, sound.name, count, scored.metrics, "", sound.name, sound.sha256, observed=observed))
        images_saved.append(images.of_speech(session, number, sound.name, keep, poses))
    return runs, images_saved, speech_in_training(session)


def emotion_conditioned(session: Session) -> ScenarioResult:
    """The twelve points of docs/paper.md 9.3, each on unheard speech with the held-out frames' poses and torso."""
    runs = []
    faces = []
    poses = []
    for number, point in enumerate(TEST_POINTS):
        sound = session.sounds[number % len(session.sounds)]
        count, samples = _speech(session, sound, _emotion_frames(session))
        track = EmotionTrack.constant(point.valence, point.arousal) if session.avatar.head.emotional else None
        player = Player(OnHeldOut(session.avatar, session.subject))
        recorded = session.subject.val_indices[player.recorded(count)]
        moment = images.open_eyed(session.subject.blink[recorded])
        keep: dict[int, Any] = {moment: None}
        frames = player.frames(samples, track, batch=1)
        va = np.tile(np.array([point.valence, point.arousal]), (count, 1))
        scored = session.measure(Stopwatch(session.watched(frames, keep)), None, samples, va)
        observed = observation_record(scored.observation, session.fps, True)
        pair = (point.valence, point.arousal)
        runs.append(
            Run(AVATAR, _title(point), count, scored.metrics, "", sound.name, sound.sha256, pair, point.label, observed)
        )
        faces += keep.values()
        poses.append(recorded[moment])
    notes = speech_in_training(session)
    if not session.avatar.head.emotional:
        notes.append("This avatar has no emotion branch: every point shows the same face.")
    return runs, [images.of_emotion(session, faces, np.array(poses))], notes


SCORERS: dict[str, Callable[[Session], ScenarioResult]] = {
    "self": self_reconstruction,
    "cross": cross_domain,
    "emotion": emotion_conditioned,
}
PLANS: dict[str, Callable[[Session], int]] = {
    "self": lambda session: 2 * len(pick_frames(session.subject, session.options.frames)),
    "cross": lambda session: sum(_speech(session, sound, session.options.frames)[0] for sound in session.sounds),
    "emotion": lambda session: sum(
        _speech(session, session.sounds[number % len(session.sounds)], _emotion_frames(session))[0]
        for number in range(len(TEST_POINTS))
    ),
}
"""Number of frames that each scenario scores, for the progress bar."""


@dataclass(frozen=True)
class _FrameEmotion:
    """One valence and arousal a frame, for the player."""

    values: Float[np.ndarray, "N 2"]
    fps: float

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 2"]:
        """Valence and arousal of the frames at these times."""
        return self.values[np.round(np.asarray(times_s) * self.fps).astype(np.int64)]


def _speech(session: Session, sound: Speech, limit: int | None) -> tuple[int, Float[np.ndarray, " S"]]:
    """Frames of a sound that are rendered, and the samples under them."""
    count = max(sound.frames(session.fps, limit), 1)
    return count, sound.samples[: int(count / session.fps * SAMPLE_RATE)]


def _emotion_frames(session: Session) -> int:
    requested = session.options.frames
    return max(int(EMOTION_SECONDS * session.fps), 1) if requested is None else requested


def _without_time(metrics: dict[str, Metric]) -> dict[str, Metric]:
    reason = "the frames are not consecutive"
    return {name: missing(name, reason) if METRICS[name].consecutive else metric for name, metric in metrics.items()}


def _title(point: TestPoint) -> str:
    return f"V {point.valence:+.2f}, A {point.arousal:+.2f} ({point.label})"


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
