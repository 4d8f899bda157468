"""Frames and targets of training steps: curricula (docs/paper.md 8) and frames with a commanded emotion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int32, Int64, UInt8
from torch import Tensor

from emotalking.data.frame import emotion_share
from emotalking.data.labels import Label
from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.ops.box import Box
from emotalking.train.config import FaceStageConfig
from emotalking.train.data import TrainingData, class_mask
from emotalking.train.sampler import FrameSampler, blink_window, opening_window


@dataclass(frozen=True)
class GeneratorChoice:
    """A generator that was chosen but not opened yet; it makes nothing itself (:attr:`open` does)."""

    name: str
    open: Callable[[TrainingData], EmotionGenerator]
    """Makes the :class:`EmotionGenerator` from the training frames."""
    file_hash: str = ""
    """Hash of the file that it was read from; a run resumes only with the same one."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licences of what it rests on, beyond this package."""


BATCH = 8
"""Least targets made in one call of the generator: on a CPU (256 px) it costs three quarters a frame for eight."""
GPU_BATCH, GPU_PIXELS = 32, 32 * 512 * 512
"""Most targets of a call on a GPU, and most of their pixels: there a call is some 1,700 launches of any size."""


class Draw(NamedTuple):
    """The random choices of a step."""

    frame: int
    """Row of the training data."""
    va: tuple[float, float] | None
    """Commanded valence and arousal; None: the original frame with its own."""


class Target(NamedTuple):
    """Image and conditions that a step compares with."""

    image: Float[Tensor, "1 H W 3"]
    labels: UInt8[Tensor, "1 H W"]
    va: Float[Tensor, "1 2"]
    normals: Float[Tensor, "1 H W 3"] | None = None
    """Normals in camera space, zero where unknown; None if not requested or the subject has none."""
    compared: Bool[Tensor, "1 H W"] | None = None
    """Pixels that are compared; None: all."""
    cut: Float[Tensor, "1 H W 4"] | None = None
    """Head and hair cut out by their coverage (`TrainingData.cut_out`): premultiplied colours, and coverage; None: cut
    at the label map's edge."""

    def cut_out(self) -> tuple[Float[Tensor, "1 H W 3"], Float[Tensor, "1 H W"]]:
        """Head and hair: premultiplied colours, and coverage."""
        if self.cut is not None:
            return self.cut[..., :3], self.cut[..., 3]
        head = class_mask(self.labels, Label.HEAD, Label.HAIR).to(self.image.dtype)
        return self.image * head[..., None], head

    def inside(self, box: Box) -> "Target":
        """What a box shows."""
        window = slice(None), *box.index
        boxed = (None if part is None else part[window] for part in (self.normals, self.compared, self.cut))
        return Target(self.image[window], self.labels[window], self.va, *boxed)


def original(data: TrainingData, frame: int, *, normals: bool = False, soft_outline: bool = True) -> Target:
    """The recorded frame with its own estimated valence and arousal, and with its ``normals`` if they are wanted."""
    pick = slice(frame, frame + 1)
    surface = data.normal_map(frame) if normals else None
    cut = _joined(data.cut_out(frame, data.image(frame))) if soft_outline else None
    return Target(data.image(frame), data.labels[pick], data.conditions.va[pick], surface, cut=cut)


def _joined(parts: tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W"]]) -> Float[Tensor, "B H W 4"]:
    """Colours and coverage as one tensor."""
    return torch.cat([parts[0], parts[1][..., None]], -1)


@runtime_checkable
class RecordedExpressions(Protocol):
    """Further frames that show emotions by themselves (:class:`emotalking.train.expressions.Expressions`)."""

    @property
    def count(self) -> int:
        """Number of frames."""
        ...

    def draw(self, generator: torch.Generator) -> int:
        """A random one."""
        ...

    def target(self, frame: int, *, normals: bool = False) -> Target:
        """The frame as it is."""
        ...


class EmotionalTargets:
    """A new (frame, valence, arousal) for every step; frames without replacement, emotions uniform in a square.

    Frames in which no face was found are left out.

    Deviation: the emotion fades as the face turns away (`data.frame.emotion_share`), as in `faces apply`; where
    nothing is left of it the frame is left out.

    Args:
        data: the training frames.
        maker: edits frames to commanded emotions.
        rng: random number generator of frames, valence and arousal.
        va_limit: valence and arousal lie in [-limit, limit].
        real_share: share of original frames.
        expressions: recorded frames that show emotions, counted on from the training frames; None: none.
        expression_share: their share.
        normals: give normal maps too, where the subject has them.
        soft_outline: cut head and hair out by their coverage of each pixel; no: at the label map's edge.
        ahead: on a GPU, make them while the steps before them run.
        boxes: what steps take of the training frames and then of ``expressions``; None: all.
    """

    def __init__(
        self,
        data: TrainingData,
        maker: EmotionGenerator,
        rng: torch.Generator,
        *,
        va_limit: float | int,
        real_share: float | int = 0.0,
        expressions: RecordedExpressions | None = None,
        expression_share: float | int = 0.0,
        normals: bool = False,
        soft_outline: bool = True,
        ahead: bool = False,
        boxes: Int32[Tensor, "G 4"] | None = None,
    ) -> None:
        self._expressions = expressions
        self._expression_share = expression_share
        self._data = data
        self._maker = maker
        self._rng = rng
        self._va_limit = va_limit
        self._real_share = real_share
        self._normals = normals
        self._soft_outline = soft_outline
        self._boxes = boxes
        self._batch = BATCH
        if data.device.type == "cuda":
            self._batch = max(BATCH, min(GPU_BATCH, GPU_PIXELS // (data.size[0] * data.size[1])))
        # Without landmarks no expression can be given to a frame.
        found = torch.isfinite(data.points).flatten(1).all(1).cpu().numpy()
        self._share = emotion_share(data.conditions.viewmats.cpu().numpy())
        self._sampler = FrameSampler(data.count, rng, found & (self._share > 0))
        self._drawn: list[Draw] = []
        """Choices for the steps to come."""
        self._taken: list[Draw] = []
        """Those of the first batch that steps have had: a resumed run makes it again as a whole, bit by bit."""
        self._ready: list[tuple[Target, torch.cuda.Event | None]] = []
        """Targets of the first of these, each with the event of its completion if it is made on a side stream."""
        self._side: torch.cuda.Stream | None = None
        if data.device.type == "cuda" and ahead:
            self._side = torch.cuda.Stream(data.device)
            self._side.wait_stream(torch.cuda.current_stream(data.device))

    def draw(self, iteration: int) -> tuple[int, Target]:
        """Row of the training data and target of the next step; ``ahead``, the following ones are made meanwhile."""
        if self._side is None:
            self._refill(left=0)
        else:
            with torch.cuda.stream(self._side):
                self._refill(left=self._batch // 2)
        drawn = self._drawn.pop(0)
        target, made = self._ready.pop(0)
        self._taken = [] if len(self._drawn) % self._batch == 0 else [*self._taken, drawn]
        if self._side is not None:
            stream = torch.cuda.current_stream(self._data.device)
            if made is not None:
                stream.wait_event(made)
            for tensor in target:
                if tensor is not None:
                    tensor.record_stream(stream)
        return drawn.frame, target

    def _refill(self, left: int) -> None:
        """Make a batch more where no more than ``left`` are ready.

        A resumed run first makes those that it had drawn, in their batches: it draws when it would have drawn.
        """
        if len(self._drawn) > len(self._ready):
            plans = self._taken + self._drawn
            batches = (plans[begin : begin + self._batch] for begin in range(0, len(plans), self._batch))
            made = [one for batch in batches for one in self._make(batch)]
            self._ready = made[len(self._taken) :]
        if len(self._ready) <= left:
            fresh = [self._choose() for _ in range(self._batch)]
            self._drawn += fresh
            self._ready += self._make(fresh)

    def _choose(self) -> Draw:
        rng = self._rng
        if self._expressions is not None and float(torch.rand(1, generator=rng)) < self._expression_share:
            return Draw(self._data.count + self._expressions.draw(rng), None)
        frame = self._sampler.draw()
        if float(torch.rand(1, generator=rng)) < self._real_share:
            return Draw(frame, None)
        valence, arousal = ((torch.rand(2, generator=rng) * 2.0 - 1.0) * self._va_limit).tolist()
        share = float(self._share[frame])
        return Draw(frame, (valence * share, arousal * share))

    def _make(self, draws: list[Draw]) -> list[tuple[Target, torch.cuda.Event | None]]:
        """The targets of ``draws``, all generated ones in one call."""
        data = self._data
        commanded = [draw for draw in draws if draw.va is not None]
        made: dict[Draw, Target] = {}
        if commanded:
            frames = torch.tensor([draw.frame for draw in commanded], device=data.device)
            va = torch.tensor([draw.va for draw in commanded], device=data.device)
            window = self._window(frames)
            rows, columns = window.index
            normals = data.normal_map(frames) if self._normals else None
            with torch.no_grad():
                faces = self._maker(
                    data.images[frames, rows, columns].float() / 255.0,
                    data.points[frames] - data.points.new_tensor([window.left, window.top]),
                    data.labels[frames, rows, columns],
                    data.conditions.viewmats[frames],
                    va,
                    None if normals is None else normals[:, rows, columns],
                    data.coverage[frames, rows, columns].float() / 255.0 if self._soft_outline else None,
                )
                cut = None
                if faces.coverage is not None:
                    cut = _joined(data.freed(frames, faces.images, faces.labels, faces.coverage, rows, columns))
            if faces.kept is not None:  # Such a frame keeps its recorded emotion.
                va = torch.where(faces.kept[:, None], data.conditions.va[frames], va)
            for row, draw in enumerate(commanded):
                pick = slice(row, row + 1)
                surface = None if faces.normals is None else faces.normals[pick]
                layer = None if cut is None else cut[pick]
                target = Target(faces.images[pick], faces.labels[pick], va[pick], surface, cut=layer)
                made[draw] = target.inside(self._box(draw.frame).shifted(-window.left, -window.top))
        targets = [made[draw] if draw in made else self._recorded(draw.frame) for draw in draws]
        event: torch.cuda.Event | None = None
        if self._side is not None:
            event = torch.cuda.Event()
            event.record(self._side)
        return [(target, event) for target in targets]

    def _box(self, frame: int) -> Box:
        return Box.whole(*self._data.size) if self._boxes is None else Box(*self._boxes[frame].tolist())

    def _window(self, frames: Int64[Tensor, " B"]) -> Box:
        """What the generator edits of frames: on a CPU, where the mesh warp takes time for each pixel, their boxes."""
        if self._boxes is None or frames.device.type != "cpu" or not isinstance(self._maker, MeshWarp):
            return Box.whole(*self._data.size)
        boxes = self._boxes[frames]
        return Box(*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist())

    def _recorded(self, frame: int) -> Target:
        if self._expressions is None or frame < self._data.count:
            target = original(self._data, frame, normals=self._normals, soft_outline=self._soft_outline)
        else:
            target = self._expressions.target(frame - self._data.count, normals=self._normals)
        return target if self._boxes is None else target.inside(self._box(frame))

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs; images are generated again."""
        plans = [(draw.frame, draw.va) for draw in self._taken + self._drawn]
        return {"sampler": self._sampler.state_dict(), "plans": plans, "taken": len(self._taken)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises:
            ValueError: a plan that cannot be.
        """
        self._sampler.load_state_dict(state["sampler"])
        plans = [Draw(int(frame), None if va is None else (float(va[0]), float(va[1]))) for frame, va in state["plans"]]
        taken = int(state.get("taken", 0))  # before 0.3.0 none was kept
        most = self._data.count + (0 if self._expressions is None else self._expressions.count)
        for frame, va in plans:
            recorded = frame < self._data.count or (va is None and frame < most)
            if not 0 <= frame or not recorded or not all(abs(value) <= 1 for value in va or ()):
                raise ValueError(f"a plan for frame {frame} and valence and arousal {va}")
        if not 0 <= taken <= len(plans):
            raise ValueError(f"{taken} of {len(plans)} plans taken")
        self._taken, self._drawn, self._ready = plans[:taken], plans[taken:], []


class FaceCurriculum:
    """Recorded frames in the order of the face stage: every n-th by the curriculum (docs/paper.md 8)."""

    def __init__(self, data: TrainingData, settings: FaceStageConfig, generator: torch.Generator) -> None:
        self._data, self._settings = data, settings
        self._sampler = FrameSampler(data.count, generator)

    def draw(self, iteration: int) -> tuple[int, None]:
        """Draw a frame, every n-th from a sliding window of mouth opening (warm-up) or blink (after it)."""
        settings, data = self._settings, self._data
        every = settings.curriculum_every
        if not every or iteration % every or iteration >= settings.lr_decay_from:
            return self._sampler.draw(), None
        progress = iteration / settings.lr_decay_from
        window = opening_window(data.mouth_opening, progress)
        if iteration >= settings.warmup:
            window = blink_window(data.blink, progress)
        return self._sampler.draw(window), None

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""
        return {"sampler": self._sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._sampler.load_state_dict(state["sampler"])


class MixedTargets:
    """Frames of a curriculum, and from ``warmup`` on a ``share`` of emotional targets among them."""

    def __init__(
        self,
        curriculum: FaceCurriculum,
        targets: EmotionalTargets,
        share: float,
        warmup: int,
        generator: torch.Generator,
    ) -> None:
        self.share = share
        self._curriculum, self._targets = curriculum, targets
        self._warmup, self._generator = warmup, generator

    def draw(self, iteration: int) -> tuple[int, Target | None]:
        """An emotional target, or a frame of the curriculum."""
        if iteration < self._warmup or float(torch.rand(1, generator=self._generator)) >= self.share:
            return self._curriculum.draw(iteration)
        return self._targets.draw(iteration)

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""
        return self._curriculum.state_dict() | {"targets": self._targets.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._curriculum.load_state_dict(state)
        self._targets.load_state_dict(state["targets"])
