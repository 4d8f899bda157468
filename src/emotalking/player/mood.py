"""Valence and arousal of a live avatar, gliding from one emotion to the next."""

import numpy as np
from jaxtyping import Float

from emotalking.audio.hama_model import weight_file
from emotalking.emotion.tracks import EmotionTrack, heard_gain
from emotalking.emotion.voice import VoiceEmotion
from emotalking.errors import InputError
from emotalking.player.glide import Glide
from emotalking.player.protocols import Emotion, PlayableAvatar

MoodLike = tuple[float, float] | str | Emotion | None
"""Valence and arousal, a name ("happy", "happy:0.5"), "auto" (heard in the voice), a track that begins now, or no
emotion."""
_CALMS_S = 4.0
"""Time constant with which an emotion that was heard fades where nobody speaks."""


class StreamedVoiceEmotion:
    """Emotion of the voice that is heard now.

    Raises:
        MissingModelError: the package hama is missing.
    """

    def __init__(self, fps: float, gain: float) -> None:
        weight_file()  # refuses here, not within a frame
        self._voice, self._now = VoiceEmotion(gain), np.zeros(2)
        self._fade = float(np.exp(-1 / (_CALMS_S * fps)))

    def hear(self, sound: Float[np.ndarray, " n"]) -> None:
        """Follow a frame's worth of sound, float32 mono at 16 kHz; empty: nobody speaks."""
        self._now = np.array(self._voice.push(sound)) if len(sound) else self._now * self._fade

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 2"]:
        """The emotion of now, at all times."""
        return np.tile(self._now, (len(times_s), 1))


class Mood:
    """The emotion from frame to frame."""

    def __init__(self, avatar: PlayableAvatar, emotion: MoodLike) -> None:
        self._avatar, self._fps = avatar, float(avatar.fps)
        self._target = self._checked(emotion)
        self._from = np.zeros(2)
        self._since = 0
        """Frames since the target was set."""
        self._share = Glide(np.ones(()))
        self._now = np.zeros(2)

    def set(self, emotion: MoodLike, seconds: float) -> None:
        """Glide to an emotion within ``seconds``.

        Raises:
            InputError: no such emotion, or an avatar without emotions.
        """
        if not 0 <= seconds < np.inf:
            raise InputError(f"the emotion is to change within {seconds:g} s: give a number from 0.")
        self._target = self._checked(emotion)
        self._from, self._since = self._now, 0
        self._share = Glide(np.zeros(()))
        self._share.to(np.ones(()), round(seconds * self._fps))

    def step(self, heard: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2"] | None:
        """Valence and arousal of the next frame; None: without the emotion branch.

        Args:
            heard: sound that became known with it, float32 mono at 16 kHz; empty: nobody speaks.
        """
        if isinstance(self._target, StreamedVoiceEmotion):
            self._target.hear(heard)
        share = float(self._share.step())
        if self._target is None and share == 1.0:
            self._now = np.zeros(2)
            return None
        target = np.zeros(2) if self._target is None else self._target.at(np.array([self._since / self._fps]))[0]
        self._since += 1
        self._now = self._from + (np.asarray(target, np.float64) - self._from) * share
        return self._now

    def _checked(self, emotion: MoodLike) -> Emotion | None:
        if emotion is not None and not self._avatar.emotional:
            raise InputError(
                "this avatar was trained without its emotion stage, so it cannot show one: train that stage."
            )
        if isinstance(emotion, str):
            gain = heard_gain(emotion)
            return EmotionTrack.from_text(emotion) if gain is None else StreamedVoiceEmotion(self._fps, gain)
        return EmotionTrack.constant(*emotion) if isinstance(emotion, tuple) else emotion
