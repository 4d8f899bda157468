"""One step of Adam or AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019) with learning rates on the device.

The optimizers stay PyTorch's, with their state and their checkpoints. This is their update for captured steps:
PyTorch's own needs two launches a group, each with too few threads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Adam, Optimizer

from emotalking.ops.backends import Backend, Operation, cuda_kernel

ADAM = Operation(
    "adam",
    cuda_kernel("adam:update"),
    Backend("reference", "emotalking.ops.adam:update_reference"),
)


@dataclass(frozen=True)
class Part:
    """One parameter and its Adam state."""

    value: Tensor
    grad: Tensor
    mean: Tensor
    """Running mean of the gradient."""
    square: Tensor
    """Running mean of its square."""
    steps: Float[Tensor, ""]
    """Number of steps so far."""
    rate: Float[Tensor, ""]
    beta1: float
    beta2: float
    eps: float
    decay: float | int
    """Weight decay of the value itself, decoupled from the gradient."""


def parts_of(optimizers: list[Optimizer], rates: Float[Tensor, "G"]) -> list[Part]:
    """All parameters that have a gradient.

    Args:
        optimizers: Adam or AdamW in their plain forms; each parameter has been updated before.
        rates: learning rate of every group, optimizer by optimizer.

    Raises:
        ValueError: an optimizer is neither, or has options beyond rates, betas, eps and decoupled decay.
    """
    parts = []
    group_rates = iter(rates.unbind())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate, decay = next(group_rates), group["weight_decay"]
            plain = not (group["amsgrad"] or group["maximize"]) and (group["decoupled_weight_decay"] or not decay)
            if not isinstance(optimizer, Adam) or not plain:
                raise ValueError("optimizers: expected plain Adam, or AdamW")
            for value in group["params"]:
                if value.grad is not None:
                    state = optimizer.state[value]
                    part = Part(
                        value=value,
                        grad=value.grad,
                        mean=state["exp_avg"],
                        square=state["exp_avg_sq"],
                        steps=state["step"],
                        rate=rate,
                        beta1=group["betas"][0],
                        beta2=group["betas"][1],
                        eps=group["eps"],
                        decay=decay,
                    )
                    parts.append(part)
    return parts


@torch.no_grad()
def update(parts: list[Part], *, backend: str = "auto") -> None:
    """Change values, means, squares and steps in place.

    Args:
        backend: ``reference`` (any device and float type), ``cuda`` (our kernel: float32, contiguous), or ``auto`` as
            in `ops.backends`.
    """
    if parts:
        ADAM.choose(backend, parts[0].value)(parts)


def update_reference(parts: list[Part]) -> None:
    """:func:`update` in plain torch."""
    for part in parts:
        part.steps.add_(1)
        part.mean.lerp_(part.grad, 1 - part.beta1)
        part.square.mul_(part.beta2).addcmul_(part.grad, part.grad, value=1 - part.beta2)
        steps = part.steps.double()
        size = (part.rate / (1 - part.beta1**steps)).to(part.rate.dtype)
        root = (1 - part.beta2**steps).sqrt().to(part.square.dtype)
        part.value.mul_(1 - part.rate * part.decay)
        part.value.sub_(size * part.mean / (part.square.sqrt() / root + part.eps))
