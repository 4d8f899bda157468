"""Pickles of StyleGAN2 as its authors' programs write them: the same globals, attributes and nesting."""

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .stylegan2_layouts import Weights, as_tensorflow

SOURCE = "raise RuntimeError('the source in a pickle was run')"


class EasyDict(dict):
    """The authors' dict of settings."""


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("our reader must not come here")


class Network:
    """The TensorFlow program's network; only its state is written."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


class Persistent(torch.nn.Module):
    """A layer of the PyTorch programs: pickled as its state and the source of its class."""

    def __reduce__(self) -> Any:
        """Reduce like their decorator."""
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": "Layer",
            "state": dict(self.__dict__),
        }
        return (_reconstruct_persistent_obj, (meta,), None)


@contextlib.contextmanager
def their_modules() -> Iterator[None]:
    """Under the names by which their pickles call them."""
    homes = {
        "dnnlib.util": EasyDict,
        "dnnlib.tflib.network": Network,
        "torch_utils.persistence": _reconstruct_persistent_obj,
    }
    before = {thing: thing.__module__ for thing in homes.values()}
    made = ["dnnlib", "dnnlib.tflib", "torch_utils", *homes]
    try:
        for name in made:
            sys.modules[name] = types.ModuleType(name)
        for name, thing in homes.items():
            setattr(sys.modules[name], thing.__name__, thing)
            thing.__module__ = name
        yield
    finally:
        for name in made:
            del sys.modules[name]
        for thing, name in before.items():
            thing.__module__ = name


def persistent(weights: Weights, **settings: Any) -> Persistent:
    """A network of these weights, layer in layer, with the attributes that theirs carry."""
    root = Persistent()
    for name, tensor in weights.items():
        *path, last = name.split(".")
        layer = root
        for part in path:
            if part not in layer._modules:
                layer.add_module(part, Persistent())
            layer = layer._modules[part]
            assert isinstance(layer, Persistent)
        if last in ("resample_filter", "noise_const", "w_avg"):
            layer.register_buffer(last, tensor)
        else:
            layer.register_parameter(last, torch.nn.Parameter(tensor))
        vars(layer).update(act_gain=np.sqrt(2), weight_gain=1 / np.sqrt(512), channels_last=False)
    vars(root)["_init_args"] = ()
    vars(root)["_init_kwargs"] = EasyDict(c_dim=0, img_channels=3, **settings)
    return root


def write_pytorch(path: Path, weights: Weights, **settings: Any) -> Path:
    """Pickle like the trainer of the PyTorch programs."""
    with their_modules():
        content = {
            "G": None,
            "D": None,
            "G_ema": persistent(weights, **settings),
            "training_set_kwargs": EasyDict(path="ffhq.zip", resolution=1024, xflip=True),
            "augment_pipe": None,
        }
        path.write_bytes(pickle.dumps(content))
    return path


def write_tensorflow(path: Path, weights: Weights, size: int, version: int = 4, **settings: Any) -> Path:
    """Pickle like the TensorFlow program: (G, D, Gs)."""
    mapping, synthesis, own = as_tensorflow(weights, size)

    def network(variables: dict[str, Any], components: dict[str, Any], **static: Any) -> Network:
        state = {
            "version": version,
            "name": "Gs",
            "static_kwargs": EasyDict(static),
            "components": EasyDict(components),
            "build_module_src": SOURCE,
            "build_func_name": "G_main",
            "variables": list(variables.items()),
        }
        return Network(state)

    with their_modules():
        parts = {"mapping": network(mapping, {}), "synthesis": network(synthesis, {})}
        whole = network(own, parts, resolution=size, num_channels=3, **settings)
        path.write_bytes(pickle.dumps((whole, network({}, {}), whole), protocol=4))
    return path
