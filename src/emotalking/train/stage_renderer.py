"""Frames of a partly trained head, rendered as in its stage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.compositor import Compositor, Conditions
from emotalking.models.fixed import FixedHead
from emotalking.models.head import TalkingHead
from emotalking.models.maps import head_maps
from emotalking.ops.box import Box
from emotalking.ops.geometry import camera_centre
from emotalking.player.views import normal_colours
from emotalking.train.data import TrainingData

EMOTIONAL = ("emotion", "finetune")
"""Stages that render the emotion network; before them it is untrained."""


@dataclass(frozen=True)
class StageFrame:
    """A part of a rendered frame."""

    rgb: Float[Tensor, "h w 3"]
    """Colours in [0, 1]."""
    alpha: Float[Tensor, "h w"]
    """Coverage of the branch that the stage trains: the mouth's in the mouth stage, else the face's."""


class StageRenderer:
    """Render frames of ``data`` composed as in the player; in the mouth stage inside the recorded faces."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._compositor = Compositor(data.K, data.size)
        self._fixed: FixedHead | None = None

    @torch.no_grad()
    def begin(self, head: TalkingHead) -> None:
        """Compute the constants of ``head`` as it is now."""
        self._fixed = FixedHead(head)

    @property
    def whole(self) -> Box:
        """Box of the whole frame."""
        return Box.whole(*self._data.size)

    def takes_emotion(self, head: TalkingHead, stage: str) -> bool:
        """True if valence and arousal act at this stage."""
        return head.face.motion.takes_emotion or (head.emotion is not None and stage in EMOTIONAL)

    def own(self, head: TalkingHead, stage: str, frame: int) -> Float[Tensor, "1 2"] | None:
        """Recorded valence and arousal of ``frame``; None where they have no effect."""
        return self._data.conditions.va[frame : frame + 1] if self.takes_emotion(head, stage) else None

    @torch.no_grad()
    def render(
        self,
        head: TalkingHead,
        stage: str,
        frame: int,
        box: Box,
        *,
        va: Float[Tensor, "1 2"] | None,
        audio_from: int | None = None,
        aus_from: int | None = None,
    ) -> StageFrame:
        """Render ``box`` of ``frame`` with the emotion ``va`` (None: without).

        Args:
            audio_from: frame whose audio window drives the lips; None: ``frame``.
            aus_from: frame whose action units drive the face; None: ``frame``.
        """
        data, recorded = self._data, self._data.conditions.at(frame)
        audio = recorded.audio if audio_from is None else data.conditions.at(audio_from).audio
        aus = recorded.aus if aus_from is None else data.conditions.at(aus_from).aus
        behind = data.behind(frame, *box.index)
        if stage == "mouth":
            deformed = head.deform_mouth(audio)
            mouth = self._compositor.layer(head.mouth.gaussians, deformed, recorded.viewmats, box)
            made = self._compositor.compose(*data.without_mouth(frame, *box.index), mouth, behind)
            return StageFrame(made.rgb[0].clamp(0.0, 1.0), mouth.alpha[0])
        conditions = Conditions(recorded.viewmats, audio, aus, va, gaze=recorded.gaze)
        made = self._compositor.frames(head, conditions, behind, box, self._fixed)
        return StageFrame(made.rgb[0].clamp(0.0, 1.0), made.face_alpha[0])

    @torch.no_grad()
    def normals(self, head: TalkingHead, stage: str, frame: int) -> list[Float[Tensor, "H W 3"]]:
        """Given and rendered normals of the face as colours, black where there are none; empty without given ones."""
        data = self._data
        given = data.normal_map(frame)
        if given is None:
            return []
        recorded, va = data.conditions.at(frame), self.own(head, stage, frame)
        conditions = Conditions(recorded.viewmats, recorded.audio, recorded.aus, va, gaze=recorded.gaze)
        maps = head_maps(head, conditions, data.K, data.size)
        known = (given.abs().amax(-1) > 0).float()
        return [normal_colours(given, known)[0], normal_colours(maps.normals, maps.face.alpha)[0]]

    @torch.no_grad()
    def motion_px(self, head: TalkingHead, stage: str, points: Float[Tensor, "P 2"], share: float) -> float:
        """Motion of the stage's Gaussians in px: the ``share`` quantile over the Gaussians of their standard deviation
        over the frames; in the emotion stage, over the emotions ``points``."""
        conditions = self._data.conditions
        if stage == "mouth":
            offsets = head.deform_mouth(conditions.audio).offsets
        elif stage == "emotion" and head.emotion is not None:
            first = conditions.at(0)
            face = head.deform_face(first.audio, first.aus, gaze=first.gaze)
            offsets = head.emotion(face.means.expand(len(points), -1, -1), points)
        else:
            va = conditions.va if head.face.motion.takes_emotion else None
            offsets = head.deform_face(conditions.audio, conditions.aus, va=va, gaze=conditions.gaze).offsets
        spread = offsets["d_means"].std(0, correction=0).norm(dim=-1)
        distance = camera_centre(conditions.viewmats).norm(dim=-1).mean()
        return float(torch.quantile(spread, share) * self._data.K[0, 0] / distance)
