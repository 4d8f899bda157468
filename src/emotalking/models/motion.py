"""The three motion networks: inside mouth (eq. 3), face (eq. 4) and emotion (eq. 5); shapes from docs/paper.md 4."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from emotalking.ops.network import AttentionMap, Network, offsets
from emotalking.ops.triplane import (
    EMOTION_TRIPLANE,
    FACE_TRIPLANE,
    MOUTH_TRIPLANE,
    TriplaneSpec,
    encode,
    entries_per_plane,
)

POSITION_SCALE = 1e-2
"""Network units to world units of a position offset."""
RADIAL_POWER = 0.75
"""Growth of the embedded generator's expressions with the radius: weak emotions are shown a little more than in
proportion; found on acted clips."""
GAZE_SCALE = 5.0
"""Gaze in radians to the network's input: 0.4, far to the side, is as large as closed lids."""
USUAL_EYES = ((-0.0315, 0.005, 0.055), (0.0315, 0.005, 0.055))
"""Centres of the eyes in a head of `prepare`, world units."""
EYE_REACH = 0.02, 0.032
"""The gaze moves all that is nearer to an eye's centre than the first, and nothing beyond the second, world units."""
INPUTS = "audio", "units", "emotion", "gaze"
"""What the face network attends to, in the order of its maps; the last two only where it has these inputs."""
ALL_MOVES = (1.0, 0.0)
"""``jaw`` of a mouth that moves as a whole."""


class TriplaneEncoder(nn.Module):
    """Learnable dense tri-plane features of a point in the cube (docs/paper.md 4.1)."""

    def __init__(self, spec: TriplaneSpec) -> None:
        super().__init__()
        self.spec = spec
        self.table = nn.Parameter(torch.empty(3, entries_per_plane(spec)).uniform_(-1e-4, 1e-4))

    @property
    def width(self) -> int:
        """Features per point."""
        return 3 * self.spec.levels

    def forward(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N D"]:
        """Features of points; zeros from each plane whose square the point is outside of."""
        return encode(points, self.table, self.spec)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers without biases and ReLU in between, as every network of docs/paper.md 4.3-4.5."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(wide_in, wide_out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights_of(layers: nn.Sequential) -> list[Float[Tensor, "O I"]]:
    """Weights of the linear layers."""
    return [layer.weight for layer in layers if isinstance(layer, nn.Linear)]


def _attention_map(layers: nn.Sequential, share: Tensor | None = None) -> AttentionMap:
    """A :func:`mlp` of two layers, and a ReLU or none behind it."""
    inner, outer = weights_of(layers)
    return AttentionMap(inner, outer, rectified=len(layers) > 3, share=share)


def _network(first: Float[Tensor, "H FJ"], trunk: nn.Sequential, *maps: AttentionMap) -> Network:
    second, third = weights_of(trunk)
    return Network(maps, first, second, third)


@dataclass
class MouthCanonical:
    """Inputs of the mouth network that depend on the canonical positions alone; constant once trained."""

    hidden: Float[Tensor, "N H"]
    share: Float[Tensor, "N 1"]
    """Share of the offset that a point takes, in [0, 1]."""


class MouthMotion(nn.Module):
    """Offsets of the inside-mouth Gaussians from the audio code; position only, mainly vertical (docs/paper.md 4.4).

    Deviation: upper teeth belong to the skull and do not move. The published network moves all there is inside the
    mouth alike, upper teeth .7 times as far as the lower lip (benchmarks/teeth.py); here :attr:`jaw` says how
    much of the motion a height takes.
    """

    def __init__(self, audio_code: int, hidden: int = 32) -> None:
        super().__init__()
        self.encoder = TriplaneEncoder(MOUTH_TRIPLANE)
        self.first = nn.Linear(self.encoder.width + audio_code, hidden, bias=False)
        self.trunk = nn.Sequential(nn.ReLU(), *mlp(hidden, hidden, 3))
        self.axis_scale: Tensor
        """World units of an offset by axis: x and z are a fifth of y."""
        # On the CPU even in a sketch of the model: on "meta", torch would load its compiler for this product.
        scale = torch.tensor([0.2, 1.0, 0.2], device="cpu") * POSITION_SCALE
        self.register_buffer("axis_scale", scale, persistent=False)
        self.jaw: Float[Tensor, "2"]
        """Of a point at height y the share ``jaw[0] + jaw[1] * y``, in [0, 1], of the motion; (1, 0): all of it."""
        self.register_buffer("jaw", torch.tensor(ALL_MOVES))

    def canonical(self, means: Float[Tensor, "N 3"]) -> MouthCanonical:
        """First-layer products of the features at ``means``, and what share of the motion each takes."""
        hidden = self.encoder(means) @ self.first.weight[:, : self.encoder.width].T
        return MouthCanonical(hidden, self._share(means))

    def _share(self, means: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1"]:
        """What share of the motion each point takes."""
        return (self.jaw[0] + self.jaw[1] * means[:, 1:2]).clamp(0.0, 1.0)

    def forward(self, means: Float[Tensor, "N 3"], audio: Float[Tensor, "B A"]) -> dict[str, Tensor]:
        """`d_means [B, N, 3]` of points ``means``."""
        width = self.encoder.width
        network = _network(self.first.weight[:, :width], self.trunk)
        bias = audio @ self.first.weight[:, width:].T
        raw = offsets(network, self.encoder(means)[None], audio[:, :0], bias)
        return {"d_means": raw * self.axis_scale * self._share(means)}


@dataclass
class FaceCanonical:
    """Inputs of the face network that depend on the canonical positions alone; constant once trained."""

    hidden: Float[Tensor, "N H"]
    attention: Float[Tensor, "N J"]
    """Maps of what multiplies the codes, side by side: audio, action units, and emotion and gaze where they are inputs.
    """

    def at(self, points: Int64[Tensor, "M"]) -> "FaceCanonical":
        """Of some of the points."""
        return FaceCanonical(self.hidden[points], self.attention[points])


class FaceMotion(nn.Module):
    """Offsets of the face Gaussians from the audio code and six action units (eq. 4; docs/paper.md 4.3).

    With ``emotion_code`` it is the combined face branch of paper 4.4, with valence and arousal as further inputs.
    Assumption: they enter as in :class:`EmotionMotion` (a code of that width, multiplied by an attention map of the
    point); the paper states only that they are inputs.

    Deviation: TalkingGaussian's network has an eleventh output, an opacity offset that is regularised but never
    applied; it is absent here.

    Deviation: with ``gaze`` the direction of the eyes is a further input: two numbers that bypass the expression MLP
    like the blink, each with an attention map. The published networks have no input that tells where the eyes look:
    they learn it by heart from the audio, or blur the irises. It acts about the eyes alone (:data:`EYE_REACH`): eyes
    turn against the head, so that elsewhere the network would take it for the head's pose, and ears follow a glance.
    """

    def __init__(self, audio_code: int, hidden: int = 64, emotion_code: int = 0, *, gaze: bool = False) -> None:
        super().__init__()
        self.encoder = TriplaneEncoder(FACE_TRIPLANE)
        width = self.encoder.width
        self.audio_attention = mlp(width, 32, audio_code)
        self.expression = mlp(5, 16, 5)
        self.expression_attention = nn.Sequential(*mlp(width, 16, 6), nn.ReLU())
        self._splits = (width, audio_code, 6, emotion_code, 2 if gaze else 0)
        self.first = nn.Linear(sum(self._splits), hidden, bias=False)
        self.trunk = nn.Sequential(nn.ReLU(), *mlp(hidden, hidden, 10))
        self.takes_emotion = emotion_code > 0
        if self.takes_emotion:
            self.emotion, self.emotion_attention = _emotion_code(width, emotion_code)
        self.takes_gaze = gaze
        if gaze:
            self.gaze_attention = nn.Sequential(*mlp(width, 16, 2), nn.ReLU())
            self.eyes: Float[Tensor, "2 3"]
            """Centres of the right and left eye in the head frame."""
            self.register_buffer("eyes", torch.tensor(USUAL_EYES))

    def canonical(self, means: Float[Tensor, "N 3"]) -> FaceCanonical:
        """Attention maps and first-layer products of the features at ``means``."""
        features = self.encoder(means)
        maps = [self.audio_attention(features), self.expression_attention(features)]
        if self.takes_emotion:
            maps.append(self.emotion_attention(features))
        if self.takes_gaze:
            maps.append(self.gaze_attention(features) * self._at_eyes(means))
        return FaceCanonical(features @ self.first.weight[:, : self.encoder.width].T, torch.cat(maps, -1))

    def maps(self, canonical: FaceCanonical) -> dict[str, Float[Tensor, "N _"]]:
        """Attention maps by what they attend to."""
        parts = canonical.attention.split(self._splits[1:], dim=1)
        return {name: part for name, part in zip(INPUTS, parts, strict=True) if part.shape[1]}

    def _at_eyes(self, means: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1"]:
        """1 at an eye, 0 away from both, smoothly in between."""
        near, far = EYE_REACH
        mode = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(means.detach(), self.eyes, compute_mode=mode).amin(1, keepdim=True)
        part = ((far - distance) / (far - near)).clamp(0.0, 1.0)
        return part * part * (3.0 - 2.0 * part)

    def expression_code(self, aus: Float[Tensor, "B 6"]) -> Float[Tensor, "B 6"]:
        """Action units as the trunk takes them; the blink bypasses the expression MLP."""
        return torch.cat([self.expression(aus[:, :5]), aus[:, 5:]], -1)

    def gaze_code(self, gaze: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
        """Gaze as the trunk takes it, brought to the size of the action units."""
        return gaze * GAZE_SCALE

    def codes(
        self,
        audio: Float[Tensor, "B A"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B J"]:
        """All that the attention maps multiply, in their order; arguments as of :meth:`forward`."""
        codes = [audio, self.expression_code(aus)]
        if self.takes_emotion:
            codes.append(self.emotion(aus.new_zeros(len(aus), 2) if va is None else va))
        elif va is not None:
            raise ValueError("va: this face network takes no valence and arousal (config.emotion.branch)")
        if self.takes_gaze:
            codes.append(self.gaze_code(aus.new_zeros(len(aus), 2) if gaze is None else gaze))
        return torch.cat(codes, -1)

    def offsets(self, means: Float[Tensor, "N 3"], codes: Float[Tensor, "B J"]) -> dict[str, Tensor]:
        """:meth:`forward` of :meth:`canonical` at ``means``, in one pass.

        Args:
            codes: of :meth:`codes`.
        """
        maps = [_attention_map(self.audio_attention), _attention_map(self.expression_attention)]
        if self.takes_emotion:
            maps.append(_attention_map(self.emotion_attention))
        if self.takes_gaze:
            maps.append(_attention_map(self.gaze_attention, self._at_eyes(means)))
        network = _network(self.first.weight, self.trunk, *maps)
        return _split_offsets(offsets(network, self.encoder(means)[None], codes))

    def forward(
        self,
        canonical: FaceCanonical,
        audio: Float[Tensor, "B A"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> dict[str, Tensor]:
        """Raw offsets `d_means [B,N,3]`, `d_quats [B,N,4]`, `d_scales [B,N,3]`.

        Args:
            aus: AU01, AU04, AU05, AU06, AU07, AU45 in OpenFace units.
            va: valence and arousal, for a network with these inputs; None is the same as (0, 0), because nothing here
                has a bias.
            gaze: radians to the viewer's right and up, in the head; None is (0, 0). A network without this input
                ignores it.

        Raises:
            ValueError: valence and arousal for a network without these inputs.
        """
        codes = self.codes(audio, aus, va, gaze)
        weights = self.first.weight[:, self.encoder.width :] * codes[:, None, :]
        hidden, attention = (part.expand(len(codes), -1, -1) for part in (canonical.hidden, canonical.attention))
        return _split_offsets(self.trunk(torch.baddbmm(hidden, attention, weights.transpose(1, 2))))


def full_at(va: Float[Tensor, "B 2"], radius: float) -> Float[Tensor, "B 2"]:
    """Valence and arousal moved along their ray to radius * min(r / radius, 1)^0.75, as strong as the targets there.

    Without biases the embedding is in proportion to its input, and the targets are not: of a man's head the moves at
    radius .8 were .84 (brows) and .76 (corners) of the targets', with this .91 and .82 (benchmarks/emotion_branch.py).
    """
    length = va.norm(dim=1, keepdim=True).clamp(min=1e-3)
    return va * (radius * (length / radius).clamp(max=1.0) ** RADIAL_POWER / length)


def harmonics_of(va: Float[Tensor, "B 2"], count: int) -> Float[Tensor, "B D"]:
    """r (cos t, sin t, cos 2 t, sin 2 t, ...) of valence and arousal at radius r and angle t; ``count`` pairs.

    Of neighbouring emotions a mouth stretches in one and narrows in the next (22 degrees between them), which a small
    network of valence and arousal alone learns last.
    """
    turns = torch.atan2(va[:, 1:], va[:, :1]) * torch.arange(1, count + 1, device=va.device)
    return va.norm(dim=1, keepdim=True) * torch.stack([turns.cos(), turns.sin()], -1).flatten(1)


class EmotionMotion(nn.Module):
    """Offsets on top of the deformed face from valence and arousal (eq. 5; shapes chosen, docs/paper.md 4.5).

    The features are read at the positions of the *deformed* Gaussians, so nothing here is constant over frames.

    Args:
        radius: see :func:`full_at`; 0: valence and arousal enter as they are.
        harmonics: see :func:`harmonics_of`; 1: valence and arousal alone.
    """

    def __init__(self, code: int = 16, hidden: int = 64, radius: float = 0.0, harmonics: int = 1) -> None:
        super().__init__()
        self._radius = radius
        self._harmonics = harmonics
        self.encoder = TriplaneEncoder(EMOTION_TRIPLANE)
        width = self.encoder.width
        self.embed, self.attention = _emotion_code(width, code, harmonics)
        self.first = nn.Linear(width + code, hidden, bias=False)
        self.trunk = nn.Sequential(nn.ReLU(), *mlp(hidden, hidden, 10))

    def code_of(self, va: Float[Tensor, "B 2"]) -> Float[Tensor, "B E"]:
        """The code of valence and arousal that the attention map multiplies."""
        va = full_at(va, self._radius) if self._radius else va
        return self.embed(va if self._harmonics == 1 else harmonics_of(va, self._harmonics))

    def forward(self, means: Float[Tensor, "#B N 3"], va: Float[Tensor, "B 2"]) -> dict[str, Tensor]:
        """Raw offsets as :class:`FaceMotion`'s, at deformed positions ``means`` for valence/arousal ``va``."""
        network = _network(self.first.weight, self.trunk, _attention_map(self.attention))
        return _split_offsets(offsets(network, self.encoder(means), self.code_of(va)))


def _emotion_code(width: int, code: int, harmonics: int = 1) -> tuple[nn.Sequential, nn.Sequential]:
    """Valence/arousal to a code, and a point's features to the attention map that multiplies it."""
    return mlp(2 * harmonics, max(16, 8 * harmonics), code), nn.Sequential(*mlp(width, 16, code), nn.ReLU())


def _split_offsets(raw: Float[Tensor, "B N 10"]) -> dict[str, Tensor]:
    return {"d_means": raw[..., :3] * POSITION_SCALE, "d_quats": raw[..., 3:7], "d_scales": raw[..., 7:]}
