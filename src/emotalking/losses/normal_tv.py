"""Total variation of the rendered normal map (paper eq. S13)."""

from jaxtyping import Bool, Float
from torch import Tensor


def normal_tv(normals: Float[Tensor, "*batch H W 3"], region: Bool[Tensor, "*batch H W"]) -> Float[Tensor, ""]:
    """Mean absolute difference to the right and lower neighbour over the frame, for pairs inside ``region``."""
    across = (normals[..., :, 1:, :] - normals[..., :, :-1, :]).abs()
    down = (normals[..., 1:, :, :] - normals[..., :-1, :, :]).abs()
    pairs_across = region[..., :, 1:] & region[..., :, :-1]
    pairs_down = region[..., 1:, :] & region[..., :-1, :]
    total = (across * pairs_across[..., None]).sum() + (down * pairs_down[..., None]).sum()
    return total / normals.numel()
