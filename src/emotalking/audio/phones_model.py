"""The acoustic model of pocketsphinx, read from its files: frames of cepstra to posteriors of phones.

CMU's US English model (BSD licence) is phonetically tied: every phone has one codebook of 128 Gaussians for each of
three streams (13 cepstra, their deltas, their delta-deltas), and its senones (states) weigh them differently. Only
the three context-independent states of a phone are used: the 5000 context-dependent ones cost forty times as much, and
encode English. The files are plain tables: ``means``, ``variances`` (Sphinx-3 format), ``sendump`` (weights in
a byte each), ``mdef`` (names and numbers of phones and states), ``feat.params``.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.errors import InputError, MissingPackageError

STREAMS = 3
SCALE = 0.4
"""Power of the likelihood; below 1, because neighbouring frames and the three streams are not independent."""
SILENT = ("SIL", "+NSN+", "+SPN+")
"""Silence, noise and mumbling of the model: not phones."""

_WEIGHT_BASE, _WEIGHT_SHIFT = 1.0001, 10
"""A byte w of ``sendump`` encodes the weight base^-(w 2^shift)."""
_LEAST_VARIANCE = 1e-4
_MAGIC = 0x11223344
_MDEF_NUMBERS = 10
"""32-bit numbers in the header of ``mdef``."""
_PARAMETERS = {
    "-lowerf": "130",
    "-upperf": "6800",
    "-nfilt": "25",
    "-transform": "dct",
    "-lifter": "22",
    "-feat": "1s_c_d_dd",
    "-svspec": "0-12/13-25/26-38",
    "-varnorm": "no",
    "-model": "ptm",
}


@dataclass(frozen=True)
class AcousticModel:
    """One codebook of Gaussians a phone and stream, and the senones over them."""

    phones: tuple[str, ...]
    """All base phones, with :data:`SILENT`."""
    quadratic: Float[np.ndarray, "streams 13 gaussians"]
    """Coefficients of log N(x) = x^2 quadratic + x linear + constant."""
    linear: Float[np.ndarray, "streams 13 gaussians"]
    constant: Float[np.ndarray, "streams gaussians"]
    weights: Float[np.ndarray, "streams phones density states"]
    """Mixture weights of the context-independent states of each phone."""

    def posteriors(self, features: Float[np.ndarray, "T 39"]) -> Float[np.ndarray, "T phones"]:
        """Probability of each phone in each frame, every phone being as likely as another beforehand.

        Args:
            features: cepstra with deltas (``audio.phones``).

        Returns:
            Rows that sum to 1, in the order of ``phones``: a phone's three states together.
        """
        count, states = len(self.phones), self.weights.shape[-1]
        score = np.zeros((len(features), count, states), np.float32)
        for stream in range(STREAMS):
            x = features[:, 13 * stream : 13 * stream + 13]
            density = (x * x) @ self.quadratic[stream] + x @ self.linear[stream] + self.constant[stream]
            density = density.reshape(len(x), count, -1)
            highest = density.max(-1, keepdims=True)
            mixed = np.einsum("tpd,pds->tps", np.exp(density - highest), self.weights[stream], optimize=True)
            score += np.log(np.maximum(mixed, 1e-30)) + highest
        # Powers of likelihoods are taken of the differences: the highest alone may not be a number.
        likely = np.exp(SCALE * (score - score.max((1, 2), keepdims=True))).sum(-1)
        return (likely / likely.sum(1, keepdims=True)).astype(np.float32)


@cache
def acoustic_model() -> AcousticModel:
    """The model inside the installed package pocketsphinx.

    Raises:
        InputError: the package is missing or its model is another than the one this was made for.
    """
    package = importlib.util.find_spec("pocketsphinx")
    if package is None or not package.submodule_search_locations:
        raise MissingPackageError(
            "'phones' audio features need the acoustic model in the package pocketsphinx: install it with "
            "'pip install emotalking[phones]', or use 'mel', which needs no package."
        )
    return read_model(Path(package.submodule_search_locations[0]) / "model" / "en-us" / "en-us")


def read_model(folder: Path) -> AcousticModel:
    """A phonetically tied model of three streams from its folder.

    Raises:
        InputError: a file is missing or is not of this kind.
    """
    try:
        _check_parameters((folder / "feat.params").read_text())
        phones, states, senones = _read_mdef((folder / "mdef").read_bytes())
        means = _read_gaussians((folder / "means").read_bytes())
        variances = np.maximum(_read_gaussians((folder / "variances").read_bytes()), _LEAST_VARIANCE)
        weights = _read_sendump((folder / "sendump").read_bytes(), senones)
        if means.shape != variances.shape or means.shape != (len(phones), STREAMS, weights.shape[1], 13):
            raise ValueError(f"codebooks of shape {means.shape} for {len(phones)} phones")
        # The senones of context-independent phones are the first, phone after phone.
        own = weights[..., : states * len(phones)].reshape(*weights.shape[:2], len(phones), states)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"{folder} holds no acoustic model that 'phones' audio features can use ({error}): install the published "
            "package pocketsphinx 5.1 again."
        ) from error
    constant = -0.5 * (np.log(2 * np.pi * variances) + means**2 / variances).sum(-1)
    return AcousticModel(
        phones,
        _by_stream(-0.5 / variances),
        _by_stream(means / variances),
        np.ascontiguousarray(constant.transpose(1, 0, 2).reshape(STREAMS, -1).astype(np.float32)),
        np.ascontiguousarray(own.transpose(0, 2, 1, 3)),
    )


def _by_stream(values: np.ndarray) -> np.ndarray:
    """[phones, streams, density, 13] to [streams, 13, phones*density]."""
    flat = values.transpose(1, 3, 0, 2).reshape(STREAMS, 13, -1)
    return np.ascontiguousarray(flat.astype(np.float32))


def _read_gaussians(content: bytes) -> np.ndarray:
    """[codebooks, streams, density, 13] of a Sphinx-3 parameter file."""
    place = content.index(b"endhdr\n") + len(b"endhdr\n")
    magic, codebooks, streams, density = np.frombuffer(content, "<u4", 4, place)
    if magic != _MAGIC:
        raise ValueError("numbers in another byte order")
    place += 16
    lengths = np.frombuffer(content, "<i4", int(streams), place)
    if set(lengths.tolist()) != {13}:
        raise ValueError(f"streams of {lengths.tolist()} numbers")
    place += 4 * int(streams) + 4
    count = int(codebooks) * int(streams) * int(density) * 13
    return np.frombuffer(content, "<f4", count, place).reshape(int(codebooks), int(streams), int(density), 13)


def _read_sendump(content: bytes, senones: int) -> np.ndarray:
    """Weights [streams, density, senones]."""
    place = 0
    while length := int(np.frombuffer(content, "<i4", 1, place)[0]):
        if not 0 < length < 1000:
            raise ValueError("a header that is no text")
        place += 4 + length
    density, columns = (int(n) for n in np.frombuffer(content, "<i4", 2, place + 4))
    if columns != senones:
        raise ValueError(f"weights of {columns} senones instead of {senones}")
    quantised = np.frombuffer(content, np.uint8, STREAMS * density * columns, place + 12)
    weights = np.exp(-quantised.astype(np.float32) * np.float32(2**_WEIGHT_SHIFT * np.log(_WEIGHT_BASE)))
    return weights.reshape(STREAMS, density, columns)


def _read_mdef(content: bytes) -> tuple[tuple[str, ...], int, int]:
    """Names of the base phones, states of each, and senones in all."""
    if content[:4] != b"BMDF":
        raise ValueError("mdef is not in the binary format")
    place = 12 + int(np.frombuffer(content, "<i4", 1, 8)[0])
    header = [int(number) for number in np.frombuffer(content, "<i4", _MDEF_NUMBERS, place)]
    base, _, states, own, senones = header[:5]
    if own != base * states:
        raise ValueError(f"{own} states of {base} phones")
    names = content[place + 4 * _MDEF_NUMBERS :].split(b"\0", base)[:base]
    return tuple(name.decode("ascii") for name in names), states, senones


def _check_parameters(text: str) -> None:
    """Refuse a model for other cepstra than ``audio.phones`` makes."""
    found = dict(line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    differ = [f"{key} {found.get(key)}" for key, value in _PARAMETERS.items() if found.get(key, "").strip() != value]
    if differ:
        raise ValueError(f"cepstra of another kind: {', '.join(differ)}")
