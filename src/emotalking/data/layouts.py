"""Meaning of the points of a landmark set."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from emotalking.io.reading import parse_json

Points = TypeVar("Points")
"""An array or a tensor: this module does not load PyTorch for a type, and with it ``info`` and ``validate``."""
_IRISES = ("right_iris", "left_iris")
EYE_DISTANCE = 0.063
"""World units between the eye centres (docs/conventions.md)."""


@dataclass(frozen=True)
class FaceLayout:
    """Named index groups into a landmark set of K points, so that no code depends on one detector's numbering.

    "Right" and "left" are the *person's*; the person's right is on the image's left. Lids run from the outer to the
    inner corner and contain both corners; loops are closed implicitly (last joins first).
    """

    name: str
    right_upper_lid: tuple[int, ...]
    right_lower_lid: tuple[int, ...]
    left_upper_lid: tuple[int, ...]
    left_lower_lid: tuple[int, ...]
    right_brow: tuple[int, ...]
    left_brow: tuple[int, ...]
    lips_outer: tuple[int, ...]
    """Loop; starts at the person's right corner and goes over the upper lip."""
    lips_inner: tuple[int, ...]
    """Loop; starts at the person's right corner and goes over the upper lip."""
    oval: tuple[int, ...]
    """Loop around the face, starting at the top of the forehead."""
    nose: tuple[int, ...]
    """Bridge from top to tip."""
    right_iris: tuple[int, ...]
    """Centre first, then the rim; empty where the detector has no irises."""
    left_iris: tuple[int, ...]
    rigid: tuple[int, ...]
    """Points that move with the skull only (nose bridge, eye corners, temples): the head pose rests on them."""
    ibug68: tuple[int, ...]
    """68 indices in iBUG order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 lips)."""

    def eye_centres(self, points: Points) -> tuple[Points, Points]:
        """Middles of the lids of the person's right and left eye: the ends of the eye distance.

        Args:
            points: a landmark set of this layout [*B, K, D], array or tensor, in any frame and unit.

        Returns:
            Right and left [*B, D], in that frame. The corners count twice, once with each lid.
        """
        every: Any = points
        right = every[..., [*self.right_upper_lid, *self.right_lower_lid], :].mean(-2)
        left = every[..., [*self.left_upper_lid, *self.left_lower_lid], :].mean(-2)
        return right, left

    def eye_loop(self, side: str) -> tuple[int, ...]:
        """Indices of the outline of the "right" or "left" eye: upper lid from the outer corner in, lower lid back."""
        upper, lower = getattr(self, f"{side}_upper_lid"), getattr(self, f"{side}_lower_lid")
        return (*upper, *[i for i in reversed(lower) if i not in upper])

    def to_json(self) -> str:
        """The layout as JSON text, for storage with the points."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "FaceLayout":
        """Inverse of :meth:`to_json`; :meth:`check` compares it with a landmark set.

        Raises:
            ValueError, TypeError, KeyError, RecursionError: it is malformed.
        """
        groups = parse_json(text, dict)
        name = str(groups.pop("name"))
        return cls(name=name, **{key: tuple(int(i) for i in value) for key, value in groups.items()})

    def check(self, count: int) -> None:
        """Refuse a layout that does not belong to sets of ``count`` points.

        Raises:
            ValueError: an index beyond them, or a group without the points that it needs.
        """
        for group in fields(self):
            indices = getattr(self, group.name)
            if group.name != "name" and not all(0 <= index < count for index in indices):
                raise ValueError(f"{group.name}: an index beyond {count} points")
            if group.name not in ("name", *_IRISES) and not indices:
                raise ValueError(f"{group.name}: no points")
        if len(self.ibug68) != 68:
            raise ValueError(f"ibug68: {len(self.ibug68)} points")


IBUG68 = FaceLayout(
    name="ibug68",
    right_upper_lid=(36, 37, 38, 39),
    right_lower_lid=(36, 41, 40, 39),
    left_upper_lid=(45, 44, 43, 42),
    left_lower_lid=(45, 46, 47, 42),
    right_brow=(17, 18, 19, 20, 21),
    left_brow=(26, 25, 24, 23, 22),
    lips_outer=tuple(range(48, 60)),
    lips_inner=tuple(range(60, 68)),
    # iBUG knows no forehead: the loop closes along the brows.
    oval=(22, 23, 24, 25, 26, *range(16, -1, -1), 17, 18, 19, 20, 21),
    nose=(27, 28, 29, 30),
    right_iris=(),
    left_iris=(),
    # The jaw points slide along the contour when the head turns, so none of them is rigid.
    rigid=(27, 28, 29, 30, 36, 39, 42, 45),
    ibug68=tuple(range(68)),
)
"""The 68 points of the ``.lms`` files (iBUG / FAN numbering)."""

MODEL_AUS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
"""Action units that drive the face branch, in this order (docs/paper.md 1.3)."""
