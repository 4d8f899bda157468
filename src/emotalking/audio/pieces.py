"""A recording in overlapping pieces, for what sees some time around each step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Piece:
    """A piece of the recording with its context."""

    samples: Float[np.ndarray, " n"]
    """float32, with the context on both sides."""
    before: int
    """Steps of context before the piece."""
    steps: int
    """Steps of the piece."""
    length: int
    """Samples of the piece itself."""


def overlapping(
    chunks: Iterable[Float[np.ndarray, " _"]], steps: int, context: int, hop: int, beyond: int = 1
) -> Iterator[Piece]:
    """Consecutive pieces of a recording; only the current one is in memory.

    Args:
        chunks: consecutive pieces of the recording, of any length; the result does not depend on them.
        steps: of each piece but the last, which has the rest; a step that was begun counts.
        context: steps on each side, where there are so many.
        hop: samples of a step.
        beyond: samples that must follow a piece and its context before it is yielded; else it is the last one.
    """
    parts: list[np.ndarray] = []
    length = before = 0
    for chunk in chunks:
        parts.append(chunk.astype(np.float32))
        length += len(chunk)
        while length >= (before + steps + context) * hop + beyond:
            buffered = np.concatenate(parts)
            yield Piece(buffered[: (before + steps + context) * hop], before, steps, steps * hop)
            dropped = max(0, before + steps - context)
            parts, before = [buffered[dropped * hop :]], before + steps - dropped
            length = len(parts[0])
    rest = -(-length // hop) - before
    if rest > 0:
        yield Piece(np.concatenate(parts), before, rest, length - before * hop)
