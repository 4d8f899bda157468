"""Adversarial training of a small StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, section 3 and appendix B)."""

import copy
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer

from emotalking.configs.faces import AdversarialConfig
from emotalking.experts.stylegan2 import StyleGAN2, StyleGAN2Judge, from_images

PATH_DECAY = 0.01
"""Of the running mean of path lengths."""


class AdversarialTask:
    """Generator against discriminator: non-saturating logistic losses, R1 and path lengths now and then.

    ``average`` is the generator to use: the running mean of the weights.
    """

    name = "adversarial"

    def __init__(
        self, network: StyleGAN2, images: UInt8[Tensor, "N S S 3"], config: AdversarialConfig | None = None
    ) -> None:
        """Train ``network`` to draw like ``images``, on the device of both."""
        self.config = config or AdversarialConfig()
        self.network, self._images = network, images
        self.judge = StyleGAN2Judge(network.size).to(images.device)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.state = _PathLength().to(images.device)
        self.modules: dict[str, nn.Module] = {
            "network": network, "judge": self.judge, "average": self.average, "state": self.state
        }  # fmt: skip
        every = {"network": self.config.path_every if self.config.path else 0, "judge": self.config.r1_every}
        self.optimizers: dict[str, Optimizer] = {
            "network": _adam(network, self.config.rate, every["network"]),
            "judge": _adam(self.judge, self.config.rate, every["judge"]),
        }

    def step(self, number: int, draws: torch.Generator) -> dict[str, Tensor]:
        """Discriminator, generator, running mean."""
        rows = torch.randint(len(self._images), (self.config.batch,), generator=draws)
        real = from_images(self._images[rows.to(self._images.device)].float() / 255)
        terms = self._judge_step(real, draws, number)
        terms |= self._network_step(draws, number)
        half_life = min(self.config.average_kimg, 0.05 * (number + 1) * self.config.batch / 1000)
        keep = 0.5 ** (self.config.batch / (half_life * 1000))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)
            for mean, new in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mean.copy_(new)
        return terms

    def _judge_step(self, real: Tensor, draws: torch.Generator, number: int) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.network.synthesis(self._styles(draws), "random")
        scores_fake, scores_real = self.judge(fake), self.judge(real)
        loss = F.softplus(scores_fake).mean() + F.softplus(-scores_real).mean()
        terms = {"judge": loss, "fooled": (scores_fake > 0).float().mean(), "trusted": (scores_real > 0).float().mean()}
        if number % self.config.r1_every == 0:
            real = real.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.judge(real).sum(), real, create_graph=True)
            terms["r1"] = slope.square().sum((1, 2, 3)).mean()
            loss = loss + self.config.r1 / 2 * self.config.r1_every * terms["r1"]
        _update(self.optimizers["judge"], loss)
        return terms

    def _network_step(self, draws: torch.Generator, number: int) -> dict[str, Tensor]:
        self.judge.requires_grad_(False)
        loss = F.softplus(-self.judge(self.network.synthesis(self._styles(draws, track=True), "random"))).mean()
        terms = {"generator": loss}
        if self.config.path and number % self.config.path_every == 0:
            styles = self._styles(draws)[: max(1, self.config.batch // 2)]
            terms["path"] = self.state.penalty(self.network.synthesis(styles, "random"), styles)
            loss = loss + self.config.path * self.config.path_every * terms["path"]
        _update(self.optimizers["network"], loss)
        self.judge.requires_grad_(True)
        return terms

    def _styles(self, draws: torch.Generator, *, track: bool = False) -> Float[Tensor, "B L D"]:
        """Styles of a batch; some pictures change theirs at a random layer."""
        size, batch = self.network.size, self.config.batch
        z = torch.randn(2 * batch, size.style_dim, generator=draws).to(self._images.device)
        first, second = self.network.mapping(z).split(batch)
        if track:
            self.network.mapping.track(first.detach())
        layers = torch.randint(1, size.styles, (batch, 1), generator=draws)
        mixed = torch.rand(batch, 1, generator=draws) < self.config.mixing
        other = ((torch.arange(size.styles) >= layers) & mixed).to(self._images.device)
        return torch.where(other[..., None], second[:, None], first[:, None])


class _PathLength(nn.Module):
    """Path length regulariser (section 3.2) with its running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.mean: Tensor

    def penalty(self, pictures: Float[Tensor, "B 3 R R"], styles: Float[Tensor, "B L D"]) -> Float[Tensor, ""]:
        """Squared distance of the lengths of J^T y from their running mean, for random y."""
        noise = torch.randn_like(pictures) / math.sqrt(pictures[0, 0].numel())
        (slope,) = torch.autograd.grad((pictures * noise).sum(), styles, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        self.mean.lerp_(lengths.detach().mean(), PATH_DECAY)
        return (lengths - self.mean).square().mean()


def _adam(network: nn.Module, rate: float, every: int) -> Optimizer:
    """Adam whose memory fits a regulariser that comes every ``every`` steps only (appendix B)."""
    share = every / (every + 1) if every else 1.0
    return torch.optim.Adam(network.parameters(), rate * share, betas=(0.0, 0.99**share), eps=1e-8)


def _update(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
