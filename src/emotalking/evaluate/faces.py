"""Faces found in the frames of a run, by one detector that reads every frame in order."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

from emotalking.data import Subject
from emotalking.data.layouts import FaceLayout
from emotalking.ops.geometry import fit_similarity, similarity_matrix
from emotalking.preprocess.action_units import head_points, lid_opening, units_from_rest
from emotalking.preprocess.face_measures import Rest, head_angles, measure
from emotalking.preprocess.landmarks import LandmarkProvider
from emotalking.preprocess.pose.rigid import head_frame

REST_FRAMES = 3000
"""Frames of a clip, evenly spread, that define the resting face."""
DETECTED_REST_FRAMES = 300
"""Number of such frames if the detector must process them again."""
_AHEAD = 8
"""Frames that may wait for the detector."""
_FACE, _BLOCKS = 128, 8
"""Side of the aligned face in pixels, and blocks a side whose brightness is stored."""

_JUMP = 0.15
"""Change of valence or arousal between frames that no face makes."""

Then = Callable[[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "68 2"] | None], None]
"""Takes a frame and its landmarks, None where no face was found."""
Describe = Callable[[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "68 2"]], Float[np.ndarray, " F"]]
"""Description of a face by a model: from the frame and its landmarks to some numbers."""


@dataclass(frozen=True)
class FaceDescriber:
    """A model that describes faces."""

    describe: Describe
    every: int = 1
    """Stride in frames, from the first on."""


@dataclass(frozen=True)
class FaceReference:
    """Reference of a subject for one detector: neutral shape and resting face."""

    layout: FaceLayout
    shape: Float[np.ndarray, "K 3"]
    """Neutral landmarks, head frame."""
    focal: float
    size: tuple[int, int]
    """(height, width) of the frames."""
    rest: Rest

    @classmethod
    def of(cls, subject: Subject, provider: LandmarkProvider) -> "FaceReference | None":
        """Fit to the folder's own landmarks if they are of the same kind of detector, else detect them in its frames.

        Returns:
            None if no face is found in them.
        """
        track, rate = subject.landmarks, float(subject.fps)
        if track.layout.name == provider.layout.name and track.shape is not None:
            stride = -(-subject.num_frames // REST_FRAMES)
            used = np.flatnonzero(track.detected)[::stride]
            points, views = track.points[used].astype(np.float64), subject.viewmats[used].astype(np.float64)
            size, shape = (subject.height, subject.width), track.shape.astype(np.float64)
            return cls._resting(provider.layout, shape, subject.focal, size, points, views, rate / stride)
        stride = -(-subject.num_frames // DETECTED_REST_FRAMES)
        images = (subject.target(index) for index in range(0, subject.num_frames, stride))
        return cls.from_frames(images, provider, subject.focal, rate / stride)

    @classmethod
    def from_frames(
        cls,
        images: Iterable[UInt8[np.ndarray, "H W 3"]],
        provider: LandmarkProvider,
        focal: float,
        fps: float | int,
    ) -> "FaceReference | None":
        """Fit to the frames of an unprepared clip.

        Args:
            focal: of the camera, pixels.
            fps: of these frames.

        Returns:
            None if no face is found in them.
        """
        found, size = [], (0, 0)
        for image in images:
            size = (image.shape[0], image.shape[1])
            found.append(provider.detect(image))
        detected = np.array([face for face in found if face is not None], np.float64)
        if len(detected) == 0:
            return None
        points, shape = detected[..., :2], _mean_shape(detected, provider.layout)
        views = np.stack([_pose(face, shape, focal, size, provider.layout) for face in points])
        return cls._resting(provider.layout, shape, focal, size, points, views, fps)

    @classmethod
    def _resting(
        cls,
        layout: FaceLayout,
        shape: Float[np.ndarray, "K 3"],
        focal: float,
        size: tuple[int, int],
        points: Float[np.ndarray, "N K 2"],
        views: Float[np.ndarray, "N 4 4"],
        fps: float | int,
    ) -> "FaceReference":
        head = head_points(points, views, focal, shape, size)
        rest = Rest.fit(measure(head, layout), head_angles(views), layout, fps)
        return cls(layout, shape, focal, size, rest)


def _mean_shape(faces: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, "K 3"]:
    """Mean face in the head frame, after alignment by the points on the skull."""
    upright = faces * np.array([1.0, -1.0, -1.0])
    rigid, mean = list(layout.rigid), upright[0]
    for _ in range(3):
        scale, rotation, offset = fit_similarity(mean[rigid], upright[:, rigid])
        mean = (np.einsum("nij,nki->nkj", rotation, upright - offset[:, None]) / scale[:, None, None]).mean(0)
    scale, rotation, offset = head_frame(mean, layout)
    return scale * mean @ rotation.T + offset


def _pose(
    points: Float[np.ndarray, "K 2"],
    shape: Float[np.ndarray, "K 3"],
    focal: float,
    size: tuple[int, int],
    layout: FaceLayout,
) -> Float[np.ndarray, "4 4"]:
    """Head to camera, by the points that move with the skull."""
    rigid = list(layout.rigid)
    camera = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])
    flags = cv2.SOLVEPNP_SQPNP
    _, turn, shift = cv2.solvePnP(shape[rigid], np.ascontiguousarray(points[rigid]), camera, None, flags=flags)
    turn, shift = cv2.solvePnPRefineLM(shape[rigid], np.ascontiguousarray(points[rigid]), camera, None, turn, shift)
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return viewmat


@dataclass(frozen=True)
class Faces:
    """Faces of N frames; nan (False) where no face was found."""

    found: Bool[np.ndarray, " N"]
    points: Float[np.ndarray, "N 68 2"]
    """iBUG landmarks as detected, px."""
    rigid: Float[np.ndarray, "N R 2"]
    """Landmarks on the skull, px."""
    angles: Float[np.ndarray, "N 2"]
    """Yaw and pitch, radians."""
    eyes: Float[np.ndarray, "N 2"]
    """Opening over width of the person's right and left eye."""
    measures: dict[str, Float[np.ndarray, "N S"]]
    """Lengths on the face (:mod:`emotalking.preprocess.face_measures`)."""
    tones: Float[np.ndarray, "N B B"]
    """Mean brightness (0..255) of blocks of the face, which move with the head."""
    descriptions: dict[str, Float[np.ndarray, "N F"]]
    """Descriptions by each model; none of a model that never saw a face."""

    def units(self, rest: Rest, runs: Sequence[slice], fps: float | int) -> dict[str, Float[np.ndarray, " N"]]:
        """Action units by name, 0..5, each run for itself; frames without a face are bridged to filter, then nan."""
        out: dict[str, np.ndarray] = {}
        for run in runs:
            found = self.found[run]
            if not found.any():
                continue

            def bridged(values: np.ndarray, run: slice = run, found: np.ndarray = found) -> np.ndarray:
                places, good = np.arange(len(found)), np.flatnonzero(found)
                return np.stack([np.interp(places, good, column[good]) for column in values[run].T], 1)

            measures = {name: bridged(values) for name, values in self.measures.items()}
            units = units_from_rest(measures, bridged(self.angles), bridged(self.eyes), rest, fps)
            for name, values in units.items():
                out.setdefault(name, np.full(len(self.found), np.nan))[run] = np.where(found, values, np.nan)
        return out


class Detection(NamedTuple):
    """Detection of one face, arrays by name; each name becomes a row of :class:`Faces`."""

    own: dict[str, np.ndarray]
    """Fields of :class:`Faces` of the same names."""
    measures: dict[str, np.ndarray]
    descriptions: dict[str, np.ndarray]


class MirroredFrames:
    """A detector that is given every frame mirrored: how far its points then differ from the usual ones is its error.

    Its points lie in the mirrored image and have the other side's names. Lengths that both sides share, as the gap of
    the lips, are those of the frame.
    """

    def __init__(self, provider: LandmarkProvider) -> None:
        self._provider = provider
        self.name = f"{provider.name}, mirrored"
        self.layout = provider.layout

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """See :class:`emotalking.preprocess.landmarks.LandmarkProvider`."""
        return self._provider.detect(np.ascontiguousarray(image[:, ::-1]))

    def detect_many(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Float32[np.ndarray, "K 3"] | None]:
        """See :class:`emotalking.preprocess.landmarks.LandmarkProvider`."""
        return self._provider.detect_many([np.ascontiguousarray(image[:, ::-1]) for image in images])

    def close(self) -> None:
        """See :class:`emotalking.preprocess.landmarks.LandmarkProvider`."""
        self._provider.close()


class FaceObserver:
    """Detect faces frame by frame in a separate thread, with a short queue; store a few numbers per frame."""

    def __init__(
        self,
        reference: FaceReference,
        provider: Callable[[], LandmarkProvider],
        describers: Mapping[str, FaceDescriber] | None = None,
        then: Then | None = None,
    ) -> None:
        """Set up the observer.

        Args:
            reference: the subject.
            provider: makes the detector, which follows the face from frame to frame.
            describers: by name; called with faces by the observer's thread.
            then: called with every frame in order, in the caller's thread, a few frames late.
        """
        self._reference = reference
        self._make = provider
        self._then = then
        self._describers = dict(describers or {})
        self._num_frames = 0
        self._provider: LandmarkProvider | None = None
        self._worker = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[np.ndarray, Future[Detection | None]]] = deque()
        self._rows: list[Detection | None] = []

    def add(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Hand the next frame to the detector's thread."""
        self._waiting.append((image, self._worker.submit(self._read, image, self._num_frames)))
        self._num_frames += 1
        if len(self._waiting) >= _AHEAD:
            self._take()

    def _take(self) -> None:
        image, read = self._waiting.popleft()
        row = read.result()
        self._rows.append(row)
        if self._then is not None:
            self._then(image, None if row is None else row.own["points"])

    def close(self) -> None:
        """Free the detector; no more frames can be added."""
        self._worker.shutdown(cancel_futures=True)
        if self._provider is not None:
            self._provider.close()
            self._provider = None

    def faces(self) -> Faces | None:
        """Return all detections, None if there are none, and close the observer."""
        while self._waiting:
            self._take()
        self.close()
        if all(row is None for row in self._rows):
            return None
        return Faces(
            found=np.array([row is not None for row in self._rows]),
            measures=_columns([None if row is None else row.measures for row in self._rows]),
            descriptions=_columns([None if row is None else row.descriptions for row in self._rows]),
            **_columns([None if row is None else row.own for row in self._rows]),
        )

    def _read(self, image: UInt8[np.ndarray, "H W 3"], number: int) -> Detection | None:
        if self._provider is None:
            self._provider = self._make()
        face = self._provider.detect(image)
        if face is None:
            return None
        r = self._reference
        points = face[:, :2].astype(np.float64)
        viewmat = _pose(points, r.shape, r.focal, r.size, r.layout)[None]
        head = head_points(points[None], viewmat, r.focal, r.shape, r.size)
        ibug, rigid = points[list(r.layout.ibug68)], points[list(r.layout.rigid)]
        own = {
            "points": ibug,
            "rigid": rigid,
            "angles": head_angles(viewmat)[0],
            "eyes": lid_opening(head, r.layout)[0],
            "tones": face_tones(image, rigid, r.shape[list(r.layout.rigid), :2]),
        }
        turn = {name: describer for name, describer in self._describers.items() if number % describer.every == 0}
        descriptions = {name: describer.describe(image, ibug) for name, describer in turn.items()}
        return Detection(own, {name: sides[0] for name, sides in measure(head, r.layout).items()}, descriptions)


def _columns(rows: Sequence[Mapping[str, np.ndarray] | None]) -> dict[str, np.ndarray]:
    """Values of the same name in one array; nan in the rows that lack them."""
    blank = {name: np.full_like(value, np.nan) for row in rows if row is not None for name, value in row.items()}
    return {name: np.stack([(row or blank).get(name, empty) for row in rows]) for name, empty in blank.items()}


def face_tones(
    image: UInt8[np.ndarray, "H W 3"], rigid: Float[np.ndarray, "R 2"], shape: Float[np.ndarray, "R 2"]
) -> Float[np.ndarray, "B B"]:
    """Mean brightness (0..255) of 8 x 8 blocks of the square, 1.4 of their box's side, around the points on the skull.

    The square is laid on the image by the similarity that fits the points best, so it moves with the head.

    Args:
        rigid: the points in the image, px.
        shape: the same points of the neutral face from the front; x right, y up.
    """
    centre, side = (shape.min(0) + shape.max(0)) / 2, 1.4 * float(np.ptp(shape, axis=0).max())
    plan = (shape - centre) * np.array([1, -1]) * (_FACE / side) + (_FACE - 1) / 2
    to_image = similarity_matrix(plan, rigid - 0.5)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    face = cv2.warpAffine(grey, to_image, (_FACE, _FACE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(face.astype(np.float32), (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA), np.float64)


def runs_of(
    count: int, indices: Shaped[np.ndarray, " N"] | None, va: Float[np.ndarray, "N 2"] | None
) -> tuple[list[slice], int]:
    """Split frames into runs without a cut, and find the step in frames of the clip from one to the next.

    A cut is where the step between indices is not the usual one, or where the commanded emotion jumps.

    Args:
        count: frames.
        indices: of the clip.
        va: commanded valence and arousal.
    """
    cut, step = np.zeros(max(count - 1, 0), bool), 1
    if indices is not None and count > 1:
        steps = np.diff(indices)
        step = max(int(np.median(steps)), 1)
        cut |= steps != step
    if va is not None and count > 1:
        cut |= np.abs(np.diff(va, axis=0)).max(1) > _JUMP
    edges = [0, *(np.flatnonzero(cut) + 1).tolist(), count]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False) if b > a], step
