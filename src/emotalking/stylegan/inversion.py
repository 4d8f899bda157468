"""Faces to styles and back: inversion by an encoder, and pivotal tuning of the generator.

Sources: Tov et al. 2021 (e4e, arXiv 2102.02766), Roich et al. 2021 (pivotal tuning, arXiv 2106.05744).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotalking.stylegan.critics import FaceCritics
from emotalking.stylegan.generator_losses import (
    emotion_loss,
    eye_rectangles,
    inside_loss,
    lip_rectangles,
    reconstruction_loss,
)
from emotalking.stylegan.lip_aligned import reduced
from emotalking.stylegan.stylegan2 import StyleGAN2, to_images
from emotalking.stylegan.training import Task, adam, weighted_sum

Distance = Callable[[Tensor, Tensor], Tensor]
"""Distance [B] per pair of two batches [B, S, S, 3] in [0, 1], such as LPIPS."""

DIRECTIONS = 256
"""Number of random directions along which sets of styles are compared."""
LOCALITY_STEP = 30.0
"""Pivotal tuning: distance in W at which the tuned generator is regularised to the original."""


def likeness(
    critics: FaceCritics, faces: Float[Tensor, "B S S 3"], made: Float[Tensor, "B S S 3"], ibug68: Tensor
) -> dict[str, Tensor]:
    """Distances of inversions from the recorded faces, by term.

    Colours and structure, colours of lips and eyes separately (small regions that carry most of the expression), and
    differences of the critics' outputs: landmark maps, emotion, identity.
    """
    with torch.no_grad():
        maps, emotion = critics.points(faces, ibug68).maps, critics.emotion(faces, ibug68)
        identity = critics.identity(faces, ibug68)
    size = faces.shape[1]
    return {
        "recorded": reconstruction_loss(faces, made),
        "lips": inside_loss(faces, made, lip_rectangles(ibug68, size)),
        "eyes": inside_loss(faces, made, eye_rectangles(ibug68, size)),
        "maps": (critics.points(made, ibug68).maps - maps).square().sum((2, 3)).mean(),
        "emotion": emotion_loss(critics.emotion(made, ibug68), emotion),
        "identity": (critics.identity(made, ibug68) - identity).square().sum(1).mean(),
    }


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
class Inversion:
    """Inputs of an encoder's training."""

    encoder: nn.Module
    """A ``StyleEncoder``."""
    critics: FaceCritics
    images: UInt8[Tensor, "N S S 3"]
    """Recorded faces."""
    ibug68: Float[Tensor, "N 68 2"]
    """Their landmarks, -1 to 1."""
    weights: InversionWeights = InversionWeights()

    def pick(self, count: int) -> tuple[Float[Tensor, "B S S 3"], Float[Tensor, "B 68 2"]]:
        """Recorded faces, colours in [0, 1], and their landmarks."""
        rows = torch.randint(len(self.images), (count,), device=self.images.device)
        return self.images[rows].float() / 255, self.ibug68[rows]

    def losses(
        self,
        faces: Float[Tensor, "B S S 3"],
        ibug68: Float[Tensor, "B 68 2"],
        styles: Float[Tensor, "B L D"],
        drawn: Float[Tensor, "B 3 S S"],
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of inversions, and their weighted sum."""
        terms = likeness(self.critics, faces, to_images(drawn, bounded=False), ibug68)
        # Penalise leaving W: edits keep their meaning near it (e4e, section 4).
        terms["spread"] = (styles - styles.mean(1, keepdim=True)).square().mean()
        return terms, weighted_sum(terms, self.weights)


class EncoderTask(Task):
    """Encoder and synthesis learn from recorded faces alone, as an autoencoder: the first phase of a small generator.

    An untrained generator gives its encoder no signal, and adversarial training is slow to start. Meanwhile the
    mapping learns to sample styles like the encoder's, by their sliced Wasserstein distance (Kolouri et al.
    2018, arXiv 1804.01947).
    """

    name = "encoder"

    def __init__(
        self,
        network: StyleGAN2,
        inversion: Inversion,
        *,
        batch: int = 32,
        rate: float = 1e-3,
        network_rate: float = 2.5e-3,
    ) -> None:
        """Train ``inversion.encoder`` and ``network`` by Adam, at these rates."""
        self._network = network
        self._inversion = inversion
        self._batch = batch
        self.modules = {"encoder": inversion.encoder, "network": network}
        self.optimizers = {
            "encoder": adam(inversion.encoder, rate, (0.9, 0.99)),
            "network": adam(network, network_rate, (0.9, 0.99)),
        }

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        faces, ibug68 = self._inversion.pick(self._batch)
        styles = self._inversion.encoder(faces)
        terms, total = self._inversion.losses(faces, ibug68, styles, self._network.synthesis(styles, "random"))
        random = self._network.mapping(torch.randn_like(styles[:, 0]))
        self._network.mapping.track(random.detach())
        terms["styles"] = style_distance(random, styles.detach().mean(1))
        self.update(total + terms["styles"])
        return terms


def style_distance(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared sliced Wasserstein distance of two sets of styles, over random directions."""
    rays = torch.randn(a.shape[1], DIRECTIONS, device=a.device)
    rays = rays / torch.linalg.vector_norm(rays, dim=0)
    return ((a @ rays).sort(0).values - (b @ rays).sort(0).values).square().mean()


class PivotalTask(Task):
    """Pivotal tuning: tune the synthesis to reproduce a person's faces from their fixed styles.

    Locality: at a fixed distance from a pivot towards a random style, the output is regularised to the original.
    """

    name = "pivotal"

    def __init__(
        self,
        network: StyleGAN2,
        faces: UInt8[Tensor, "N S S 3"],
        pivots: Float[Tensor, "N L D"],
        *,
        batch: int = 4,
        rate: float = 3e-4,
        locality: float = 0.1,
        perceptual: Distance | None = None,
    ) -> None:
        """Tune ``network.synthesis``.

        Args:
            network: the generator.
            faces: the person's aligned crops, at most as large as the generator's images.
            pivots: their styles.
            batch: faces a step.
            rate: Adam's (the publication's).
            locality: weight of the locality regulariser.
            perceptual: added to the squared difference, as published (LPIPS).
        """
        self._before = copy.deepcopy(network).requires_grad_(False)
        self._network = network
        self._faces = faces
        self._pivots = pivots
        self._batch = batch
        self._locality = locality
        self._perceptual = perceptual
        network.requires_grad_(False)
        self.modules = {"synthesis": network.synthesis.requires_grad_(True)}
        self.optimizers = {"synthesis": adam(network.synthesis, rate)}

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        device = self._faces.device
        rows = torch.randint(len(self._faces), (self._batch,), device=device)
        faces, pivots = self._faces[rows].float() / 255, self._pivots[rows]
        made = reduced(to_images(self._network.synthesis(pivots)), faces.shape[1])
        terms = {"recorded": (made - faces).square().mean() + reconstruction_loss(faces, made)}
        if self._perceptual is not None:
            terms["perceptual"] = self._perceptual(made, faces).mean()
        if self._locality:
            away = self._network.mapping(torch.randn(1, pivots.shape[2], device=device))[:, None]
            step = away - pivots[:1]
            between = pivots[:1] + LOCALITY_STEP * step / torch.linalg.vector_norm(step, dim=2, keepdim=True)
            with torch.no_grad():
                before = self._before.synthesis(between)
            terms["locality"] = (self._network.synthesis(between) - before).square().mean()
        weights = {"locality": self._locality}
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        self.update(total)
        return {name: term.detach() for name, term in terms.items()}
