"""A head that only renders: its Gaussians moved by one kernel a network, from constants that are computed once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.compositor import Canonical, Conditions, canonical_of
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.motion import POSITION_SCALE, EmotionMotion
from emotalking.ops.cuda.motion import VALUES, Feelings, Trunk, emote, fragments, move, takes


@dataclass(frozen=True)
class Look:
    """What moved Gaussians look like: the arguments of :func:`emotalking.ops.cuda.splat.splat` that are constant."""

    opacities: Float[Tensor, " N"]
    sh0: Float[Tensor, "N 1 3"]
    sh_rest: Float[Tensor, "N R 3"]
    degree: int


def takes_head(head: TalkingHead) -> bool:
    """True if the kernels of :class:`MovingHead` take the sizes of this head's networks."""
    config = head.config
    code = 0 if config.emotion.branch == "none" else config.emotion.code
    widths = (config.face.hidden, config.mouth.hidden, config.emotion.hidden)
    return all(takes(hidden, code) for hidden in widths)


class MovingHead:
    """The three motion networks of a head on a GPU, without gradient; the head must not change any more.

    Args:
        head: with sizes that :func:`takes_head` allows.
        canonical: its constants (:func:`~emotalking.models.compositor.canonical_of`); None: computed here.
    """

    @torch.no_grad()
    def __init__(self, head: TalkingHead, canonical: Canonical | None = None) -> None:
        self._head = head
        face, mouth = canonical or canonical_of(head)
        like = head.face.gaussians.means
        scales = like.new_ones(VALUES)
        scales[:3] = POSITION_SCALE
        motion = head.face.motion
        self._face = Trunk.of(motion.trunk[1].weight, motion.trunk[3].weight, scales)
        maps = [face.audio_attention, face.expression_attention]
        maps += [] if face.emotion_attention is None else [face.emotion_attention]
        attention = torch.cat(maps, 1)
        self._keys = attention.shape[1]
        self._attention = torch.nn.functional.pad(attention, (0, -self._keys % 16)).contiguous()
        self._face_constant = face.hidden.contiguous()
        self._face_first = fragments(motion.first.weight[:, motion.encoder.width :])
        inside = head.mouth.motion
        only_means = torch.nn.functional.pad(inside.axis_scale, (0, VALUES - 3))
        self._mouth = Trunk.of(inside.trunk[1].weight, inside.trunk[3].weight, only_means)
        self._mouth_constant, self._share = mouth.hidden.contiguous(), mouth.share[:, 0].contiguous()
        self._mouth_audio = inside.first.weight[:, inside.encoder.width :].T.contiguous()
        self._bases = [_raw(branch.gaussians) for branch in (head.face, head.mouth)]
        self._feelings = None if head.emotion is None else _feelings(head.emotion, scales)
        self.face_look, self.mouth_look = (_look(branch.gaussians) for branch in (head.face, head.mouth))

    def face(self, conditions: Conditions) -> Float[Tensor, "B N 10"]:
        """Means, quaternions and activated scales of the face's Gaussians, as `TalkingHead.deform_emotional_face`."""
        head, va = self._head, conditions.va
        motion, feels = head.face.motion, va is not None and self._feelings is not None
        audio = head.face.audio(conditions.audio, conditions.speech)
        aus = conditions.aus
        codes = [audio, motion.expression(aus[:, :5]), aus[:, 5:]]
        if motion.takes_emotion and va is not None:
            codes.append(motion.emotion(va))
        code = torch.cat(codes, 1)
        code = torch.nn.functional.pad(code, (0, self._attention.shape[1] - code.shape[1]))
        moved = move(
            self._face,
            self._face_constant,
            self._bases[0],
            attention=self._attention,
            codes=code,
            first=self._face_first,
            activate=not feels,
        )
        if va is not None and self._feelings is not None and head.emotion is not None:
            emote(self._feelings, head.emotion.code_of(va), moved)
        return moved

    def mouth(self, conditions: Conditions) -> Float[Tensor, "B N 10"]:
        """The same of the inside of the mouth, as `TalkingHead.deform_mouth`."""
        bias = self._head.mouth.audio(conditions.audio, conditions.speech) @ self._mouth_audio
        return move(self._mouth, self._mouth_constant, self._bases[1], bias=bias, share=self._share, activate=True)


def _raw(gaussians: Gaussians) -> Float[Tensor, "N 10"]:
    """Raw canonical parameters in the order of the kernels."""
    return torch.cat([gaussians.means, gaussians.raw_quats, gaussians.raw_scales], 1).detach().contiguous()


def _look(gaussians: Gaussians) -> Look:
    sh0, rest = gaussians.sh0.detach().contiguous(), gaussians.sh_rest.detach().contiguous()
    return Look(gaussians.opacities.detach().contiguous(), sh0, rest, gaussians.sh_degree)


def _feelings(emotion: EmotionMotion, scales: Float[Tensor, "10"]) -> Feelings:
    trunk = Trunk.of(emotion.trunk[1].weight, emotion.trunk[3].weight, scales)
    attention = emotion.attention[0].weight, emotion.attention[2].weight
    return Feelings.of(emotion.encoder.spec, emotion.encoder.table.detach(), attention, emotion.first.weight, trunk)
