"""Head motion, blinks and torso of a live avatar: one clock in speech and in silence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from emotalking.audio.accents import Accent
from emotalking.errors import InputError
from emotalking.player.expressive import ExpressiveMotion
from emotalking.player.gaze import UNSTEERED, eyes_of
from emotalking.player.glide import Glide
from emotalking.player.poses import PoseLoop, Poses
from emotalking.player.protocols import Motion, PlayableAvatar

POSE_LIMITS = {"yaw": 0.14, "pitch": 0.10, "roll": 0.07}
"""Radians by which the head may be turned besides its recorded motion. The torso does not turn along: further, the jaw
leaves the neck."""
_TURN_S, _STILL_S = 0.4, 0.6
"""Duration of a turn, and of coming to rest or beginning to move."""


class LiveMotion:
    """The recorded motion without end, frame by frame.

    Args:
        avatar: whose motion.
        poses: "fixed" holds head and torso in the most usual pose; eyes and brows move on. "expressive": see
            :class:`~emotalking.player.expressive.ExpressiveMotion`.
        seed: 0 begins where the recording begins, others at a place of their own.
    """

    def __init__(self, avatar: PlayableAvatar, poses: Motion, seed: int) -> None:
        fps = float(avatar.fps)
        self._eyes = eyes_of(avatar, seed)
        self._loop = PoseLoop(avatar.viewmats, avatar.aus, fps, fixed=poses == "fixed")
        begin = 0 if seed == 0 else int(np.random.default_rng(seed).integers(2 * len(avatar.viewmats)))
        self._face = self._head = float(begin)
        """Frames of the motion that eyes and brows, and head and torso have come to."""
        self._fps = fps
        self._expressive: ExpressiveMotion | None = None
        if poses == "expressive":
            self._expressive = ExpressiveMotion(avatar.viewmats, avatar.aus, fps, seed=seed, begin=float(begin))
        self._speed, self._turn = Glide(np.ones(())), Glide(np.zeros(3))

    def hold(self, still: bool) -> None:
        """Bring the head to rest where it is, or let it move on; blinks go on."""
        self._speed.to(np.asarray(0.0 if still else 1.0), round(_STILL_S * self._fps))

    def turn(self, yaw: float, pitch: float, roll: float) -> None:
        """Turn the head besides its recorded motion, about its own origin.

        Args:
            yaw: to the viewer's right.
            pitch: up.
            roll: clockwise for the viewer. All in radians, within `POSE_LIMITS`.

        Raises:
            InputError: beyond the limits.
        """
        for (name, limit), angle in zip(POSE_LIMITS.items(), (yaw, pitch, roll), strict=True):
            if not abs(angle) <= limit:
                raise InputError(f"the {name} is {angle:g} radians: give -{limit:g} to {limit:g}, as the torso stays.")
        self._turn.to(np.array([yaw, pitch, roll], np.float64), round(_TURN_S * self._fps))

    def look(self, x: float, y: float) -> None:
        """Look beside the camera (:meth:`Eyes.look`).

        Raises:
            InputError: beyond what the clip shows, or an avatar whose eyes cannot be steered.
        """
        if self._eyes is None:
            raise InputError(UNSTEERED)
        self._eyes.look(x, y)

    def step(self, va: Float[np.ndarray, "2"] | None = None, accents: Sequence[Accent] = ()) -> Poses:
        """The next frame's.

        Args:
            va: valence and arousal; None: neutral.
            accents: that became known since the last frame. Both matter to expressive motion only.
        """
        valence_arousal = (0.0, 0.0) if va is None else (float(va[0]), float(va[1]))
        if self._expressive is not None:
            valence, arousal = valence_arousal
            strengths = [accent.strength for accent in accents]
            here = self._expressive.step(valence, arousal, strengths, float(self._speed.step()))
            viewmat = here.viewmats[0] @ _turned(self._turn.step())
            return self._seeing(viewmat, here.aus, int(here.indices[0]), valence_arousal)
        viewmat, aus, index = self._loop.pose(self._head)
        if self._face != self._head:
            _, aus, _ = self._loop.pose(self._face)
        viewmat = viewmat @ _turned(self._turn.step())
        self._face += 1.0
        self._head += float(self._speed.step())
        return self._seeing(viewmat, aus[None], index, valence_arousal)

    def _seeing(
        self, viewmat: Float[np.ndarray, "4 4"], aus: Float[np.ndarray, "1 6"], index: int, va: tuple[float, float]
    ) -> Poses:
        """A frame's pose with the gaze of a head that stands so."""
        gaze = None if self._eyes is None else self._eyes.step(viewmat, va[1])[None].astype(np.float32)
        return Poses(viewmat[None].astype(np.float32), aus, np.array([index]), gaze)

    def coming(self, count: int) -> list[int]:
        """Recorded frames of the next ``count`` frames, if nothing changes."""
        if self._expressive is not None:
            return self._expressive.coming(count, float(self._speed.value))
        speed = float(self._speed.value)
        return self._loop.indices([self._head + speed * number for number in range(count)])


def _turned(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """Rotation of the head in its own frame (x to the viewer's right, y up, z to the viewer)."""
    yaw, pitch, roll = angles.tolist()
    turned = np.eye(4)
    if not (yaw or pitch or roll):
        return turned
    turned[:3, :3] = Rotation.from_euler("YXZ", [yaw, -pitch, -roll]).as_matrix()
    return turned
