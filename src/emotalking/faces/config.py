"""Options of the verbs that edit faces, without anything heavy: the command line is made from them."""

from dataclasses import dataclass

from emotalking.errors import InputError
from emotalking.options import Device, Faces, Generator, ValenceArousal


@dataclass(frozen=True)
class FaceConfig:
    """Generator of emotional faces."""

    generator: Generator = "mesh"
    faces: Faces = None
    gain: float | int = 1.0
    """strength from 0 to 1."""
    fixed_lips: bool = False
    """keep the corners of the mouth in place."""
    resting_expression: ValenceArousal = None
    """valence and arousal that the resting face already shows, taken away from every emotion; None: read from its
    mouth; 0,0: none."""
    device: Device = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.gain <= 1:
            raise InputError(f"gain {self.gain:g}: give a strength from 0 to 1; stronger faces would be caricature.")
        if self.resting_expression is not None and not all(-1 <= value <= 1 for value in self.resting_expression):
            shown = ",".join(f"{value:g}" for value in self.resting_expression)
            raise InputError(f"resting expression {shown}: give valence and arousal, each from -1 to 1.")
        if self.generator == "mesh" and self.faces is not None:
            raise InputError("'faces' is the file of the paper's generator: also choose generator 'paper'.")
        if self.generator == "paper" and (self.gain != 1 or self.fixed_lips or self.resting_expression is not None):
            raise InputError("gain, fixed lips and resting expression belong to the mesh warp: omit them.")
