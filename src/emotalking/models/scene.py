"""The clip as an avatar keeps it: camera, recorded motion, background and torso."""

import io
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from emotalking.data.frame import ClipCrop
from emotalking.errors import InputError
from emotalking.io.images import decode_image, packed_size

TORSO_QUALITY, TORSO_ALPHA_QUALITY = 90, 50
"""WebP qualities of the stored torso layers. Two clips' frames are as near to the prepared ones as with lossless alpha
(LPIPS .0028 and .0017, 48.1 instead of 48.3 dB at 512 pixels) in 14 to 19 % fewer bytes; colours at 85 would save as
much again, at LPIPS .0039 and .0025."""


@dataclass(frozen=True)
class TorsoStack:
    """Compressed torso layers, one RGBA image per recorded pose."""

    data: UInt8[np.ndarray, "S"]
    offsets: Int64[np.ndarray, "P1"]
    """Image i is data[offsets[i]:offsets[i + 1]]."""
    size: tuple[int, int] | None = None
    """(width, height) that each must have, px; None: any."""

    @classmethod
    def encode(cls, images: list[bytes]) -> "TorsoStack":
        """Pack compressed images (:func:`encode_torso`)."""
        offsets = np.cumsum([0, *(len(image) for image in images)]).astype(np.int64)
        return cls(np.frombuffer(b"".join(images), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Image ``index`` as straight-alpha RGBA."""
        if not 0 <= index < len(self):
            raise IndexError(f"torso layer {index} of {len(self)}")
        packed = self.data[self.offsets[index] : self.offsets[index + 1]]
        # A few bytes may claim an image of any size.
        fits = self.size is None or packed_size(packed) == self.size
        image = decode_image(packed, unchanged=True) if fits else None
        if image is None or image.ndim != 3:
            raise InputError(f"the avatar's torso layer {index} is damaged: make the avatar again")
        if image.shape[-1] == 3:  # WebP drops a fully opaque alpha.
            return np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], -1)
        return image


def encode_torso(
    image: UInt8[np.ndarray, "H W 4"], quality: int = TORSO_QUALITY, alpha_quality: int = TORSO_ALPHA_QUALITY
) -> bytes:
    """One straight-alpha RGBA torso layer as WebP."""
    buffer = io.BytesIO()  # by Pillow: OpenCV keeps alpha without loss, which is a quarter of the bytes
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, alpha_quality=alpha_quality, method=3)
    return buffer.getvalue()


@dataclass(frozen=True)
class Scene:
    """The clip as kept in the avatar: camera, recorded motion, background and torso.

    The P recorded frames are the clip's training frames, consecutive; held-out frames never enter the file.
    """

    width: int
    height: int
    fps: Fraction
    focal: float
    """Pixels; the principal point is the image centre."""
    viewmats: Float[np.ndarray, "P 4 4"]
    aus: Float[np.ndarray, "P 6"]
    va: Float[np.ndarray, "P 2"]
    background: UInt8[np.ndarray, "H W 3"]
    torso: TorsoStack
    place: ClipCrop | None = None
    """Position of the frames in the clip that they were cropped from, for pasting back."""
    gaze: Float[np.ndarray, "P 2"] | None = None
    """Where the eyes look, radians to the viewer's right and up in the head; None: not known."""
