"""Weights of the loss terms: one class a stage with its terms only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLosses:
    """Weights of all stages (paper S4.3; docs/paper.md 7 and 7.1); that of L1 is 1."""

    d_ssim: float = 0.2
    """1 - SSIM."""
    lpips: float = 0.0
    """LPIPS of patches in the last `lpips_last` iterations, never in the warm-up (S12, S14, S15, S16)."""
    lpips_last: int = 0
    """See `lpips`. Assumption: the paper gives the weights and not the iterations; these are TalkingGaussian's."""
    patch_min: int = 32
    """Least side of a patch in pixels, even."""
    patch_max: int = 42
    """Largest side of a patch in pixels, even."""

    @property
    def perceptual(self) -> bool:
        """True where a perceptual term has a weight."""
        return self.lpips > 0

    def lpips_due(self, iteration: int, iterations: int, warmup: int = 0) -> bool:
        """True for an iteration of a stage with perceptual terms; canonical Gaussians have none (S11, S13)."""
        return self.perceptual and iteration >= max(warmup, iterations - self.lpips_last)

    def validate(self, stage: str) -> None:
        """Raise ValueError for values that cannot be in the stage ``stage``."""
        if not 2 <= self.patch_min <= self.patch_max or self.patch_min % 2 or self.patch_max % 2:
            raise ValueError(
                f"{stage}.losses.patch_min and {stage}.losses.patch_max must be even, at least 2, and in this order"
            )
        if self.perceptual and self.lpips_last < 1:
            raise ValueError(f"{stage}.losses.lpips_last must be at least 1 where an LPIPS term has a weight")


@dataclass(frozen=True)
class MotionLosses(ImageLosses):
    """Weights of the stages in which a motion network learns."""

    motion: float = 1e-5
    """Mean absolute offset, each kind. Deviation: published for the face alone (docs/paper.md 7.1); the mouth and
    emotion stages have it too, because what nothing pulls back drifts where the region shows nothing."""
    sync: float = 0.0
    """Sync distance (eq. 9) of five rendered frames, after warm-up, where `sync.expert` names an expert.

    Deviation: the paper's 0.05 is for SyncNet's raw vectors, whose squared distance is some tens (Sync-E 7 to 9,
    squared). A personal expert's have unit length and the distance lies in 0..4, so the same weight pulls some thirty
    times less. `tiny` and `fast` keep it: four times as much, when motion networks still learned from it, cost 1.9 dB
    around the mouth where this cost 0.6. `paper` has a tenth of it (`presets.PAPER` says why)."""


@dataclass(frozen=True)
class NormalLosses:
    """Weights of the rendered normal map in the face and emotion stages, where the subject has normal maps."""

    normal: float = 0.0
    """L1 of rendered and given normal map."""
    normal_cosine: float = 0.0
    """1 - cosine of rendered and given normal map: another interpretation of the paper's normal loss, which does not
    state how the maps are compared."""
    normal_tv: float = 0.0
    """Total variation of the rendered normal map."""

    @property
    def normals(self) -> bool:
        """True where rendered normals are compared."""
        return self.normal > 0 or self.normal_cosine > 0 or self.normal_tv > 0


@dataclass(frozen=True)
class PartLosses:
    """Weights of the parts of the face that are small and move most, in the face and emotion stages."""

    lips: float = 0.0
    """L1 and D-SSIM once more, on the lips' box alone. Lips are one pixel in forty, so without it a short face stage
    learns everything but them (on the demo's clip their opening correlates with the truth by -0.1 without and 0.8 with
    it), and an emotion stage loses their width; the published 50,000 iterations do without."""
    eyes: float = 0.0
    """The same on the box of both eyes: lids are one pixel in a hundred, and shut in one frame of twelve. Without it a
    short run leaves bits of iris standing in front of shut lids."""


@dataclass(frozen=True)
class MouthLosses(MotionLosses):
    """Weights of the mouth stage (S11, S12)."""

    silhouette: float = 1e-3
    """Alpha missing inside and present outside the lip box."""


@dataclass(frozen=True)
class FaceLosses(PartLosses, NormalLosses, MotionLosses):
    """Weights of the face stage (S13, S14)."""

    silhouette: float = 1e-3
    """Alpha missing inside and present outside face and hair."""
    attention: float = 0.0
    """Rendered attention where it does not belong, after warm-up: the action units' on the lips, and both maps on the
    hair in the iterations that compare it (`hair_every`)."""
    lpips_lips: float = 0.0
    """LPIPS of the lip box; the patches then leave that box out (docs/paper.md 7.2)."""
    normal_residual: float = 0.0
    """Mean absolute normal residual, where normals are compared."""

    @property
    def perceptual(self) -> bool:
        """See :class:`ImageLosses`."""
        return self.lpips > 0 or self.lpips_lips > 0


@dataclass(frozen=True)
class EmotionLosses(PartLosses, NormalLosses, MotionLosses):
    """Weights of the emotion stage (S15)."""

    growth: float = 1e-2
    """Square of the logarithm by which a Gaussian grows (`losses.growth`). Images are compared inside the face's box
    only: of Gaussians hidden in the hair, which no pixel of it holds back, one grew threefold without it and stood as a
    haze beside the head."""


@dataclass(frozen=True)
class FinetuneLosses(ImageLosses):
    """Weights of the fine-tune stage (S16)."""
