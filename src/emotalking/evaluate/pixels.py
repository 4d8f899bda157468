"""Frames against the recording, pixel by pixel, one frame at a time."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from emotalking.evaluate.figures import Figure, absent, per_frame
from emotalking.evaluate.metrics import masked_psnr, psnr, ssim
from emotalking.experts.lpips import Lpips
from emotalking.subject.frame import LipsRect
from emotalking.subject.layouts import Label, mask_of

NO_TRUTH = "there is no recorded frame to compare with"


@dataclass(frozen=True)
class Truth:
    """The recorded frame that a frame should equal."""

    picture: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]
    lips: LipsRect
    """Square around the lips."""


@dataclass(frozen=True)
class Shown:
    """One frame that is scored."""

    number: int
    """Its place in the run, from 0."""
    image: Float[Tensor, "H W 3"]
    """RGB in [0, 1], on the judges' device, as it was handed over: no rounding."""
    truth: Truth | None

    @cached_property
    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """The frame as 8 bit, for judges that take no other."""
        return (self.image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


@runtime_checkable
class Meter(Protocol):
    """Measures a run of frames; it sees each once, in order, and keeps a few numbers of it."""

    def see(self, shown: Shown) -> None:
        """Take the next frame."""
        ...

    def figures(self) -> list[Figure]:
        """What was measured, after the last frame."""
        ...


class PixelMeter:
    """PSNR of the whole frame, the head and the mouth; SSIM; LPIPS."""

    def __init__(self, lpips: Lpips | None, no_lpips: str) -> None:
        self._lpips, self._no_lpips = lpips, no_lpips
        self._rows: list[tuple[float, ...]] = []

    @torch.no_grad()
    def see(self, shown: Shown) -> None:
        """See :class:`Meter`."""
        if shown.truth is None:
            return
        image = shown.image
        truth = torch.from_numpy(shown.truth.picture).to(image.device).float() / 255
        head = mask_of(shown.truth.labels, Label.HEAD, Label.HAIR, Label.MOUTH)
        top, bottom, left, right = shown.truth.lips
        mouth = np.s_[top:bottom, left:right]
        values = (
            psnr(image, truth),
            masked_psnr(image, truth, torch.from_numpy(head).to(image.device)),
            psnr(image[mouth], truth[mouth]),
            ssim(image, truth),
            image.new_tensor(math.nan) if self._lpips is None else self._lpips(image[None], truth[None])[0],
        )
        self._rows.append(tuple(torch.stack([value.float() for value in values]).tolist()))

    def figures(self) -> list[Figure]:
        """See :class:`Meter`."""
        names = ("psnr", "psnr_head", "psnr_mouth", "ssim", "lpips")
        if not self._rows:
            return [absent(name, NO_TRUTH) for name in names]
        whole, head, mouth, similar, perceived = np.array(self._rows, np.float64).T
        return [
            per_frame("psnr", whole),
            per_frame("psnr_head", head, why_not="no frame shows a head"),
            per_frame("psnr_mouth", mouth, why_not="no frame shows lips"),
            per_frame("ssim", similar),
            absent("lpips", self._no_lpips) if self._lpips is None else per_frame("lpips", perceived, self._lpips.name),
        ]


def as_image(frame: Shaped[np.ndarray, "H W 3"] | Tensor, device: torch.device) -> Float[Tensor, "H W 3"]:
    """A frame of 0..255 (uint8) or [0, 1] (floats) as float32 on ``device``.

    Raises:
        ValueError: another type or shape.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(frame)) if isinstance(frame, np.ndarray) else frame
    if tensor.ndim != 3 or tensor.shape[-1] != 3:
        raise ValueError(f"frame: expected [H, W, 3], got {list(tensor.shape)}")
    if tensor.dtype == torch.uint8:
        return tensor.to(device).float() / 255
    if not tensor.is_floating_point():
        raise ValueError(f"frame: expected uint8 or floats in [0, 1], got {tensor.dtype}")
    return tensor.detach().to(device, torch.float32)
