"""Who measures: the perceptual distance and, where they are there, the readers of faces, emotion and lips."""

from dataclasses import dataclass

import torch

from emotalking.errors import UserError
from emotalking.experts.lpips import Backbone, Lpips

LPIPS_BACKBONES: tuple[Backbone, ...] = ("alex", "vgg", "squeeze")
"""The paper measures with "alex"; of these "auto" takes the first whose weights are there."""


@dataclass
class Judges:
    """Everything that looks at frames and tells a number; what is None is named in the figures that lack it."""

    device: torch.device
    lpips: Lpips | None = None
    no_lpips: str = "LPIPS was not asked for"

    @classmethod
    def none(cls, device: torch.device | str = "cpu") -> "Judges":
        """Pixels alone."""
        return cls(torch.device(device))

    @classmethod
    def open(cls, *, lpips: str = "auto", device: torch.device | str = "cpu") -> "Judges":
        """The judges of these names.

        Args:
            lpips: "alex", "vgg", "squeeze", "none", or "auto": the first of them whose weights are in the model folder.
            device: where networks work.

        Raises:
            UserError: a judge that does not exist, or whose checkpoint is missing.
        """
        distance, reason = _open_lpips(lpips)
        device = torch.device(device)
        return cls(device, None if distance is None else distance.to(device), reason)


def _open_lpips(which: str) -> tuple[Lpips | None, str]:
    if which == "none":
        return None, Judges.no_lpips
    if which != "auto":
        for backbone in LPIPS_BACKBONES:
            if backbone == which:
                return Lpips.open(backbone), ""
        raise UserError(f"there is no LPIPS backbone '{which}': give auto, none, {', '.join(LPIPS_BACKBONES)}.")
    for backbone in LPIPS_BACKBONES:
        try:
            return Lpips.open(backbone), ""
        except UserError:
            continue
    return None, "the weights of no LPIPS backbone are in the model folder ('emotalking models' tells where from)"
