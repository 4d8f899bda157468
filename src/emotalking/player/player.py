"""Stream finished frames of an avatar from speech, emotion and poses."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from emotalking.audio.features import feature_track
from emotalking.audio.tracks import FeatureTrack
from emotalking.audio.vad import VoiceActivity, voice_activity
from emotalking.errors import UserError
from emotalking.io.audio import iter_audio
from emotalking.models.compositor import ComposedFrames, torso_over_plate
from emotalking.ops.composite import to_uint8
from emotalking.player.backgrounds import Background, background_plate
from emotalking.player.poses import PoseLoop, Poses


@dataclass(frozen=True)
class AudioTrack:
    """Features of a recording (not yet codes of the audio encoder) and its voice activity."""

    features: FeatureTrack
    voice_activity: VoiceActivity | None = None
    """None: the lips follow the features everywhere."""


Sound = str | Path | Float[np.ndarray, " S"] | FeatureTrack | AudioTrack
"""A sound or video file, float32 mono samples at 16 kHz, their features, or the track of `Player.audio_features`."""

_DECODERS = 4
"""Threads that decode torso layers ahead of the renderer."""


@runtime_checkable
class PlayableAvatar(Protocol):
    """The part of ``models.avatar.Avatar`` that the player uses; ``evaluate.held_out`` has another implementation."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fps(self) -> Fraction: ...
    @property
    def viewmats(self) -> Float[np.ndarray, "P 4 4"]: ...
    @property
    def aus(self) -> Float[np.ndarray, "P 6"]: ...
    @property
    def background(self) -> UInt8[np.ndarray, "H W 3"]: ...
    @property
    def audio_features(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def closes_lips(self) -> bool: ...
    @property
    def emotional(self) -> bool: ...

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of a recorded pose."""
        ...

    def render(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C steps"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        background: Float[Tensor, "B H W 3"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
    ) -> ComposedFrames:
        """Render frames of B conditions."""
        ...


@runtime_checkable
class Emotion(Protocol):
    """The part of ``emotion.tracks.EmotionTrack`` that the player uses."""

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 2"]:
        """Valence and arousal [T, 2] in [-1, 1] at times [T] in seconds."""
        ...


class Player:
    """Play an avatar.

    Example:
        >>> player = Player(Avatar.load("someone.safetensors"))
        >>> for frame in player.frames("speech.wav", EmotionTrack.constant(0.6, 0.4)):
        ...     show(frame)
    """

    def __init__(self, avatar: PlayableAvatar) -> None:
        self.avatar = avatar

    def audio_features(
        self,
        audio: Sound,
        features: FeatureTrack | None = None,
        *,
        vad: bool = True,
        audio_track: int | None = None,
    ) -> AudioTrack:
        """Compute the avatar's audio features and the voice activity of a recording; files are read in a stream.

        Features depend on the level and noise of the entire recording, so all of it is read here; voice activity is
        computed while the frames are rendered.

        Args:
            audio: the speech; features alone do not contain voice activity.
            features: features of ``audio`` computed by another program.
            vad: detect voice activity, if the avatar has closed-mouth codes.
            audio_track: sound track of a file, see :func:`~emotalking.io.audio.iter_audio`.

        Raises:
            UserError: the file cannot be used, or the avatar's features cannot be computed here.
        """
        if isinstance(audio, AudioTrack):
            return audio
        if isinstance(audio, FeatureTrack):
            return AudioTrack(audio)
        if features is None:
            samples = audio if isinstance(audio, np.ndarray) else iter_audio(audio, track=audio_track)
            track = feature_track(samples, self.avatar.audio_features)
        else:
            track = features
        if not (vad and self.avatar.closes_lips):
            return AudioTrack(track)
        activity = voice_activity([audio] if isinstance(audio, np.ndarray) else iter_audio(audio, track=audio_track))
        if features is not None:
            # The file has not been read yet, and its errors must be raised before the first frame.
            activity.finish()
        return AudioTrack(track, activity)

    def num_frames(self, track: AudioTrack, seconds: float | None = None) -> int:
        """Number of frames that cover the audio, or its first ``seconds``."""
        total = track.features.num_frames(self.avatar.fps)
        return total if seconds is None else min(total, int(np.ceil(seconds * float(self.avatar.fps) - 1e-6)))

    def frames(
        self,
        audio: Sound,
        emotion: Emotion | None = None,
        *,
        poses: Literal["recorded", "fixed"] = "recorded",
        background: Background = None,
        seconds: float | None = None,
        batch: int = 8,
        matte: bool = False,
        vad: bool = True,
    ) -> Iterator[UInt8[np.ndarray, "H W channels"]]:
        """Render frames of the speaking avatar one by one; memory does not grow with their number.

        Args:
            audio: the speech; ceil(duration * fps) frames are rendered.
            emotion: valence and arousal over time; None: without the emotion branch.
            poses: the recorded head motion, continued without a jump as long as needed, or a still head.
            background: see ``Background``; "transparent" gives RGBA with straight alpha.
            seconds: stop after this time.
            batch: frames rendered together.
            matte: add the head's coverage to finished frames as a fourth channel.
            vad: close the lips during silence (``audio.vad``); needs the audio itself, not only its features, and an
                avatar with closed-mouth codes.

        Yields:
            uint8 RGB [H, W, 3], or RGBA [H, W, 4] when transparent, or RGB and coverage [H, W, 4] with ``matte``.

        Raises:
            UserError: unusable audio or background, or an emotion for an avatar without an emotion branch.
        """
        # All inputs are checked before the first frame is requested.
        if emotion is not None and not self.avatar.emotional:
            raise UserError(
                "this avatar was trained without its emotion stage, so it cannot show one: train that stage."
            )
        plate = background_plate(background, self.avatar.background)
        track = self.audio_features(audio, vad=vad)
        return self._play(track, emotion, self._loop(poses), plate, self.num_frames(track, seconds), batch, matte)

    def recorded(self, total: int, poses: Literal["recorded", "fixed"] = "recorded") -> Int[np.ndarray, " total"]:
        """Index of the recorded frame under each of the ``total`` frames of :meth:`frames`."""
        return self._loop(poses).at(np.arange(total), total).indices

    def _loop(self, poses: Literal["recorded", "fixed"]) -> PoseLoop:
        return PoseLoop(self.avatar.viewmats, self.avatar.aus, float(self.avatar.fps), fixed=poses == "fixed")

    def _play(
        self,
        track: AudioTrack,
        emotion: Emotion | None,
        loop: PoseLoop,
        plate: np.ndarray | Literal["transparent"],
        total: int,
        batch: int,
        matte: bool,
    ) -> Iterator[np.ndarray]:
        """Render batch after batch; poses and torso layers of the next two are prepared meanwhile."""
        starts = range(0, total, batch)
        with ThreadPoolExecutor(_DECODERS) as pool:
            ahead: deque[tuple[int, Poses, list[Future[np.ndarray]]]] = deque()

            def prepare(start: int) -> None:
                """Queue the poses of a batch and the decoding of its torso layers."""
                here = loop.at(np.arange(start, min(start + batch, total)), total)
                ahead.append((start, here, _fetch(pool, self.avatar.torso, here.indices)))

            for start in starts[:2]:
                prepare(start)
            while ahead:
                start, here, torsos = ahead.popleft()
                stop = start + len(here.indices)
                windows = track.features.windows(start, stop, self.avatar.fps, total)
                activity = track.voice_activity
                gate = None if activity is None else activity.frames(start, stop, self.avatar.fps)
                va = None
                if emotion is not None:
                    va = np.asarray(emotion.at((start + np.arange(len(here.indices))) / float(self.avatar.fps)))
                layers = np.stack([torso.result() for torso in torsos])
                images = self._render(here, windows, va, gate, layers, plate, matte)
                if start + 2 * batch < total:
                    prepare(start + 2 * batch)
                yield from images

    @torch.no_grad()
    def _render(
        self,
        poses: Poses,
        windows: Float[Tensor, "B 8 C steps"],
        va: np.ndarray | None,
        gate: np.ndarray | None,
        torso: np.ndarray,
        plate: np.ndarray | Literal["transparent"],
        matte: bool,
    ) -> UInt8[np.ndarray, "B H W channels"]:
        """Render one batch: torso over plate, head over both."""
        device = self.avatar.device

        def put(array: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array, np.float32), device=device)

        layer = torch.as_tensor(torso, device=device)
        conditions = (put(poses.viewmats), windows.to(device), put(poses.aus), None if va is None else put(va))
        speech = None if gate is None else put(gate)
        if isinstance(plate, str):
            head = self.avatar.render(*conditions, speech=speech)
            head_alpha, torso_alpha = head.alpha[..., None], layer[..., 3:].float() / 255.0
            colour = head.rgb + torso_over_plate(layer, torch.zeros_like(head.rgb)) * (1.0 - head_alpha)
            alpha = head_alpha + torso_alpha * (1.0 - head_alpha)
            frames = torch.cat([colour / alpha.clamp(min=1e-6), alpha], -1)
        else:
            image = self.avatar.render(*conditions, torso_over_plate(layer, put(plate) / 255.0), speech)
            frames = torch.cat([image.rgb, image.alpha[..., None]], -1) if matte else image.rgb
        return to_uint8(frames)


def _fetch(
    pool: ThreadPoolExecutor, torso: Callable[[int], np.ndarray], indices: np.ndarray
) -> "list[Future[np.ndarray]]":
    """Queue the decoding of torso layers; a frame used twice is decoded once."""
    futures = {int(index): pool.submit(torso, int(index)) for index in np.unique(indices)}
    return [futures[int(index)] for index in indices]
