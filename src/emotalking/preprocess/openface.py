"""Action units that OpenFace measured: its CSV onto the frames of a subject."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import read_table
from emotalking.errors import InputError
from emotalking.preprocess.action_units import ALL_AUS

NEEDED = (*MODEL_AUS, "AU25")
"""Units without which no avatar can be trained (docs/paper.md 1.3)."""
SPARE_ROWS = 2
"""OpenFace and we may count this many frames more or less than each other: decoders disagree at the ends of a clip."""
MOST_FAILED = 0.5
"""Share of rows without a face beyond which the table is refused; shorter gaps are bridged."""


def read_openface(
    path: str | Path, num_frames: int, fps: float | int | Fraction = 25, begin_s: float | int = 0.0
) -> dict[str, Float[np.ndarray, " N"]]:
    """Intensities per frame from a CSV that OpenFace's FeatureExtraction wrote, by name.

    Names may begin with a space or not. Of several faces the one that was tracked longest is taken. Rows that OpenFace
    marks as failed are bridged from their neighbours. Time stamps, where the table has them, align the rows to the
    frames, so that a table made at another frame rate is resampled; without them a row is a frame.

    Args:
        path: the CSV.
        num_frames: frames of the subject, N.
        fps: its frame rate.
        begin_s: time in OpenFace's clip of the subject's first frame.

    Returns:
        Every unit of :data:`~emotalking.preprocess.action_units.ALL_AUS` that the table has, 0..5, each [N].

    Raises:
        InputError: if the file is no such table, lacks a unit that training needs, covers too little of the clip, or
            failed in most of it.
    """
    table = read_table(Path(path))
    units = {name: table[f"{name}_r"] for name in ALL_AUS if f"{name}_r" in table}
    missing = [f"{name}_r" for name in NEEDED if name not in units]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; run OpenFace's FeatureExtraction with -aus.")
    rows = np.stack(list(units.values()), 1)
    good = np.isfinite(rows).all(1) & (table.get("success", np.ones(len(rows))) > 0)
    chosen = _main_face(table, good)
    if not chosen.any() or good[chosen].mean() < 1 - MOST_FAILED:
        found = int(good[chosen].sum())
        raise InputError(
            f"{path}: OpenFace found a face in {found} of {int(chosen.sum())} rows; run it on the clip to be prepared."
        )
    at = _places(Path(path), table, chosen, num_frames, float(fps), float(begin_s))
    usable = good & chosen
    wanted = np.arange(num_frames)
    return {
        name: np.clip(np.interp(wanted, at[usable], values[usable]), 0, 5).astype(np.float64)
        for name, values in units.items()
    }


def _main_face(table: dict[str, np.ndarray], good: np.ndarray) -> np.ndarray:
    """Rows of the face that was tracked in the most frames."""
    faces = table.get("face_id")
    if faces is None:
        return np.ones(len(good), bool)
    ids = np.unique(faces)
    return faces == ids[int(np.argmax([(good & (faces == one)).sum() for one in ids]))]


def _places(
    path: Path, table: dict[str, np.ndarray], chosen: np.ndarray, num_frames: int, fps: float, begin_s: float
) -> np.ndarray:
    """Position of each row on the subject's frames (0 is the first frame)."""
    times, numbers = table.get("timestamp"), table.get("frame")
    count = int(chosen.sum())
    steps = np.array([]) if times is None else np.diff(times[chosen])
    if times is not None and count > 1 and np.isfinite(steps).all() and (steps > 0).all():
        at = (times - begin_s) * fps
        # Stamps are rounded to milliseconds; a row a frame long reaches half a frame beyond its stamp.
        if at[chosen][0] > SPARE_ROWS or at[chosen][-1] < num_frames - 1 - SPARE_ROWS * max(steps.mean() * fps, 1):
            first, last = times[chosen][0], times[chosen][-1]
            raise InputError(
                f"{path} covers {first:.2f}-{last:.2f} s of its clip, but the subject lasts from {begin_s:.2f} to "
                f"{begin_s + num_frames / fps:.2f} s; run OpenFace on the whole clip."
            )
        return at
    if numbers is not None and np.isfinite(numbers).all() and (np.diff(numbers[chosen]) > 0).all():
        at, total = numbers - 1, int(numbers.max())
    else:
        at, total = np.cumsum(chosen) - 1, count
    if abs(total - num_frames) > SPARE_ROWS:
        raise InputError(
            f"{path} has {total} frames and no time stamps, the subject {num_frames}; run OpenFace on the same clip at "
            f"{fps:g} frames/s."
        )
    return at
