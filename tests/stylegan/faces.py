"""Tiny networks and critics whose answers are formulas."""

import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.stylegan.critics import FoundPoints, read_maps
from emotalking.stylegan.edit_training import Sources
from emotalking.stylegan.lip_aligned import LipAligned
from emotalking.stylegan.stylegan2 import StyleGAN2Size

SIZE = StyleGAN2Size(resolution=16, channel_base=128, channel_max=8, style_dim=8, mapping_layers=2)


def gaussians(points: Tensor, size: int = 64, sigma: float = 1.5) -> Tensor:
    """Maps with a bump of height 1 at each point, (x, y) in pixels with centres at .5."""
    places = torch.arange(size) + 0.5
    off = (places - points[..., None]).square()
    return torch.exp(-(off[..., 1, :, None] + off[..., 0, None, :]) / (2 * sigma**2))


class FormulaCritics:
    """Emotion: red and green of the upper half; landmarks: bumps moved by the lower half's blue; identity: colours."""

    def emotion(self, faces: Tensor, ibug68: Tensor) -> Tensor:
        """Linear in the pixels."""
        return faces[:, : faces.shape[1] // 2, :, :2].mean((1, 2)) * 4 - 2

    def points(self, faces: Tensor, ibug68: Tensor) -> FoundPoints:
        """The given landmarks, lips moved down by what is blue."""
        shift = faces[:, faces.shape[1] // 2 :, :, 2].mean((1, 2)) * 4
        places = (ibug68 + 1) * 32
        moved = torch.cat([places[:, :48], places[:, 48:] + torch.stack([shift * 0, shift], 1)[:, None]], 1)
        maps = gaussians(moved)
        return FoundPoints(maps, read_maps(maps))

    def identity(self, faces: Tensor, ibug68: Tensor) -> Tensor:
        """Colour contrasts."""
        return F.normalize(faces.flatten(1) - 0.5)


def sources(count: int = 6) -> Sources:
    """Random faces and styles, landmarks within the square."""
    draws = torch.Generator().manual_seed(0)
    faces = (torch.rand(count, 16, 16, 3, generator=draws) * 255).byte()
    ibug68 = torch.rand(count, 68, 2, generator=draws) - 0.5
    return Sources(faces, ibug68, torch.randn(count, SIZE.styles, SIZE.style_dim, generator=draws))


def network() -> LipAligned:
    """Seeded and tiny."""
    torch.manual_seed(0)
    return LipAligned(SIZE, (16, 8))
