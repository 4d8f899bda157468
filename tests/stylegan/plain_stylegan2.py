"""StyleGAN2 once more, slowly: one image and one tap at a time, on the published names of the weights."""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def correlate(x: Tensor, kernel: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
    """[I, H, W] with [O, I, k, k], a sum over the taps."""
    taps = kernel.shape[-1]
    framed = x.new_zeros(x.shape[0], x.shape[1] + 2 * padding, x.shape[2] + 2 * padding)
    framed[:, padding : padding + x.shape[1], padding : padding + x.shape[2]] = x
    height, width = (size - taps + 1 for size in framed.shape[1:])
    total = x.new_zeros(())
    for i in range(taps):
        for j in range(taps):
            total = total + torch.einsum("oi,ihw->ohw", kernel[:, :, i, j], framed[:, i : i + height, j : j + width])
    return total[:, ::stride, ::stride]


def spread(x: Tensor) -> Tensor:
    """A zero between every two pixels."""
    out = x.new_zeros(x.shape[0], 2 * x.shape[1] - 1, 2 * x.shape[2] - 1)
    out[:, ::2, ::2] = x
    return out


def low_pass(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    """The 4 x 4 filter over [C, H, W] with so many zeros around."""
    line = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    taps = line[:, None] * line * (gain / 64)
    framed = x.new_zeros(x.shape[0], x.shape[1] + before + after, x.shape[2] + before + after)
    framed[:, before : before + x.shape[1], before : before + x.shape[2]] = x
    height, width = (size - 3 for size in framed.shape[1:])
    return sum(  # type: ignore[return-value]
        (taps[i, j] * framed[:, i : i + height, j : j + width] for i in range(4) for j in range(4)),
        start=x.new_zeros(()),
    )


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with its gain."""
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def dense(w: Weights, name: str, x: Tensor, rate: float = 1.0) -> Tensor:
    """A full connection of one vector."""
    weight = w[f"{name}.weight"]
    return (weight * x).sum(1) * rate / math.sqrt(weight.shape[1]) + w[f"{name}.bias"] * rate


def modulated(x: Tensor, kernel: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Scale the features, convolve with the kernel that all images share, scale what comes out."""
    kernel = kernel / math.sqrt(kernel[0].numel())
    x = x * style[:, None, None]
    if up:
        # A true convolution, so the taps are turned; the spread image loses three quarters of its brightness.
        x = low_pass(correlate(spread(x), kernel.flip(2, 3), padding=2), 1, 1, gain=4)
    else:
        x = correlate(x, kernel, padding=kernel.shape[-1] // 2)
    if demodulate:
        x = x / ((kernel * style[None, :, None, None]) ** 2).sum((1, 2, 3)).add(1e-8).sqrt()[:, None, None]
    return x


def mapping(w: Weights, z: Tensor) -> Tensor:
    """One vector z to w."""
    x = z / (z**2).mean().add(1e-8).sqrt()
    i = 0
    while f"mapping.fc{i}.weight" in w:
        x, i = leaky(dense(w, f"mapping.fc{i}", x, 0.01)), i + 1
    return x


def styled(w: Weights, name: str, x: Tensor, style: Tensor, up: bool) -> Tensor:
    """A layer with its noise."""
    x = modulated(x, w[f"{name}.weight"], dense(w, f"{name}.affine", style), True, up)
    x = x + w[f"{name}.noise_strength"] * w[f"{name}.noise_const"]
    return leaky(x + w[f"{name}.bias"][:, None, None])


def synthesis(w: Weights, ws: Tensor) -> Tensor:
    """One image from its styles [L, D]."""
    x = w["synthesis.b4.const"]
    image = None
    resolution = 4
    layer = 0
    while f"synthesis.b{resolution}.conv1.weight" in w:
        name = f"synthesis.b{resolution}"
        if resolution > 4:
            x, layer = styled(w, f"{name}.conv0", x, ws[layer], True), layer + 1
        x, layer = styled(w, f"{name}.conv1", x, ws[layer], False), layer + 1
        colours = modulated(x, w[f"{name}.torgb.weight"], dense(w, f"{name}.torgb.affine", ws[layer]), False, False)
        colours = colours + w[f"{name}.torgb.bias"][:, None, None]
        image = colours if image is None else low_pass(spread(image), 2, 2, gain=4) + colours
        resolution *= 2
    assert image is not None
    return image


def discriminator(w: Weights, images: Tensor) -> Tensor:
    """Scores of images [B, 3, R, R]; B up to 4."""

    def block(name: str, x: Tensor) -> Tensor:
        def conv(part: str, x: Tensor) -> Tensor:
            kernel = w[f"{name}.{part}.weight"]
            return correlate(x, kernel / math.sqrt(kernel[0].numel()), padding=kernel.shape[-1] // 2)

        if f"{name}.fromrgb.weight" in w:
            x = leaky(conv("fromrgb", x) + w[f"{name}.fromrgb.bias"][:, None, None])
        kernel = w[f"{name}.conv1.weight"]
        y = leaky(conv("conv0", x) + w[f"{name}.conv0.bias"][:, None, None])
        y = correlate(low_pass(y, 2, 2, 1.0), kernel / math.sqrt(kernel[0].numel()), stride=2)
        y = leaky(y + w[f"{name}.conv1.bias"][:, None, None])
        kernel = w[f"{name}.skip.weight"]
        return (y + correlate(low_pass(x, 1, 1, 1.0), kernel / math.sqrt(kernel[0].numel()), stride=2)) / math.sqrt(2)

    features = []
    for x in images:
        resolution = images.shape[-1]
        while resolution > 4:
            x, resolution = block(f"b{resolution}", x), resolution // 2
        features.append(x)
    together = torch.stack(features)
    variance = ((together - together.mean(0)) ** 2).mean(0)
    varied = variance.add(1e-8).sqrt().mean()
    scores = []
    for x in features:
        x = torch.cat([x, varied.expand(1, 4, 4)])
        kernel = w["b4.conv.weight"]
        x = correlate(x, kernel / math.sqrt(kernel[0].numel()), padding=1) + w["b4.conv.bias"][:, None, None]
        scores.append(dense(w, "b4.out", leaky(dense(w, "b4.fc", leaky(x).flatten())))[0])
    return torch.stack(scores)
