"""Face recognition by dlib's network, from the packages dlib-bin and face_recognition_models.

A residual network (29 layers, 128 outputs, D. E. King 2017) trained so that images of one person lie within 0.6 of
each other; .9938 on Labeled Faces in the Wild by its author. The code has the Boost licence, the weights are in the
public domain (CC0). Only ``dlib_face_recognition_resnet_model_v1.dat`` is read: the landmark predictor next to
it in that package was trained on iBUG 300-W, whose terms forbid commercial use.
"""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from emotalking.errors import InputError

WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
MISSING = "the packages dlib-bin and face_recognition_models are not installed: pip install 'emotalking[identity]'"
_SIDE, _PADDING = 150, 0.25
"""Side of the aligned training face, px, and the border around it, in faces."""


class FaceRecogniser:
    """Turns a face into a vector; the author's limit for the same person is a Euclidean distance of 0.6."""

    name = "dlib ResNet v1"
    """Name printed with every metric."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            InputError: a package is missing, or its file is damaged.
        """
        try:
            self._dlib: Any = importlib.import_module("dlib")
            weights = _weights()
        except ImportError as error:  # also what a missing distribution raises
            raise InputError(f"{MISSING}.") from error
        try:
            self._network = self._dlib.face_recognition_model_v1(str(weights))
        except RuntimeError as error:
            raise InputError(f"{weights} is not whole: reinstall face_recognition_models.") from error

    def describe(
        self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "68 2"]
    ) -> Float[np.ndarray, "128"]:
        """The vector of the face with these iBUG landmarks, px; dlib's own rule for 68 points aligns it."""
        # dlib counts from the middle of the first pixel, in whole pixels; a mean over the points follows.
        places = [self._dlib.point(int(x), int(y)) for x, y in np.rint(points - 0.5)]
        box = self._dlib.rectangle(0, 0, image.shape[1] - 1, image.shape[0] - 1)
        face = self._dlib.full_object_detection(box, places)
        chip = self._dlib.get_face_chip(np.ascontiguousarray(image), face, _SIDE, _PADDING)
        return np.array(self._network.compute_face_descriptor(chip), np.float64)


def _weights() -> Path:
    """The file in the installed package, which is not imported: its code needs a removed part of setuptools."""
    distribution = importlib.metadata.distribution("face_recognition_models")
    file = next((file for file in distribution.files or () if file.name == WEIGHTS), None)
    if file is None:
        raise InputError(f"face_recognition_models has no {WEIGHTS}: reinstall it.")
    return Path(str(distribution.locate_file(file)))
