"""Self-reconstruction of the frames that training never saw (paper 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from emotalking.errors import UserError
from emotalking.evaluate.metrics import psnr, ssim
from emotalking.models.avatar import Avatar
from emotalking.subject import Subject
from emotalking.subject.layouts import Label
from emotalking.train.data import TrainingData


@dataclass(frozen=True)
class HeldOut:
    """Scores of F held-out frames, on frames as rendered, before any video encoding."""

    indices: Int64[np.ndarray, "F"]
    psnr: Float[np.ndarray, "F"]
    """Whole frame, dB."""
    psnr_head: Float[np.ndarray, "F"]
    """Head, hair and mouth pixels only, dB."""
    ssim: Float[np.ndarray, "F"]
    """Whole frame."""

    def summary(self) -> dict[str, float]:
        """Means over the frames."""
        return {
            "frames": float(len(self.indices)),
            "psnr": float(self.psnr.mean()),
            "psnr_head": float(self.psnr_head.mean()),
            "ssim": float(self.ssim.mean()),
        }


def reconstruct(avatar: Avatar, data: TrainingData, *, emotion: bool = True) -> Iterator[Float[Tensor, "H W 3"]]:
    """Render each frame of ``data`` from its own audio, action units, valence/arousal, pose and torso layer."""
    for frame in range(data.count):
        at = data.conditions.at(frame)
        va = at.va if emotion else None
        yield avatar.render(at.viewmats, at.audio, at.aus, va, data.behind(frame)).rgb[0]


def evaluate_held_out(avatar: Avatar, subject: Subject, limit: int | None = None, *, emotion: bool = True) -> HeldOut:
    """Score ``avatar`` on the held-out frames of ``subject``.

    Args:
        limit: at most so many frames, evenly spread; None: all.
        emotion: with the frames' own valence/arousal; False leaves the emotion branch out.

    Raises:
        UserError: if the subject has no held-out frames, or another size than the avatar.
    """
    indices = subject.val_indices
    if len(indices) == 0:
        raise UserError(f"{subject.files.root} has no held-out frames (transforms_val.json is empty).")
    if (subject.width, subject.height) != (avatar.width, avatar.height):
        raise UserError(
            f"The avatar is {avatar.width}x{avatar.height} and the subject {subject.width}x{subject.height}: "
            "evaluate it on the subject that it was made from."
        )
    if limit is not None and limit < len(indices):
        indices = indices[np.linspace(0, len(indices) - 1, limit).round().astype(int)]
    data = TrainingData.load(subject, indices, avatar.audio_features, avatar.device)
    rows = []
    with torch.no_grad():
        for frame, image in enumerate(reconstruct(avatar, data, emotion=emotion)):
            truth = data.image(frame)[0]
            head = data.mask(frame, Label.HEAD, Label.HAIR, Label.MOUTH)[0]
            error = (image - truth).square()[head]
            head_psnr = -10.0 * torch.log10(error.mean()) if error.numel() else torch.tensor(float("nan"))
            rows.append((float(psnr(image, truth)), float(head_psnr), float(ssim(image, truth))))
    scores = np.array(rows)
    return HeldOut(np.asarray(indices, np.int64), scores[:, 0], scores[:, 1], scores[:, 2])
