"""Metrics of single images against the recorded frame (docs/paper.md 9.1)."""

from functools import partial

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emotalking.data.labels import BODY, WHOLE_HEAD, mask_of
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.metrics.base import Metric, MetricSpec, per_frame, register
from emotalking.evaluate.observation import Observation, RenderedFrame
from emotalking.ops.reference.ssim import RADIUS
from emotalking.ops.similarity import ssim as similarity


def psnr(image: Float[Tensor, "*batch H W 3"], truth: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of each image in [0, 1], over all pixels and channels; infinite if equal.

    10 log10(1 / MSE). A clip's metric is the mean of its frames' decibels, as in the baseline's script, not the
    decibels of the clip's mean error.
    """
    error = (image - truth).square().mean(dim=(-1, -2, -3))
    return -10.0 * torch.log10(error)


def masked_psnr(
    image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]
) -> Float[Tensor, ""]:
    """:func:`psnr` over the pixels of ``mask`` alone, dB; nan if there is none."""
    return -10.0 * torch.log10((image - truth)[mask].square().mean())


OUTLINE = 12 / 512
"""Half width of the band around the head's outline, as a share of the frame's height."""


def outline_band(head: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels within 12 px (of a frame 512 px high) of the outline of ``head``, on both sides; edges of the frame are
    no outline."""
    mask, disc = head.astype(np.uint8), _disc(len(head))
    return cv2.dilate(mask, disc) != cv2.erode(mask, disc)


def neck_band(head: Bool[np.ndarray, "H W"], body: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The part of :func:`outline_band` that is as near to neck or torso (``body``): the seam below the jaw."""
    return outline_band(head) & cv2.dilate(body.astype(np.uint8), _disc(len(head))).astype(bool)


def _disc(height: int) -> np.ndarray:
    radius = max(1, round(OUTLINE * height))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity (Wang et al. 2004) of RGB in [0, 1], up to 1.

    11x11 Gaussian window of sigma 1.5, constants 0.01^2 and 0.03^2, biased variances, each channel for itself, mean
    over the windows that lie inside the image and over the channels. That is scikit-image's ``structural_similarity``
    with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1``. Others also
    average over windows that reach beyond the image: torchmetrics mirrors it there, the D-SSIM loss (3DGS) pads it
    with black; on talking heads both give up to .01 more (``benchmarks/metric_agreement.py``).

    Args:
        image: more than 10 pixels a side.
        truth: of the same shape.
    """
    inside = slice(RADIUS, -RADIUS)
    return similarity(image, truth, reduction="none")[inside, inside].mean()


def _psnr(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    return psnr(frame.image, frame.true_image)


def _psnr_within(frame: RenderedFrame, mask: Bool[np.ndarray, "H W"]) -> Tensor:
    return masked_psnr(frame.image, frame.true_image, torch.from_numpy(mask).to(frame.image.device))


def _psnr_head(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    return _psnr_within(frame, mask_of(frame.recorded.labels, *WHOLE_HEAD))


def _psnr_outline(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    return _psnr_within(frame, outline_band(mask_of(frame.recorded.labels, *WHOLE_HEAD)))


def _psnr_neck(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    labels = frame.recorded.labels
    return _psnr_within(frame, neck_band(mask_of(labels, *WHOLE_HEAD), mask_of(labels, *BODY)))


def _psnr_mouth(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    mouth = frame.recorded.lips.index
    return psnr(frame.image[mouth], frame.true_image[mouth])


def _ssim(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    return ssim(frame.image, frame.true_image)


def _lpips(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    if models.lpips is None:
        return frame.image.new_tensor(torch.nan)
    return models.lpips(frame.image[None], frame.true_image[None])[0]


def _named_lpips(name: str, run: Observation) -> Metric:
    assert run.models.lpips is not None
    return per_frame(name, run.frame_values[name], run.models.lpips.name)


_compared = partial(MetricSpec, needs=("recording",))
register(
    "psnr",
    _compared("PSNR", "dB", "higher", 2, of_frame=_psnr, columns={"self": 1}, ablation={"self": 4}, baseline=True),
)
register(
    "psnr_head",
    _compared("PSNR head", "dB", "higher", 2, of_frame=_psnr_head, undefined="no frame shows a head", over_time=True),
)
register(
    "psnr_mouth", _compared("PSNR mouth", "dB", "higher", 2, of_frame=_psnr_mouth, undefined="no frame shows lips")
)
register(
    "psnr_outline",
    _compared("PSNR outline", "dB", "higher", 2, of_frame=_psnr_outline, undefined="no frame shows a head"),
)
register(
    "psnr_neck",
    _compared("PSNR neck", "dB", "higher", 2, of_frame=_psnr_neck, undefined="no frame shows head and body touch"),
)
register("ssim", _compared("SSIM", "", "higher", 4, of_frame=_ssim, columns={"self": 2}, ablation={"self": 5}))
register(
    "lpips",
    MetricSpec(
        "LPIPS",
        "",
        "lower",
        4,
        measure=_named_lpips,
        of_frame=_lpips,
        needs=("recording", "lpips"),
        columns={"self": 3},
        ablation={"self": 1},
        baseline=True,
    ),
)
