"""Stream finished frames of an avatar from speech, emotion and poses."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from emotalking.audio.accents import Accents
from emotalking.audio.features import feature_track
from emotalking.audio.tracks import FeatureTrack
from emotalking.audio.vad import STEP_S, VoiceActivity, voice_activity
from emotalking.errors import InputError
from emotalking.io.audio import iter_audio
from emotalking.models.compositor import Conditions
from emotalking.player.backgrounds import Background
from emotalking.player.expressive import ExpressiveLoop
from emotalking.player.finish import Behind, finished_frames, on_host
from emotalking.player.gaze import UNSTEERED, PoseSource, SteeredLoop, eyes_of, recorded_glances
from emotalking.player.on_device import torsos_of
from emotalking.player.poses import PoseLoop, Poses
from emotalking.player.protocols import Emotion, Gaze, Motion, PlayableAvatar
from emotalking.provenance.mark import Mark


@dataclass(frozen=True)
class AudioTrack:
    """Features of a recording (not yet codes of the audio encoder) and its voice activity."""

    features: FeatureTrack
    voice_activity: VoiceActivity | None = None
    """None: the lips follow the features everywhere."""
    sound: Callable[[], Iterable[Float[np.ndarray, " _"]]] | None = None
    """Opens the sound itself; None: only its features are known."""


Sound = str | Path | Float[np.ndarray, " S"] | FeatureTrack | AudioTrack
"""A sound or video file, float32 mono samples at 16 kHz, their features, or the track of `Player.audio_features`."""

_CONTEXT_S = 60.0
"""Sound behind the last frame that is listened to: features see up to 22 s of it, levels and noise more."""
_APART_S = 0.5
"""Seconds by which a sound and another program's features of it may differ in length."""
_DECODERS = 4
"""Threads that decode torso layers ahead of the renderer."""


def listened_s(seconds: float | None) -> float | None:
    """Seconds of a sound that frames up to the time ``seconds`` depend on; None: all."""
    return None if seconds is None else seconds + _CONTEXT_S


class Player:
    """Play an avatar.

    Example:
        >>> player = Player(Avatar.load("someone.safetensors"))
        >>> for frame in player.frames("speech.wav", EmotionTrack.constant(0.6, 0.4)):
        ...     show(frame)
    """

    def __init__(self, avatar: PlayableAvatar, mark: Mark | None = None) -> None:
        """Play ``avatar``; ``mark`` is put into the frames, but not where they have a matte to be composited with."""
        self.avatar = avatar
        self.mark = mark

    def audio_features(
        self,
        audio: Sound,
        features: FeatureTrack | None = None,
        *,
        vad: bool = True,
        audio_track: int | None = None,
        seconds: float | None = None,
    ) -> AudioTrack:
        """Compute the avatar's audio features and the voice activity of a recording; files are read in a stream.

        Features depend on the level and noise of the entire recording, so all of it is read here; voice activity is
        computed while the frames are rendered.

        Args:
            audio: the speech; features alone do not contain voice activity.
            features: features of ``audio`` computed by another program.
            vad: detect voice activity, if the avatar has closed-mouth codes.
            audio_track: sound track of a file, see :func:`~emotalking.io.audio.iter_audio`.
            seconds: frames are wanted up to this time: of a file, a minute more is read; None: all.

        Raises:
            InputError: the file cannot be used, or the avatar's features cannot be computed here.
        """
        if isinstance(audio, AudioTrack):
            return audio
        if isinstance(audio, FeatureTrack):
            return AudioTrack(audio)
        longest_s = listened_s(seconds)

        def sound() -> Iterable[np.ndarray]:
            if isinstance(audio, np.ndarray):
                return [audio]
            return iter_audio(audio, track=audio_track, longest_s=longest_s)

        if features is None:
            track = feature_track(sound(), self.avatar.audio_features)
        else:
            track = features
        if not (vad and self.avatar.closes_lips):
            return AudioTrack(track, None, sound)
        activity = voice_activity(sound())
        if features is not None:
            # The file has not been read yet, and its errors must be raised before the first frame.
            heard_s = len(activity.speaking) * STEP_S
            told_s = features.num_frames(self.avatar.fps) / float(self.avatar.fps)
            if told_s < heard_s - _APART_S or (longest_s is None and told_s > heard_s + _APART_S):
                raise InputError(
                    f"the audio features last {told_s:.1f} s and the sound {heard_s:.1f} s: give features of this one."
                )
        return AudioTrack(track, activity, sound)

    def num_frames(self, track: AudioTrack, seconds: float | None = None) -> int:
        """Number of frames that cover the audio, or its first ``seconds``."""
        total = track.features.num_frames(self.avatar.fps)
        return total if seconds is None else min(total, int(np.ceil(seconds * float(self.avatar.fps) - 1e-6)))

    def frames(
        self,
        audio: Sound,
        emotion: Emotion | None = None,
        *,
        poses: Motion = "recorded",
        background: Background = None,
        seconds: float | None = None,
        batch: int = 8,
        matte: bool = False,
        vad: bool = True,
        seed: int = 0,
        gaze: Gaze | None = None,
    ) -> Iterator[UInt8[np.ndarray, "H W channels"]]:
        """Render frames of the speaking avatar one by one; memory does not grow with their number.

        Args:
            audio: the speech; ceil(duration * fps) frames are rendered.
            emotion: valence and arousal over time; None: without the emotion branch.
            poses: the recorded head motion, continued without a jump as long as needed; "expressive": with tempo and
                size by arousal, nods and brows by accents of the speech, and blinks of its own
                (``player.expressive``); or a still head.
            background: see ``Background``; "transparent" gives RGBA with straight alpha.
            seconds: stop after this time.
            batch: frames rendered together.
            matte: add the head's coverage to finished frames as a fourth channel.
            vad: close the lips during silence (``audio.vad``); needs the audio itself, not only its features, and an
                avatar with closed-mouth codes.
            seed: of expressive motion, and of the saccades of steered eyes.
            gaze: where the eyes look over time, x to the viewer's right and y up, each in [-1, 1] of the way that
                eyes may go (``Eyes.look``); (0, 0) is the camera. None: as recorded.

        Yields:
            uint8 RGB [H, W, 3], or RGBA [H, W, 4] when transparent, or RGB and coverage [H, W, 4] with ``matte``.

        Raises:
            InputError: unusable audio or background, or an emotion for an avatar without an emotion branch.
        """
        # All inputs are checked before the first frame is requested.
        if emotion is not None and not self.avatar.emotional:
            raise InputError(
                "this avatar was trained without its emotion stage, so it cannot show one: train that stage."
            )
        eyes = None if gaze is None else eyes_of(self.avatar, seed)
        if gaze is not None and eyes is None:
            raise InputError(UNSTEERED)
        behind = Behind.of(background, self.avatar)
        track = self.audio_features(audio, vad=vad, seconds=seconds)
        loop: PoseSource = self._loop(poses, emotion, track, seed)
        if gaze is not None and eyes is not None:
            loop = SteeredLoop(loop, eyes, gaze, float(self.avatar.fps), emotion)
        return self._play(track, emotion, loop, behind, self.num_frames(track, seconds), batch, matte)

    def recorded(
        self, total: int, poses: Motion = "recorded", emotion: Emotion | None = None
    ) -> Int[np.ndarray, " total"]:
        """Index of the recorded frame under each of the ``total`` frames of :meth:`frames`."""
        return self._loop(poses, emotion).at(np.arange(total), total).indices

    def _loop(
        self, poses: Motion, emotion: Emotion | None, track: AudioTrack | None = None, seed: int = 0
    ) -> PoseLoop | ExpressiveLoop:
        if poses == "expressive":
            accents = None if track is None or track.sound is None else Accents(track.sound())
            return ExpressiveLoop(self.avatar, emotion, accents, seed)
        avatar, glances = self.avatar, recorded_glances(self.avatar)
        return PoseLoop(avatar.viewmats, avatar.aus, float(avatar.fps), fixed=poses == "fixed", glances=glances)

    def _play(
        self,
        track: AudioTrack,
        emotion: Emotion | None,
        loop: PoseSource,
        behind: Behind,
        total: int,
        batch: int,
        matte: bool,
    ) -> Iterator[np.ndarray]:
        """Render batch after batch; poses and torso layers of the next two are prepared meanwhile."""
        starts = range(0, total, batch)
        layer = torsos_of(self.avatar)
        with ThreadPoolExecutor(_DECODERS) as pool:
            ahead: deque[tuple[int, Poses, list[Future[Tensor]]]] = deque()

            def prepare(start: int) -> None:
                """Queue the poses of a batch and the decoding of its torso layers."""
                here = loop.at(np.arange(start, min(start + batch, total)), total)
                ahead.append((start, here, _fetch(pool, layer, here.indices)))

            for start in starts[:2]:
                prepare(start)
            while ahead:
                start, here, torsos = ahead.popleft()
                stop = start + len(here.indices)
                windows = track.features.windows(start, stop, self.avatar.fps, total)
                activity = track.voice_activity
                gate = None if activity is None else activity.frames(start, stop, self.avatar.fps)
                times = (start + np.arange(len(here.indices))) / float(self.avatar.fps)
                va = None
                if emotion is not None:
                    va = np.asarray(emotion.at(times))
                layers = [torso.result() for torso in torsos]
                conditions = self._conditions(here, windows, va, gate)
                plates = None if behind.plate is None else [behind.plate] * len(layers)
                mark, spilt = (None, None) if matte else (self.mark, behind.spilt)
                images = finished_frames(
                    self.avatar, conditions, layers, plates, matte=matte, mark=mark, times=times, spilt=spilt
                )
                if start + 2 * batch < total:
                    prepare(start + 2 * batch)
                yield from on_host(images)

    def _conditions(
        self, poses: Poses, windows: Float[Tensor, "B 8 C steps"], va: np.ndarray | None, gate: np.ndarray | None
    ) -> Conditions:
        """Conditions of one batch."""

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32))

        return Conditions(
            put(poses.viewmats),
            windows,
            put(poses.aus),
            None if va is None else put(va),
            None if gate is None else put(gate),
            None if poses.gaze is None else put(poses.gaze),
        )


def _fetch(pool: ThreadPoolExecutor, torso: Callable[[int], Tensor], indices: np.ndarray) -> "list[Future[Tensor]]":
    """Queue the decoding of torso layers; a frame used twice is decoded once."""
    futures = {int(index): pool.submit(torso, int(index)) for index in np.unique(indices)}
    return [futures[int(index)] for index in indices]
