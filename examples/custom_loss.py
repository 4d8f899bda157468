"""Train with a loss term of your own: python custom_loss.py SUBJECT AVATAR [KEY=VALUE ...].

The term here compares the image gradients of the rendered and the recorded face, so that edges count twice.
"""

import sys

from torch import Tensor

import emotalking
from emotalking.train.run import STAGES
from emotalking.train.stages.face import FaceStage
from emotalking.train.step import StepInputs

WEIGHT = 0.1


def gradient_difference(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical image gradients; images [1, H, W, 3] in [0, 1]."""
    error = image - target
    return error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()


class EdgeFaceStage(FaceStage):
    """The face stage with the gradient term; every term appears in the run's log and report."""

    def perceptual_terms(self, inputs: StepInputs, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms of the compared images besides L1 and D-SSIM."""
        terms = super().perceptual_terms(inputs, image, target)
        return terms | {"edges": WEIGHT * gradient_difference(image, target)}


STAGES.face = EdgeFaceStage

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    subject, avatar, *settings = sys.argv[1:]
    emotalking.train(subject, avatar, preset="tiny", settings=settings)
