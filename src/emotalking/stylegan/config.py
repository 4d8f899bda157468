"""Weights and rates of the lip-aligned generator's training (paper 3.3.1, S1, S2.2; EmoStyle, Azari and Lim 2024)."""

from dataclasses import dataclass


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
class InversionWeights:
    """Weights of the inversion losses, in addition to the adversarial loss. Own choice, for small generators."""

    recorded: float = 50.0
    """MS-SSIM and L1."""
    lips: float = 50.0
    """L1 in a rectangle around the lips."""
    eyes: float = 25.0
    """L1 in a rectangle around the eyes."""
    maps: float = 1.0
    """Squared differences of landmark maps, summed over pixels."""
    emotion: float = 5.0
    """Squared difference of valence and arousal."""
    identity: float = 2.0
    """Squared distance of embeddings."""
    spread: float = 2.0
    """Variance of the styles over the layers."""


@dataclass(frozen=True)
class AdversarialConfig:
    """Adversarial training of a small StyleGAN2 (Karras et al. 2020)."""

    batch: int = 32
    rate: float = 2.5e-3
    """Adam's rate for both networks; betas 0 and .99."""
    r1: float = 10.0
    """Weight gamma of the gradient penalty on real images; half of it times the squared gradient."""
    r1_every: int = 16
    path: float = 0.0
    """Weight of the path length regulariser (2 in configuration F)."""
    path_every: int = 4
    mixing: float = 0.9
    """Share of images generated with two styles, the second from a random layer on."""
    average_kimg: float = 10.0
    """Half-life of the weights' running mean, thousands of images."""
    encoder_rate: float = 1e-3
    """Adam's rate for a jointly trained encoder."""
