"""The phoneme recogniser of the package hama, read from its weight file: sound to hidden states and posteriors.

A small conformer (Gulati et al. 2020, arXiv 2005.08100) without positions: log-mel spectra, one convolution to 50 steps
a second, four blocks, and phones by a linear layer. Only the file is used, none of the package's code. Lips follow the
state after the second block better than anything before or after it: the posteriors are spikes.

The file ("HAMAPK"): two bytes of version, the number of tensors (u32 at byte 8), then for each its name (u16 length,
UTF-8), type (u8: 0 float32, 1 float16), rank (u8), sizes (u32), offset and bytes (u64). Data begin at the next multiple
of 16. All numbers are little-endian.
"""

import hashlib
import importlib.metadata
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emotalking.errors import InputError, MissingModelError

PACKAGE = "hama"
RELEASE = "1.7.0"
ASSET = "hama/assets/asr_waveform.hama"
SHA256 = "a9fcfe73e179ca48e399cd76a90a6b3e1887bf5037ecc52b778d13a149563328"
STRIDE = 320
"""Samples from one step to the next: 20 ms. Step s of a recording is at sample 320 s."""
WIDTH = 144
HEADS = 4
BLOCKS = 4
PHONES = 191
LIP_BLOCKS = 2
"""Blocks after which the state is the lips' feature."""
GRAIN = 25
"""Steps (0.5 s) of which lengths are multiples in `HamaNetwork.last_states`."""

_HOP = 160
_WINDOW = 400
_MELS = 80
_LEAST_POWER = 1e-10
_TYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2")}


def weight_file() -> Path:
    """The weight file of the installed package; the package itself is not imported.

    Raises:
        MissingModelError: the package is not installed, or without this file.
    """
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(ASSET)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise MissingModelError(
            "'hama' audio features need the network in the package hama: install it with "
            f"'pip install {PACKAGE}=={RELEASE}'."
        )
    return path


def parse_tensors(content: bytes) -> dict[str, Float[np.ndarray, "..."]]:
    """The tensors of a whole "HAMAPK" file as float32, by name."""
    (count,) = struct.unpack_from("<I", content, 8)
    entries = []
    place = 12
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, place)
        name = content[place + 2 : place + 2 + length].decode("utf-8")
        place += 2 + length
        kind, rank = struct.unpack_from("<BB", content, place)
        shape = struct.unpack_from(f"<{rank}I", content, place + 2)
        offset, size = struct.unpack_from("<QQ", content, place + 2 + 4 * rank)
        place += 18 + 4 * rank
        entries.append((name, _TYPES[kind], shape, offset, size))
    data = memoryview(content)[-(-place // 16) * 16 :]
    return {
        name: np.frombuffer(data[offset : offset + size], kind).reshape(shape).astype(np.float32)
        for name, kind, shape, offset, size in entries
    }


class _FeedForward(nn.Module):
    """LayerNorm, linear, SiLU, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.fc2(F.silu(self.fc1(self.norm(x))))


class _Attention(nn.Module):
    """Self-attention of four heads over the whole piece, without positions."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj = nn.Linear(WIDTH, 3 * WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, x: Float[Tensor, "B T C"], heard: Bool[Tensor, "B T"] | None, last: int
    ) -> Float[Tensor, "B t C"]:
        heads = self.in_proj(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = None if heard is None else heard[:, None, None]
        mixed = F.scaled_dot_product_attention(heads[0][:, :, -last:], heads[1], heads[2], seen)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Convolution(nn.Module):
    """LayerNorm, pointwise, GLU, depthwise over 31 steps (its batch norm folded in), SiLU, pointwise."""

    REACH = 15
    """Steps to either side."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.pointwise1 = nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, 31, padding=self.REACH, groups=WIDTH)
        self.pointwise2 = nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x: Float[Tensor, "B T C"], heard: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        gated = F.glu(self.pointwise1(self.norm(x).transpose(1, 2)), 1)
        if heard is not None:
            gated = gated * heard[:, None]
        return self.pointwise2(F.silu(self.depthwise(gated))).transpose(1, 2)


class _Block(nn.Module):
    """A conformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.ffn1 = _FeedForward()
        self.attn_norm = nn.LayerNorm(WIDTH)
        self.attn = _Attention()
        self.conv = _Convolution()
        self.ffn2 = _FeedForward()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(
        self, x: Float[Tensor, "B T C"], heard: Bool[Tensor, "B T"] | None = None, last: int | None = None
    ) -> Float[Tensor, "B t C"]:
        """All steps, or the ``last`` ones alone; only those ``heard`` bear on others."""
        count = x.shape[1]
        x = x + 0.5 * self.ffn1(x)
        near = count if last is None else min(count, last + self.conv.REACH)
        x = x[:, -near:] + self.attn(self.attn_norm(x), heard, near)
        x = x + self.conv(x, None if heard is None else heard[:, -near:])
        x = x[:, -(last or count) :]
        return self.norm(x + 0.5 * self.ffn2(x))


class HamaNetwork(nn.Module):
    """The recogniser, frozen."""

    mels: Float[Tensor, "201 80"]
    waves: Float[Tensor, "400 402"]

    def __init__(self) -> None:
        super().__init__()
        bins = _WINDOW // 2 + 1
        self.register_buffer("mels", torch.zeros(bins, _MELS))
        self.register_buffer("waves", torch.zeros(_WINDOW, 2 * bins))
        self.stem = nn.Conv1d(_MELS, WIDTH, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(_Block() for _ in range(BLOCKS))
        self.phones = nn.Conv1d(WIDTH, PHONES, 1)

    @torch.no_grad()
    def states(self, samples: Float[Tensor, "B n"], blocks: int = LIP_BLOCKS) -> Float[Tensor, "B T 144"]:
        """Hidden states after ``blocks`` of the four blocks of B sounds of one length, T = n // 320 + 1.

        Args:
            samples: mono at 16 kHz in [-1, 1], more than 200 of them.
        """
        x = self._stem(F.pad(samples[:, None], (_WINDOW // 2, _WINDOW // 2), mode="reflect")[:, 0], None)
        for block in list(self.blocks)[:blocks]:
            x = block(x)
        return x

    @torch.no_grad()
    def last_states(self, sounds: Sequence[Float[np.ndarray, " _"]], last: int) -> Float[Tensor, "B t 144"]:
        """The ``last`` hidden states of :meth:`states` of B sounds of any lengths; fewer where all are shorter.

        States before a sound's first are meaningless. Lengths are rounded up to multiples of `GRAIN`, since oneDNN
        keeps what it compiled for the last 1024 shapes: with every length, 70 MB.

        Args:
            sounds: whole steps of 320 samples, at least two.
        """
        longest = _rounded_up(max(len(sound) for sound in sounds), GRAIN * STRIDE)
        padded = np.zeros((len(sounds), longest + _WINDOW), np.float32)
        for row, sound in zip(padded, sounds, strict=True):
            begin, edge = longest - len(sound), _WINDOW // 2
            row[begin : begin + edge] = sound[edge:0:-1]  # np.pad's "reflect", whose calls take as long as the rest
            row[begin + edge : -edge] = sound
            row[-edge:] = sound[-2 : -edge - 2 : -1]
        device = self.mels.device
        heard = None
        if any(len(sound) < longest for sound in sounds):
            silent = torch.tensor([(longest - len(sound)) // _HOP for sound in sounds], device=device)
            heard = torch.arange(longest // _HOP + 1, device=device) >= silent[:, None]
        x = self._stem(torch.from_numpy(padded).to(device), heard)
        heard = None if heard is None else heard[:, ::2]
        first, second = list(self.blocks)[:LIP_BLOCKS]
        return second(first(x, heard), heard, _rounded_up(last, GRAIN))[:, -last:]

    def _stem(self, padded: Float[Tensor, "B n"], heard: Bool[Tensor, "B F"] | None) -> Float[Tensor, "B T 144"]:
        """Log-mel spectra of padded sounds, those not ``heard`` left out, and the convolution to 50 steps a second."""
        real, imaginary = (padded.unfold(-1, _WINDOW, _HOP) @ self.waves).chunk(2, dim=-1)
        power = (real.square() + imaginary.square()) @ self.mels
        spectra = power.clamp_min(_LEAST_POWER).log()
        if heard is not None:
            spectra = spectra * heard[..., None]
        return F.gelu(self.stem(spectra.transpose(1, 2))).transpose(1, 2)

    @torch.no_grad()
    def log_posteriors(self, samples: Float[Tensor, "B n"]) -> Float[Tensor, "B T 191"]:
        """Log-probabilities of the phones (CTC, the last one the blank), as the package's own engine returns them."""
        return self.phones(self.states(samples, BLOCKS).transpose(1, 2)).transpose(1, 2).log_softmax(-1)


def _rounded_up(count: int, grain: int) -> int:
    return -(-count // grain) * grain


def _state_dict(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The file's tensors under the names of :class:`HamaNetwork`; matrices of an exporter had only numbers."""
    model = "acoustic_model.model."
    state = {
        "mels": tensors["mel_fb"],
        "waves": np.concatenate([tensors["stft_real_kernel"], tensors["stft_imag_kernel"]])[:, 0].T,
        "stem.weight": tensors["onnx::Conv_801"],
        "stem.bias": tensors["onnx::Conv_802"],
        "phones.weight": tensors[f"{model}proj.weight"],
        "phones.bias": tensors[f"{model}proj.bias"],
    }
    products = ("ffn1.fc1", "ffn1.fc2", "attn.in_proj", "attn.out_proj", "ffn2.fc1", "ffn2.fc2")
    for block in range(BLOCKS):
        for name, number in zip(products, (0, 1, 2, 6, 7, 8), strict=True):
            state[f"blocks.{block}.{name}.weight"] = tensors[f"onnx::MatMul_{829 + 9 * block + number}"].T
        state[f"blocks.{block}.conv.depthwise.weight"] = tensors[f"onnx::Conv_{804 + 3 * block}"]
        state[f"blocks.{block}.conv.depthwise.bias"] = tensors[f"onnx::Conv_{805 + 3 * block}"]
    for name, value in tensors.items():
        if name.startswith(f"{model}blocks."):
            state[name.removeprefix(model).replace("in_proj_bias", "in_proj.bias")] = value
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}


def read_network(path: Path) -> HamaNetwork:
    """The network in the weight file ``path``, frozen, on the CPU.

    Raises:
        InputError: it cannot be read, or is not the published file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): install hama again.") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{path} is not the file of hama {RELEASE}: install it with 'pip install hama=={RELEASE}'.")
    with torch.random.fork_rng(devices=[]):  # creating a network must not advance the global random state
        network = HamaNetwork()
    network.load_state_dict(_state_dict(parse_tensors(content)), strict=True)
    return network.eval().requires_grad_(False)


@cache
def hama_network(device: str = "cpu") -> HamaNetwork:
    """The installed package's network on ``device``.

    Raises:
        MissingModelError: the package is missing.
        InputError: its file is another one.
    """
    return read_network(weight_file()).to(device)
