"""Frozen networks in the generator's losses (emotion, landmarks, identity), and small ones for small generators.

The small critics and the small encoder are for generators of 64 pixels or so and are trained from fully labelled faces.
They replace EmoNet, FAN, VGGFace2 and e4e of FFHQ's generator.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from emotalking.stylegan.stylegan2 import StyleGAN2Size
from emotalking.stylegan.training import Task, adam

LIPS = slice(48, 68)
"""Indices among the iBUG landmarks."""

REACH = 3
"""Radius in pixels around a heat map's maximum over which the landmark is averaged."""


@dataclass(frozen=True)
class FoundPoints:
    """Output of a landmark detector."""

    maps: Float[Tensor, "B 68 M M"]
    """Heat maps, about 1 where a landmark is."""
    points: Float[Tensor, "B 68 2"]
    """(x, y) in the maps' pixels, with pixel centres at .5; differentiable."""

    @property
    def lips(self) -> Float[Tensor, "B 20 M M"]:
        """Maps of the lips, which the lip encoder reads."""
        return self.maps[:, LIPS]

    @property
    def scores(self) -> Float[Tensor, "B 68"]:
        """Highest value of each map."""
        return self.maps.flatten(2).amax(2)


def read_maps(maps: Float[Tensor, "B K M M"]) -> Float[Tensor, "B K 2"]:
    """Landmarks (x, y) in pixels of their maps, with pixel centres at .5: the centroid around each maximum.

    Deviation: the detectors' own rule moves a quarter of a pixel towards the higher neighbour, which has no gradient.
    """
    size = maps.shape[-1]
    best = maps.detach().flatten(2).argmax(2)
    places = torch.arange(size, device=maps.device)
    near_x = (places - best[..., None] % size).abs() <= REACH
    near_y = (places - best[..., None] // size).abs() <= REACH
    weights = maps.clamp_min(0) * (near_y[..., :, None] & near_x[..., None, :])
    total = weights.sum((2, 3)).clamp_min(1e-6)
    centres = places.to(maps.dtype) + 0.5
    x, y = (weights.sum(2) * centres).sum(2), (weights.sum(3) * centres).sum(2)
    return torch.stack([x, y], 2) / total[..., None]


@runtime_checkable
class FaceCritics(Protocol):
    """Frozen networks; everything is differentiable in the images.

    Faces are RGB in [0, 1]; ``ibug68`` are the source's landmarks in the crop, -1 to 1: where published networks need
    another crop it is derived from them, and source and result get the same one.
    """

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """Valence and arousal, not bounded."""
        ...

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """Landmarks; their maps are 64 pixels a side."""
        ...

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """Embeddings of unit length."""
        ...


MAPS = 64
"""Pixels a side of the landmark maps."""
SIGMA = 1.5
"""Standard deviation of the target maps, pixels."""
EMBEDDING = 64
SHARPNESS = 16.0
"""Scale of the cosines in the softmax over identities."""


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.SiLU()
    )


def _tower(width: int) -> nn.Sequential:
    """64 pixels to 4, then the mean: 4 * ``width`` numbers an image. Larger and smaller images are brought to 64."""
    widths = (3, width, 2 * width, 3 * width, 4 * width)
    layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (_conv(a, b, 2), _conv(b, b))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _read(faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 64 64"]:
    """Input of the networks, 64 pixels a side in [-1, 1]."""
    x = faces.permute(0, 3, 1, 2) * 2 - 1
    return x if x.shape[-1] == MAPS else F.interpolate(x, (MAPS, MAPS), mode="bilinear", antialias=True)


class LandmarkNet(nn.Module):
    """68 heat maps: down to 8 pixels and up again, with shortcuts."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.first = _conv(3, width)
        self.down = nn.ModuleList([_conv(width, 2 * width, 2), _conv(2 * width, 4 * width, 2)])
        self.deep = nn.Sequential(_conv(4 * width, 4 * width, 2), _conv(4 * width, 4 * width))
        self.up = nn.ModuleList([_conv(8 * width, 4 * width), _conv(6 * width, 2 * width), _conv(3 * width, 2 * width)])
        self.maps = nn.Conv2d(2 * width, 68, 1)

    def forward(self, faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B 68 64 64"]:
        """Heat maps of the whole crop."""
        kept = [self.first(_read(faces))]
        for layer in self.down:
            kept.append(layer(kept[-1]))
        x = self.deep(kept[-1])
        for layer, other in zip(self.up, reversed(kept), strict=True):
            x = layer(torch.cat([F.interpolate(x, scale_factor=2.0, mode="bilinear"), other], 1))
        return self.maps(x)


class SmallCritics(nn.Module):
    """Three networks on the whole crop: a :class:`~emotalking.stylegan.critics.FaceCritics`."""

    def __init__(self, people: int, width: int = 32) -> None:
        """Build for training on faces of ``people`` identities."""
        super().__init__()
        self.emotions = nn.Sequential(_tower(width), nn.Dropout(0.2), nn.Linear(4 * width, 2))
        self.landmarks = LandmarkNet(width)
        self.identities = nn.Sequential(_tower(width), nn.Linear(4 * width, EMBEDDING))
        self.centres = nn.Parameter(torch.randn(people, EMBEDDING))

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """See the protocol; the landmarks are not needed."""
        return self.emotions(_read(faces))

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """See the protocol; the landmarks are not needed."""
        return small_points(self.landmarks, faces)

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """See the protocol; the landmarks are not needed."""
        return F.normalize(self.identities(_read(faces)))


def small_points(network: LandmarkNet, faces: Float[Tensor, "B S S 3"]) -> FoundPoints:
    """Landmarks in the whole crop."""
    maps = network(faces)
    return FoundPoints(maps, read_maps(maps))


def true_maps(ibug68: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 64 64"]:
    """Target maps: Gaussians of height 1 at landmarks in the crop, -1 to 1."""
    places = (torch.arange(MAPS, device=ibug68.device) + 0.5) / MAPS * 2 - 1
    off = ((places - ibug68[..., None]) * MAPS / 2).square()
    return torch.exp(-(off[..., 1, :, None] + off[..., 0, None, :]) / (2 * SIGMA**2))


def map_loss(found: Float[Tensor, "B K M M"], true: Float[Tensor, "B K M M"]) -> Float[Tensor, ""]:
    """Squared difference; the few pixels of a peak weigh as much as all others (else the maps collapse to zero)."""
    bump = true / true.mean((2, 3), keepdim=True).clamp_min(1e-6)
    return ((found - true).square() * (0.5 + 0.5 * bump)).mean()


class CriticsTask(Task):
    """Joint training of the three, on images with augmented colours, sharpness and grain."""

    def __init__(
        self,
        critics: SmallCritics,
        images: UInt8[Tensor, "N S S 3"],
        ibug68: Float[Tensor, "N 68 2"],
        va: Float[Tensor, "N 2"],
        person: Int64[Tensor, " N"],
        *,
        steps: int,
        batch: int = 64,
        rate: float = 2e-3,
        name: str = "critics",
    ) -> None:
        """Train; ``person`` counts from 0, ``steps`` is the length of the rate's decay."""
        self.name = name
        self._critics = critics
        self._batch = batch
        self._images = images
        self._ibug68 = ibug68
        self._va = va
        self._person = person
        self._rate = rate
        self._steps = steps
        self.modules = {"critics": critics}
        self.optimizers = {"critics": adam(critics, rate, decay=0.01)}

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        self.optimizers["critics"].param_groups[0]["lr"] = self._rate * (1 - number / self._steps).clamp_min(0.02)
        rows = torch.randint(len(self._images), (self._batch,), device=self._images.device)
        faces = varied(self._images[rows].float() / 255)
        ibug68 = self._ibug68[rows]
        found = self._critics.points(faces, ibug68)
        wanted = (ibug68 + 1) * MAPS / 2
        cosines = self._critics.identity(faces, ibug68) @ F.normalize(self._critics.centres).T
        terms = {
            "emotion": (self._critics.emotion(faces, ibug68) - self._va[rows]).square().mean(),
            "maps": map_loss(found.maps, true_maps(ibug68)),
            "points": (found.points - wanted).abs().mean(),
            "identity": F.cross_entropy(SHARPNESS * cosines, self._person[rows]),
        }
        total = terms["emotion"] + 10 * terms["maps"] + 0.05 * terms["points"] + 0.1 * terms["identity"]
        self.update(total)
        return terms


def varied(faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B S S 3"]:
    """Augment exposure, tint, saturation, sharpness and grain, so that a critic learns shapes."""
    count = len(faces)

    def spread(*shape: int) -> Tensor:
        return torch.rand(*shape, device=faces.device) * 2 - 1

    def blurred(images: Tensor) -> Tensor:
        planes = images.permute(0, 3, 1, 2)
        return F.avg_pool2d(planes, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)

    gain = 1 + 0.2 * spread(count, 1, 1, 1) + 0.1 * spread(count, 1, 1, 3)
    faces = torch.lerp(faces, faces.mean(3, keepdim=True), spread(count, 1, 1, 1).clamp_min(0))
    soft = blurred(faces)
    soft = torch.lerp(soft, blurred(soft), spread(count, 1, 1, 1).clamp_min(0))
    faces = torch.lerp(faces, soft, spread(count, 1, 1, 1).clamp_min(0))
    grain = torch.randn_like(faces) * 0.08 * spread(count, 1, 1, 1).clamp_min(0)
    return (faces * gain + grain).clamp(0, 1)


class VariedCritics:
    """A :class:`~emotalking.stylegan.critics.FaceCritics` that augments every image with a gradient (:func:`varied`).

    Small critics are easily fooled by adversarial patterns; a change that persists through varying exposure, sharpness
    and grain is a change of the face (expectation over transformations, Athalye et al. 2018, arXiv 1707.07397).
    Recorded faces, to which no gradient flows, are not augmented.
    """

    def __init__(self, critics: SmallCritics) -> None:
        self._critics = critics

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """See the protocol."""
        return self._critics.emotion(_varied_if_learning(faces), ibug68)

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """See the protocol."""
        return self._critics.points(_varied_if_learning(faces), ibug68)

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """See the protocol."""
        return self._critics.identity(_varied_if_learning(faces), ibug68)


def _varied_if_learning(faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B S S 3"]:
    return varied(faces) if faces.requires_grad else faces


class SmallEncoder(nn.Module):
    """A :class:`~emotalking.stylegan.lip_aligned.StyleEncoder`: one style from the deepest features, and
    an offset per layer (as e4e)."""

    def __init__(self, size: StyleGAN2Size, width: int = 64) -> None:
        """Build for generators of this size."""
        super().__init__()
        self.size, self.width = size, width
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (_conv(a, b, 2), _conv(b, b))]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 16, 512), nn.SiLU())
        self.base = nn.Linear(512, size.style_dim)
        self.deltas = nn.Linear(512, size.styles * size.style_dim)
        nn.init.zeros_(self.deltas.weight)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B L D"]:
        """Styles of the faces."""
        features = self.features(_read(faces))
        deltas = self.deltas(features).unflatten(1, (self.size.styles, self.size.style_dim))
        return self.base(features)[:, None] + deltas
