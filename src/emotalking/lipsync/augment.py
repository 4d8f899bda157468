"""Changes that a mouth or a sound may undergo without getting out of step; the personal sync expert learns under them.

All take a generator on the device of their data.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotalking.lipsync.personal import SIZE

_SHIFT, _DRIFT, _ZOOM, _TURN = 0.08, 0.03, 0.1, 0.12
"""Largest move of the square and wander within a run (shares of its side), change of size, and turn [rad]."""
_WARP = 0.12
"""Largest shift of formants, as a share: from one voice to another, of man or woman."""


def _uniform(shape: tuple[int, ...], low: float | int, high: float | int, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng, device=rng.device)


def change_pictures(pictures: Float[Tensor, "R T P P"], rng: torch.Generator) -> Float[Tensor, "R T S S"]:
    """Runs of stored pictures, cut and changed as another camera, light, face or renderer might.

    Each run keeps one cut (moved, turned, resized, mirrored, slowly wandering), one light, one softness and one place
    that something hides; noise differs from frame to frame. A third of the runs are mixed with their own mean, as
    renderings are that move too little.
    """
    runs, length = pictures.shape[:2]
    x = _softened(_cut(pictures, rng), rng)
    mixed = _uniform((runs, 1, 1, 1), 0.0, 0.5, rng) * (_uniform((runs, 1, 1, 1), 0, 1, rng) < 0.33)
    x = x + mixed * (x.mean(1, keepdim=True) - x)
    ramp = torch.linspace(-1, 1, SIZE, device=x.device)
    light = _uniform((runs, 2, 1, 1, 1), -0.35, 0.35, rng)
    x = x * (1 + light[:, 0] * ramp + light[:, 1] * ramp[:, None])
    x = x.clamp(1e-3, 1.5) ** torch.exp(_uniform((runs, 1, 1, 1), -0.5, 0.5, rng))
    grain = torch.randn(x.shape, generator=rng, device=x.device) * _uniform((runs, 1, 1, 1), 0.0, 0.05, rng)
    return _hidden(x + grain, rng)


def _cut(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """The expert's square, somewhat elsewhere."""
    runs, length, stored = pictures.shape[:3]
    share = SIZE / stored
    zoom = share * (1 + _uniform((runs, 1), -_ZOOM, _ZOOM, rng))
    turn = _uniform((runs, 1), -_TURN, _TURN, rng)
    mirror = torch.where(_uniform((runs, 1), 0, 1, rng) < 0.5, -1.0, 1.0)
    way = torch.linspace(-0.5, 0.5, length, device=pictures.device)[:, None]
    moved = _uniform((runs, 1, 2), -_SHIFT, _SHIFT, rng)
    moved = 2 * share * (moved + way * _uniform((runs, 1, 2), -_DRIFT, _DRIFT, rng))
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    rows = [torch.stack([mirror * cos, -sin], -1), torch.stack([mirror * sin, cos], -1)]
    affine = torch.cat([torch.stack(rows, 2).expand(-1, length, -1, -1), moved[..., None]], -1)
    grid = F.affine_grid(affine.flatten(0, 1), [runs * length, 1, SIZE, SIZE], align_corners=False)
    cut = F.grid_sample(pictures.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False)
    return cut[:, 0].unflatten(0, (runs, length))


def _softened(x: Tensor, rng: torch.Generator) -> Tensor:
    """Blur of up to 2.5 pixels for two thirds of the runs, one Gaussian a run."""
    runs = len(x)
    sigma = _uniform((runs, 1), 0.3, 2.5, rng)
    sigma = torch.where(_uniform((runs, 1), 0, 1, rng) < 0.33, 1e-2, sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-6, 7, device=x.device) / sigma) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    planes = F.pad(x.transpose(0, 1), (6, 6, 6, 6), mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, None], groups=runs)
    return F.conv2d(planes, kernel[:, None, :, None], groups=runs).transpose(0, 1)


def _hidden(x: Tensor, rng: torch.Generator) -> Tensor:
    """A grey box of up to 40 % a side over a third of the runs."""
    runs = len(x)
    middle, half = _uniform((2, runs, 1), 0, SIZE, rng), _uniform((2, runs, 1), 0.05, 0.2, rng) * SIZE
    inside = (torch.arange(SIZE, device=x.device) - middle).abs() < half
    box = inside[0, :, :, None] & inside[1, :, None] & (_uniform((runs, 1, 1), 0, 1, rng) < 0.33)
    return torch.where(box[:, None], x.mean((1, 2, 3))[:, None, None, None], x)


def change_sound(bands: Float[Tensor, "R L K"], rng: torch.Generator) -> Float[Tensor, "R L K"]:
    """Runs of bands as another voice and microphone might give them: formants shifted, spectrum tilted, noise, gaps."""
    runs, length, count = bands.shape
    factor = 1 + _uniform((runs, 1), -_WARP, _WARP, rng)
    place = (torch.arange(count, device=bands.device) * factor).clamp(0, count - 1)
    low = place.floor().long().clamp(max=count - 2)
    lower, upper = (bands.gather(2, (low + i)[:, None].expand(-1, length, -1)) for i in (0, 1))
    x = lower + (place - low)[:, None] * (upper - lower)
    ramp = torch.linspace(-1, 1, count, device=bands.device)
    tilt = _uniform((runs, 2, 1, 1), -0.3, 0.3, rng)
    x = x + tilt[:, 0] * ramp + tilt[:, 1] * (1 - 2 * ramp**2)
    x = x + torch.randn(x.shape, generator=rng, device=x.device) * _uniform((runs, 1, 1), 0.0, 0.3, rng)
    middle = _uniform((runs, 1), 0, count, rng)
    gap = (torch.arange(count, device=bands.device) - middle).abs() < _uniform((runs, 1), 0.0, 4.0, rng)
    return x.masked_fill(gap[:, None], 0.0)
