"""Optimizers and learning-rate schedules (paper S1; docs/paper.md 3, 4.6)."""

import math

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from emotalking.models.audio import AudioEncoder, PublishedEncoder
from emotalking.models.gaussians import Gaussians
from emotalking.train.config import OptimConfig

SH_REST_SLOWER = 20.0
"""Higher colour bands learn this much slower than the base colour."""


def gaussian_optimizer(gaussians: Gaussians, optim: OptimConfig, extent: float) -> Adam:
    """Adam with one named group per raw parameter, as densification needs."""
    rates = {
        "means": optim.means * extent,
        "sh0": optim.sh0,
        "sh_rest": optim.sh0 / SH_REST_SLOWER,
        "opacity_logits": optim.opacity,
        "raw_scales": optim.scales,
        "raw_quats": optim.quats,
        "normal_residuals": optim.normals,
    }
    groups = [{"name": name, "params": [getattr(gaussians, name)], "lr": rate} for name, rate in rates.items()]
    return Adam(groups, eps=1e-15, fused=True)


def network_optimizer(networks: list[nn.Module], optim: OptimConfig) -> AdamW:
    """AdamW: tri-planes, audio encoder, its temporal attention (if any; with decay) and the rest at their own rates.

    What has rate 0 gets no gradient.
    """
    grids: list[nn.Parameter] = []
    attention: list[nn.Parameter] = []
    audio: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for network in networks:
        temporal = set()
        if isinstance(network, PublishedEncoder):
            temporal = {id(p) for part in (network.attention, network.attention_weights) for p in part.parameters()}
        for name, parameter in network.named_parameters():
            if id(parameter) in temporal:
                attention.append(parameter)
            elif isinstance(network, AudioEncoder):
                audio.append(parameter)
            else:
                (grids if name.endswith("encoder.table") else others).append(parameter)
    groups = [
        {"name": "grids", "params": grids, "lr": optim.grids, "weight_decay": 0.0},
        {"name": "networks", "params": others, "lr": optim.networks, "weight_decay": 0.0},
        {"name": "audio", "params": audio, "lr": optim.audio, "weight_decay": 0.0},
        {"name": "temporal", "params": attention, "lr": optim.temporal, "weight_decay": 1e-4},
    ]
    groups = [group for group in groups if group["params"]]
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(group["lr"] > 0)
    return AdamW(groups, betas=(0.9, 0.99), eps=1e-8, fused=True)


def network_factor(iteration: int, knee: int, iterations: int) -> float:
    """Rate factor of the networks: 0.5^(it/knee) before the knee, 0.1^(it/iterations) after it (docs/paper.md 4.6).

    The step at the knee, from 0.5 to about 0.16, is the baseline's; the paper says "exponential scheduler".
    """
    return 0.5 ** (iteration / max(1, knee)) if iteration < knee else 0.1 ** (iteration / max(1, iterations))


def means_rate(iteration: int, optim: OptimConfig, until: int, extent: float) -> float:
    """Position rate: exponential from `means` to `means_final` over ``until`` iterations, times the extent."""
    t = min(1.0, iteration / max(1, until))
    return extent * math.exp((1.0 - t) * math.log(optim.means) + t * math.log(optim.means_final))


def gaussians_factor(iteration: int, begin: int, end: int, optim: OptimConfig) -> float:
    """Rate factor of colours, opacities, scales and rotations: 1 until ``begin``, then falling to `final_share`."""
    return optim.final_share ** (max(0, iteration - begin) / max(1, end - begin))


def set_group_rate(optimizer: Optimizer, name: str, rate: float) -> None:
    """Set the rate of the group called ``name``."""
    for group in optimizer.param_groups:
        if group.get("name") == name:
            group["lr"] = rate


class FactorSchedule:
    """Remembers the initial rates of an optimizer and multiplies them."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._base = [group["lr"] for group in optimizer.param_groups]

    def set(self, factor: float) -> None:
        """All rates become ``factor`` times their initial values."""
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
