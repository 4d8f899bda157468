"""StyleGAN2's generator (Karras et al. 2020, arXiv 1912.04958), configuration F.

Parameters carry the names of the authors' PyTorch files (``synthesis.b64.conv0.affine.weight``), so that
:mod:`emotalking.stylegan.stylegan2_files` can compare them one by one. Everything is plain torch, with second
gradients.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

START = 4
"""Pixels a side of the learned constant at the start of the synthesis."""
LARGEST = 4096
"""Largest images, pixels a side."""

SLOPE = 0.2
GAIN = math.sqrt(2)
"""Gain of every leaky ReLU; positive factors commute with it, so it is folded into the weights before."""

MAPPING_RATE = 0.01
"""Learning rate multiplier of the mapping network; its weights are stored divided by it."""

FILTER = (1, 3, 3, 1)
"""Low-pass filter of all changes of size, in both directions."""

Noise = Literal["const", "random", "none"]


@dataclass(frozen=True)
class StyleGAN2Size:
    """Sizes that determine every shape. The defaults are those of the published network for FFHQ."""

    resolution: int = 1024
    """Pixels a side; a power of two, at least 8."""
    channel_base: int = 32768
    """A layer of r pixels a side has this / r channels, at most ``channel_max``."""
    channel_max: int = 512
    style_dim: int = 512
    mapping_layers: int = 8
    clamp: float | int | None = None
    """Bound of a convolution's output (files trained at half precision have 256)."""

    def __post_init__(self) -> None:
        if not 2 * START <= self.resolution <= LARGEST or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from {2 * START} to {LARGEST}, got {self.resolution}")
        if min(self.channel_base // self.resolution, self.channel_max, self.style_dim, self.mapping_layers) < 1:
            raise ValueError("channels, style_dim and mapping_layers must be at least 1")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, ... up to the image's own."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))

    @property
    def styles(self) -> int:
        """Layers with a style of their own: 18 at 1024 pixels."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Channels of the layers of ``resolution`` pixels a side."""
        return min(self.channel_base // resolution, self.channel_max)


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "4 4"]:
    taps = torch.tensor(FILTER, device=device, dtype=dtype) / sum(FILTER)
    return torch.outer(taps, taps)


class _Gather(torch.autograd.Function):
    """The filter and its transpose below are each other's derivatives, of every order.

    With torch's own autograd, GPUs compute the second derivative, which the gradient penalty needs, one channel at a
    time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, room: int, down: int) -> Tensor:
        ctx.how = x.shape, room, down
        kernel = _kernel(x.device, x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, None, down, room, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        return _spread(slopes[0], *ctx.how), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: torch.Size, room: int, down: int) -> Tensor:
        ctx.how = room, down
        kernel = _kernel(x.device, x.dtype).expand(x.shape[1], 1, -1, -1)
        return conv2d_input(shape, kernel, x, down, room, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        return low_pass(slopes[0], ctx.how[0], down=ctx.how[1]), None, None, None


def low_pass(x: Float[Tensor, "B C H W"], room: int, *, down: int = 1) -> Float[Tensor, "B C H2 W2"]:
    """Filter with :data:`FILTER`.

    Args:
        x: images.
        room: zeros before and after, along both axes.
        down: keep every so many-th pixel.
    """
    out = _Gather.apply(x, room, down)
    assert isinstance(out, Tensor)
    return out


def _spread(x: Float[Tensor, "B C H W"], shape: torch.Size, room: int, down: int) -> Tensor:
    """Transpose of :func:`low_pass` of images of that shape."""
    out = _Spread.apply(x, shape, room, down)
    assert isinstance(out, Tensor)
    return out


def double(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """Twice the size: zeros between the pixels, one :data:`FILTER`; the mean brightness is kept."""
    return 4 * _spread(x, torch.Size((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])), 1, 2)


def modulated_conv(
    x: Float[Tensor, "B I H W"],
    weight: Float[Tensor, "O I k k"],
    styles: Float[Tensor, "B I"],
    bias: Float[Tensor, " O"],
    *,
    demodulate: bool = True,
    up: bool = False,
    gain: float | int = 1.0,
) -> Float[Tensor, "B O H2 W2"]:
    """Modulated convolution: the kernel is scaled per image (equations 1 and 3); then a bias.

    The features are scaled instead of the kernels, before and after one convolution shared by all images: the same
    result, and faster on GPUs than a grouped convolution with one kernel per image.

    Args:
        x: features.
        weight: kernel; an odd number of taps. As in the published files it is rotated by 180 degrees if ``up``.
        styles: factor of each channel of ``x``.
        bias: added to each output channel.
        demodulate: scale the kernels of each output channel to length one.
        up: upsample by two, with the low-pass filter.
        gain: factor of the output.
    """
    kernel = weight / math.sqrt(weight[0].numel())
    x = x * styles[:, :, None, None]
    shift = (bias * gain).view(1, -1, 1, 1)
    if up:
        # The transposed convolution inserts zeros between the pixels, which quarters the sum.
        x = low_pass(F.conv_transpose2d(x, 4 * kernel.transpose(0, 1), stride=2), 1)
    elif demodulate:
        x = F.conv2d(x, kernel, padding=weight.shape[2] // 2)
    else:
        return F.conv2d(x, gain * kernel, shift.flatten(), padding=weight.shape[2] // 2)
    factor = x.new_full((1, 1), gain)
    if demodulate:
        lengths = styles.square() @ kernel.square().sum((2, 3)).T
        factor = gain * (lengths + 1e-8).rsqrt()
    return torch.addcmul(shift, x, factor[:, :, None, None])


def activate(x: Float[Tensor, "B C *size"], clamp: float | int | None = None) -> Tensor:
    """Leaky ReLU in place; the caller has scaled ``x`` by :data:`GAIN`, which keeps the variance."""
    x = F.leaky_relu_(x, SLOPE)
    return x if clamp is None else x.clamp(-clamp, clamp)


class Dense(nn.Module):
    """Linear layer with equalised learning rate."""

    def __init__(
        self, size_in: int, size_out: int, *, rate: float | int = 1.0, bias: float | int = 0.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size_out, size_in) / rate)
        self.bias = nn.Parameter(torch.full((size_out,), float(bias)))
        self._gain = rate / math.sqrt(size_in)
        self._rate = rate
        self._active = active

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """B vectors to B vectors."""
        gain = GAIN if self._active else 1.0
        x = F.linear(x, self.weight * (gain * self._gain), self.bias * (gain * self._rate))
        return activate(x) if self._active else x


class Mapping(nn.Module):
    """Normal noise z to styles w."""

    def __init__(self, size: StyleGAN2Size) -> None:
        super().__init__()
        self._layers = size.mapping_layers
        for i in range(size.mapping_layers):
            self.add_module(f"fc{i}", Dense(size.style_dim, size.style_dim, rate=MAPPING_RATE, active=True))
        self.register_buffer("w_avg", torch.zeros(size.style_dim))
        self.w_avg: Tensor

    def forward(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Styles of B draws from the normal distribution; only their directions count."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self._layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x

    def truncate(self, w: Float[Tensor, "B *L D"], psi: float | int) -> Float[Tensor, "B *L D"]:
        """Truncation: interpolate styles towards the mean; ``psi`` 1 leaves them, 0 returns the mean."""
        return torch.lerp(self.w_avg.expand_as(w), w, float(psi))

    @torch.no_grad()
    def track(self, w: Float[Tensor, "B D"], decay: float | int = 0.995) -> None:
        """Update the running mean style from a training batch."""
        self.w_avg.lerp_(w.mean(0), 1 - decay)


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(self, size: StyleGAN2Size, channels_in: int, resolution: int, up: bool) -> None:
        super().__init__()
        channels = size.channels(resolution)
        self._up, self._clamp = up, size.clamp
        self.affine = Dense(size.style_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_const: Tensor

    def forward(self, x: Tensor, w: Float[Tensor, "B D"], noise: Noise) -> Float[Tensor, "B C R R"]:
        """Features in the style ``w``."""
        x = modulated_conv(x, self.weight, self.affine(w), self.bias, up=self._up, gain=GAIN)
        if noise != "none":
            grain = self.noise_const if noise == "const" else torch.randn_like(x[:, :1])
            x = x + GAIN * self.noise_strength * grain
        return activate(x, self._clamp)


class ToRGB(nn.Module):
    """Features to colours; modulated without demodulation."""

    def __init__(self, size: StyleGAN2Size, channels: int) -> None:
        super().__init__()
        self._clamp = size.clamp
        self.affine = Dense(size.style_dim, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Float[Tensor, "B D"]) -> Float[Tensor, "B 3 R R"]:
        """Colours in the style ``w``."""
        x = modulated_conv(x, self.weight, self.affine(w), self.bias, demodulate=False)
        return x if self._clamp is None else x.clamp(-self._clamp, self._clamp)


class SynthesisBlock(nn.Module):
    """All layers of one resolution; adds its colours to those of the previous blocks."""

    def __init__(self, size: StyleGAN2Size, resolution: int) -> None:
        super().__init__()
        channels = size.channels(resolution)
        if resolution == START:
            self.const = nn.Parameter(torch.randn(channels, START, START))
        else:
            self.conv0 = StyledConv(size, size.channels(resolution // 2), resolution, up=True)
        self.conv1 = StyledConv(size, channels, resolution, up=False)
        self.torgb = ToRGB(size, channels)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Float[Tensor, "B k D"], noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Features and image at this size; None starts from the constant."""
        if x is None or image is None:
            features = self.conv1(self.const.expand(len(ws), -1, -1, -1), ws[:, 0], noise)
            return features, self.torgb(features, ws[:, 1])
        features = self.conv1(self.conv0(x, ws[:, 0], noise), ws[:, 1], noise)
        return features, double(image) + self.torgb(features, ws[:, 2])


class Synthesis(nn.Module):
    """Styles to an image."""

    def __init__(self, size: StyleGAN2Size) -> None:
        super().__init__()
        self.size = size
        for resolution in size.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(size, resolution))

    def forward(self, ws: Float[Tensor, "B *L D"], noise: Noise = "const") -> Float[Tensor, "B 3 R R"]:
        """Generate images.

        Args:
            ws: one style an image (the space W), or one a layer (W+; L = ``size.styles``).
            noise: stored in the file, random, or none.

        Returns:
            RGB, meant for [-1, 1] but not bounded (:func:`to_images`); gradients reach ``ws`` and all weights.

        Raises:
            ValueError: if W+ has another number of styles than the network has layers.
        """
        if ws.dim() == 2:
            ws = ws[:, None].expand(-1, self.size.styles, -1)
        if ws.shape[1] != self.size.styles:
            raise ValueError(f"ws must have {self.size.styles} styles an image, got {ws.shape[1]}")
        x = None
        image = None
        first = 0
        for resolution in self.size.resolutions:
            # torgb shares its style with the next block's first layer.
            x, image = self.get_submodule(f"b{resolution}")(x, image, ws[:, first : first + 3], noise)
            first += 1 if resolution == START else 2
        assert image is not None
        return image


class StyleGAN2(nn.Module):
    """The generator: mapping and synthesis.

    Example::

        network = StyleGAN2(StyleGAN2Size(resolution=64))
        images = to_images(network(torch.randn(4, 512), psi=0.7))
    """

    def __init__(self, size: StyleGAN2Size | None = None) -> None:
        super().__init__()
        self.size = size or StyleGAN2Size()
        self.mapping = Mapping(self.size)
        self.synthesis = Synthesis(self.size)

    def forward(
        self, z: Float[Tensor, "B D"], psi: float | int = 1.0, noise: Noise = "const"
    ) -> Float[Tensor, "B 3 R R"]:
        """Images of B normal draws; ``psi`` below 1 draws them towards the mean (:meth:`Mapping.truncate`)."""
        return self.synthesis(self.mapping.truncate(self.mapping(z), psi), noise)


def to_images(images: Float[Tensor, "B 3 H W"], *, bounded: bool = True) -> Float[Tensor, "B H W 3"]:
    """Generator output as RGB in [0, 1]; no gradient beyond the bounds.

    ``bounded`` False does not clamp, for losses that must pull an early generator back into the range.
    """
    images = ((images + 1) / 2).permute(0, 2, 3, 1)
    return images.clamp(0, 1) if bounded else images


def from_images(images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Inverse of :func:`to_images`: input of the discriminator."""
    return images.permute(0, 3, 1, 2) * 2 - 1
