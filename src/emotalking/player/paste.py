"""Paste rendered heads back into the full frames of their clip, which are read at random in bounded memory."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from emotalking.data.frame import ClipCrop
from emotalking.errors import InputError
from emotalking.io.display import ShownFrame, to_rgb
from emotalking.io.video import AS_NOTED, OpenClip, View
from emotalking.progress import track

CACHE_BYTES = 200 << 20
"""Size of the cache of decoded frames; going backwards decodes a block of this size at a time."""

MARGIN = 0.012
"""Margin around the rendered head up to which the rendered image is used, as a share of its side: the recorded head
has nearly the same outline, as the pose is the same. Outside it the avatar's plate differs from a moving backdrop."""
CHIN = 0.045
"""Further margin downwards, on the recorded torso: a chin that was lower in the recorded frame must not be visible
below the rendered one."""
FEATHER = 0.02
"""Width of the soft edge, as a share of the side."""


class ClipFrames:
    """Random access to the frames of a clip by their number (decoded, from 0).

    The clip is decoded once to read the time stamp of every frame (as ``prepare`` numbered them), later only around
    the requested frame.

    Args:
        path: the clip.
        view: size and turn of the frames.

    Raises:
        InputError: no video, or one whose frames carry no increasing time stamps.
    """

    def __init__(self, path: str | Path, view: View = AS_NOTED) -> None:
        self.path = Path(path)
        self.sizes = Counter[tuple[int, int]]()
        """Frames by their own width and height, upright and in square pixels."""
        found: list[int | None] = []
        with OpenClip(self.path, view) as clip:
            for _, frame in track(clip.frames(), "scan clip"):
                found.append(frame.pts)
                self.sizes[frame.own_size] += 1
        if not found:
            raise InputError(f"{self.path} is cut short or damaged after 0 frames; copy or export it again.")
        stamps = [stamp for stamp in found if stamp is not None]
        if len(stamps) < len(found) or any(b <= a for a, b in zip(stamps, stamps[1:], strict=False)):
            raise InputError(f"{self.path} carries no clean time stamps: convert it to .mp4 and try again.")
        self._stamps = stamps
        self._numbers = {stamp: number for number, stamp in enumerate(stamps)}
        self._clip = OpenClip(self.path, view)
        self._ahead: Iterator[tuple[int, ShownFrame]] = iter(())
        self._next = len(stamps)  # nothing follows yet: the first request seeks
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        """Frame ``number``, RGB, upright."""
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        if number not in self._cache:
            self._fetch(number)
        return self._cache[number]

    def close(self) -> None:
        """Close the file."""
        self._clip.close()

    def _fetch(self, number: int) -> None:
        """Decode a block that ends with ``number`` when going back, or begins with it."""
        block = self._block()
        backwards = bool(self._cache) and number < min(self._cache)
        first, last = (max(number - block + 1, 0), number) if backwards else (number, number)
        if not (self._next <= first < self._next + 3 * block):
            # One frame earlier, which deinterlacing looks at.
            self._clip.seek(self._stamps[max(first - 1, 0)])
            self._ahead = self._decoded()
        self._next = last + 1
        for index, frame in self._ahead:
            if first <= index <= last:
                self._cache[index] = to_rgb(frame)
                while len(self._cache) > block:
                    self._cache.popitem(last=False)
            if index >= last:
                break
        if number not in self._cache:
            raise InputError(f"frame {number} of {self.path} cannot be decoded any more: copy the clip again.")

    def _block(self) -> int:
        """Frames that fit the cache."""
        return max(CACHE_BYTES // next(iter(self._cache.values())).nbytes, 2) if self._cache else 2

    def _decoded(self) -> Iterator[tuple[int, ShownFrame]]:
        """Numbered frames from the current position; damaged packets are skipped."""
        for _, frame in self._clip.frames():
            if frame.pts in self._numbers:
                yield self._numbers[frame.pts], frame


def blend_weight(alpha: Float32[np.ndarray, "S S"]) -> Float32[np.ndarray, "S S"]:
    """Weight of the rendered image: 1 on the head and around it, falling to 0 within the feather, 0 at the border.

    Deviation: pasting the whole square is the usual way; in a clip larger than the avatar its soft backdrop would then
    be a blurred square in a sharp frame, and a moving backdrop would stop. Torso and backdrop of the same
    recorded frame fit without any blending, so only the head is taken.

    Args:
        alpha: coverage of the rendered head, in [0, 1].
    """
    side = len(alpha)
    reach, below, soft = (max(round(share * side), 1) for share in (MARGIN, CHIN, FEATHER))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    # Rows that begin at the anchor: the mask grows downwards only.
    grown = cv2.dilate((alpha > 0.3).astype(np.uint8), np.ones((below + 1, 1), np.uint8), anchor=(0, below))
    grown = cv2.dilate(grown, disc)
    distance = cv2.distanceTransform(1 - grown, cv2.DIST_L2, 5)
    at = np.minimum(np.arange(side), np.arange(side)[::-1]).astype(np.float32)
    border = np.minimum(at[:, None], at[None])
    ramp = np.minimum(1.0 - distance / soft, border / soft).clip(0.0, 1.0)
    return (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)


def paste(
    frame: UInt8[np.ndarray, "H W 3"], rendered: UInt8[np.ndarray, "S S 4"], place: ClipCrop
) -> UInt8[np.ndarray, "H W 3"]:
    """Paste the rendered head into one frame, which stays bit-identical outside the feather.

    Args:
        frame: frame of the clip.
        rendered: finished RGB, and the head's coverage as fourth channel (``Player.frames(matte=True)``).
        place: position of the square.
    """
    weight: Float[np.ndarray, "S S"] = blend_weight(rendered[..., 3].astype(np.float32) / 255.0)
    size = (place.side, place.side)
    if rendered.shape[:2] != size:
        how = cv2.INTER_AREA if len(rendered) > place.side else cv2.INTER_CUBIC
        image = cv2.resize(rendered[..., :3], size, interpolation=how).astype(np.float32)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)
    else:
        image = rendered[..., :3].astype(np.float32)
    out = frame.copy()
    square = out[place.top : place.top + place.side, place.left : place.left + place.side]
    mixed = square + (image - square) * weight[..., None]
    square[...] = np.where(weight[..., None] > 0, np.round(mixed), square).astype(np.uint8)
    return out


class Paster:
    """Paste rendered frames into the frames of the clip that their torsos were recorded with.

    Args:
        clip: the clip that the avatar was made from.
        place: the avatar's (``Avatar.place``).

    Raises:
        InputError: the avatar has no place, or the clip is a different one.
    """

    def __init__(self, clip: str | Path, place: ClipCrop | None) -> None:
        if place is None or not len(place.clip_frames):
            raise InputError(
                "this avatar does not store its position in a clip, so it cannot be pasted back: train it again from a "
                "newly prepared subject."
            )
        self.place = place
        self._frames = ClipFrames(clip, View((place.width, place.height), place.turn))
        width, height = self._frames.sizes.most_common(1)[0][0]
        if (width, height) != (place.width, place.height) or len(self._frames) <= int(place.clip_frames[-1]):
            raise InputError(
                f"{clip} has {len(self._frames)} frames of {width} x {height}, the avatar's clip at least "
                f"{int(place.clip_frames[-1]) + 1} of {place.width} x {place.height}: give the clip it was made from."
            )

    def frames(
        self, rendered: Iterator[UInt8[np.ndarray, "S S 4"]], recorded: Int[np.ndarray, " T"]
    ) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Full frames, one by one.

        Args:
            rendered: as for :func:`paste`.
            recorded: index of the recorded frame of each (``Player.recorded``).
        """
        try:
            for image, index in zip(rendered, recorded, strict=True):
                yield paste(self._frames[int(self.place.clip_frames[index])], image, self.place)
        finally:
            self._frames.close()
