"""Head motion, blinks and brows that follow arousal and the accents of speech, made from the recorded motion.

The recorded motion stays the base, so that every pose has a recorded frame whose torso fits under it. Arousal changes
its tempo and the size of its quick part (what is left when the path of a second is taken away); accents add nods and
raise the brows; blinks are the recorded ones' shapes at times of their own. Sizes come from the clip's own motion. The
head turns about the joint under the skull, within the angles that the recording shows.

Frames are made one after another from what is known at their time, so that a live player and a file move alike.

Assumption: excited speakers move more and faster, and blink more often and more briefly, than calm ones (head motion:
Busso et al. 2007, IEEE TASLP 15, 1075; blinks: longer and, in calm attention, rarer). The factors below are our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.ndimage import gaussian_filter1d, grey_opening

from emotalking.audio.accents import Accents
from emotalking.data.blink import AU45_CLIP, CLOSURE_SHUT, LONGEST_BLINK_S
from emotalking.data.gaze import camera_direction
from emotalking.data.layouts import MODEL_AUS
from emotalking.player.gaze import recorded_glances
from emotalking.player.glide import smoothstep
from emotalking.player.poses import PoseLoop, Poses, longest_stretch, usual_pose
from emotalking.player.protocols import Emotion, PlayableAvatar

LOOK_AHEAD_S = 0.08
"""Sound after the end of a frame that its motion may depend on: the least that a live player has."""
TEMPO, SIZE, BLINK_RATE, BLINK_LENGTH, NOD_SIZE = 0.35, 0.7, 0.5, -0.4, 0.6
"""Powers of two by which arousal 1 multiplies each; arousal -1 divides by the same."""
JOINT = np.array([0.0, -0.05, -0.03])
"""Joint of head and neck in the head's frame (x to the viewer's right, y up, z to the viewer), world units."""
MOST_ADDED = np.radians(4.0)
"""Angle by which the head may differ from its recorded frame, whose torso it has."""
_SLOW_S = 1.0
"""Standard deviation of the time over which the path is averaged that the quick part is measured from."""
_JITTER_S = 0.05
"""The same for what is too quick for a head: noise of the tracking is not made larger."""
_FOLLOW_S = 0.25
"""Time constant of each of two low-passes through which arousal acts: the tempo has no corner."""
_NOD_S, _NOD_APART_S = (0.2, 0.4), 0.6
"""Fall and rise of a nod, and the least time between two."""
_NOD_SPREADS = 2.5
"""Size of a nod for a full accent, in standard deviations of the quick part of the recorded pitch."""
_SMALLEST_NOD, _LARGEST_NOD = np.radians(0.6), np.radians(3.0)
_NODDED, _PLEASED = 0.75, 0.15
"""Share of the accents that are nodded to, at arousal and valence 0; how it grows with valence."""
_BROW_S, _BROW_SHARE = (0.2, 0.5), 0.6
"""Rise and fall of the brows, and their size for a full accent relative to the largest that was recorded."""
_LID_SHARE = 0.25
_STRONG = 0.4
"""Accents that also raise the brows."""
_BLINK_S = 0.3
"""Half the time around a recorded blink's middle that is its shape."""
_BLINKS_PER_S = (8 / 60, 40 / 60)
"""Limits of the rate that the recording is believed to show."""
_USUAL_BLINKS_PER_S = 17 / 60
"""Rate where the recording shows fewer than three blinks (Bentivoglio et al. 1997: at rest)."""
_FEWEST_BLINKS, _NO_BLINK = 3, 0.02
"""Recorded blinks that are needed, and AU45 over that of the open eye below which one has ended."""
_BLINK_APART_S = 0.6
_BLINK_SHAPE = 3.0
"""Shape of the gamma distribution of the times between blinks: 1 is pure chance, large is a clock."""

_BROW, _LID, _BLINK = (MODEL_AUS.index(name) for name in ("AU01", "AU05", "AU45"))


@dataclass
class _Bump:
    """A smooth rise and fall."""

    size: float
    rise: float
    """Frames."""
    fall: float
    age: float = 0.0

    def step(self) -> float:
        """The value at the next frame."""
        self.age += 1.0
        if self.age <= self.rise:
            return self.size * float(smoothstep(self.age / self.rise))
        return self.size * float(smoothstep(1.0 - (self.age - self.rise) / self.fall))

    @property
    def over(self) -> bool:
        return self.age >= self.rise + self.fall


class ExpressiveMotion:
    """Motion of an avatar, frame by frame.

    Args:
        viewmats: recorded world-to-camera poses.
        aus: recorded action units in the order of ``MODEL_AUS``.
        fps: frame rate [Hz].
        seed: of what chance decides: which accents are nodded to, and when the eyes blink.
        begin: frame of the recorded motion to begin with.
        glances: see :class:`PoseLoop`.
    """

    def __init__(
        self,
        viewmats: Float[np.ndarray, "P 4 4"],
        aus: Float[np.ndarray, "P 6"],
        fps: float,
        *,
        seed: int = 0,
        begin: float = 0.0,
        glances: Float[np.ndarray, "P 2"] | None = None,
    ) -> None:
        self._fps = fps
        self._rng = np.random.default_rng(seed)
        self._blinks = _Blinks(aus[:, _BLINK].astype(np.float64), fps, self._rng)
        self._loop = PoseLoop(viewmats, np.column_stack([aus[:, :_BLINK], self._blinks.open]), fps, glances=glances)
        self._usual = viewmats[usual_pose(viewmats, aus), :3, :3].astype(np.float64)
        turns = self._turns(viewmats[:, :3, :3])
        # Cuts are left out: a path is only averaged within a stretch, and only the longest one is played.
        begin_of, end = longest_stretch(viewmats)
        self._fast = np.zeros_like(turns)
        path = turns[begin_of:end]
        quick, slow = (gaussian_filter1d(path, time * fps, axis=0, mode="nearest") for time in (_JITTER_S, _SLOW_S))
        self._fast[begin_of:end] = quick - slow
        self._range = np.stack([path.min(0), path.max(0)])
        self._nod = float(np.clip(_NOD_SPREADS * self._fast[begin_of:end, 0].std(), _SMALLEST_NOD, _LARGEST_NOD))
        self._largest = np.quantile(aus, 0.995, axis=0)
        self._place = begin
        self._arousal = np.zeros(2)
        self._nods: list[_Bump] = []
        self._brows: list[_Bump] = []
        self._since_nod = np.inf

    def step(
        self, valence: float = 0.0, arousal: float = 0.0, accents: Sequence[float] = (), speed: float = 1.0
    ) -> Poses:
        """The next frame's pose, action units and recorded frame.

        Args:
            valence, arousal: in [-1, 1].
            accents: strengths of the accents that became known since the last frame.
            speed: of the head's motion: 0 holds it. Accents and blinks go on.
        """
        follow = 1 - np.exp(-1 / (_FOLLOW_S * self._fps))
        self._arousal[0] += follow * (arousal - self._arousal[0])
        self._arousal[1] += follow * (self._arousal[0] - self._arousal[1])
        level = float(self._arousal[1])
        self._since_nod += 1 / self._fps
        for strength in accents:
            self._hear(strength, valence, level)
        here = self._loop.at(np.array([self._place]))
        viewmat = self._turned(here.viewmats[0].astype(np.float64), int(here.indices[0]), level)
        aus = here.aus[0].copy()
        brow = sum(bump.step() for bump in self._brows)
        self._brows = [bump for bump in self._brows if not bump.over]
        for unit, share in ((_BROW, 1.0), (_LID, _LID_SHARE / _BROW_SHARE)):
            aus[unit] = max(aus[unit], min(aus[unit] + brow * share * self._largest[unit], self._largest[unit]))
        aus[_BLINK] = max(aus[_BLINK], self._blinks.step(level))
        self._place += speed * 2 ** (TEMPO * level)
        gaze = here.gaze
        if gaze is not None:  # a nod does not take the eyes off what they look at
            gaze = gaze + (camera_direction(viewmat[None]) - camera_direction(here.viewmats)).astype(np.float32)
        return Poses(viewmat[None].astype(np.float32), aus[None].astype(np.float32), here.indices, gaze)

    def coming(self, count: int, speed: float = 1.0) -> list[int]:
        """Recorded frames of the next ``count`` frames, if nothing changes."""
        pace = speed * 2 ** (TEMPO * float(self._arousal[1]))
        return [int(index) for index in self._loop.at(self._place + pace * np.arange(count)).indices]

    def _turns(self, rotations: Float[np.ndarray, "P 3 3"]) -> Float[np.ndarray, "P 3"]:
        """Rotations from the usual pose, as vectors in the head's frame: pitch (down), yaw, roll."""
        from scipy.spatial.transform import Rotation  # slow to load, and only this motion needs it

        return Rotation.from_matrix(self._usual.T @ rotations.astype(np.float64)).as_rotvec()

    def _hear(self, strength: float, valence: float, arousal: float) -> None:
        """Begin what an accent causes."""
        chance, size = self._rng.random(2)
        frames = [seconds * self._fps / 2 ** (TEMPO * arousal) for seconds in (*_NOD_S, *_BROW_S)]
        force = 2 ** (NOD_SIZE * arousal) * (0.5 + 0.5 * strength)
        if self._since_nod >= _NOD_APART_S and chance < _NODDED * 2 ** (NOD_SIZE * arousal) + _PLEASED * valence:
            self._nods.append(_Bump(self._nod * force * (0.7 + 0.6 * size), frames[0], frames[1]))
            self._since_nod = 0.0
        if strength >= _STRONG and len(self._brows) == 0:
            self._brows.append(_Bump(_BROW_SHARE * min(force, 1.2), frames[2], frames[3]))

    def _turned(self, viewmat: Float[np.ndarray, "4 4"], index: int, arousal: float) -> Float[np.ndarray, "4 4"]:
        """A recorded pose with the head turned about its joint."""
        from scipy.spatial.transform import Rotation

        low, high = self._range
        place = self._turns(viewmat[None, :3, :3])[0]
        added = (2 ** (SIZE * arousal) - 1) * self._quick(self._place)
        added[0] += sum(bump.step() for bump in self._nods)
        self._nods = [bump for bump in self._nods if not bump.over]
        # Towards the limits of the recording there is less room; there is none beyond them.
        room = np.where(added > 0, high - place, place - low).clip(0.0, MOST_ADDED)
        added = np.where(room > 0, room * np.tanh(added / np.maximum(room, 1e-9)), 0.0)
        turn = Rotation.from_rotvec(added).as_matrix()
        turned = viewmat.copy()
        turned[:3, :3] = viewmat[:3, :3] @ turn
        turned[:3, 3] += viewmat[:3, :3] @ (JOINT - turn @ JOINT)
        return turned

    def _quick(self, place: float) -> Float[np.ndarray, "3"]:
        """Quick part of the recorded rotation at a frame of the motion."""
        position = float(self._loop.positions(np.array([place]))[0])
        first = min(int(position), len(self._fast) - 1)
        second = min(first + 1, len(self._fast) - 1)
        part = position - first
        return self._fast[first] * (1 - part) + self._fast[second] * part


class _Blinks:
    """Blinks with the recorded shapes, at times of their own.

    Args:
        closure: recorded AU45.
        fps: frame rate.
        rng: chance.
    """

    def __init__(self, closure: Float[np.ndarray, " P"], fps: float, rng: np.random.Generator) -> None:
        self._fps, self._rng = fps, rng
        self.open = grey_opening(closure, min(round(LONGEST_BLINK_S * fps) | 1, len(closure)))
        """AU45 without blinks."""
        shapes = _shapes(closure - self.open, round(_BLINK_S * fps))
        self._per_s = _USUAL_BLINKS_PER_S
        if len(shapes) >= _FEWEST_BLINKS:
            self._per_s = float(np.clip(len(shapes) / (len(closure) / fps), *_BLINKS_PER_S))
        else:
            times = np.arange(2 * round(_BLINK_S * fps) + 1) / fps
            shapes = [AU45_CLIP * smoothstep(times / 0.1) * smoothstep((0.4 - times) / 0.25)]
        self._all = shapes
        self._due = self._drawn() * rng.random()
        self._now: np.ndarray | None = None
        self._age = self._since_s = 0.0
        self._length = 1.0

    def _drawn(self) -> float:
        """Blinks' worth of time until the next one."""
        return float(self._rng.gamma(_BLINK_SHAPE, 1 / _BLINK_SHAPE))

    def step(self, arousal: float) -> float:
        """Closure by a blink at the next frame."""
        self._due -= self._per_s * 2 ** (BLINK_RATE * arousal) / self._fps
        self._since_s += 1 / self._fps
        if self._now is None and self._due <= 0 and self._since_s >= _BLINK_APART_S:
            self._now = self._all[int(self._rng.integers(len(self._all)))]
            self._age, self._length = 0.0, 2 ** (BLINK_LENGTH * arousal)
            self._due, self._since_s = self._drawn(), 0.0
        if self._now is None:
            return 0.0
        value = float(np.interp(self._age / self._length, np.arange(len(self._now)), self._now, right=0.0))
        self._age += 1.0
        if self._age / self._length >= len(self._now):
            self._now = None
        return value


def _shapes(excess: Float[np.ndarray, " P"], reach: int) -> list[Float[np.ndarray, " n"]]:
    """The recorded blinks, each in ``2 reach + 1`` frames around its middle."""
    shut = np.flatnonzero(excess > CLOSURE_SHUT * AU45_CLIP)
    runs = np.split(shut, np.flatnonzero(np.diff(shut) > 1) + 1) if len(shut) else []
    padded = np.pad(excess, reach)
    found = []
    for run in runs:
        middle = int(run[excess[run].argmax()])
        shape = padded[middle : middle + 2 * reach + 1].copy()
        for side in (shape[reach::-1], shape[reach:]):  # views: what belongs to a neighbour is taken out
            ends = np.flatnonzero(side <= _NO_BLINK)
            side[ends[0] if len(ends) else len(side) :] = 0.0
        found.append(np.pad(shape, 1))
    return found


class ExpressiveLoop:
    """Expressive motion to a recording, asked for like a :class:`PoseLoop`, but from the first frame on and in order.

    Args:
        avatar: whose motion.
        emotion: over time; None: neutral.
        accents: of the speech; None: without nods and brows.
        seed: of what chance decides.
    """

    def __init__(self, avatar: PlayableAvatar, emotion: Emotion | None, accents: Accents | None, seed: int) -> None:
        self._fps = float(avatar.fps)
        glances = recorded_glances(avatar)
        self._motion = ExpressiveMotion(avatar.viewmats, avatar.aus, self._fps, seed=seed, glances=glances)
        self._emotion, self._accents = emotion, accents
        self._next = 0

    def at(self, frames: Int64[np.ndarray, " n"], total: int | None = None) -> Poses:
        """Poses of the next ``n`` frames; ``total`` has no meaning.

        Raises:
            ValueError: other frames than the next ones.
        """
        if not np.array_equal(frames, np.arange(self._next, self._next + len(frames))):
            raise ValueError(f"frames: expected the {len(frames)} from {self._next} on")
        self._next += len(frames)
        values = np.zeros((len(frames), 2)) if self._emotion is None else self._emotion.at(frames / self._fps)
        made = []
        for frame, (valence, arousal) in zip(frames, values, strict=True):
            known = [] if self._accents is None else self._accents.until((frame + 1) / self._fps + LOOK_AHEAD_S)
            made.append(self._motion.step(float(valence), float(arousal), [accent.strength for accent in known]))
        parts = ((each.viewmats, each.aus, each.indices) for each in made)
        gazes = [each.gaze for each in made if each.gaze is not None]
        viewmats, aus, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Poses(viewmats, aus, indices, np.concatenate(gazes) if gazes else None)
