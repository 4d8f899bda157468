"""Interface of generators of emotional faces (docs/paper.md 12.2)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class GeneratedFaces:
    """The source frames with another expression; size, pose, background and speech are those of the source."""

    images: Float[Tensor, "B H W 3"]
    """RGB in [0, 1]."""
    labels: UInt8[Tensor, "B H W"]
    """Parsing of the new images, :class:`emotalking.data.labels.Label`."""
    landmarks: Float[Tensor, "B K 2"]
    """Landmarks of the new images, (x, y) in pixels."""
    normals: Float[Tensor, "B H W 3"] | None = None
    """Unit normals of the new faces in camera space, zero where unknown; None where none were given."""
    kept: Bool[Tensor, "B"] | None = None
    """True for frames that could not be edited and stayed as they were; None: all were edited."""
    coverage: Float[Tensor, "B H W"] | None = None
    """How much of each pixel of the new images the head covers; None where none was given."""


@runtime_checkable
class EmotionGenerator(Protocol):
    """Turns frames of a person into lip-aligned frames of the same person with a commanded emotion."""

    @property
    def name(self) -> str:
        """Name of the method, written into the run's record."""
        ...

    def __call__(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
        va: Float[Tensor, "B 2"],
        normals: Float[Tensor, "B H W 3"] | None = None,
        coverage: Float[Tensor, "B H W"] | None = None,
    ) -> GeneratedFaces:
        """Edit a batch.

        Args:
            images: RGB in [0, 1].
            landmarks: points of the subject's layout, (x, y) in pixels.
            labels: parsing classes of the images.
            viewmats: world-to-camera poses, OpenCV axes.
            va: commanded valence and arousal in [-1, 1].
            normals: unit normals of the images in camera space, zero where unknown.
            coverage: how much of each pixel the head covers, in [0, 1].
        """
        ...
