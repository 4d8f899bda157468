"""Head poses for any length of speech from a recording of limited length, without a visible jump.

The recorded frames are played forwards and backwards between two calm moments; of a recording with jump cuts, only the
longest stretch without a cut. Near each end the playback speed falls smoothly through zero, so that the head comes to
rest and turns back naturally. Every pose has the index of its recorded frame, whose torso layer fits under it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

from emotalking.data.gaze import camera_direction
from emotalking.ops.geometry import HEAD_RADIUS, pose_steps, stretches

EASE_S = 0.5
"""Half the duration [s] of a turn."""
_CALM_S = 0.4
"""Length [s] over which a moment must be calm to be a turning point."""
_SEARCH = 0.15
"""Share of the recording at each end in which turning points are searched."""


@dataclass(frozen=True)
class Poses:
    """Pose, action units and recorded frame of n output frames."""

    viewmats: Float[np.ndarray, "n 4 4"]
    """World-to-camera, OpenCV axes, float32."""
    aus: Float[np.ndarray, "n 6"]
    """Action units in the order of ``data.layouts.MODEL_AUS``; the recorded blinks are among them."""
    indices: Int64[np.ndarray, " n"]
    """Recorded frame with the torso layer of this head."""
    gaze: Float[np.ndarray, "n 2"] | None = None
    """Where the eyes look, radians to the viewer's right and up in the head, float32; None: not known."""


class PoseLoop:
    """Pose sequence of unlimited length from P consecutive recorded poses.

    Args:
        viewmats: recorded world-to-camera poses.
        aus: recorded action units.
        fps: frame rate [Hz] of the recording and of the output.
        fixed: keep head and torso still in the most usual pose; action units continue.
        glances: recorded gaze from the direction to the camera (:func:`emotalking.data.gaze.camera_direction`),
            radians; the eyes keep to them also where the head is turned otherwise than it was.
    """

    def __init__(
        self,
        viewmats: Float[np.ndarray, "P 4 4"],
        aus: Float[np.ndarray, "P 6"],
        fps: float | int,
        *,
        fixed: bool = False,
        glances: Float[np.ndarray, "P 2"] | None = None,
    ) -> None:
        if len(viewmats) == 0 or len(viewmats) != len(aus):
            raise ValueError(f"viewmats and aus: expected as many, at least one; got {len(viewmats)}, {len(aus)}")
        self._viewmats = viewmats.astype(np.float64)
        self._aus = aus.astype(np.float64)
        self._glances = glances
        self._stretch = longest_stretch(viewmats)
        here = slice(*self._stretch)
        low, high = (self._stretch[0] + turn for turn in turning_points(viewmats[here], aus[here], fps))
        # An integer number of frames, so that poses between the turns are exactly recorded ones, also backwards.
        self._ease = min(round(EASE_S * fps), (high - low) // 2)
        # The rounded corners end half an ease before the triangle's, so the triangle is enlarged by that.
        self._low, self._high = low - self._ease / 2, high + self._ease / 2
        self._fixed = usual_pose(viewmats, aus) if fixed else None

    def at(self, frames: Int64[np.ndarray, " n"] | Float[np.ndarray, " n"], total: int | None = None) -> Poses:
        """Poses of the output frames ``frames`` (>= 0).

        Args:
            frames: output frame numbers; places between two are interpolated.
            total: length of the output if known; a recording at least as long is played unchanged.
        """
        position = self.positions(frames, total)
        aus = _lerp(self._aus, position).astype(np.float32)
        if self._fixed is not None:
            viewmats = np.repeat(self._viewmats[None, self._fixed].astype(np.float32), len(frames), axis=0)
            return Poses(viewmats, aus, np.full(len(frames), self._fixed, np.int64), self._gaze(viewmats, position))
        viewmats, indices = interpolate_poses(self._viewmats, position), np.floor(position + 0.5).astype(np.int64)
        return Poses(viewmats, aus, indices, self._gaze(viewmats, position))

    def _gaze(
        self, viewmats: Float[np.ndarray, "n 4 4"], position: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n 2"] | None:
        """Recorded glances at places of the recording, of a head with these poses."""
        if self._glances is None:
            return None
        return (camera_direction(viewmats) + _lerp(self._glances, position)).astype(np.float32)

    def pose(self, frame: float) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "6"], int]:
        """View, action units and recorded frame of one output frame, as :meth:`at`; cheap between the turns."""
        place = self._place(frame)
        if place is None or place != int(place) or self._fixed is not None:
            poses = self.at(np.array([frame]))
            return poses.viewmats[0], poses.aus[0], int(poses.indices[0])
        return self._viewmats[int(place)].astype(np.float32), self._aus[int(place)].astype(np.float32), int(place)

    def indices(self, frames: Sequence[float]) -> list[int]:
        """Recorded frames of a few output frames, as :meth:`at`."""
        if self._fixed is not None:
            return [self._fixed] * len(frames)
        places = [self._place(frame) for frame in frames]
        known = [place for place in places if place is not None]
        if len(known) < len(places):
            known = self.positions(np.array(frames)).tolist()
        return [int(place + 0.5) for place in known]

    def _place(self, frame: float) -> float | None:
        """Position of a whole output frame; None: it is none."""
        if frame != int(frame):
            return None
        period = len(self._whole) // 2
        # What follows the first turn comes again and again.
        return self._whole[int(frame) if frame < period else period + int(frame) % period]

    @cached_property
    def _whole(self) -> list[float]:
        """Positions of the first whole frames."""
        period = round(2 * (self._high - self._low)) or 1
        return self.positions(np.arange(2 * period)).tolist()

    def positions(
        self, frames: Int64[np.ndarray, " n"] | Float[np.ndarray, " n"], total: int | None = None
    ) -> Float[np.ndarray, " n"]:
        """Places in the recording (frames, fractional) of output frames, as in :meth:`at`."""
        begin, end = self._stretch
        position = begin + frames.astype(np.float64)
        return self._positions(position) if total is None or total > end - begin else position

    def _positions(self, time: np.ndarray) -> np.ndarray:
        """Frame numbers from the stretch's begin on to positions: up to the upper turn, down to the lower and so on."""
        span = self._high - self._low
        if span == 0:
            return np.full_like(time, self._low)
        # A triangle wave, first rising through 0, whose corners are rounded by parabolas of the same slope.
        phase = np.where(time < self._low, time - self._low, np.mod(time - self._low, 2 * span))
        rise = np.where(phase <= span, phase, 2 * span - phase)
        from_high = span - rise
        position = self._low + rise
        position = np.where(from_high < self._ease, self._high - _rounded(from_high, self._ease), position)
        # The first pass through the lower end comes from frame 0 and does not turn.
        turns_low = (np.abs(rise) < self._ease) & (time > span)
        return np.where(turns_low, self._low + _rounded(rise, self._ease), position)


def _rounded(distance: np.ndarray, ease: int) -> np.ndarray:
    """|u| with its corner replaced by the parabola that joins it with the same slope at ``ease``."""
    return distance**2 / (2 * max(ease, 1)) + ease / 2


def longest_stretch(viewmats: Float[np.ndarray, "P 4 4"]) -> tuple[int, int]:
    """Begin and end (exclusive) of the longest run of poses without a cut."""
    return max(stretches(viewmats), key=lambda run: run[1] - run[0])


def turning_points(
    viewmats: Float[np.ndarray, "P 4 4"], aus: Float[np.ndarray, "P 6"], fps: float | int
) -> tuple[int, int]:
    """The two calmest moments near the ends of the recording: little head motion and open eyes.

    Returns:
        (low, high) recorded frames, low <= high.
    """
    count = len(viewmats)
    if count < 3:
        return 0, count - 1
    width = max(1, min(round(_CALM_S * fps), count // 8)) | 1
    motion = np.pad(pose_steps(viewmats), (1, 0), mode="edge")
    motion = motion / max(float(np.median(motion)), 1e-9) + 0.5 * aus[:, 5]
    padded = np.pad(motion, width // 2, mode="edge")
    calm = np.lib.stride_tricks.sliding_window_view(padded, width).mean(-1)
    reach = max(1, int(_SEARCH * count))
    return int(calm[:reach].argmin()), count - 1 - int(calm[::-1][:reach].argmin())


def usual_pose(viewmats: Float[np.ndarray, "P 4 4"], aus: Float[np.ndarray, "P 6"]) -> int:
    """The recorded frame nearest to the median pose, among those with open eyes."""
    # Rows of [R | t]: a rotation moves the skin by its radius.
    weights = np.tile([HEAD_RADIUS] * 3 + [1.0], 3)
    flat = viewmats[:, :3].reshape(len(viewmats), 12).astype(np.float64) * weights
    distance = np.abs(flat - np.median(flat, axis=0)).sum(-1)
    open_eyes = aus[:, 5] <= np.median(aus[:, 5])
    return int(np.where(open_eyes, distance, np.inf).argmin())


def interpolate_poses(
    viewmats: Float[np.ndarray, "P 4 4"], position: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4 4"]:
    """Poses at fractional frame numbers: the rotation on the shortest arc, the head's origin on a straight line."""
    first = np.clip(np.floor(position).astype(np.int64), 0, len(viewmats) - 1)
    second = np.minimum(first + 1, len(viewmats) - 1)
    part = (position - first)[:, None, None]
    a, b = viewmats[first], viewmats[second]
    turn = _rotation_power(b[:, :3, :3] @ a[:, :3, :3].transpose(0, 2, 1), part[:, 0, 0])
    out = np.zeros((len(position), 4, 4), np.float64)
    out[:, :3, :3] = turn @ a[:, :3, :3]
    out[:, :3, 3] = (a * (1 - part) + b * part)[:, :3, 3]
    out[:, 3, 3] = 1.0
    return out.astype(np.float32)


def _rotation_power(rotation: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Rotations [n, 3, 3] by a fraction of their angle, about their own axis (Rodrigues)."""
    skew = (rotation - rotation.transpose(0, 2, 1)) / 2
    axis = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], -1)
    sine = np.linalg.norm(axis, axis=-1)
    angle = np.arctan2(sine, (np.trace(rotation, axis1=1, axis2=2) - 1) / 2) * exponent
    unit = skew / np.maximum(sine, 1e-12)[:, None, None]
    return np.eye(3) + np.sin(angle)[:, None, None] * unit + (1 - np.cos(angle))[:, None, None] * (unit @ unit)


def _lerp(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Rows of ``values`` at fractional positions."""
    first = np.clip(np.floor(position).astype(np.int64), 0, len(values) - 1)
    second = np.minimum(first + 1, len(values) - 1)
    part = (position - first)[:, None]
    return values[first] * (1 - part) + values[second] * part
