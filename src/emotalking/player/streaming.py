"""A head that listens and speaks: sound is pushed while it comes in, frames with their sound are taken one by one."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.audio.accents import DelayedAccents
from emotalking.audio.streams import feature_streams
from emotalking.audio.vad_stream import GateStream
from emotalking.audio.windows import WINDOW_FRAMES
from emotalking.data.audio_features import audio_feature
from emotalking.errors import InputError
from emotalking.models.compositor import Conditions
from emotalking.options import Provenance
from emotalking.player.backgrounds import Background
from emotalking.player.expressive import LOOK_AHEAD_S
from emotalking.player.finish import Behind, finished_frames, on_host
from emotalking.player.idle import LiveMotion
from emotalking.player.lips import Lips, Mouth, mouth_windows
from emotalking.player.mood import Mood, MoodLike
from emotalking.player.protocols import Motion, PlayableAvatar
from emotalking.player.spoken import GateAt, Spoken
from emotalking.player.torso_layers import Torso, TorsoLayers
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload

LOOK_AHEAD_MS = (80, 1000)
"""Least and most look-ahead."""
_RATES = (8000, 192_000)
_TORSOS = 3
"""Torso layers that are decoded ahead, with that of the frame itself."""

Image = UInt8[np.ndarray, "H W channels"] | UInt8[Tensor, "H W channels"]


@dataclass(frozen=True)
class FrameConditions:
    """What one frame is rendered from, and what is heard and known with it."""

    avatar: PlayableAvatar
    index: int
    viewmat: Float[np.ndarray, "4 4"]
    aus: Float[np.ndarray, "6"]
    mouth: Mouth
    """Windows of audio features, which are computed when the frame is rendered."""
    va: Float[np.ndarray, "2"] | None
    gate: float | None
    """1 in speech, 0 for closed lips; None: an avatar without closed lips."""
    gaze: Float[np.ndarray, "2"] | None
    """Radians to the viewer's right and up, in the head; None: an avatar whose gaze cannot be steered."""
    torso: Torso
    behind: Behind
    mark: Mark | None
    """The invisible mark to put into it."""
    audio: Float[np.ndarray, " n"]
    sample_rate: int
    utterance: int | None
    position_s: float
    ended: bool
    generation: int


@dataclass(frozen=True)
class LiveFrame:
    """One frame with exactly its sound."""

    image: Image | None
    """RGB, or RGBA with straight alpha where transparent; None: it was not rendered."""
    audio: Float[np.ndarray, " n"]
    """1/fps of sound; n varies by one where the frame rate does not divide the sample rate."""
    sample_rate: int
    index: int
    """Frames before this one: it is shown from index / fps on, and its sound begins then."""
    utterance: int | None
    """Whose sound this is; None: silence."""
    position_s: float
    """Sound of the utterance until the end of this frame, seconds."""
    ended: bool
    """The utterance's last frame."""
    generation: int
    """Interruptions before this frame."""


@dataclass(frozen=True)
class PlaybackPosition:
    """How far an interrupted utterance was heard."""

    utterance: int
    seconds: float


class StreamingPlayer:
    """Play an avatar live.

    Sound is cut by the clock of the frames, so sound and image cannot drift apart. Nothing waits: where no sound is to
    be said the head is idle. Not for use by several threads at once.

    Example:
        >>> player = StreamingPlayer(Avatar.load("someone.safetensors"))
        >>> player.push(samples, 24000)
        >>> player.flush()
        >>> for frame in player:  # never ends; the caller keeps the pace
        ...     show(frame.image, frame.audio)
    """

    def __init__(
        self,
        avatar: PlayableAvatar,
        *,
        look_ahead_ms: int = 120,
        sample_rate: int = 48000,
        emotion: MoodLike = None,
        poses: Motion = "recorded",
        background: Background = None,
        seed: int = 0,
        provenance: Provenance = "on",
    ) -> None:
        """Begin with an idle head.

        Args:
            avatar: the avatar; its audio features must stream (:func:`~emotalking.audio.streams.feature_streams`).
            look_ahead_ms: sound after the end of a frame that its lips depend on, 80 to 1000: speech begins so much
                later, and the lips follow it better.
            sample_rate: of the frames' sound, Hz.
            emotion: to begin with, see :meth:`set_emotion`.
            poses: the recorded head motion; moved by speech and emotion (:mod:`~emotalking.player.expressive`); or a
                still head.
            background: see ``Background``.
            seed: 0 begins where the recorded motion begins, others elsewhere, so that heads move differently.
            provenance: on: mark the frames invisibly as synthetic (:mod:`emotalking.provenance.mark`).

        Raises:
            InputError: features that need the whole recording, or an option that cannot be used.
        """
        if not LOOK_AHEAD_MS[0] <= look_ahead_ms <= LOOK_AHEAD_MS[1]:
            raise InputError(f"the look-ahead is {look_ahead_ms} ms: give {LOOK_AHEAD_MS[0]} to {LOOK_AHEAD_MS[1]}.")
        _check_rate(sample_rate)
        self.avatar = avatar
        self.sample_rate = sample_rate
        self.look_ahead_s = look_ahead_ms / 1000
        self.index = self.generation = 0
        self.utterance = 0
        """Number of the newest utterance."""
        self._fps = Fraction(avatar.fps)
        self._features = feature_streams(avatar.audio_features, avatar.device)
        self._lips = Lips(float(self._fps))
        self._mark = Mark(Payload.of_avatar(getattr(avatar, "sha256", None))) if provenance == "on" else None
        self._motion = LiveMotion(avatar, poses, seed)
        self._mood = Mood(avatar, emotion)
        self._accents: DelayedAccents | None = None
        if poses == "expressive":
            self._accents = DelayedAccents(self.look_ahead_s - LOOK_AHEAD_S, float(self._fps))
        self.set_background(background)
        self._utterances: deque[Spoken] = deque()
        self._speaking = False
        self._torsos = TorsoLayers(avatar)

    @property
    def queued_s(self) -> float:
        """Sound pushed and not yet played, seconds."""
        return sum((utterance.queued_s for utterance in self._utterances), 0.0)

    @property
    def speaking(self) -> bool:
        """True if the last frame had sound of an utterance."""
        return self._speaking

    def push(self, samples: Float[np.ndarray, " n"], sample_rate: int) -> int:
        """Append sound to the open utterance, or begin one; cheap, however much it is.

        Args:
            samples: float32 mono in [-1, 1].
            sample_rate: Hz; the same for all of an utterance.

        Returns:
            The number of the utterance, from 1.

        Raises:
            InputError: samples that are not finite, or an impossible rate.
        """
        _check_rate(sample_rate)
        samples = np.array(samples, np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InputError("the sound is not a row of finite numbers: give mono samples in [-1, 1].")
        if not self._utterances or self._utterances[-1].closed:
            self.utterance += 1
            gate = GateStream() if self.avatar.closes_lips else None
            clock = sample_rate, self.sample_rate, self._fps, self.look_ahead_s
            self._utterances.append(Spoken(self.utterance, *clock, self._features(), gate))
        self._utterances[-1].push(samples, sample_rate)
        return self._utterances[-1].number

    def flush(self) -> None:
        """End the open utterance: the rest of it is played, and silence after it."""
        if self._utterances:
            self._utterances[-1].close()

    def clear(self, heard: float | None = None) -> PlaybackPosition | None:
        """Interrupt: forget all sound that was not played; the next frame is of silence, and the lips shut in 80 ms.

        Args:
            heard: seconds of the current utterance that the listener has heard, where that is known.

        Returns:
            The current utterance and how far it was heard: played, or ``heard`` if that is less. None: nothing was to
            be said.
        """
        self.generation += 1
        if not self._utterances:
            return None
        now = self._utterances[0]
        self._utterances.clear()
        self._lips.shut()
        if self._accents is not None:
            self._accents.forget()
        self._speaking = False
        return PlaybackPosition(now.number, now.position_s if heard is None else min(max(0.0, heard), now.position_s))

    def set_emotion(self, emotion: MoodLike, seconds: float = 0.3) -> None:
        """Glide to an emotion: valence and arousal, a name, "auto" (heard in the voice), a track that begins now, or
        None.

        Raises:
            InputError: no such emotion, or an avatar without emotions.
        """
        self._mood.set(emotion, seconds)

    def set_pose(self, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> None:
        """Turn the head besides its recorded motion, in radians (`player.idle.POSE_LIMITS`).

        Args:
            yaw: to the viewer's right.
            pitch: up.
            roll: clockwise for the viewer.

        Raises:
            InputError: beyond the limits.
        """
        self._motion.turn(yaw, pitch, roll)

    def set_gaze(self, x: float = 0.0, y: float = 0.0) -> None:
        """Let the eyes glide to a place beside the camera, which they keep to while the head turns.

        Args:
            x: to the viewer's right.
            y: up. Both from -1 to 1: as far as the clip shows, and a little more, sideways at least the avatar's
                ``gaze_reach``; (0, 0) is the camera.

        Raises:
            InputError: beyond, or an avatar whose eyes cannot be steered (``avatar.gaze`` is None).
        """
        self._motion.look(x, y)

    def set_idle(self, on: bool) -> None:
        """Let the head move on, or bring it to rest where it is; blinks go on."""
        self._motion.hold(not on)

    def set_background(self, background: Background) -> None:
        """Change what is behind the torso, with the next frame.

        Raises:
            InputError: neither a colour nor an image.
        """
        self._behind = Behind.of(background, self.avatar)

    def hear(self) -> GateAt | None:
        """Listen to the sound that the next frame depends on, if there is enough of it.

        Returns:
            For :func:`~emotalking.audio.vad_stream.know_gates`, which computes the gates of many players at once and so
            saves time in :meth:`conditions`; None: no speech, or no gate.
        """
        speech = self._utterances[0] if self._utterances else None
        return speech.hear() if speech is not None and speech.ready(self._count) else None

    def conditions(self) -> FrameConditions:
        """The conditions of the next frame; the media clock advances by one frame. Nothing is rendered."""
        count = self._count
        speech = self._utterances[0] if self._utterances else None
        heard = np.zeros(0, np.float32)
        if speech is not None and speech.ready(count):
            spoken = speech.next_frame(count)
            heard = spoken.heard
            mouth, gate = self._lips.speak(spoken.window, spoken.gate)
            audio, utterance, position, ended = spoken.audio, speech.number, spoken.position_s, spoken.ended
            if ended:
                self._utterances.popleft()
        else:
            if self._speaking:
                self._lips.fade()
            mouth, gate = self._lips.rest()
            audio, utterance, position, ended = np.zeros(count, np.float32), None, 0.0, False
        self._speaking = utterance is not None
        torso = Torso(self._torsos, self._motion.coming(_TORSOS))
        va = self._mood.step(heard)
        accents = [] if self._accents is None else self._accents.step(heard)
        poses = self._motion.step(va, accents)
        found = FrameConditions(
            avatar=self.avatar,
            index=self.index,
            viewmat=poses.viewmats[0],
            aus=poses.aus[0],
            mouth=mouth,
            va=va,
            gate=gate if self.avatar.closes_lips else None,
            gaze=None if poses.gaze is None else poses.gaze[0],
            torso=torso,
            behind=self._behind,
            mark=self._mark,
            audio=audio,
            sample_rate=self.sample_rate,
            utterance=utterance,
            position_s=position,
            ended=ended,
            generation=self.generation,
        )
        self.index += 1
        return found

    def finish(self, conditions: FrameConditions, image: Image | None) -> LiveFrame:
        """The finished frame; ``image`` None: it was not rendered."""
        heard = conditions.audio, conditions.sample_rate, conditions.index, conditions.utterance
        return LiveFrame(image, *heard, conditions.position_s, conditions.ended, conditions.generation)

    def __iter__(self) -> Iterator[LiveFrame]:
        """All frames from the next one on; there is no last one."""
        return self

    def __next__(self) -> LiveFrame:
        """The next frame, rendered."""
        conditions = self.conditions()
        return self.finish(conditions, render_batch([conditions])[0])

    @property
    def _count(self) -> int:
        """Samples of the next frame."""
        return self._samples_until(self.index + 1) - self._samples_until(self.index)

    def _samples_until(self, index: int) -> int:
        """Samples of sound before frame ``index``."""
        return index * self.sample_rate * self._fps.denominator // self._fps.numerator


def render_batch(conditions: Sequence[FrameConditions], *, on_device: bool = False) -> list[Image]:
    """Images of frames of any players: one call of `render` for all that have the avatar and kind of frame in common.

    Args:
        conditions: of any avatars, emotions and backgrounds.
        on_device: give tensors on the avatar's device; else arrays.

    Returns:
        uint8 RGB, or RGBA with straight alpha where transparent, in the order of ``conditions``.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, each in enumerate(conditions):
        payload = None if each.mark is None else each.mark.payload
        parts = each.va, each.gate, each.behind.plate, each.behind.spilt
        kind = id(each.avatar), payload, *(part is None for part in parts)
        groups.setdefault(kind, []).append(place)
    images: dict[int, Image] = {}
    for places in groups.values():
        made = _rendered([conditions[place] for place in places])
        images |= zip(places, made if on_device else on_host(made), strict=True)
    return [images[place] for place in range(len(conditions))]


def _rendered(group: Sequence[FrameConditions]) -> UInt8[Tensor, "B H W channels"]:
    """Images of frames of one avatar and kind."""
    layers = [each.torso.decode() for each in group]  # meanwhile, the features are computed
    first = group[0]
    feature = audio_feature(first.avatar.audio_features)
    windows = mouth_windows([each.mouth for each in group], (WINDOW_FRAMES, feature.channels, feature.steps))

    def put(rows: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    driven = Conditions(
        put([each.viewmat for each in group]),
        windows,
        put([each.aus for each in group]),
        None if first.va is None else put([each.va for each in group if each.va is not None]),
        None if first.gate is None else put([np.asarray(each.gate) for each in group]),
        None if first.gaze is None else put([each.gaze for each in group if each.gaze is not None]),
    )
    plates = [each.behind.plate for each in group if each.behind.plate is not None]
    torsos = [layer.result() for layer in layers]
    times = np.array([each.index / float(each.avatar.fps) for each in group])
    return finished_frames(
        first.avatar, driven, torsos, plates or None, mark=first.mark, times=times, spilt=first.behind.spilt
    )


def _check_rate(rate: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise InputError(f"the sample rate is {rate} Hz: give {_RATES[0]} to {_RATES[1]}.")
