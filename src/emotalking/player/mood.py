"""Valence and arousal of a live avatar, gliding from one emotion to the next."""

import numpy as np
from jaxtyping import Float

from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import UserError
from emotalking.player.glide import Glide
from emotalking.player.protocols import Emotion, PlayableAvatar

MoodLike = tuple[float, float] | str | Emotion | None
"""Valence and arousal, a name ("happy", "happy:0.5"), a track that begins now, or no emotion."""


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
            UserError: no such emotion, or an avatar without emotions.
        """
        if not 0 <= seconds < np.inf:
            raise UserError(f"the emotion is to change within {seconds:g} s: give a number from 0.")
        self._target = self._checked(emotion)
        self._from, self._since = self._now, 0
        self._share = Glide(np.zeros(()))
        self._share.to(np.ones(()), round(seconds * self._fps))

    def step(self) -> Float[np.ndarray, "2"] | None:
        """Valence and arousal of the next frame; None: without the emotion branch."""
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
            raise UserError(
                "this avatar was trained without its emotion stage, so it cannot show one: train that stage."
            )
        if isinstance(emotion, str):
            return EmotionTrack.from_text(emotion)
        return EmotionTrack.constant(*emotion) if isinstance(emotion, tuple) else emotion
