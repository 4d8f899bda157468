"""Frames against the recording, pixel by pixel, one frame at a time."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from scipy.ndimage import binary_erosion
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.labels import Label, mask_of
from emotalking.evaluate.image_metrics import masked_psnr, psnr, ssim
from emotalking.evaluate.metric import Metric, missing, per_frame
from emotalking.networks.lpips import Lpips
from emotalking.ops.box import Box

_MASKS = 24
"""Frames of the clip whose masks tell what is background."""
_MARGIN = 0.015
"""Of the image's width: background this near to the person is left out."""
NO_TRUTH = "there is no recorded frame to compare with"


@dataclass(frozen=True)
class GroundTruth:
    """The recorded frame that a frame should equal."""

    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]
    lips: Box
    """Square around the lips."""


@dataclass(frozen=True)
class RenderedFrame:
    """One frame that is scored."""

    number: int
    """Its place in the run, from 0."""
    image: Float[Tensor, "H W 3"]
    """RGB in [0, 1], on the models' device, as it was handed over: no rounding."""
    truth: GroundTruth | None

    @cached_property
    def uint8(self) -> UInt8[np.ndarray, "H W 3"]:
        """The frame as 8 bit, for models that take nothing else."""
        return (self.image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


@runtime_checkable
class Meter(Protocol):
    """Measures a run of frames; it sees each once, in order, and keeps a few numbers of it."""

    def see(self, shown: RenderedFrame) -> None:
        """Take the next frame."""
        ...

    def metrics(self) -> list[Metric]:
        """What was measured, after the last frame."""
        ...


class PixelMeter:
    """PSNR of the whole frame, the head and the mouth; SSIM; LPIPS."""

    def __init__(self, lpips: Lpips | None, no_lpips: str) -> None:
        self._lpips, self._no_lpips = lpips, no_lpips
        self._rows: list[tuple[float, ...]] = []

    @torch.no_grad()
    def see(self, shown: RenderedFrame) -> None:
        """See :class:`Meter`."""
        if shown.truth is None:
            return
        image = shown.image
        truth = torch.from_numpy(shown.truth.image).to(image.device).float() / 255
        head = mask_of(shown.truth.labels, Label.HEAD, Label.HAIR, Label.MOUTH)
        mouth = shown.truth.lips.index
        values = (
            psnr(image, truth),
            masked_psnr(image, truth, torch.from_numpy(head).to(image.device)),
            psnr(image[mouth], truth[mouth]),
            ssim(image, truth),
            image.new_tensor(math.nan) if self._lpips is None else self._lpips(image[None], truth[None])[0],
        )
        self._rows.append(tuple(torch.stack([value.float() for value in values]).tolist()))

    def metrics(self) -> list[Metric]:
        """See :class:`Meter`."""
        names = ("psnr", "psnr_head", "psnr_mouth", "ssim", "lpips")
        if not self._rows:
            return [missing(name, NO_TRUTH) for name in names]
        whole, head, mouth, similar, perceived = np.array(self._rows, np.float64).T
        return [
            per_frame("psnr", whole),
            per_frame("psnr_head", head, reason="no frame shows a head"),
            per_frame("psnr_mouth", mouth, reason="no frame shows lips"),
            per_frame("ssim", similar),
            missing("lpips", self._no_lpips)
            if self._lpips is None
            else per_frame("lpips", perceived, self._lpips.name),
        ]


class BackgroundMeter:
    """How restless the background is: what never is the person, and so should stand still as the camera does.

    The pixels that the subject's masks call background in each of some frames of the clip, with a margin. Metric of a
    frame: mean absolute second difference in time of their colours, grey levels of 255.
    """

    def __init__(self, subject: Subject, runs: Sequence[slice]) -> None:
        """Find the background.

        Args:
            subject: whose clip it is.
            runs: frames that follow one another.
        """
        self._mask = torch.from_numpy(_background(subject))
        self._starts = {run.start for run in runs}
        self._shown, self._true = _Restless(), _Restless()

    def see(self, shown: RenderedFrame) -> None:
        """See :class:`Meter`."""
        self._mask = self._mask.to(shown.image.device)
        first = shown.number in self._starts
        self._shown.add(shown.image[self._mask] * 255, first)
        if shown.truth is not None:
            truth = torch.from_numpy(shown.truth.image).to(shown.image.device)
            self._true.add(truth[self._mask].float(), first)

    def metrics(self) -> list[Metric]:
        """See :class:`Meter`."""
        why = "the clip shows no background, or there are fewer than three frames in a row"
        own = per_frame("jitter_background", self._shown.series, reason=why, wanted=np.isfinite(self._shown.series))
        if len(self._true.series) == 0:
            return [own]
        true = self._true.series
        return [own, per_frame("jitter_background_truth", true, reason=why, wanted=np.isfinite(true))]


class _Restless:
    """Mean absolute second difference in time of a row of pixels; nan at the ends of a run."""

    def __init__(self) -> None:
        self._held: deque[Tensor] = deque(maxlen=3)
        self._values: list[float] = []

    def add(self, pixels: Float[Tensor, "n 3"], first: bool) -> None:
        """The next frame's; ``first`` of its run or not."""
        if first:
            self._held.clear()
        self._held.append(pixels)
        self._values.append(math.nan)
        if len(self._held) == 3 and pixels.numel():
            before, here, after = self._held
            self._values[-2] = float((before - 2 * here + after).abs().mean())

    @property
    def series(self) -> Float[np.ndarray, " N"]:
        """One value a frame."""
        return np.array(self._values, np.float64)


def _background(subject: Subject) -> Bool[np.ndarray, "H W"]:
    """Pixels that are background in each of some frames of the clip."""
    never = np.ones((subject.height, subject.width), bool)
    for index in np.unique(np.linspace(0, subject.num_frames - 1, _MASKS).round().astype(int)):
        never &= subject.masks(int(index)).labels == Label.BACKGROUND
    margin = max(round(_MARGIN * subject.width), 1)
    return np.asarray(binary_erosion(never, iterations=margin, border_value=1))


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
