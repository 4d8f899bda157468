"""Run-wide parts that every stage works on."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from emotalking.errors import InputError
from emotalking.models.head import TalkingHead
from emotalking.ops.cuda.build import available
from emotalking.train.config import TrainConfig
from emotalking.train.corrections import Corrections
from emotalking.train.data import TrainingData, as_slices
from emotalking.train.expressions import Expressions
from emotalking.train.loss_config import ImageLosses
from emotalking.train.perceptual import Patches, PerceptualTerm
from emotalking.train.sync import SyncTerm


@dataclass
class Context:
    """Everything that a stage works on.

    Raises:
        InputError: the kernels that the config asks for cannot be used on the data's device.
    """

    head: TalkingHead
    data: TrainingData
    config: TrainConfig
    generator: torch.Generator
    """CPU generator of every draw of the run."""
    sync: SyncTerm | None = None
    """The sync loss; None: the run has none."""
    perceptual: PerceptualTerm | None = None
    """The perceptual loss; None: the run has none."""
    expressions: Expressions | None = None
    """The person's own expressions; None: the run has none."""
    corrections: Corrections | None = field(init=False)
    """Corrections of the training frames; None: the run has none."""

    def __post_init__(self) -> None:
        if self.own_kernels and not available():
            raise InputError("gpu=kernels needs cuda-bindings: pip install 'emotalking[gpu]', or use gpu=gsplat.")
        if self.device.type == "cuda" and not self.own_kernels and find_spec("gsplat") is None:
            raise InputError("gpu=gsplat needs gsplat: pip install 'emotalking[gsplat]', or use gpu=kernels.")
        wanted = self.config.corrections
        self.corrections = Corrections(self.data.count, wanted).to(self.device) if wanted.rate else None
        width, height = self.data.size
        self.box_device = self.device if self.own_kernels else torch.device("cpu")
        """Device of boxes: the host, which cuts them out, or the device whose kernels read them."""
        self.whole = torch.tensor([[0, 0, height, width]], dtype=torch.int32, device=self.box_device)
        """The one box that is the frame."""
        self._rows = torch.arange(height, device=self.device)[None, :, None]
        self._columns = torch.arange(width, device=self.device)

    def state_dict(self) -> dict[str, Tensor]:
        """What the stages share and learn beside the head, for a checkpoint."""
        return {} if self.corrections is None else {"corrections": self.corrections.table.detach()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises:
            ValueError: corrections of another number of frames or degree, or not finite.
        """
        if self.corrections is None:
            return
        table, saved = self.corrections.table, state["corrections"]
        if saved.shape != table.shape or not bool(torch.isfinite(saved).all()):
            raise ValueError(f"corrections: {list(saved.shape)} instead of {list(table.shape)}, or not finite")
        with torch.no_grad():
            table.copy_(saved)

    @property
    def device(self) -> torch.device:
        """Device of the data."""
        return self.data.device

    @property
    def own_kernels(self) -> bool:
        """True where steps run on our own kernels, from CUDA graphs (`TrainConfig.gpu`)."""
        return self.config.gpu == "kernels" and self.device.type == "cuda"

    def backdrop(self, *, finished: bool = False) -> Float[Tensor, "3"]:
        """The colour that replaces masked regions in a step; once ``finished`` green becomes black."""
        if self.config.background == "green":
            return torch.tensor([0.0, 0.0 if finished else 1.0, 0.0])
        return torch.rand(3, generator=self.generator)

    def draw_patches(self, iteration: int, losses: ImageLosses, size: tuple[int, int]) -> Patches | None:
        """A step's perceptual patches of images of ``size`` (width, height); None where the run has no such term."""
        return None if self.perceptual is None else self.perceptual.draw(iteration, size, losses, self.generator)

    def inside(self, boxes: Int32[Tensor, "1 4"]) -> Bool[Tensor, "1 H W"]:
        """True in a box of the frame."""
        if not self.own_kernels:
            within = torch.zeros(1, *self.data.size[::-1], dtype=torch.bool, device=self.device)
            within[as_slices(boxes[0])] = True
            return within
        top, left, bottom, right = boxes[0].unbind()
        rows, columns = self._rows, self._columns
        return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def composite_over(
    image: Float[Tensor, "1 H W 3"], keep: Bool[Tensor, "1 H W"], colour: Float[Tensor, "3"]
) -> Float[Tensor, "1 H W 3"]:
    """``image`` where ``keep``, over ``colour``."""
    return torch.where(keep[..., None], image, colour)
