"""Frames of an avatar on the part of its clip that training never saw (paper 4.1)."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import Metric
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import Conditions, torso_over_plate

_DECODERS, _AHEAD = 4, 8
"""Threads that read torso layers, and frames that they may be ahead of the renderer."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of F held-out frames by their pixels alone, on frames as rendered, before any video encoding."""

    indices: Int64[np.ndarray, " F"]
    metrics: dict[str, Metric]
    """Result of :func:`emotalking.evaluate.measure.measure`."""

    def summary(self) -> dict[str, float]:
        """Means over the frames."""
        means = {name: self.metrics[name].value for name in ("psnr", "psnr_head", "ssim")}
        return {"frames": float(len(self.indices))} | means


def check_pair(avatar: Avatar, subject: Subject) -> None:
    """Refuse a subject that the avatar cannot honestly be scored on.

    The avatar holds the head poses of its training frames. They must be those of the subject's training frames, bit by
    bit: poses of another preparation of the same clip live in another head frame, and an avatar whose poses are among
    the held-out ones has seen what it is to be scored on.

    Raises:
        InputError: no held-out frames, splits that share frames, another size, another clip, another preparation of the
            clip, or an avatar that was trained on held-out frames.
    """
    root = subject.files.root
    if len(subject.val_indices) == 0:
        raise InputError(f"{root} has no held-out frames (transforms_val.json is empty).")
    if (subject.width, subject.height) != (avatar.width, avatar.height):
        raise InputError(
            f"The avatar is {avatar.width}x{avatar.height} and the subject {subject.width}x{subject.height}: "
            "give the subject that it was made from."
        )
    clips = [_clip_hash(record) for record in (avatar.metadata.get("subject"), subject.manifest)]
    if None not in clips and clips[0] != clips[1]:
        raise InputError(f"The avatar was made from another clip than {root}: give its own subject folder.")
    trained, poses_of_clip = avatar.viewmats, subject.viewmats
    if np.array_equal(trained, poses_of_clip[subject.train_indices]):
        return
    of_frame = {pose.tobytes(): index for index, pose in enumerate(poses_of_clip)}
    frames = [of_frame.get(pose.tobytes()) for pose in trained]
    if any(frame is None for frame in frames):
        raise InputError(
            f"The avatar's head poses are not those of {root} (another subject, or prepared again since the training): "
            "give the folder that it was trained on, or train it again."
        )
    trained_on = np.intersect1d(np.array(frames, np.int64), subject.val_indices)
    if len(trained_on):
        raise InputError(
            f"The avatar was trained on {len(trained_on)} of the {len(subject.val_indices)} held-out frames of {root}"
            f" (the first is frame {trained_on[0]}), so no score on them would be honest: train it on the"
            " training frames alone."
        )


def _clip_hash(record: object) -> str | None:
    """SHA-256 of the clip that a subject's record names; None where it names none."""
    clip = record.get("clip") if isinstance(record, dict) else None
    return clip.get("sha256") if isinstance(clip, dict) else None


def pick_frames(subject: Subject, limit: int | None, *, evenly: bool = False) -> Int64[np.ndarray, " F"]:
    """Held-out frames of ``subject``, at most ``limit``: the first consecutive ones, or spread evenly over all."""
    pool = np.asarray(subject.val_indices, np.int64)
    if limit is None or limit >= len(pool):
        return pool
    return pool[np.linspace(0, len(pool) - 1, limit).round().astype(int)] if evenly else pool[:limit]


def own_emotion(subject: Subject, indices: Int64[np.ndarray, " F"]) -> Float[np.ndarray, "F 2"]:
    """Recorded valence and arousal of ``indices``; zeros in a folder without ``va.csv``, as in training."""
    recorded = subject.valence_arousal
    return np.zeros((len(indices), 2), np.float32) if recorded is None else recorded[indices]


def own_emotion_track(subject: Subject, indices: Int64[np.ndarray, " F"]) -> EmotionTrack:
    """:func:`own_emotion` over time, one frame after another at the subject's rate."""
    times = np.arange(len(indices)) / float(subject.fps)
    return EmotionTrack(times, own_emotion(subject, indices).astype(np.float64))


def reconstruct(
    avatar: Avatar,
    subject: Subject,
    indices: Int64[np.ndarray, " F"],
    va: Float[np.ndarray, "F 2"] | None,
    gate: Float32[np.ndarray, " F"] | None = None,
) -> Iterator[Float[Tensor, "H W 3"]]:
    """Render the frames ``indices`` of ``subject`` from their own sound, action units, pose and torso layer.

    Frames are rendered lazily, one by one, so memory does not grow with their number.

    Args:
        va: valence and arousal of each frame (:func:`own_emotion` for the recorded ones); None leaves the emotion
            branch out.
        gate: of the mouth, 1 in speech (``audio.vad``), as the player applies it; None: open, lips follow the sound
            alone.

    Yields:
        RGB in [0, 1] on the avatar's device.
    """
    # The recorded lips are of the recorded size, and the recorded colours those of the recorded emotion.
    strict = replace(avatar, lips="strict", skin=False)
    with torch.no_grad():
        speech = None if gate is None else torch.from_numpy(gate).to(avatar.device)
        for at, (given, behind) in enumerate(held_out_inputs(avatar, subject, indices, va)):
            said = None if speech is None else speech[at : at + 1]
            frame = strict.render(given.viewmats, given.audio, given.aus, given.va, behind, said, given.gaze)
            yield frame.rgb[0]


def held_out_inputs(
    avatar: Avatar, subject: Subject, indices: Int64[np.ndarray, " F"], va: Float[np.ndarray, "F 2"] | None
) -> Iterator[tuple[Conditions, Float[Tensor, "1 H W 3"]]]:
    """Conditions of each of :func:`reconstruct`'s frames and what is behind its head, on the avatar's device."""
    device = avatar.device
    sound = audio_windows(torch.from_numpy(subject.audio_features(avatar.audio_features)).to(device), indices)

    def put(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    viewmats, aus = put(subject.viewmats[indices]), put(subject.aus[indices])
    gaze = None if subject.gaze is None else put(subject.gaze[indices])
    # The recorded lips are of the recorded size.
    strict, emotion = replace(avatar, lips="strict"), None if va is None else put(va)
    given = strict.conditions(viewmats, sound, aus, emotion, gaze=gaze)
    plate = put(subject.background) / 255.0
    for at, torso in enumerate(_torso_layers(subject, indices)):
        behind = torso_over_plate(torch.from_numpy(torso).to(device), plate)[None]
        yield given.each(lambda part, at=at: part[at : at + 1]), behind


def _torso_layers(subject: Subject, indices: Int64[np.ndarray, " F"]) -> Iterator[UInt8[np.ndarray, "H W 4"]]:
    """Torso layers of the frames, read ahead by threads."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        ahead: deque[Future[np.ndarray]] = deque()
        for at in range(len(indices) + _AHEAD):
            if at < len(indices):
                ahead.append(pool.submit(subject.torso, int(indices[at])))
            if at >= _AHEAD:
                yield ahead.popleft().result()


class OnHeldOut:
    """The avatar with the held-out frames' head motion, eyes and torso in place of the training frames' in its file.

    A ``player.player.PlayableAvatar``: the player makes it say any sound.
    """

    def __init__(self, avatar: Avatar, subject: Subject) -> None:
        self._subject = subject
        self._indices = np.asarray(subject.val_indices, np.int64)
        self.width = avatar.width
        self.height = avatar.height
        self.fps = subject.fps
        self.audio_features, self.device = avatar.audio_features, avatar.device
        self.closes_lips, self.emotional = avatar.closes_lips, avatar.emotional
        self.viewmats, self.aus = subject.viewmats[self._indices], subject.aus[self._indices]
        self.gaze = None if avatar.gaze is None or subject.gaze is None else subject.gaze[self._indices]
        self.background = subject.background
        self.render = avatar.render

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of held-out frame ``index`` (0 is the first)."""
        return self._subject.torso(int(self._indices[index]))


def evaluate_held_out(avatar: Avatar, subject: Subject, limit: int | None = None, *, emotion: bool = True) -> HeldOut:
    """Score ``avatar`` on the held-out frames of ``subject`` by their pixels alone.

    Args:
        limit: at most so many frames, evenly spread; None: all.
        emotion: with the frames' own valence/arousal; False leaves the emotion branch out.

    Raises:
        InputError: as :func:`check_pair`.
    """
    check_pair(avatar, subject)
    indices = pick_frames(subject, limit, evenly=True)
    va = own_emotion(subject, indices) if emotion else None
    models = EvaluationModels.none(avatar.device)
    frames = reconstruct(avatar, subject, indices, va)
    return HeldOut(indices, measure(frames, subject=subject, indices=indices, models=models).metrics)
