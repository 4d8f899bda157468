"""Compare on speech of which no recording of the subject exists (paper 4.1, tables 2 and 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64

from emotalking.data import Subject
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import UserError
from emotalking.evaluate.held_out import OnHeldOut, check_pair, own_emotion
from emotalking.evaluate.measure import Stopwatch
from emotalking.evaluate.speech import Speech
from emotalking.evaluate.systems import RECORDING, RGBFrame, System, is_avatar, open_frames
from emotalking.io.audio import SAMPLE_RATE
from emotalking.models.avatar import Avatar
from emotalking.player.player import Player

SLACK_S = 0.2
"""Tolerance for systems that end before their sound: feature windows cut some frames at the end."""


@dataclass(frozen=True)
class UnseenSpeech:
    """Unrecorded speech and emotion that all systems render."""

    speech: Speech
    va: tuple[float, float] | None = None
    """Commanded valence and arousal; None: none."""

    def samples(self, count: int, fps: float | int) -> Float[np.ndarray, " S"]:
        """The sound under the first ``count`` frames."""
        return self.speech.samples[: int(count / fps * SAMPLE_RATE)]

    def commanded(self, count: int) -> Float[np.ndarray, "N 2"] | None:
        """Commanded valence and arousal per frame."""
        return None if self.va is None else np.tile(np.array(self.va, np.float64), (count, 1))


class SpokenSource:
    """An avatar that speaks the sound, with the held-out frames' poses, action units and torso, forth and back.

    Without a commanded emotion it has that of the held-out frames, as in ``evaluate``'s cross-domain scenario.
    """

    kind = "avatar"
    note = ""

    def __init__(self, path: Path, subject: Subject, unseen: UnseenSpeech, device: torch.device) -> None:
        self._avatar, self._unseen = Avatar.load(path, device), unseen
        check_pair(self._avatar, subject)
        self._subject = subject
        self._count = max(unseen.speech.frames(float(subject.fps), None), 1)
        self.watch: Stopwatch | None = None
        """Timing of the last reading."""

    def numbers(self) -> Int64[np.ndarray, " N"]:
        """See :class:`emotalking.evaluate.systems.Source`."""
        return np.arange(self._count, dtype=np.int64)

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`emotalking.evaluate.systems.Source`."""
        wanted, last = set(positions.tolist()), int(positions.max(initial=-1))
        samples = self._unseen.samples(last + 1, float(self._subject.fps))
        player = Player(OnHeldOut(self._avatar, self._subject))
        track = self._emotion(player, last + 1) if self._avatar.head.emotional else None
        self.watch = Stopwatch(player.frames(samples, track, batch=1))
        for number, image in enumerate(self.watch):
            if number in wanted:
                yield np.asarray(image)
            if number >= last:
                return

    def _emotion(self, player: Player, count: int) -> EmotionTrack:
        """Emotion of the first ``count`` frames."""
        if self._unseen.va is not None:
            return EmotionTrack.constant(*self._unseen.va)
        own = own_emotion(self._subject, self._subject.val_indices[player.recorded(count)])
        return EmotionTrack(np.arange(count) / float(self._subject.fps), own.astype(np.float64))


def open_unseen(name: str, path: str, subject: Subject, device: torch.device, unseen: UnseenSpeech) -> System:
    """Open a system whose first frame is at the start of the sound.

    Args:
        name: name in the tables.
        path: an avatar file, a video, or a folder of frames.

    Raises:
        UserError: it cannot be used, or is the recording, which does not contain this speech.
    """
    if path == RECORDING:
        raise UserError(f"{unseen.speech.name} was never recorded: omit {name}=recording, or the audio.")
    if is_avatar(path):
        source = SpokenSource(Path(path), subject, unseen, device)
    else:
        source = open_frames(name, path, subject)
    return System(name, path, source, np.arange(len(source.numbers()), dtype=np.int64))


def to_same_length(
    systems: Sequence[System], unseen: UnseenSpeech, fps: float | int, limit: int | None
) -> list[System]:
    """Cut the systems to their common frames.

    Raises:
        UserError: one has clearly fewer frames than the sound (or than ``limit``), so it belongs to another one.
    """
    wanted = max(unseen.speech.frames(fps, limit), 1)
    for system in systems:
        if len(system.indices) < wanted - SLACK_S * fps:
            raise UserError(
                f"{system.name} ({system.path}) has {len(system.indices)} frames and {unseen.speech.name} lasts"
                f" {wanted}: give its frames of this whole sound, or limit the frames."
            )
    count = min(wanted, *(len(system.indices) for system in systems))
    return [replace(system, indices=np.where(system.indices < count, system.indices, -1)) for system in systems]
