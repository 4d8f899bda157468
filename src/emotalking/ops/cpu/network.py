"""The compiled motion networks with gradient behind `emotalking.ops.network`."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import kernels
from emotalking.ops.network import MAX_MAPS, Network


class _Sizes(ctypes.Structure):
    """Mirror of ``struct Sizes`` in network.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("count", "frames", "threads", "features", "hidden", "outputs", "maps")),
        *((name, ctypes.c_int32 * MAX_MAPS) for name in ("inner", "keys", "rectified")),
        ("shared_from", ctypes.c_int32),
    )

    @property
    def kept(self) -> int:
        """Floats a point that the backward pass needs of the forward pass (``struct Kept``)."""
        return sum(self.inner) + sum(self.keys) + 2 * self.frames * self.hidden


_GIVEN = ctypes.POINTER(_Sizes), *"p" * 9
library = kernels("network.cpp", network_forward=(*_GIVEN, *"p" * 2), network_backward=(*_GIVEN, *"p" * 10))


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _addresses(tensors: Sequence[Tensor]) -> Any:
    """Addresses of several tensors as a C array."""
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


class _Offsets(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sizes: _Sizes, features: Tensor, share: Tensor | None, codes: Tensor, bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:  # fmt: skip
        out = features.new_empty(sizes.frames, sizes.count, sizes.outputs)
        kept = features.new_empty(sizes.count, sizes.kept) if any(ctx.needs_input_grad) else None
        given = _given(sizes, features, share, codes, bias, weights)
        library().network_forward(*given, *map(_address, (kept, out)))
        ctx.sizes = sizes
        ctx.save_for_backward(kept, features, share, codes, bias, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, features, share, codes, bias, *weights = ctx.saved_tensors
        grad = grad.contiguous()
        d_features, d_codes = torch.empty_like(features), torch.empty_like(codes)
        d_bias = None if bias is None else torch.empty_like(bias)
        d_weights = [torch.empty_like(weight) for weight in weights]
        maps = ctx.sizes.maps
        library().network_backward(
            *_given(ctx.sizes, features, share, codes, bias, weights),
            *map(_address, (kept, grad, d_features, d_codes, d_bias)), _addresses(d_weights[:maps]),
            _addresses(d_weights[maps : 2 * maps]), *map(_address, d_weights[2 * maps :]),
        )  # fmt: skip
        return None, d_features, None, d_codes, d_bias, *d_weights


def _given(
    sizes: _Sizes, features: Tensor, share: Tensor | None, codes: Tensor, bias: Tensor | None, weights: Any
) -> tuple[Any, ...]:
    """What both passes read; ``weights``: all maps' inner layers, their outer ones, then the other three."""
    maps = sizes.maps
    parts = map(_address, (features, share, codes, bias))
    heads = _addresses(weights[:maps]), _addresses(weights[maps : 2 * maps])
    return ctypes.byref(sizes), *parts, *heads, *map(_address, weights[2 * maps :])


def offsets(network: Network, features: Tensor, codes: Tensor, bias: Tensor | None) -> Tensor:
    """See :func:`emotalking.ops.network.offsets`; only the last map may have a ``share``."""
    if len(features) > 1:
        biases = [None] * len(codes) if bias is None else bias.split(1)
        parts = zip(features.split(1), codes.split(1), biases, strict=True)
        return torch.cat([offsets(network, *part) for part in parts])
    maps = network.maps
    if any(each.share is not None for each in maps[:-1]):
        raise ValueError("maps: backend='cpu' takes a share of the last map alone")
    share = maps[-1].share if maps else None
    (hidden, _), outputs = network.first.shape, network.third.shape[0]
    sizes = _Sizes(
        features.shape[1], len(codes), torch.get_num_threads(), features.shape[2], hidden, outputs, len(maps)
    )
    for number, each in enumerate(maps):
        sizes.inner[number], sizes.keys[number] = each.inner.shape[0], each.outer.shape[0]
        sizes.rectified[number] = each.rectified
    sizes.shared_from = codes.shape[1] - (maps[-1].outer.shape[0] if maps else 0)
    layers = [each.inner for each in maps], [each.outer for each in maps]
    weights = *layers[0], *layers[1], network.first, network.second, network.third
    given = [None if each is None else each.contiguous() for each in (features, share, codes, bias, *weights)]
    return _Offsets.apply(sizes, *given)
