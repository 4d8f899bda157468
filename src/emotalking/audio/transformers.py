"""HuBERT and wav2vec 2.0 features, computed with `transformers` from a model folder that the user has.

The folder (``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``) is read by our own strict loader:
nothing is downloaded and no code of it runs. The networks see pieces of 20 s with 5 s of context on each side, so that
memory does not grow with the sound; adjacent pieces are blended over a second.
"""

import importlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.audio.tracks import StepFeatures
from emotalking.data.audio_features import AudioFeature
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows, blocks
from emotalking.networks.registry import WEIGHT_FILES, model_path
from emotalking.networks.weights import load_tensors, read_weights

STRIDE, RECEPTIVE = 320, 400
"""Samples from one step to the next, and under one step's convolutions."""
PIECE = 1000
"""Steps of a piece."""
CONTEXT = 250
"""Steps of context on each side of a piece."""
BLEND = 50
"""Steps over which two neighbouring pieces are blended."""
DEPTH = {"hubert": 1.0, "wav2vec2": 0.75}
"""Hidden layer as a share of all, 1 the last (after the final norm, where there is one), by entry of ``models.toml``.

HuBERT: the last hidden state, as the scripts of ER-NeRF and TalkingGaussian write it ([N, 2, 1024]). wav2vec 2.0: layer
18 of 24 of the large model: of a model tuned to letters the upper layers carry most about phones, the last ones about
spelling (Pasad, Chou & Livescu 2021, arXiv 2107.04734)."""


def track(chunks: Iterable[Float[np.ndarray, " n"]], feature: AudioFeature) -> StepFeatures:
    """Hidden states of one recording, which is given zero mean and unit variance first.

    Two steps of 20 ms a video frame, as [N, 2, C] files hold them. The sound of a piece and its context enters each of
    its steps, most of attention's weight near.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        feature: the row of these features.

    Raises:
        InputError: transformers or the model folder is missing, or the folder holds another model.
    """
    folder = model_path(feature.name)
    network = open_network(feature.name, folder)
    if network.width != feature.channels:
        raise InputError(
            f"the model in {folder} gives {network.width} numbers a step and '{feature.name}' "
            f"features have {feature.channels}: give the published folder."
        )
    sound = GrowingRows(1)
    total = 0.0
    squares = 0.0
    for chunk in chunks:
        sound.append(chunk[:, None])
        total += float(chunk.sum(dtype=np.float64))
        squares += float((chunk.astype(np.float64) ** 2).sum())
    count = len(sound)
    mean = total / max(count, 1)
    scale = 1.0 / np.sqrt(max(squares / max(count, 1) - mean**2, 0.0) + 1e-7)
    values = GrowingRows(feature.channels)
    if squares / max(count, 1) < 1e-9:  # only the rounding of silence, which would be amplified to speech
        for pick in blocks(count // STRIDE):
            values.append(np.zeros((pick.stop - pick.start, feature.channels), np.float32))
    else:
        for piece in hidden_states(network, sound, mean, float(scale), DEPTH[feature.name]):
            values.append(piece)
    return StepFeatures(values, feature.rate_hz, feature.steps, count / SAMPLE_RATE, lead=1)


class SpeechNetwork(nn.Module):
    """A frozen transformer of the HuBERT / wav2vec 2.0 family."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.width = width

    @torch.no_grad()
    def forward(self, samples: Float[Tensor, " n"], depth: float) -> Float[Tensor, "steps width"]:
        """Hidden states of the layer at ``depth`` of normalised samples."""
        if depth >= 1.0:
            return self.inner(samples[None]).last_hidden_state[0]
        layers = self.inner(samples[None], output_hidden_states=True).hidden_states
        return layers[round(depth * (len(layers) - 1))][0]


def hidden_states(
    network: SpeechNetwork, sound: GrowingRows, mean: float, scale: float, depth: float
) -> Iterator[Float[np.ndarray, "n width"]]:
    """All steps of ``sound`` [samples, 1] in order, computed in pieces that overlap."""
    steps = -(-len(sound) // STRIDE)
    device = next(network.parameters()).device
    ramp = ((np.arange(2 * BLEND) + 0.5) / (2 * BLEND)).astype(np.float32)[:, None]
    tail: np.ndarray | None = None
    for begin in range(0, steps, PIECE):
        end = min(begin + PIECE, steps)
        first, last = max(0, begin - CONTEXT - BLEND), min(steps, end + CONTEXT + BLEND)
        piece = (sound[first * STRIDE : (last - 1) * STRIDE + RECEPTIVE][:, 0] - mean) * np.float32(scale)
        missing = (last - first - 1) * STRIDE + RECEPTIVE - len(piece)
        padded = np.pad(piece, (0, max(0, missing)))  # zero is silence now
        states = network(torch.from_numpy(padded).to(device), depth).float().cpu().numpy()
        # The steps around a seam are in both pieces: the old one fades out as the new one fades in.
        head = max(0, begin - BLEND)
        if tail is not None:
            both = states[head - first : head - first + len(tail)]
            yield tail * (1 - ramp[: len(tail)]) + both * ramp[: len(tail)]
            head += len(tail)
        stop = steps if end == steps else max(head, end - BLEND)
        yield states[head - first : stop - first]
        tail = None if end == steps else states[stop - first : min(end + BLEND, steps) - first]


@cache
def open_network(kind: str, folder: Path) -> SpeechNetwork:
    """The network in ``folder``, frozen, on the GPU if there is one.

    Raises:
        InputError: transformers is not installed, or the folder holds no model of ``kind`` ("hubert", "wav2vec2").
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read ({error}): give the published folder.") from error
    if not isinstance(config, dict) or config.get("model_type") != kind:
        raise InputError(f"{folder} is no {kind} model (config.json: model_type): give the published folder.")
    if config.get("feat_extract_norm") != "layer":
        raise InputError(
            f"{folder} normalises its first layer over the whole recording (feat_extract_norm: group), which cannot be "
            "computed in pieces: give one of the 'large' models."
        )
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds neither {WEIGHT_FILES[0]} nor {WEIGHT_FILES[1]}: give the published folder.")
    inner = _empty(kind, config)
    found = {
        _renamed(name.removeprefix(f"{kind}.")): tensor
        for name, tensor in read_weights(path).items()
        if not name.startswith(("lm_head.", "project_", "quantizer."))
    }
    found.setdefault("masked_spec_embed", torch.zeros(int(config["hidden_size"])))  # only training hides steps
    network = SpeechNetwork(load_tensors(inner, found, path), int(config["hidden_size"]))
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def _renamed(name: str) -> str:
    """Old files have the two parts of a normalised weight under their old names."""
    return name.replace("conv.weight_g", "conv.parametrizations.weight.original0").replace(
        "conv.weight_v", "conv.parametrizations.weight.original1"
    )


def _empty(kind: str, config: dict[str, Any]) -> nn.Module:
    """The untrained network of ``transformers``."""
    try:
        package = importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"'{kind}' audio features need the package transformers: install it with 'pip install emotalking[hubert]'."
        ) from error
    family = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[kind]
    # Creating a network must not advance the global random state.
    with torch.random.fork_rng(devices=[]):
        return getattr(package, f"{family}Model")(getattr(package, f"{family}Config").from_dict(config))
