"""Random access to the frames of a clip in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from jaxtyping import UInt8

from emotalking.errors import UserError
from emotalking.io.video import decode_frames, to_rgb
from emotalking.progress import track

CACHE_BYTES = 200 << 20
"""Size of the cache of decoded frames; going backwards decodes a block of this size at a time."""


class ClipFrames:
    """Random access to the frames of a clip by their number (decoded, from 0).

    The clip is decoded once to read the time stamp of every frame (as ``prepare`` numbered them), later only around
    the requested frame.

    Args:
        path: the clip.

    Raises:
        UserError: no video, or one whose frames carry no increasing time stamps.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        stamps = [frame.pts for _, frame in track(decode_frames(self.path), "scan clip")]
        if any(stamp is None for stamp in stamps) or any(b <= a for a, b in zip(stamps, stamps[1:], strict=False)):
            raise UserError(f"{self.path} carries no clean time stamps: convert it to .mp4 and try again.")
        self._stamps: list[int] = stamps
        self._numbers = {stamp: number for number, stamp in enumerate(stamps)}
        self._container = av.open(str(self.path))
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._ahead: Iterator[tuple[int, Any]] = iter(())
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
        self._container.close()

    def _fetch(self, number: int) -> None:
        """Decode a block that ends with ``number`` when going back, or begins with it."""
        block = self._block()
        backwards = bool(self._cache) and number < min(self._cache)
        first, last = (max(number - block + 1, 0), number) if backwards else (number, number)
        if not (self._next <= first < self._next + 3 * block):
            self._container.seek(self._stamps[first], stream=self._stream, backward=True)
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
            raise UserError(f"frame {number} of {self.path} cannot be decoded any more: copy the clip again.")

    def _block(self) -> int:
        """Frames that fit the cache."""
        size = next(iter(self._cache.values())).nbytes if self._cache else self._stream.width * self._stream.height * 3
        return max(CACHE_BYTES // size, 2)

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Numbered frames from the current position; damaged packets are skipped."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                if frame.pts in self._numbers:
                    yield self._numbers[frame.pts], frame
