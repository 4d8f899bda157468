"""Facial action units from landmarks or from OpenFace's table, in OpenFace's unit (intensity 0 to 5).

The points are carried back into the head frame with the solved pose, so that a turning head moves no unit; there, a few
distances between lids, brows, cheeks and lips are compared with the same person's own resting face in the same clip.

Deviation: the paper runs OpenFace, whose licence forbids shipping it and whose models need a download; an ``au.csv``
that OpenFace wrote can replace it (:func:`read_openface`).
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, percentile_filter
from scipy.signal import savgol_filter

from emotalking.data.blink import AU45_CLOSED, AU45_OPEN, NARROWED, OPENING_CLOSED
from emotalking.data.layouts import MODEL_AUS, FaceLayout
from emotalking.data.readers import read_table
from emotalking.errors import InputError
from emotalking.preprocess.face_measures import CHUNK, Rest, Sided, head_angles, measure

ALL_AUS = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23",
    "AU25", "AU26", "AU45",
)  # fmt: skip
"""The units whose intensity OpenFace gives, in its order."""

NEEDED = (*MODEL_AUS, "AU25")
"""Units without which no avatar can be trained (docs/paper.md 1.3)."""
SPARE_ROWS = 2
"""OpenFace and we may count this many frames more or less than each other: decoders disagree at the ends of a clip."""
MOST_FAILED = 0.5
"""Share of rows without a face beyond which the table is refused; shorter gaps are bridged."""
_UPPER = ("inner_brow", "outer_brow", "brow_gap", "upper_lid", "lower_lid", "cheek", "frown")
_MOUTH = ("wing", "nose_lip", "corner", "width", "smile", "gap", "thick_upper", "thick_lower", "lower_lip", "shrug")
_SPEECH_S = 0.15
"""Standard deviation of the low-pass that takes words out of the mouth's expressive units: syllables (4 Hz) lose all,
a smile that comes and goes in a second little."""


def head_points(
    points: Float[np.ndarray, "N K 2"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    shape: Float[np.ndarray, "K 3"],
    size: tuple[int, int],
) -> Float[np.ndarray, "N K 3"]:
    """Landmarks in the head frame: each pixel is carried back to the depth of its neutral point.

    Args:
        points: pixels.
        viewmats: head to camera.
        focal: pixels.
        shape: neutral face.
        size: image (height, width).
    """
    rotation, translation = viewmats[:, :3, :3], viewmats[:, :3, 3]
    depth = np.einsum("nj,kj->nk", rotation[:, 2], shape) + translation[:, 2:]
    xy = (points - np.array([size[1] / 2, size[0] / 2])) / focal * depth[..., None]
    camera = np.concatenate([xy, depth[..., None]], -1) - translation[:, None]
    return np.einsum("nij,nki->nkj", rotation, camera)


def lid_opening(head: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, "N 2"]:
    """Mean height of each eye's opening over its width; (person's right, left)."""
    sides = []
    for upper, lower in (
        (layout.right_upper_lid, layout.right_lower_lid),
        (layout.left_upper_lid, layout.left_lower_lid),
    ):
        width = np.linalg.norm(head[:, upper[0], :2] - head[:, upper[-1], :2], axis=-1)
        gap = np.mean([head[:, u, 1] - head[:, low, 1] for u, low in zip(upper[1:-1], lower[1:-1], strict=True)], 0)
        sides.append(gap / np.maximum(np.nanmedian(width), 1e-6))
    return np.stack(sides, -1)


def raw_opening(
    points: Float[np.ndarray, "N K 2"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    shape: Float[np.ndarray, "K 3"],
    size: tuple[int, int],
    layout: FaceLayout,
) -> Float[np.ndarray, "N 2"]:
    """:func:`lid_opening` of landmarks as detected, in pixels; frames without a face are bridged.

    Args: as :func:`head_points`; memory stays flat when ``points`` is memory-mapped.
    """
    out = np.empty((len(points), 2))
    for begin in range(0, len(points), CHUNK):
        part = slice(begin, begin + CHUNK)
        out[part] = lid_opening(head_points(points[part], viewmats[part], focal, shape, size), layout)
    good = np.flatnonzero(np.isfinite(out).all(1))
    return np.stack([np.interp(np.arange(len(out)), good, side[good]) for side in out.T], 1)


def action_units(
    head: Float[np.ndarray, "N K 3"],
    viewmats: Float[np.ndarray, "N 4 4"],
    layout: FaceLayout,
    fps: float | int = 25,
    opening: Float[np.ndarray, "N 2"] | None = None,
    rest: Rest | None = None,
) -> dict[str, Float[np.ndarray, " N"]]:
    """Intensities 0..5 of :data:`ALL_AUS` and of AU43, each [N].

    AU43 (lids that droop for longer than a blink) is in no table of OpenFace; the emotion estimator reads it.

    Args:
        head: landmarks in the head frame (:func:`head_points`), world units.
        viewmats: head to camera; what the landmarks wrongly do with the head's pose is taken out.
        layout: names the points.
        fps: frame rate.
        opening: of the eyes before the landmarks were smoothed over time (:func:`raw_opening`), for the blink: the
            filter closes one that lasts a single frame only by half, and the detector closes some a frame late, so the
            smaller opening of both is nearest to the image.
        rest: of the same person, from another clip; None: of these frames.
    """
    eyes = lid_opening(head, layout)
    if opening is not None:
        eyes = np.minimum(eyes, opening)
    measures, angles = measure(head, layout), head_angles(viewmats)
    rest = Rest.fit(measures, angles, layout, fps) if rest is None else rest
    return units_from_rest(measures, angles, eyes, rest, fps)


def units_from_rest(
    measures: dict[str, Sided],
    angles: Float[np.ndarray, "N 2"],
    eyes: Float[np.ndarray, "N 2"],
    rest: Rest,
    fps: float | int = 25,
) -> dict[str, Float[np.ndarray, " N"]]:
    """:func:`action_units` of frames that follow one another, against a rest that is known from elsewhere.

    Args:
        measures: of :func:`~emotalking.preprocess.face_measures.measure`, finite.
        angles: of :func:`~emotalking.preprocess.face_measures.head_angles`.
        eyes: of :func:`lid_opening`.
        rest: the same person's, from the same detector.
        fps: frame rate.
    """
    right = np.clip(0.5 + angles[:, 0] / np.radians(40), 0, 1)
    blink = _blink(eyes[:, 0] * right + eyes[:, 1] * (1 - right), fps)
    moved = rest.change(measures, angles)
    # Lids and cheeks carry no information during a blink: hold the previous value.
    open_frames = np.flatnonzero(maximum_filter1d(blink, 5) < AU45_OPEN)
    upper = {name: _calm(_bridged(moved[name], open_frames), fps) for name in moved if name in _UPPER}
    mouth = {name: gaussian_filter1d(moved[name], _SPEECH_S * fps, mode="nearest") for name in moved if name in _MOUTH}
    scores = _upper_face(upper) | _mouth_at_rest(mouth, upper) | _mouth_open(moved)
    return {name: np.clip(value, 0, 1) * 5.0 for name, value in sorted(scores.items())} | {"AU45": blink}


def _part(values: np.ndarray, noise: float, full: float) -> np.ndarray:
    """Movement as a share of intensity 5: 0 up to ``noise``, 1 at ``full``, more beyond."""
    return np.maximum(values - noise, 0) / (full - noise)


def _upper_face(moved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Brows, lids, cheeks."""
    inner, outer = moved["inner_brow"], moved["outer_brow"]
    # The outer brow carries half of its rise to the inner end.
    inner = inner - 0.55 * np.maximum(outer, 0)
    opening = moved["upper_lid"] - moved["lower_lid"]
    tight = _part(moved["lower_lid"] + 0.35 * np.maximum(-opening, 0), 0.8, 4.0)
    lowered = _part(-inner, 1.5, 9.0) + _part(-moved["brow_gap"], 1.0, 6.0)
    if "frown" in moved:  # lengths see brows that stay lowered, blendshapes those that are drawn together
        lowered = np.maximum(lowered, _part(moved["frown"], 0.7, 5.0))
    cheek = moved.get("cheek", 2 * moved["lower_lid"])
    return {
        "AU01": _part(inner, 1.5, 8.0),
        "AU02": _part(outer, 2.0, 12.0),
        "AU04": lowered,
        "AU05": _part(opening, 1.0, 5.5),
        "AU06": _part(0.7 * cheek + 0.6 * moved["lower_lid"], 0.7, 5.5),
        "AU07": tight,
        # A lowered brow or a tightened eye lowers the lid.
        "AU43": _part(-moved["upper_lid"], 0.7, 4.0) * (1 - np.clip(lowered + tight, 0, 1)),
    }


def _mouth_at_rest(moved: dict[str, np.ndarray], upper: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lips, nose and chin apart from speech."""
    corner = moved["corner"]
    width = moved["width"]
    shut = 1 - np.clip(moved["gap"] / 10, 0, 1)
    smile = np.maximum(corner, 0)
    # A smile widens the mouth by a third more than it lifts the corners; what is wider than that is a stretch.
    stretch = width - 1.35 * smile
    # It also lifts the nose's wings and the upper lip.
    wing, lip = moved["wing"] - 0.3 * np.maximum(moved["smile"], 0), -moved["nose_lip"] - 0.2 * smile
    thin = -(moved["thick_upper"] + moved["thick_lower"])
    nose = _part(wing, 1.5, 8.0)
    # Lips drawn apart with their corners down are no smile.
    smiling = _part(moved["smile"], 2.0, 25.0) * np.clip(1.3 + corner / 4, 0, 1)
    frank = np.clip(1.5 * smiling, 0, 1)
    return {
        "AU09": nose * (0.5 + 0.5 * np.clip(_part(-upper["inner_brow"], 0.0, 4.0), 0, 1)),
        "AU10": _part(lip, 1.5, 12.0),
        "AU12": smiling,
        "AU14": _part(stretch, 2.0, 14.0) * shut * (1 - frank),
        "AU15": _part(-corner, 1.5, 14.0) * (1 - frank),
        "AU17": _part(moved["shrug"], 0.5, 5.0) if "shrug" in moved else _part(moved["lower_lip"], 3.0, 12.0) * shut,
        "AU20": _part(stretch, 2.0, 16.0) * (1 - 0.5 * shut) * (1 - frank),
        "AU23": _part(thin, 1.5, 8.0) * shut,
    }


def _mouth_open(moved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lips apart and jaw down, frame by frame: these are speech."""
    gap = moved["gap"]
    jaw = 0.5 * np.clip(_part(-moved["chin"], 1.0, 20.0), 0, 1) + 0.5 * np.clip(_part(gap, 2.0, 35.0), 0, 1)
    return {"AU25": _part(gap, 1.0, 32.0), "AU26": jaw * np.clip(gap / 5, 0, 1)}


def _blink(opening: np.ndarray, fps: float | int) -> np.ndarray:
    """AU45 from the eyes' opening, against the usual opening around each frame.

    That follows slow changes (a gaze that goes down lowers the lids for long; a blink lasts a fifth of a second).
    """
    window = max(int(1.6 * fps) | 1, 3)
    rest = percentile_filter(opening, 75, size=min(window, len(opening)), mode="nearest")
    rest = np.asarray(savgol_filter(rest, window, 1)) if len(rest) > window else rest
    usual = float(np.median(rest))
    rest = np.clip(rest, 0.5 * usual, 1.3 * usual)
    # Closed eyes of this person: the deepest blinks, if there are any; detectors report a slit.
    closed = min(float(np.percentile(opening, 0.5)), OPENING_CLOSED * usual)
    shut = (rest - opening) / np.maximum(rest - closed, 1e-6)
    return np.clip((shut - NARROWED) / (1 - NARROWED), 0, 1) * AU45_CLOSED


def _bridged(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Straight lines over all frames but the good ones."""
    return np.interp(np.arange(len(values)), good, values[good]) if len(good) >= 2 else values


def _calm(values: np.ndarray, fps: float | int) -> np.ndarray:
    """Smooth over a third of a second."""
    window = max(int(fps / 3) | 1, 5)
    return np.asarray(savgol_filter(values, window, 2)) if len(values) > window else values


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
        Every unit of :data:`ALL_AUS` that the table has, 0..5, each [N].

    Raises:
        InputError: if the file is no such table, lacks a unit that training needs, covers too little of the clip, or
            failed in most of it.
    """
    table = openface_table(path)
    units = {name: table[f"{name}_r"] for name in ALL_AUS if f"{name}_r" in table}
    rows = np.stack(list(units.values()), 1)
    good = np.isfinite(rows).all(1) & (table.get("success", np.ones(len(rows))) > 0)
    chosen = _main_face(table, good)
    if not chosen.any() or good[chosen].mean() < 1 - MOST_FAILED:
        found = int(good[chosen].sum())
        raise InputError(
            f"{path}: OpenFace found a face in {found} of {int(chosen.sum())} rows; run it on the clip to be prepared."
        )
    at = _rows_on_frames(Path(path), table, chosen, num_frames, float(fps), float(begin_s))
    usable = good & chosen
    wanted = np.arange(num_frames)
    return {
        name: np.clip(np.interp(wanted, at[usable], values[usable]), 0, 5).astype(np.float64)
        for name, values in units.items()
    }


def openface_table(path: str | Path) -> dict[str, Float[np.ndarray, " R"]]:
    """Columns of a CSV that OpenFace's FeatureExtraction wrote, R rows.

    Raises:
        InputError: if the file is no such table, or lacks a unit that training needs.
    """
    table = read_table(Path(path), "give the CSV that OpenFace wrote")
    missing = [f"{name}_r" for name in NEEDED if f"{name}_r" not in table]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; run OpenFace's FeatureExtraction with -aus.")
    return table


def _main_face(table: dict[str, np.ndarray], good: np.ndarray) -> np.ndarray:
    """Rows of the face that was tracked in the most frames."""
    faces = table.get("face_id")
    if faces is None:
        return np.ones(len(good), bool)
    ids = np.unique(faces)
    return faces == ids[int(np.argmax([(good & (faces == one)).sum() for one in ids]))]


def _rows_on_frames(
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
