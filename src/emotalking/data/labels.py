"""Label map of a frame, and the colours that stand for it in TalkingGaussian's layout."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt32

from emotalking.ops.box import bounds


class Label(IntEnum):
    """Classes of a label map."""

    BACKGROUND = 0
    HEAD = 1
    """Skin, brows, eyes, nose, lips, ears, glasses, hat."""
    HAIR = 2
    MOUTH = 3
    """Inside of the mouth, teeth included."""
    NECK = 4
    TORSO = 5


WHOLE_HEAD = (Label.HEAD, Label.HAIR, Label.MOUTH)
"""All that moves with the head."""
BODY = (Label.NECK, Label.TORSO)
"""All that the torso layers show."""

LABEL_COLOURS = np.array(
    [[255, 255, 255], [0, 0, 255], [0, 0, 0], [100, 100, 100], [0, 255, 0], [255, 0, 0]], dtype=np.uint8
)
"""RGB of each :class:`Label` in ``parsing/{i}.png`` (TalkingGaussian's layout, docs/paper.md 1.2). [6, 3]."""
_OTHER = 255
"""Marker of a colour that is none of the six."""


@dataclass(frozen=True)
class Masks:
    """Label map and teeth of one frame, as parsers make them; training and evaluation read the label map alone."""

    labels: UInt8[np.ndarray, "H W"]
    """:class:`Label`; teeth are ``MOUTH``."""
    teeth: Bool[np.ndarray, "H W"]

    def to_stored(self) -> UInt8[np.ndarray, "H W"]:
        """Label map of ``parsing/``, painted with :data:`LABEL_COLOURS`; the teeth go into ``teeth_mask/``.

        Convention: the readers of TalkingGaussian take face = head XOR teeth and mouth = grey OR teeth (docs/paper.md
        1.2), so a tooth painted grey would be read as face. Teeth are therefore painted as head; the pair of files
        means the same to their reader and to :meth:`from_stored`.
        """
        return np.where(self.teeth, np.uint8(Label.HEAD), self.labels)

    @classmethod
    def from_stored(cls, labels: UInt8[np.ndarray, "H W"], teeth: Bool[np.ndarray, "H W"]) -> "Masks":
        """Inverse of :meth:`to_stored`, in place.

        Deviation: TalkingGaussian takes face = head XOR teeth and mouth = grey OR teeth. Where the parser painted a
        tooth as head this is the same; where it painted it grey, XOR would make it face *and* mouth, so it is left
        mouth only.
        """
        window = bounds(teeth)
        np.copyto(labels[window], np.uint8(Label.MOUTH), where=teeth[window])
        return cls(labels, teeth)


@cache
def _nearest_table() -> UInt8[np.ndarray, "32768"]:
    """Nearest class of every colour, five bits a channel (bin centres)."""
    centres = np.arange(32, dtype=np.int16) * 8 + 4
    cube = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), -1).reshape(-1, 1, 3)
    return np.abs(cube - LABEL_COLOURS.astype(np.int16)).sum(-1).argmin(-1).astype(np.uint8)


def colours_to_labels(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """Classes of an RGB parsing image: by exact colour, and the nearest of the six (in bins of 8 levels) elsewhere.

    Only images that another tool interpolated or compressed hold other colours.
    """
    labels = np.full(image.shape[:2], _OTHER, np.uint8)
    packed = _packed(image)
    for label, colour in zip(Label, _packed(LABEL_COLOURS[None])[0], strict=True):
        np.copyto(labels, np.uint8(label), where=packed == colour)
    other = labels == _OTHER
    if other.any():
        red, green, blue = (image[other].T >> 3).astype(np.int32)
        labels[other] = _nearest_table()[red << 10 | green << 5 | blue]
    return labels


def _packed(colours: UInt8[np.ndarray, "H W 3"]) -> UInt32[np.ndarray, "H W"]:
    """Four bytes as one number: numpy compares it ten times as fast as three."""
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA), np.uint8).view(np.uint32)[..., 0]


def mask_of(labels: UInt8[np.ndarray, "H W"], *classes: Label) -> Bool[np.ndarray, "H W"]:
    """True where a pixel belongs to one of ``classes``."""
    table = np.zeros(256, np.uint8)
    table[list(classes)] = 1
    return np.asarray(cv2.LUT(labels, table), np.uint8).view(bool)
