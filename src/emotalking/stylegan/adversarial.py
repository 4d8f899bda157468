"""Adversarial training of a small StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, section 3 and appendix B).

Optionally with an encoder trained jointly, as in VAE-GAN (Larsen et al. 2016, arXiv 1512.09300): its styles must
reconstruct the recorded face, and the discriminator must not distinguish the two. A small generator then learns to
generate and invert within minutes.
"""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer

from emotalking.stylegan.inversion import Inversion
from emotalking.stylegan.stylegan2 import (
    GAIN,
    START,
    Dense,
    StyleGAN2,
    StyleGAN2Size,
    activate,
    from_images,
    low_pass,
)
from emotalking.stylegan.training import Task, adam

PATH_DECAY = 0.01
"""Decay of the running mean of path lengths."""
SETTLE_STEPS = 50
"""Batches from which the averaged encoder's batch normalisations are measured."""
SETTLE_BATCH = 256

GROUP = 4
"""Group size of the discriminator's minibatch standard deviation."""


@dataclass(frozen=True)
class AdversarialConfig:
    """Adversarial training of a small StyleGAN2 (Karras et al. 2020)."""

    batch: int = 32
    rate: float = 2.5e-3
    """Adam's rate for both networks; betas 0 and .99."""
    r1: float = 10.0
    """Weight gamma of the gradient penalty on real images; half of it times the squared gradient."""
    r1_every: int = 16
    path: float = 0.0
    """Weight of the path length regulariser (2 in configuration F)."""
    path_every: int = 4
    mixing: float = 0.9
    """Share of images generated with two styles, the second from a random layer on."""
    average_kimg: float = 10.0
    """Half-life of the weights' running mean, thousands of images."""
    encoder_rate: float = 1e-3
    """Adam's rate for a jointly trained encoder."""


class AdversarialTask(Task):
    """Generator against discriminator: non-saturating logistic losses, lazy R1 and path length regularisers.

    ``average`` is the generator to use, and ``average_encoder`` its encoder: running means of the weights.

    With an encoder a quarter of the generated images come from random styles, half are inversions, and a quarter mix
    two inversions, so that the space between recorded faces, which edits reach, is covered too.
    Deviation: discriminator and generator learn from the same generated images instead of generating twice.
    """

    name = "adversarial"

    def __init__(
        self,
        network: StyleGAN2,
        images: UInt8[Tensor, "N S S 3"],
        config: AdversarialConfig | None = None,
        inversion: Inversion | None = None,
    ) -> None:
        """Train ``network`` to generate images like ``images``, on the device of both."""
        self.config = config or AdversarialConfig()
        self.network = network
        self._images = images
        self._inversion = inversion
        self.discriminator = StyleGAN2Discriminator(network.size).to(images.device)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.state = _PathLength().to(images.device)
        self.modules = {
            "network": network, "discriminator": self.discriminator, "average": self.average, "state": self.state
        }  # fmt: skip
        self._followed: list[tuple[nn.Module, nn.Module]] = [(self.average, network)]
        every = {"network": self.config.path_every if self.config.path else 0, "discriminator": self.config.r1_every}
        self.optimizers = {
            "network": _lazy_adam(network, self.config.rate, every["network"]),
            "discriminator": _lazy_adam(self.discriminator, self.config.rate, every["discriminator"]),
        }
        if inversion is not None:
            self.average_encoder = copy.deepcopy(inversion.encoder).requires_grad_(False)
            self.modules |= {"encoder": inversion.encoder, "average_encoder": self.average_encoder}
            self._followed.append((self.average_encoder, inversion.encoder))
            self.optimizers["encoder"] = adam(inversion.encoder, self.config.encoder_rate, (0.9, 0.99))

    def kind(self, number: int) -> str:
        """Regularisers of the step."""
        r1 = number % self.config.r1_every == 0
        path = bool(self.config.path) and number % self.config.path_every == 0
        return "+".join(["plain"] + ["r1"] * r1 + ["path"] * path)

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Update discriminator, generator (and encoder) and running means."""
        batch = self.config.batch
        rows = torch.randint(len(self._images), (batch,), device=self._images.device)
        styles, inverted = self._styles(batch if self._inversion is None else batch // 4), None
        if self._inversion is not None:
            inverted = self._inversion.pick(batch // 2)
            encoded = self._inversion.encoder(inverted[0])
            styles = torch.cat([encoded, _crossed(encoded)[: batch // 4], styles])
        generated = self.network.synthesis(styles, "random")
        terms = self._discriminator_step(
            from_images(self._images[rows].float() / 255), generated.detach(), "r1" in kind
        )
        self.discriminator.requires_grad_(False)
        loss = terms["generator"] = F.softplus(-self.discriminator(generated)).mean()
        if self._inversion is not None and inverted is not None:
            found, likeness = self._inversion.losses(*inverted, styles[: batch // 2], generated[: batch // 2])
            loss = loss + likeness
            terms |= found
        if "path" in kind:
            styles = self._styles(max(1, self.config.batch // 2))
            terms["path"] = self.state.penalty(self.network.synthesis(styles, "random"), styles)
            loss = loss + self.config.path * self.config.path_every * terms["path"]
        self.update(loss, *(name for name in self.optimizers if name != "discriminator"))
        self.discriminator.requires_grad_(True)
        self._follow(number)
        return terms

    @torch.no_grad()
    def settle(self) -> None:
        """Measure the averaged encoder's batch normalisations, once, at the end.

        The statistics of the averaged weights differ from those of the trained ones (Izmailov et al. 2018, arXiv
        1803.05407, section 3.2).
        """
        self.average_encoder.train()
        for _ in range(SETTLE_STEPS):
            rows = torch.randint(len(self._images), (SETTLE_BATCH,), device=self._images.device)
            self.average_encoder(self._images[rows].float() / 255)
        self.average_encoder.eval()

    def _discriminator_step(
        self, real: Float[Tensor, "B 3 R R"], generated: Float[Tensor, "D 3 R R"], penalised: bool
    ) -> dict[str, Tensor]:
        real = real.detach().requires_grad_(penalised)
        scores_generated, scores_real = self.discriminator(generated), self.discriminator(real)
        loss = F.softplus(scores_generated).mean() + F.softplus(-scores_real).mean()
        terms = {
            "discriminator": loss,
            "fooled": (scores_generated > 0).float().mean(),
            "trusted": (scores_real > 0).float().mean(),
        }
        if penalised:
            (slope,) = torch.autograd.grad(scores_real.sum(), real, create_graph=True)
            terms["r1"] = slope.square().sum((1, 2, 3)).mean()
            loss = loss + self.config.r1 / 2 * self.config.r1_every * terms["r1"]
        self.update(loss, "discriminator")
        return terms

    def _styles(self, count: int) -> Float[Tensor, "B L D"]:
        """Styles of random images; some mix two styles at a random layer (style mixing)."""
        size, device = self.network.size, self._images.device
        first, second = self.network.mapping(torch.randn(2 * count, size.style_dim, device=device)).split(count)
        self.network.mapping.track(first.detach())
        layers = torch.randint(1, size.styles, (count, 1), device=device)
        mixed = torch.rand(count, 1, device=device) < self.config.mixing
        other = (torch.arange(size.styles, device=device) >= layers) & mixed
        return torch.where(other[..., None], second[:, None], first[:, None])

    @torch.no_grad()
    def _follow(self, number: Float[Tensor, ""]) -> None:
        """Update the running means, with a shorter half-life at the start."""
        images_so_far = (number + 1) * (self.config.batch / 1000)
        half_life = (0.05 * images_so_far).clamp_max(self.config.average_kimg)
        step = 1 - 0.5 ** (self.config.batch / 1000 / half_life)
        for mean, new in self._followed:
            off = torch._foreach_sub(list(new.parameters()), list(mean.parameters()))
            torch._foreach_mul_(off, step)
            torch._foreach_add_(list(mean.parameters()), off)
            for kept, now in zip(mean.buffers(), new.buffers(), strict=True):
                kept.copy_(now)


def _crossed(styles: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """Replace the styles from a random layer on by those of the next row."""
    count, layers = styles.shape[:2]
    first = torch.randint(1, layers, (count, 1), device=styles.device)
    other = torch.arange(layers, device=styles.device) >= first
    return torch.where(other[..., None], styles.roll(1, 0), styles)


class _PathLength(nn.Module):
    """Path length regulariser (section 3.2) with its running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.mean: Tensor

    def penalty(self, images: Float[Tensor, "B 3 R R"], styles: Float[Tensor, "B L D"]) -> Float[Tensor, ""]:
        """Squared distance of the lengths of J^T y from their running mean, for random y."""
        noise = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
        (slope,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        self.mean.lerp_(lengths.detach().mean(), PATH_DECAY)
        return (lengths - self.mean).square().mean()


def _lazy_adam(network: nn.Module, rate: float, every: int) -> Optimizer:
    """Adam with rate and betas corrected for a regulariser applied every ``every`` steps (appendix B)."""
    share = every / (every + 1) if every else 1.0
    return adam(network, rate * share, (0.0, 0.99**share))


class _Conv(nn.Module):
    """The discriminator's convolution, with or without bias and leaky ReLU."""

    def __init__(
        self, channels_in: int, channels: int, taps: int, *, active: bool = True, down: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels_in, taps, taps))
        self.bias = nn.Parameter(torch.zeros(channels)) if active else None
        self._down, self._gain = down, gain * (GAIN if active else 1.0)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        """Features, at half the size if ``down``."""
        weight = self.weight * (self._gain / math.sqrt(self.weight[0].numel()))
        bias = None if self.bias is None else self.bias * self._gain
        margin = weight.shape[2] // 2
        if not self._down:
            x = F.conv2d(x, weight, bias, padding=margin)
        elif margin:
            x = F.conv2d(low_pass(x, margin + 1), weight, bias, stride=2)
        else:
            x = F.conv2d(low_pass(x, 1, down=2), weight, bias)
        return x if self.bias is None else activate(x)


class _DiscriminatorBlock(nn.Module):
    """Two convolutions and a shortcut; halves the size."""

    def __init__(self, size: StyleGAN2Size, resolution: int) -> None:
        super().__init__()
        channels, after = size.channels(resolution), size.channels(resolution // 2)
        if resolution == size.resolution:
            self.fromrgb = _Conv(3, channels, 1)
        self.conv0 = _Conv(channels, channels, 3)
        # The block returns their sum over the root of two.
        self.conv1 = _Conv(channels, after, 3, down=True, gain=math.sqrt(0.5))
        self.skip = _Conv(channels, after, 1, active=False, down=True, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Features at half the size."""
        x = self.fromrgb(x) if hasattr(self, "fromrgb") else x
        return self.conv1(self.conv0(x)) + self.skip(x)


class _DiscriminatorEnd(nn.Module):
    """Minibatch standard deviation as an additional channel, then one score per image."""

    def __init__(self, size: StyleGAN2Size) -> None:
        super().__init__()
        channels = size.channels(START)
        self.conv = _Conv(channels + 1, channels, 3)
        self.fc = Dense(channels * START**2, channels, active=True)
        self.out = Dense(channels, 1)

    def forward(self, x: Float[Tensor, "B C s s"]) -> Float[Tensor, " B"]:
        """Scores."""
        batch = len(x)
        members = next(n for n in range(min(GROUP, batch), 0, -1) if batch % n == 0)
        groups = x.view(members, batch // members, *x.shape[1:])
        spread = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        spread = spread.repeat(members).view(batch, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.out(self.fc(self.conv(torch.cat([x, spread], 1)).flatten(1)))[:, 0]


class StyleGAN2Discriminator(nn.Module):
    """The discriminator (residual, with the minibatch's standard deviation): real images get high scores."""

    def __init__(self, size: StyleGAN2Size) -> None:
        super().__init__()
        self.size = size
        for resolution in size.resolutions[1:]:
            self.add_module(f"b{resolution}", _DiscriminatorBlock(size, resolution))
        self.b4 = _DiscriminatorEnd(size)

    def forward(self, images: Float[Tensor, "B 3 R R"]) -> Float[Tensor, " B"]:
        """Scores of B images (:func:`from_images`); the images of a batch are compared in groups of 4."""
        x = images
        for resolution in reversed(self.size.resolutions[1:]):
            x = self.get_submodule(f"b{resolution}")(x)
        return self.b4(x)
