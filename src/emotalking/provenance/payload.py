"""What the invisible mark says: 64 bits with a check, protected by a convolutional code.

The decoder looks for the most probable of all code words of a tool, 2^32 of them; the check takes part in that as
further redundancy.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

TOOL = 1
"""Tool id of this program."""
TOOLS = {TOOL: "EmoTalking"}
"""Names of the tool ids that are given out."""
BITS, CHECK_BITS = 64, 24
"""Tool id (8), avatar id (32), check (24)."""
TOOL_BITS, AVATAR_BITS = 8, 32
CODED_BITS = 256
"""Bits of a code word."""

_POLYNOMIAL, _START = 0x864CFB, 0xB704CE
"""CRC-24 of RFC 4880, section 6.1; it begins with ones, so that the word of zeros is not valid."""
_MEMORY = 8
_BASES, _NEXT = 4, 4096
"""Choices of reliable bits, and words beside the best one, most of them the same, that are compared with it."""
_MARGIN = 6.0
"""Logarithm of how improbable the word of a known tool is in noise, if no other is looked for."""
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


@dataclass(frozen=True)
class Reading:
    """The most probable payload of soft bits."""

    payload: Payload
    score: float
    """Correlation of the soft bits with its code word."""
    doubt: float
    """Probability that another payload was meant, if any was."""
    choices: float
    """Payloads among which it is the most probable one."""


def decode(soft: Float[np.ndarray, "256"], variance: float, *, thorough: bool = True) -> Reading:
    """The payload whose code word is the most probable one; at first of known tools, whose bits need not be read.

    Args:
        soft: evidence for each bit of the code word: negative for 1, positive for 0, in proportion to its log odds.
        variance: of its sum with random signs, where there is no mark.
        thorough: look for payloads of unknown tools also where none of a known tool is plausible.
    """
    known = max((_nearest(soft, variance, tool) for tool in TOOLS), key=lambda one: one.score)
    plausible = _plausible(known, variance)
    if not (plausible or thorough):
        return known
    other = _nearest(soft, variance, None)
    if plausible:  # tools that are known are so many times as probable
        odds = (other.score - known.score) * other.score / variance - np.log(other.choices / known.choices)
        return other if odds > 0 else known
    return other if _plausible(other, variance) else known


def _plausible(reading: Reading, variance: float) -> bool:
    """True if noise alone would not do as well."""
    return bool(reading.score**2 / (2 * variance) > np.log(reading.choices) + _MARGIN)


def bit_errors(soft: Float[np.ndarray, "256"], payload: Payload) -> float:
    """Share of the code word's bits, each decided by its own evidence, that differ from those of ``payload``."""
    wrong: Bool[np.ndarray, "256"] = (soft < 0) != payload.code_word().astype(bool)
    return float(wrong.mean())


def _nearest(soft: np.ndarray, variance: float, tool: int | None) -> Reading:
    """The most probable payload of a tool, or of any, by ordered statistics: the most reliable bits that determine a
    payload are decided by their signs, and words that differ in up to four of them are tried; and again for other
    choices of bits of similar reliability, if the best of the first can hardly be noise.

    Source: Fossorier & Lin, Soft-decision decoding of linear block codes based on ordered statistics (1995).
    """
    origin, rows = _code(tool)
    evidence = soft * (1.0 - 2.0 * origin)
    reliability = np.abs(evidence)
    jitter = np.random.default_rng(0).normal(
        0.0, 0.5 * float(np.sqrt(np.square(evidence).mean())), (_BASES, CODED_BITS)
    )
    best = -np.inf
    word = origin
    others = []
    for turn in range(_BASES):
        order = np.argsort(-reliability if turn == 0 else -(reliability + jitter[turn]), kind="stable")
        score, found, near = _around(evidence[order], rows[:, order])
        others.append(near)
        if score > best:
            best, word = score, origin.copy()
            word[order] ^= found
        if best**2 / (2 * variance) < len(rows) * np.log(2):
            break
    rounding = 1e-5 * float(reliability.sum())
    rest = np.unique(np.rint(np.concatenate(others) / rounding)) * rounding  # most words come many times
    rest = rest[rest < best - rounding]
    odds = float(np.exp(np.minimum((rest - best) * best / variance, 0.0)).sum())
    return Reading(_payload(word), float(best), min(odds, 1.0), 2.0 ** len(rows))


def _around(evidence: np.ndarray, rows: UInt8[np.ndarray, "K 256"]) -> tuple[float, np.ndarray, np.ndarray]:
    """The best word near the decisions of the first independent bits: score and word; and scores of the next best.

    Args:
        evidence: of bits in the order of their reliability.
        rows: a basis of the code, in the same order.
    """
    rows, places = _systematic(rows)
    base = (evidence[places] < 0).astype(np.uint8) @ rows % 2
    signs = (1.0 - 2.0 * rows).astype(np.float32)
    first, second = np.triu_indices(len(rows), 1)
    # Words that differ in none, one or two bits; those of two such differences, in up to four.
    few = np.concatenate([np.ones_like(signs[:1]), signs, signs[first] * signs[second]])
    scores = ((few * (evidence * (1.0 - 2.0 * base)).astype(np.float32)) @ few.T).ravel()
    one, two = divmod(int(scores.argmax()), len(few))
    near = np.partition(scores, -_NEXT)[-_NEXT:]
    return float(scores.max()), base ^ (few[one] * few[two] < 0).astype(np.uint8), near


def _systematic(rows: UInt8[np.ndarray, "K N"]) -> tuple[UInt8[np.ndarray, "K N"], list[int]]:
    """A basis of the same code in which each of the first independent places belongs to one row; and these places."""
    rows, places = rows.copy(), []
    for place in range(rows.shape[1]):
        done = len(places)
        with_one = np.flatnonzero(rows[done:, place])
        if not len(with_one):
            continue
        rows[[done, done + with_one[0]]] = rows[[done + with_one[0], done]]
        other = rows[:, place].astype(bool)
        other[done] = False
        rows[other] ^= rows[done]
        places.append(place)
        if len(places) == len(rows):
            break
    return rows, places


@cache
def _code(tool: int | None) -> tuple[UInt8[np.ndarray, "256"], UInt8[np.ndarray, "K 256"]]:
    """Code words of a tool, or of all, as one of them and a basis of their differences."""
    origin = Payload(0, tool or 0).code_word()
    content = [Payload(1 << place, tool or 0) for place in range(AVATAR_BITS)]
    if tool is None:
        content += [Payload(0, 1 << place) for place in range(TOOL_BITS)]
    return origin, np.stack([one.code_word() ^ origin for one in content])


def _payload(word: UInt8[np.ndarray, "256"]) -> Payload:
    """The payload of a code word."""
    zero, basis = _code(None)
    rows, places = _systematic(np.concatenate([basis, np.eye(len(basis), dtype=np.uint8)], 1))
    used = (word ^ zero)[places]
    content = used @ rows[:, CODED_BITS:] % 2
    number = sum(int(bit) << place for place, bit in enumerate(content))
    return Payload(number & 0xFFFFFFFF, number >> AVATAR_BITS)


def _check(content: int) -> int:
    """CRC-24 of 40 bits."""
    remainder = _START
    for bit in _bits(content, BITS - CHECK_BITS):
        out = remainder >> 23 ^ int(bit)
        remainder = remainder << 1 & 0xFFFFFF ^ (_POLYNOMIAL if out else 0)
    return remainder


def _bits(number: int, count: int) -> UInt8[np.ndarray, " n"]:
    """The lowest ``count`` bits, the highest first."""
    return np.array([number >> place & 1 for place in range(count - 1, -1, -1)], np.uint8)
