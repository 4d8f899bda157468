"""Torso layers of live heads, decoded while other work is done."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from emotalking.player.on_device import torsos_of
from emotalking.player.protocols import PlayableAvatar

_DECODERS = 4
_pool = ThreadPoolExecutor(_DECODERS, "torso")
"""Threads that decode torso layers for all players of the process."""

Layer = Future[UInt8[Tensor, "H W 4"]]


class TorsoLayers:
    """Those of one head: the layer that is shown now and those that come next.

    Args:
        avatar: whose layers.
    """

    def __init__(self, avatar: PlayableAvatar) -> None:
        self._layer = torsos_of(avatar)
        self._known: dict[int, Layer] = {}

    def decode(self, coming: Sequence[int]) -> Layer:
        """Begin to decode the layers of recorded frames, where that was not begun; the first one's."""
        known = self._known
        self._known = {index: known.get(index) or _pool.submit(self._layer, index) for index in dict.fromkeys(coming)}
        return self._known[coming[0]]


@dataclass(frozen=True)
class Torso:
    """The torso layer of a frame. Nothing is decoded before it is asked for: a frame may be dropped."""

    layers: TorsoLayers
    coming: Sequence[int]
    """Recorded frame of this frame, and of those after it if nothing changes."""

    def decode(self) -> Layer:
        """Begin to decode it, and those after it."""
        return self.layers.decode(self.coming)
