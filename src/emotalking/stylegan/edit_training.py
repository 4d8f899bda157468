"""Training of the edits: EmoExtract by EmoStyle's losses, then lip encoder, LipExtract, StyleGAN2 by the paper's.

The paper starts from EmoStyle's published mapping and freezes it (S2.2); :class:`EmotionTask` is for generators and
people without one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotalking.stylegan import generator_losses as losses
from emotalking.stylegan.critics import FaceCritics, FoundPoints
from emotalking.stylegan.lip_aligned import LipAligned
from emotalking.stylegan.training import Task, adam, weighted_sum


@dataclass(frozen=True)
class LipWeights:
    """The paper's five losses (S6)."""

    landmark: float = 1.0
    """Lip landmarks of source and result (S1)."""
    pixel: float = 5.0
    """Colours in the rectangle around the source's lips (S2)."""
    size: float = 0.03
    """Length of the lip modification (S3)."""
    emotion: float = 0.2
    """Valence and arousal of the result (S4)."""
    identity: float = 1.5
    """Embeddings of source and result (S5)."""


@dataclass(frozen=True)
class EmotionWeights:
    """EmoStyle's losses."""

    identity: float = 1.5
    """Embeddings of source and result."""
    emotion: float = 0.3
    """Valence and arousal of the result; .2 in EmoStyle's personal runs."""
    background: float = 0.2
    """Colours outside the face."""
    landmark: float = 0.001
    """Landmarks that no expression moves, in pixels of 256."""
    reconstruction: float = 0.2
    """MS-SSIM and L1 where the commanded emotion is the source's own."""
    latent: float = 1.0
    """L1 of the modification where the commanded emotion is the source's own."""
    size: float = 0.03
    """Length of the modification."""


@dataclass(frozen=True)
class EditConfig:
    """Training of EmoExtract, lip encoder and LipExtract."""

    epochs: int = 10
    """Passes over the source images (paper S1)."""
    batch: int = 4
    """Images a step (EmoStyle)."""
    mapping_rate: float = 5e-5
    """Adam's rate for EmoExtract, lip encoder and LipExtract. Assumption: EmoStyle's, as the paper gives none."""
    generator_rate: float = 3e-4
    """Adam's rate for StyleGAN2 when it is tuned. Assumption: as above."""
    va_limit: float = 1.0
    """Valence and arousal are drawn from [-limit, limit]^2 (EmoStyle; .7 in its personal runs)."""
    same_every: int = 5
    """Every so many steps the commanded emotion is the source's own (EmoStyle: two of ten)."""
    emotion: EmotionWeights = EmotionWeights()
    lips: LipWeights = LipWeights()


@dataclass(frozen=True)
class Sources:
    """Inverted faces to edit."""

    faces: UInt8[Tensor, "N S S 3"]
    """FFHQ-aligned crops, at most 256 pixels a side."""
    ibug68: Float[Tensor, "N 68 2"]
    """Landmarks in the crops, -1 to 1."""
    styles: Float[Tensor, "N L D"]
    """W+ styles of their inversions."""

    def __len__(self) -> int:
        return len(self.faces)

    def pick(self, rows: Tensor) -> tuple[Float[Tensor, "B S S 3"], Float[Tensor, "B 68 2"], Float[Tensor, "B L D"]]:
        """Select rows, colours in [0, 1]."""
        return self.faces[rows].float() / 255, self.ibug68[rows], self.styles[rows]


def steps_of(config: EditConfig, count: int) -> int:
    """Steps of the configured passes over ``count`` sources."""
    return max(1, config.epochs * count // config.batch)


class _EditTask(Task):
    """Common part of both trainings: a batch of sources and commanded emotions."""

    def __init__(self, network: LipAligned, critics: FaceCritics, sources: Sources, config: EditConfig) -> None:
        self.network = network
        self.critics = critics
        self.sources = sources
        self.config = config
        network.requires_grad_(False)

    def kind(self, number: int) -> str:
        """ "same" commands the source's own emotion."""
        return "same" if number % self.config.same_every == 0 else "other"

    def _batch(self, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Faces, landmarks, styles, commanded valence and arousal."""
        count, device = self.config.batch, self.sources.faces.device
        faces, ibug68, styles = self.sources.pick(torch.randint(len(self.sources), (count,), device=device))
        va = (torch.rand(count, 2, device=device) * 2 - 1) * self.config.va_limit
        if kind == "same":
            with torch.no_grad():
                va = self.critics.emotion(faces, ibug68).clamp(-1, 1)
        return faces, ibug68, styles, va

    def _learn(self, terms: dict[str, Tensor], weights: EmotionWeights | LipWeights) -> dict[str, Tensor]:
        """Take one step on the weighted sum; return the unweighted terms and that sum."""
        total = weighted_sum(terms, weights)
        self.update(total)
        return {name: term.detach() for name, term in (terms | {"total": total}).items()}


class EmotionTask(_EditTask):
    """EmoExtract (EmoStyle): valence and arousal reach the commanded ones, identity and background stay."""

    name = "emotion"

    def __init__(
        self, network: LipAligned, critics: FaceCritics, sources: Sources, config: EditConfig | None = None
    ) -> None:
        """Train ``network.emotion``; all else is frozen."""
        super().__init__(network, critics, sources, config or EditConfig())
        network.emotion.requires_grad_(True)
        self.modules = {"emotion": network.emotion}
        self.optimizers = {"emotion": adam(network.emotion, self.config.mapping_rate)}

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        faces, ibug68, styles, va = self._batch(kind)
        edited = self.network.move(styles, va)
        with torch.no_grad():
            source_points, identity = self.critics.points(faces, ibug68), self.critics.identity(faces, ibug68)
        made = self.network.draw(edited.styles)
        outside = losses.outside_face(ibug68, faces.shape[1])
        terms = {
            "emotion": losses.emotion_loss(self.critics.emotion(made, ibug68), va),
            "identity": losses.identity_loss(identity, self.critics.identity(made, ibug68)),
            "background": losses.background_loss(faces, made, outside),
            "landmark": losses.still_landmark_loss(source_points, self.critics.points(made, ibug68)),
            "size": losses.modification_size(edited.d_emotion),
        }
        if kind == "same":
            terms["reconstruction"] = losses.reconstruction_loss(faces, made)
            terms["latent"] = edited.d_emotion.abs().mean()
        return self._learn(terms, self.config.emotion)


class LipTask(_EditTask):
    """Lip encoder, LipExtract and StyleGAN2 (paper eqs. 7-8, S1-S6); EmoExtract is frozen.

    All comparisons use the recorded image, not its inversion.
    """

    name = "lips"

    def __init__(
        self,
        network: LipAligned,
        critics: FaceCritics,
        sources: Sources,
        config: EditConfig | None = None,
        *,
        tune_generator: bool = True,
    ) -> None:
        """Train; ``tune_generator`` False leaves StyleGAN2 as it is."""
        super().__init__(network, critics, sources, config or EditConfig())
        learnt = nn.ModuleList([network.lip_encoder, network.lip_extract]).requires_grad_(True)
        self.modules = {"lips": learnt}
        self.optimizers = {"lips": adam(learnt, self.config.mapping_rate)}
        if tune_generator:
            drawn = network.generator.synthesis.requires_grad_(True)
            self.modules["synthesis"] = drawn
            self.optimizers["synthesis"] = adam(drawn, self.config.generator_rate)

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        faces, ibug68, styles, va = self._batch(kind)
        with torch.no_grad():
            source: FoundPoints = self.critics.points(faces, ibug68)
            identity = self.critics.identity(faces, ibug68)
        edited = self.network.move(styles, va, source.lips)
        made = self.network.draw(edited.styles)
        assert edited.d_lip is not None
        rectangle = losses.lip_rectangles(ibug68, faces.shape[1])
        terms = {
            "landmark": losses.lip_landmark_loss(source, self.critics.points(made, ibug68)),
            "pixel": losses.inside_loss(faces, made, rectangle),
            "size": losses.modification_size(edited.d_lip),
            "emotion": losses.emotion_loss(self.critics.emotion(made, ibug68), va),
            "identity": losses.identity_loss(identity, self.critics.identity(made, ibug68)),
        }
        return self._learn(terms, self.config.lips)
