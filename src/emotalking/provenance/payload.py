"""What the invisible mark says: 64 bits with a check, protected by a convolutional code that is decoded softly."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

TOOL = 1
"""Tool id of this program."""
TOOLS = {TOOL: "EmoTalking"}
"""Names of the tool ids that are given out."""
BITS, CHECK_BITS = 64, 24
"""Tool id (8), avatar id (32), check (24)."""
TOOL_BITS = 8
CODED_BITS = 256
"""Bits of a code word."""

_POLYNOMIAL, _START = 0x864CFB, 0xB704CE
"""CRC-24 of RFC 4880, section 6.1; it begins with ones, so that the word of zeros is not valid."""
_MEMORY = 8
_STATES = 1 << _MEMORY
_KEPT, _TRIED = 32, 256
"""Paths into a state, and messages whose check is tried at most."""
_TAPS = (0o463, 0o535, 0o733, 0o745)
"""Rate 1/4, constraint length 9 (Lin & Costello, Error Control Coding, table 12.1); the word's end is its beginning
(tail-biting), so that no bit is spent on the encoder's state."""


@dataclass(frozen=True)
class Payload:
    """Content of a mark."""

    avatar: int = 0
    """First 32 bits of the SHA-256 of the avatar's file; 0: none (such as edited recordings)."""
    tool: int = TOOL
    """Program that made the images, 0 to 255."""

    def __post_init__(self) -> None:
        if not 0 <= self.avatar < 1 << 32:
            raise ValueError(f"avatar: expected 32 bits, got {self.avatar}")
        if not 0 <= self.tool < 1 << 8:
            raise ValueError(f"tool: expected 8 bits, got {self.tool}")

    @classmethod
    def of_avatar(cls, sha256: str | None) -> "Payload":
        """The payload of an avatar's frames, by the SHA-256 (hexadecimal) of its file; None: it has no file."""
        return cls(0 if sha256 is None else int(sha256[:8], 16))

    @property
    def tool_name(self) -> str | None:
        """Name of the tool; None: its id is not given out."""
        return TOOLS.get(self.tool)

    @property
    def avatar_id(self) -> str | None:
        """The avatar's id as 8 hexadecimal digits, with which the SHA-256 of its file begins."""
        return f"{self.avatar:08x}" if self.avatar else None

    def code_word(self) -> UInt8[np.ndarray, "256"]:
        """The 256 bits that are embedded."""
        content = self.tool << 32 | self.avatar
        return encode(_bits(content << CHECK_BITS | _check(content), BITS))


def encode(message: UInt8[np.ndarray, "64"]) -> UInt8[np.ndarray, "256"]:
    """The code word of a message: bits 4 i to 4 i + 3 depend on message bits i - 8 to i, counted around the end."""
    history = np.stack([np.roll(message, age) for age in range(_MEMORY + 1)])  # [9, 64], newest first
    taps = np.array([_bits(tap, _MEMORY + 1) for tap in _TAPS])
    return (taps @ history % 2).astype(np.uint8).T.reshape(-1)


def decode(soft: Float[np.ndarray, "256"]) -> tuple[Payload | None, int]:
    """The payload of the most probable code word whose check holds; at first of those of known tools, whose bits need
    not be read.

    Args:
        soft: evidence for each bit of the code word: negative for 1, positive for 0, in proportion to its log odds.

    Returns:
        The payload, or None; and the number of messages whose check was tried. Each of them passes by accident with
        a probability of 2^-24.
    """
    matrix, remainder = _checks()
    tried = 0
    for tool in (*TOOLS, None):
        messages = _likely(soft, tool)
        content, check = messages[:, : BITS - CHECK_BITS], messages[:, BITS - CHECK_BITS :]
        passed = np.flatnonzero(((content @ matrix + remainder) % 2 == check).all(1))
        if len(passed):
            word = int("".join(map(str, content[passed[0]])), 2)
            return Payload(word & 0xFFFFFFFF, word >> 32), tried + int(passed[0]) + 1
        tried += len(messages)
    return None, tried


def bit_errors(soft: Float[np.ndarray, "256"], payload: Payload) -> float:
    """Share of the code word's bits, each decided by its own evidence, that differ from those of ``payload``."""
    wrong: Bool[np.ndarray, "256"] = (soft < 0) != payload.code_word().astype(bool)
    return float(wrong.mean())


def _likely(soft: np.ndarray, tool: int | None) -> Int[np.ndarray, "M 64"]:
    """At most :data:`_TRIED` messages in the order of their likelihood: Viterbi's algorithm around the word for the
    state in which it begins, then once more with the :data:`_KEPT` best paths into each state (list decoding).
    They begin with the bits of ``tool``, if it is given."""
    outputs, before = _trellis()
    gains = outputs @ soft.reshape(BITS, len(_TAPS)).T  # [512, 64]: of transitions, per step
    if tool is not None:
        newest = np.arange(2 * _STATES)[:, None] >> 1 & 1
        wrong = newest != _bits(tool, TOOL_BITS)
        gains[:, :TOOL_BITS][wrong] = -2 * np.abs(soft).sum()
    begin = np.zeros(_STATES)
    for step in range(BITS):
        begin = (begin[before] + gains[:, step].reshape(_STATES, 2)).max(1)
    score = np.full((_STATES, _KEPT), -np.inf)
    score[:, 0] = begin
    choices = np.empty((BITS, _STATES, _KEPT), np.uint8)
    for step in range(BITS):
        both = (score[before] + gains[:, step].reshape(_STATES, 2, 1)).reshape(_STATES, 2 * _KEPT)
        kept = np.argpartition(-both, _KEPT, axis=1)[:, :_KEPT]
        choices[step], score = kept, np.take_along_axis(both, kept, 1)
    last, rank = (place.ravel() for place in np.indices(score.shape))
    state, path = last, np.empty((BITS, len(last)), np.uint8)
    for step in range(BITS - 1, -1, -1):
        path[step] = state & 1
        choice, rank = np.divmod(choices[step, state, rank].astype(np.int64), _KEPT)
        state = before[state, choice]
    # The word's end is its beginning.
    closed = np.flatnonzero(state == last)
    order = closed[np.argsort(begin[last[closed]] - score.ravel()[closed], kind="stable")][:_TRIED]
    return path[:, order].T.astype(np.int64)


@cache
def _trellis() -> tuple[Float[np.ndarray, "512 4"], Int[np.ndarray, "256 2"]]:
    """Signs of the output of each transition (2 * state + choice), and the two states before each state.

    A state holds the last 8 message bits, the newest lowest.
    """
    states = np.arange(_STATES)
    before = np.stack([states >> 1, states >> 1 | _STATES >> 1], 1)
    history = (before << 1 | (states & 1)[:, None]).reshape(-1)  # 9 bits, the newest lowest
    bits = history[:, None] >> np.arange(_MEMORY + 1) & 1  # newest first
    taps = np.array([_bits(tap, _MEMORY + 1) for tap in _TAPS])
    return 1.0 - 2.0 * (bits @ taps.T % 2), before


def _check(content: int) -> int:
    """CRC-24 of 40 bits."""
    remainder = _START
    for bit in _bits(content, BITS - CHECK_BITS):
        out = remainder >> 23 ^ int(bit)
        remainder = remainder << 1 & 0xFFFFFF ^ (_POLYNOMIAL if out else 0)
    return remainder


@cache
def _checks() -> tuple[UInt8[np.ndarray, "40 24"], UInt8[np.ndarray, "24"]]:
    """The check as an affine function of the content's bits, modulo 2: matrix and remainder of zeros."""
    zero = _check(0)
    places = range(BITS - CHECK_BITS - 1, -1, -1)
    return np.stack([_bits(_check(1 << place) ^ zero, CHECK_BITS) for place in places]), _bits(zero, CHECK_BITS)


def _bits(number: int, count: int) -> UInt8[np.ndarray, " n"]:
    """The lowest ``count`` bits, the highest first."""
    return np.array([number >> place & 1 for place in range(count - 1, -1, -1)], np.uint8)
