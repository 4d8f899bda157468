"""Frames of a half-trained head, as they would be seen at a stage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.data.layouts import Label
from emotalking.models.head import TalkingHead, render_layer
from emotalking.models.motion import FaceCanonical, MouthCanonical
from emotalking.ops.cameras import camera_centre, crop_intrinsics
from emotalking.ops.composite import composite
from emotalking.ops.normals import encode_normals, normals_from_render
from emotalking.train.data import TrainingData, class_mask
from emotalking.train.rendered_maps import normal_channels

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""
EMOTIONAL = ("emotion", "finetune")
"""Stages in which the emotion network is shown; before, it knows nothing."""


@dataclass(frozen=True)
class Painted:
    """A part of a frame."""

    rgb: Float[Tensor, "h w 3"]
    """In [0, 1]."""
    alpha: Float[Tensor, "h w"]
    """Coverage of the branch that the stage trains: the mouth's in the mouth stage, else the face's."""


class Painter:
    """Renders frames of ``data`` composed as in the player; in the mouth stage inside the recorded faces."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._canonical: tuple[FaceCanonical, MouthCanonical] | None = None

    @torch.no_grad()
    def begin(self, head: TalkingHead) -> None:
        """Compute once what all frames of ``head`` as it is now have in common."""
        face, mouth = head.face, head.mouth
        self._canonical = (
            face.motion.canonical(face.gaussians.means),
            mouth.motion.canonical(mouth.gaussians.means),
        )

    @property
    def whole(self) -> Box:
        """The whole frame."""
        return 0, 0, *self._data.size

    def feels(self, head: TalkingHead, stage: str) -> bool:
        """Whether valence and arousal act at this stage."""
        return head.face.motion.takes_emotion or (head.emotion is not None and stage in EMOTIONAL)

    def own(self, head: TalkingHead, stage: str, frame: int) -> Float[Tensor, "1 2"] | None:
        """The recorded valence and arousal of ``frame``; None where nothing takes them."""
        return self._data.conditions.va[frame : frame + 1] if self.feels(head, stage) else None

    @torch.no_grad()
    def paint(
        self,
        head: TalkingHead,
        stage: str,
        frame: int,
        box: Box,
        *,
        va: Float[Tensor, "1 2"] | None,
        heard: int | None = None,
        moved: int | None = None,
    ) -> Painted:
        """``box`` of ``frame`` with the emotion ``va`` (None: without).

        Args:
            heard: the frame whose sound is heard; None: its own.
            moved: the frame whose action units move the face; None: its own.
        """
        data, pick = self._data, slice(frame, frame + 1)
        left, top, right, bottom = box
        rows, columns, size = slice(top, bottom), slice(left, right), (right - left, bottom - top)
        view, K = data.conditions.viewmats[pick], crop_intrinsics(data.K, data.K.new_tensor([left, top]))
        sound = data.conditions.audio[pick if heard is None else slice(heard, heard + 1)]
        face_canonical, mouth_canonical = self._canonical or (None, None)
        mouth = render_layer(head.mouth.gaussians, head.deform_mouth(sound, mouth_canonical), view, K, size)
        if stage == "mouth":
            outside = ~class_mask(data.labels[pick, rows, columns], Label.MOUTH)
            front, alpha = data.image(frame)[:, rows, columns] * outside[..., None], outside.float()
        else:
            aus = data.conditions.aus[pick if moved is None else slice(moved, moved + 1)]
            deformed = head.deform_emotional_face(sound, aus, va, face_canonical)
            face = render_layer(head.face.gaussians, deformed, view, K, size)
            front, alpha = face.rgb, face.alpha
        behind = data.behind(frame, rows, columns)
        image, _ = composite(front, alpha, mouth.rgb, mouth.alpha, behind, frame_height=data.size[1])
        return Painted(image[0].clamp(0.0, 1.0), (mouth.alpha if stage == "mouth" else alpha)[0])

    @torch.no_grad()
    def normals(self, head: TalkingHead, stage: str, frame: int) -> list[Float[Tensor, "H W 3"]]:
        """The face's given and rendered normals as colours, black where there are none; empty without given ones."""
        data, pick = self._data, slice(frame, frame + 1)
        given = data.normal_map(frame)
        if given is None:
            return []
        view, gaussians = data.conditions.viewmats[pick], head.face.gaussians
        conditions = data.conditions.at(frame)
        moved = head.deform_emotional_face(conditions.audio, conditions.aus, self.own(head, stage, frame))
        layer = render_layer(gaussians, moved, view, data.K, data.size, extra=normal_channels(gaussians, moved, view))
        rendered = normals_from_render(layer.extra, layer.alpha)
        known, covered = given.abs().amax(-1, keepdim=True) > 0, (layer.alpha > 0.5)[..., None]
        return [(encode_normals(given) * known)[0], (encode_normals(rendered) * covered)[0]]

    @torch.no_grad()
    def motion_px(self, head: TalkingHead, stage: str, points: Float[Tensor, "P 2"], share: float) -> float:
        """How far what the stage trains moves its Gaussians, px: the ``share`` quantile over the Gaussians of their
        deviation over the frames; in the emotion stage, over the emotions ``points``."""
        conditions = self._data.conditions
        if stage == "mouth":
            offsets = head.deform_mouth(conditions.audio).offsets
        elif stage == "emotion" and head.emotion is not None:
            face = head.deform_face(conditions.audio[:1], conditions.aus[:1])
            offsets = head.emotion(face.means.expand(len(points), -1, -1), points)
        else:
            va = conditions.va if head.face.motion.takes_emotion else None
            offsets = head.deform_face(conditions.audio, conditions.aus, va=va).offsets
        spread = offsets["d_means"].std(0, correction=0).norm(dim=-1)
        distance = camera_centre(conditions.viewmats).norm(dim=-1).mean()
        return float(torch.quantile(spread, share) * self._data.K[0, 0] / distance)
