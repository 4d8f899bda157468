"""Where the eyes look: as recorded, or on the camera with small saccades of the person's own size and tempo."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from emotalking.data.gaze import camera_direction
from emotalking.errors import InputError
from emotalking.player.glide import Glide
from emotalking.player.poses import Poses
from emotalking.player.protocols import Emotion, PlayableAvatar

SHOWN = 0.01, 0.99
"""Quantiles of the recorded gaze, along each axis, between which it was shown."""
MARGIN = 0.1
"""Share of that range by which the eyes may go beyond it on each side."""
_SACCADE = 0.012
"""Glances [rad] closer together than this are one fixation: noise of the measurement is half of it."""
_SHORTEST_S, _LONGEST_S = 0.2, 4.0
"""Duration of a fixation; shorter ones are passages, and longer ones look like a stare."""
_USUAL_S = 1.0
"""Duration where the clip shows too few."""
_FEWEST = 4
_WIDEST = 0.5
"""Share of the recorded spread of fixations with which eyes wander about what they look at: the rest was on purpose."""
_PASSAGE_S, _GLIDE_S = 0.06, 0.15
"""Duration of a saccade of the eyes' own, and of one that is commanded."""
STEADY, CALM = 0.7, 0.5
"""By arousal 1, fixations last 2 ** STEADY times as long and scatter 2 ** -CALM times as far."""
UNSTEERED = "this avatar's eyes cannot be steered: train it again, on a folder with tracked irises."


def recorded_glances(avatar: PlayableAvatar) -> Float[np.ndarray, "P 2"] | None:
    """Recorded gaze of an avatar from the direction to the camera, radians; None: its gaze cannot be steered."""
    gaze = _recorded(avatar)
    return None if gaze is None else np.asarray(gaze, np.float64) - camera_direction(avatar.viewmats)


def _recorded(avatar: PlayableAvatar) -> Float[np.ndarray, "P 2"] | None:
    """Recorded gaze, radians in the head; avatars of programs need not have any."""
    return getattr(avatar, "gaze", None)


@runtime_checkable
class PoseSource(Protocol):
    """A :class:`~emotalking.player.poses.PoseLoop`, or what is asked like one."""

    def at(self, frames: Int64[np.ndarray, " n"], total: int | None = None) -> Poses:
        """Poses of output frames."""
        ...


class Eyes:
    """Eyes of an avatar frame by frame: on the camera, or as far beside it as was asked for.

    Where the head turns, they stay on what they look at, as far as eyes may be turned in the head.

    Args:
        gaze: recorded, radians in the head.
        viewmats: recorded world-to-camera poses.
        fps: frame rate.
        reach: to each side in the head they may look so far [rad] whatever the clip shows.
        seed: of the saccades.
    """

    def __init__(
        self,
        gaze: Float[np.ndarray, "P 2"],
        viewmats: Float[np.ndarray, "P 4 4"],
        fps: float,
        *,
        reach: float = 0.0,
        seed: int = 0,
    ) -> None:
        gaze = np.asarray(gaze, np.float64)
        low, high = np.quantile(gaze, SHOWN, axis=0)
        room = MARGIN * (high - low)
        self.low, self.high = low - room, high + room
        if reach:
            self.low[0], self.high[0] = min(self.low[0], -reach), max(self.high[0], reach)
        """Least and largest gaze, radians in the head."""
        camera = camera_direction(viewmats)
        self._usual = np.clip(np.median(camera, 0), self.low, self.high)
        self._fps, self._rng = fps, np.random.default_rng(seed)
        self._places, self._seconds = _fixations(gaze - camera, fps)
        self._wanted = Glide(np.zeros(2))
        self._off = Glide(np.zeros(2))
        self._left = 0.0
        self._move_on(0.0)

    def look(self, x: float, y: float, seconds: float = _GLIDE_S) -> None:
        """Look beside the camera: to the viewer's right and up, each in [-1, 1] of the way that the eyes may go.

        Raises:
            InputError: beyond.
        """
        if not (abs(x) <= 1 and abs(y) <= 1):
            raise InputError(f"the gaze is {x:g}, {y:g}: give two numbers from -1 to 1 (0, 0 is the camera).")
        self._wanted.to(np.array([x, y], np.float64), round(seconds * self._fps))

    def step(self, viewmat: Float[np.ndarray, "4 4"], arousal: float = 0.0) -> Float[np.ndarray, "2"]:
        """Gaze [rad] in the head of the next frame, whose pose is ``viewmat``; excited eyes are steadier."""
        self._left -= 1.0 / self._fps
        if self._left <= 0.0:
            self._move_on(arousal)
        x, off = self._wanted.step(), self._off.step()
        beside = np.where(x > 0, x * (self.high - self._usual), x * (self._usual - self.low))
        return np.clip(camera_direction(viewmat) + beside + off, self.low, self.high)

    def _move_on(self, arousal: float) -> None:
        """Begin the next fixation."""
        chosen, lasts = self._rng.integers([len(self._places), len(self._seconds)])
        self._off.to(self._places[chosen] * 2.0 ** (-CALM * arousal), max(1, round(_PASSAGE_S * self._fps)))
        self._left = float(self._seconds[lasts]) * 2.0 ** (STEADY * arousal)


def eyes_of(avatar: PlayableAvatar, seed: int) -> Eyes | None:
    """Eyes of an avatar; None: its gaze cannot be steered."""
    gaze = _recorded(avatar)
    if gaze is None:
        return None
    return Eyes(gaze, avatar.viewmats, float(avatar.fps), reach=getattr(avatar, "gaze_reach", 0.0), seed=seed)


class SteeredLoop:
    """A source of poses, asked from the first frame on and in order, with eyes that are steered.

    Args:
        loop: gives the poses.
        eyes: of the avatar.
        look: where to, in [-1, 1] (:meth:`Eyes.look`), at times [s].
        fps: frame rate.
        emotion: steadies the eyes; None: neutral.
    """

    def __init__(self, loop: PoseSource, eyes: Eyes, look: Emotion, fps: float, emotion: Emotion | None) -> None:
        self._loop, self._eyes, self._look, self._fps, self._emotion = loop, eyes, look, fps, emotion

    def at(self, frames: Int64[np.ndarray, " n"], total: int | None = None) -> Poses:
        """Poses of the next ``n`` frames."""
        poses, times = self._loop.at(frames, total), frames / self._fps
        arousals = np.zeros(len(frames)) if self._emotion is None else self._emotion.at(times)[:, 1]
        gaze = []
        for viewmat, (x, y), arousal in zip(poses.viewmats, self._look.at(times), arousals, strict=True):
            self._eyes.look(float(x), float(y), 0.0)
            gaze.append(self._eyes.step(viewmat, float(arousal)))
        return replace(poses, gaze=np.array(gaze, np.float32).reshape(-1, 2))


def _fixations(
    glances: Float[np.ndarray, "P 2"], fps: float
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " m"]]:
    """Where eyes rest about their usual glance [rad], the far half left out, and for how long [s]."""
    begin = 0
    middles = []
    seconds = []
    for frame in range(1, len(glances) + 1):
        rested = glances[begin:frame]
        if frame < len(glances) and np.abs(glances[frame] - np.median(rested, 0)).max() < _SACCADE:
            continue
        if (lasted := len(rested) / fps) >= _SHORTEST_S:
            middles.append(np.median(rested, 0))
            seconds.append(min(lasted, _LONGEST_S))
        begin = frame
    if len(middles) < _FEWEST:
        return np.zeros((1, 2)), np.full(1, _USUAL_S)
    places = np.array(middles) - np.median(glances, 0)
    near = np.linalg.norm(places, axis=1)
    return _WIDEST * places[near <= np.median(near)], np.array(seconds)
