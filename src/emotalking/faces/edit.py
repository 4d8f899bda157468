"""Frames of an image, a clip or a subject with another expression."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, UInt8

from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError, NoFaceError
from emotalking.faces.source import FaceSource, SourceFrame
from emotalking.ops.composite import to_uint8

CUDA_BATCH = 8
"""Frames edited per call on a GPU, where one costs the same as eight."""
Pair = tuple[float | int, float | int]


def grid_points(count: int, limit: float | int = 0.8) -> list[Pair]:
    """``count`` x ``count`` points from the most aroused row down, valence from left to right, up to ``limit``.

    Raises:
        InputError: the count is less than 2 or more than 11.
    """
    if not 2 <= count <= 11:
        raise InputError(f"a grid of {count} x {count} images is not possible: give a number from 2 to 11.")
    steps = np.linspace(-limit, limit, count).round(6) + 0.0
    return [(float(v), float(a)) for a in steps[::-1] for v in steps]


class FaceEditor:
    """Edit the frames of a source with a generator for its face."""

    def __init__(
        self,
        source: FaceSource,
        generator: EmotionGenerator,
        device: torch.device | str = "cpu",
        licences: Mapping[str, str] | None = None,
    ) -> None:
        """Edit frames of ``source`` by ``generator`` on ``device``; ``licences``: of what both rest on."""
        self.licences = dict(licences or {})
        self.source = source
        self.generator = generator
        self.device = torch.device(device)
        self.num_unchanged = 0
        """Frames of the last :meth:`frames` without a face, or with one that is turned too far."""

    def frames(self, emotion: EmotionTrack, limit: int | None = None) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Every frame with the emotion of its time; a frame without a usable face stays as it is.

        Args:
            emotion: valence and arousal over time.
            limit: frames at most; None: all.
        """
        assert self.source.fps is not None
        upcoming = islice(self.source.frames(), limit)
        number = 0
        self.num_unchanged = 0
        while group := list(islice(upcoming, CUDA_BATCH if self.device.type == "cuda" else 1)):
            times = (number + np.arange(len(group))) / float(self.source.fps)
            wanted = emotion.at(times) * np.array([[one.share] for one in group], np.float32)
            usable = [k for k, one in enumerate(group) if one.share > 0]
            made = dict(zip(usable, self._edit([group[k] for k in usable], wanted[usable]), strict=True))
            self.num_unchanged += len(group) - len(usable)
            for k, one in enumerate(group):
                yield made.get(k, one.image)
            number += len(group)

    def images(self, number: int, points: Sequence[Pair]) -> list[UInt8[np.ndarray, "H W 3"]]:
        """Edit one frame at many points of the circumplex.

        Args:
            number: of the frame.
            points: valence and arousal.

        Raises:
            InputError: there is no such frame, or it shows no face that can be edited.
        """
        return self._images(self._frame(number), points)

    def close_ups(self, number: int, points: Sequence[Pair]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Edit as :meth:`images`, cropped to the face with its hair and chin.

        Args:
            number: of the frame.
            points: valence and arousal.

        Raises:
            InputError: as :meth:`images`.
        """
        frame = self._frame(number)
        places = frame.landmarks + np.array([frame.box.left, frame.box.top])
        low, high = places.min(0), places.max(0)
        reach = 0.62 * float((high - low).max())
        middle = (low + high) / 2 - [0, 0.08 * reach]
        limits = np.array(frame.image.shape[1::-1])
        (left, top), (right, bottom) = (
            (middle - reach).clip(0).astype(int),
            np.minimum(middle + reach, limits).astype(int),
        )
        return [image[top:bottom, left:right] for image in self._images(frame, points)]

    def _frame(self, number: int) -> SourceFrame:
        frame = next(self.source.frames(number), None) if number >= 0 else None
        if frame is None:
            raise InputError(f"there is no frame {number}: give another frame (the first is 0).")
        if frame.share <= 0:
            raise NoFaceError(f"frame {number} shows no face, or one that is turned too far away: give another frame.")
        return frame

    def _images(self, frame: SourceFrame, points: Sequence[Pair]) -> list[UInt8[np.ndarray, "H W 3"]]:
        wanted = np.array(points, np.float32) * frame.share
        pieces = np.split(wanted, range(CUDA_BATCH, len(wanted), CUDA_BATCH))
        return [image for piece in pieces for image in self._edit([frame] * len(piece), piece)]

    @torch.no_grad()
    def _edit(self, frames: Sequence[SourceFrame], va: Float[np.ndarray, "B 2"]) -> list[UInt8[np.ndarray, "H W 3"]]:
        """All frames in one call; pixels outside a frame's box are untouched."""
        if not frames:
            return []
        part = frames[0].box.index
        crops = np.stack([one.image[part] for one in frames])
        faces = self.generator(
            torch.from_numpy(crops).to(self.device).float() / 255,
            torch.from_numpy(np.stack([one.landmarks for one in frames])).to(self.device),
            torch.from_numpy(np.stack([one.labels for one in frames])).to(self.device),
            torch.from_numpy(np.stack([one.viewmat for one in frames])).to(self.device),
            torch.from_numpy(va).to(self.device),
        )
        out = []
        for one, crop in zip(frames, to_uint8(faces.images), strict=True):
            image = one.image.copy()
            image[part] = crop
            out.append(image)
        return out
