"""Frames of an avatar as CUDA graphs: one launch for all frames that are due, whoever watches them.

The host sends one small vector of conditions and addresses, launches the graph, and waits for nothing but the copy of
the finished images, if it wants them. Nothing in a graph has a capacity: tiles walk all Gaussians (ops/cuda/splat.cu).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.avatar import Avatar
from emotalking.models.compositor import Conditions
from emotalking.ops.cuda.capture import capture
from emotalking.ops.cuda.compose import Finish, addresses, compose
from emotalking.ops.cuda.motion import move
from emotalking.ops.cuda.splat import splat
from emotalking.ops.devices import on_side_stream
from emotalking.ops.motion import MOTION
from emotalking.ops.splat import SPLAT
from emotalking.provenance.mark import Mark

_logger = logging.getLogger(__name__)

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Frames of one graph; what is between runs in the next larger one, more than the last in several."""
_SLOTS = 4
"""Inputs that may be on their way."""
_ROW = {"viewmats": (4, 4), "aus": (6,), "va": (2,), "speech": (), "gaze": (2,)}
"""Shapes of a frame's conditions, besides its audio window."""


@dataclass(frozen=True)
class Kind:
    """What the frames of one graph have in common."""

    frames: int
    window: tuple[int, ...]
    """Shape of an audio window."""
    emotional: bool
    gated: bool
    """With the size of the lips' motion as a condition."""
    gazing: bool
    """With the direction of the eyes as a condition."""
    articulated: bool
    """Lips move by arousal."""
    finish: Finish
    mark: Mark | None


class Inputs:
    """Conditions and addresses of the frames of a graph: one vector on the device, sent as one."""

    def __init__(self, kind: Kind, device: torch.device) -> None:
        self._device = device
        self._frames = kind.frames
        rows = {**_ROW, "audio": kind.window}
        for name, given in (("va", kind.emotional), ("speech", kind.gated), ("gaze", kind.gazing)):
            if not given:
                del rows[name]
        sizes = [torch.Size((kind.frames, *row)) for row in rows.values()]
        pointers, swings = 4 * kind.frames, kind.frames  # two addresses of eight bytes a frame
        head = pointers + swings
        total = head + sum(size.numel() for size in sizes)
        self._vector = torch.zeros(total, device=device)
        self._slots = [torch.zeros(total, pin_memory=device.type == "cuda") for _ in range(_SLOTS)]
        self._sent = [torch.cuda.Event() for _ in range(_SLOTS)] if device.type == "cuda" else []
        self._turn = 0
        self._pointers, self._head = pointers, head

        def parts(vector: Tensor) -> dict[str, Tensor]:
            split = vector[head:].split([size.numel() for size in sizes])
            return {name: part.view(size) for name, part, size in zip(rows, split, sizes, strict=True)}

        self._host = [parts(slot) for slot in self._slots]
        self._there = parts(self._vector)
        self.torsos, self.plates = self._vector[:pointers].view(torch.int64).split(kind.frames)
        self.swings = self._vector[pointers:head]
        self.conditions = Conditions(**self._there)

    def send(
        self,
        conditions: Conditions,
        torsos: Sequence[Tensor],
        plates: Sequence[Tensor] | None,
        swings: Float[Tensor, " B"],
    ) -> None:
        """Put the inputs of at most as many frames as there is room for where the graph reads them."""
        slot, self._turn = self._turn, (self._turn + 1) % _SLOTS
        if self._sent:
            self._sent[slot].synchronize()
        places = torch.zeros(2, self._frames, dtype=torch.int64)
        for row, images in zip(places, (torsos, plates), strict=True):
            if images is not None:  # frames that nobody wants look at the first one's
                row[:] = addresses([*images, *[images[0]] * (self._frames - len(images))])
        host, count = self._slots[slot], len(torsos)
        host[: self._pointers].view(torch.int64).copy_(places.flatten())
        host[self._pointers : self._pointers + count].copy_(swings)
        on_host = conditions.viewmats.device.type == "cpu"
        for name, part in (self._host[slot] if on_host else self._there).items():
            part[:count].copy_(getattr(conditions, name), non_blocking=True)
        end = len(host) if on_host else self._head
        self._vector[:end].copy_(host[:end], non_blocking=True)
        if self._sent:
            self._sent[slot].record(torch.cuda.current_stream(self._device))


@dataclass(frozen=True)
class Captured:
    """The frames of one kind as a graph."""

    inputs: Inputs
    out: UInt8[Tensor, "B H W channels"]
    launch: Callable[[], None]
    waves: Tensor | None
    """The mark's pattern, which the graph reads."""


class FrameGraphs:
    """Render and finish frames of one avatar by graphs, each captured when the first frames of its kind are wanted.

    Where one cannot be captured, one line of the log says so, and from then on nothing is.

    Args:
        avatar: on a GPU, one that :func:`suits`.
    """

    def __init__(self, avatar: Avatar) -> None:
        self._fixed, self._K, self._size = avatar.fixed, avatar.K, (avatar.width, avatar.height)
        self._device, self._usual_gaze = avatar.device, avatar.usual_gaze
        self._known: dict[Kind, Captured] = {}
        self._lock = Lock()
        self._pool = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None
        self.works = True
        """False from the first failure on."""

    def shows(self, avatar: Avatar) -> bool:
        """True if it is the avatar's head, where that is now, that they show."""
        return avatar.fixed is self._fixed

    @torch.no_grad()
    def frames(
        self,
        conditions: Conditions,
        torsos: Sequence[UInt8[Tensor, "H W 4"]],
        plates: Sequence[Float[Tensor, "H W 3"]] | None,
        *,
        matte: bool = False,
        mark: Mark | None = None,
        swings: Float[Tensor, " B"] | None = None,
        articulated: bool = False,
    ) -> UInt8[Tensor, "B H W channels"] | None:
        """Finished frames, as :func:`emotalking.player.finish.finished_frames`; None: they cannot be captured.

        Args:
            conditions: on the host or the avatar's device; without a gaze, the eyes look where the clip's usually do.
            torsos: on the avatar's device, as ``plates``.
            swings: factors of the mark, on the host; None: 1.
            articulated: as ``Avatar.articulates``.
        """
        finish: Finish = "matte" if matte else "plate"
        if plates is None:
            finish = "transparent"
        swings = torch.ones(len(torsos)) if swings is None else swings
        if conditions.gaze is None and self._usual_gaze is not None:
            usual = self._usual_gaze.to(conditions.viewmats.device).expand(len(torsos), 2)
            conditions = replace(conditions, gaze=usual)
        made = []
        for start in range(0, len(torsos), BUCKETS[-1]):
            part = slice(start, min(start + BUCKETS[-1], len(torsos)))
            count = part.stop - start
            kind = Kind(
                frames=next(size for size in BUCKETS if size >= count),
                window=tuple(conditions.audio.shape[1:]),
                emotional=conditions.va is not None,
                gated=conditions.speech is not None,
                gazing=conditions.gaze is not None,
                articulated=articulated and conditions.va is not None,
                finish=finish,
                mark=mark,
            )
            behind = None if plates is None else plates[part]
            some = conditions.each(lambda value, part=part: value[part])
            with self._lock:
                captured = self._captured(kind, some, torsos[part], behind, swings[part])
                if captured is None:
                    return None
                captured.launch()
                made.append(captured.out[:count].clone())
        return made[0] if len(made) == 1 else torch.cat(made)

    def _captured(
        self,
        kind: Kind,
        conditions: Conditions,
        torsos: Sequence[Tensor],
        plates: Sequence[Tensor] | None,
        swings: Float[Tensor, " B"],
    ) -> Captured | None:
        """The graph of a kind, with its inputs sent."""
        found = self._known.get(kind)
        if found is not None:
            found.inputs.send(conditions, torsos, plates, swings)
            return found
        inputs, (width, height) = Inputs(kind, self._device), self._size
        channels = 3 if kind.finish == "plate" else 4
        out = torch.empty(kind.frames, height, width, channels, dtype=torch.uint8, device=self._device)
        waves = None if kind.mark is None else kind.mark.waves(height, width, self._device)

        def run() -> None:
            self._render(kind, inputs, out)

        try:
            inputs.send(conditions, torsos, plates, swings)
            run()  # loads every kernel
            launch = capture(run, self._device, self._pool)
        except RuntimeError as error:
            self.works = False
            _logger.warning("frames are rendered without CUDA graphs: %s", str(error).splitlines()[0])
            return None
        found = self._known[kind] = Captured(inputs, out, launch, waves)
        return found

    def _render(self, kind: Kind, inputs: Inputs, out: UInt8[Tensor, "B H W channels"]) -> None:
        """Everything that a graph does."""
        conditions = inputs.conditions
        if kind.articulated:
            conditions = conditions.articulated()
        fixed, given = self._fixed, conditions
        camera = given.viewmats, self._K, *self._size

        def inside() -> Tensor:
            moved = move(fixed.mouth_branch, *fixed.mouth_codes(given.audio, given.speech))
            return splat(*moved, fixed.mouth_look, *camera)

        mouth = on_side_stream(inside, self._device)
        codes = fixed.face_codes(given.audio, given.aus, given.va, given.speech, given.gaze)
        moved = move(fixed.face_branch, *codes)
        face = splat(*moved, fixed.face_look_with(given.va), *camera)
        compose(face, mouth(), inputs.torsos, inputs.plates, kind.finish, out)
        if kind.mark is not None:
            out.copy_(kind.mark(out, inputs.swings))


def suits(avatar: Avatar) -> bool:
    """True if the kernels of :class:`FrameGraphs` take this avatar, and nothing else was asked for."""
    face, mouth = avatar.head.face.gaussians, avatar.head.mouth.gaussians
    branches = avatar.fixed.face_branch, avatar.fixed.mouth_branch
    drawn = SPLAT.choose("auto", face.means, side=max(avatar.width, avatar.height))
    moves = MOTION.choose("auto", face.means, width=max(branch.width for branch in branches))
    return drawn.name == moves.name == "cuda" and min(face.count, mouth.count) > 0
