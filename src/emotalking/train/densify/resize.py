"""The one function that changes the number of Gaussians, and with it their optimizer's state."""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.optim import Optimizer

from emotalking.models.gaussians import PARAMETERS, Gaussians


def resize(gaussians: Gaussians, optimizer: Optimizer, source: Int[Tensor, "M"], fresh: Int[Tensor, "F"]) -> None:
    """Replace the N Gaussians by M rows ``source`` (indices into the old ones, repeats allowed), in place.

    Adam's moments move with their rows; the rows at positions ``fresh`` of the result are new-born and start with
    zero moments, as in 3-D Gaussian splatting.

    Args:
        optimizer: holds each raw parameter in a group of its own, named by the group's key `name`.
    """
    groups = {group["name"]: group for group in optimizer.param_groups if group.get("name") in PARAMETERS}
    for name in PARAMETERS:
        old: nn.Parameter = getattr(gaussians, name)
        new = nn.Parameter(old.detach()[source].contiguous(), requires_grad=old.requires_grad)
        setattr(gaussians, name, new)
        if name not in groups:
            continue
        groups[name]["params"] = [new]
        state = optimizer.state.pop(old, None)
        if state:
            for key, value in state.items():
                if torch.is_tensor(value) and value.shape == old.shape:
                    moved = value[source].contiguous()
                    moved[fresh] = 0.0
                    state[key] = moved
            optimizer.state[new] = state
