"""What of an avatar stays on its device from frame to frame: decoded torso layers, and the graphs that render it."""

import weakref
from collections import OrderedDict
from threading import Lock

import torch
from jaxtyping import UInt8
from torch import Tensor

from emotalking.models.avatar import Avatar
from emotalking.player.graphs import FrameGraphs, suits
from emotalking.player.protocols import PlayableAvatar

_SHARE = 0.25
"""Share of a GPU's free memory that decoded torso layers of an avatar may take."""


class Torsos:
    """Torso layers of an avatar as tensors on its device; a GPU keeps those that were used last. For any thread."""

    def __init__(self, avatar: PlayableAvatar) -> None:
        self._avatar = weakref.ref(avatar)
        self.device = avatar.device
        self._most = 0
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            self._most = int(_SHARE * free) // (4 * avatar.width * avatar.height)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = Lock()

    def __call__(self, index: int) -> UInt8[Tensor, "H W 4"]:
        """The straight-alpha layer of recorded pose ``index``; decoded where it is not kept."""
        with self._lock:
            if (known := self._kept.get(index)) is not None:
                self._kept.move_to_end(index)
                return known
        avatar = self._avatar()
        assert avatar is not None
        layer = torch.from_numpy(avatar.torso(index)).to(self.device).contiguous()
        with self._lock:
            if self._most:
                self._kept[index] = layer
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return layer


_torsos: dict[int, Torsos] = {}
_graphs: dict[int, FrameGraphs] = {}
_lock = Lock()


def torsos_of(avatar: PlayableAvatar) -> Torsos:
    """The torso layers of an avatar, shared by all that play it."""
    with _lock:
        known = _torsos.get(id(avatar))
        if known is None or known.device != avatar.device:
            known = _torsos[id(avatar)] = Torsos(avatar)
            weakref.finalize(avatar, _torsos.pop, id(avatar), None)
        return known


def graphs_of(avatar: PlayableAvatar) -> FrameGraphs | None:
    """The graphs that render an avatar, shared by all that play it; None: it is rendered without them."""
    if not isinstance(avatar, Avatar) or avatar.device.type != "cuda" or not suits(avatar):
        return None
    with _lock:
        known = _graphs.get(id(avatar))
        if known is None or not known.shows(avatar):
            known = _graphs[id(avatar)] = FrameGraphs(avatar)
            weakref.finalize(avatar, _graphs.pop, id(avatar), None)
    return known if known.works else None
