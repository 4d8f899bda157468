"""A subject folder as typed, lazily read data (TalkingGaussian's layout and our extras, docs/paper.md 1)."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from emotalking.cores import allowed_cores
from emotalking.data.audio_features import DEFAULT_FEATURE, AudioFeature, audio_feature, feature_of_shape
from emotalking.data.blink import AU45_CLIP
from emotalking.data.colours import ColourMatch
from emotalking.data.files import EMOTION_FROM_UNITS, SubjectFiles
from emotalking.data.frame import ClipCrop, Frame, LandmarkTrack, from_neutral, lips_rect_of, mouth_opening_of
from emotalking.data.gaze import measure_gaze
from emotalking.data.labels import Masks
from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import (
    opengl_to_viewmats,
    read_cameras,
    read_intensities,
    read_json,
    read_landmarks,
    read_masks,
    read_subject_image,
    read_table,
)
from emotalking.errors import InputError
from emotalking.io.arrays import load_array
from emotalking.io.images import image_size
from emotalking.io.reading import frame_rate, reading
from emotalking.ops.box import Box

DEFAULT_FPS = Fraction(25)
"""The rate of every folder that TalkingGaussian's own scripts write; the layout has no field for it."""

AUDIO_SLACK_S = 0.2
"""Audio features may be this much shorter than the video: feature scripts round, or lose the last window."""


class Subject:
    """One subject folder; cheap to open, large arrays are read on access.

    Example:
        >>> subject = Subject.open("data/someone")
        >>> frame = subject.frame(subject.train_indices[0])
    """

    def __init__(self, files: SubjectFiles, manifest: dict[str, Any]) -> None:
        self.files = files
        self.manifest = manifest
        """Contents of ``subject.json``; empty for a folder that another tool wrote."""
        train, focal, train_matrices = read_cameras(files.transforms("train"))
        val, _, val_matrices = read_cameras(files.transforms("val"))
        ids = np.array(train + val, np.int64)
        if len(ids) == 0 or not np.array_equal(np.sort(ids), np.arange(len(ids))):
            raise InputError(
                f"The transforms_*.json of {files.root} do not list the frames 0..{max(len(ids) - 1, 0)} once each:"
                " prepare the clip again."
            )
        self.focal: float = focal
        """Focal length of both axes, px."""
        self.train_indices: Int[np.ndarray, " T"] = np.array(train, np.int64)
        self.val_indices: Int[np.ndarray, " V"] = np.array(val, np.int64)
        matrices = np.concatenate([train_matrices, val_matrices])[np.argsort(ids)]
        self.viewmats: Float[np.ndarray, "N 4 4"] = opengl_to_viewmats(matrices)
        """World-to-camera, OpenCV axes, float32."""
        self.width, self.height = image_size(files.background, hint="prepare the clip again or copy the file there")
        self.fps: Fraction = _fps(files, manifest)
        self.place = ClipCrop.from_json(manifest.get("framing"), str(files.manifest), self.num_frames)
        """Place of the frames in the clip; None in a folder that another tool wrote."""

    @classmethod
    def open(cls, path: str | Path) -> "Subject":
        """Open a subject folder, also one that TalkingGaussian's or ER-NeRF's scripts wrote.

        Raises:
            InputError: if the folder, its cameras or its background plate are missing or unusable.
        """
        files = SubjectFiles(Path(path))
        if not files.root.is_dir():
            raise InputError(f"There is no subject folder {files.root}: make one with 'emotalking prepare'.")
        manifest = read_json(files.manifest) if files.manifest.exists() else {}
        return cls(files, manifest)

    @cached_property
    def expressions(self) -> "dict[str, Subject]":
        """Finished further clips of the same person by their names; their heads are in this subject's head frame."""
        parent = self.files.expression("_").root.parent
        folders = sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        return {
            path.name: Subject.open(path)
            for path in folders
            if all(SubjectFiles(path).transforms(split).exists() for split in ("train", "val"))
        }

    @property
    def num_frames(self) -> int:
        """Frames of the clip, N."""
        return len(self.viewmats)

    @property
    def _steps(self) -> dict[str, dict[str, Any]]:
        """Facts that the manifest records of each step of `prepare`."""
        steps = self.manifest.get("steps")
        recorded = steps.items() if isinstance(steps, dict) else ()
        return {name: facts for name, facts in recorded if isinstance(facts, dict)}

    @property
    def licences(self) -> dict[str, str]:
        """Licences of the optional networks that made something in the folder, as its manifest records them."""
        used = [step["networks"] for step in self._steps.values() if isinstance(step.get("networks"), dict)]
        networks = [item for each in used for item in each.items() if isinstance(item[1], dict)]
        return {f"{name} (prepare)": str(network.get("licence", "not recorded")) for name, network in networks}

    @cached_property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """Intrinsics, px, float32; the principal point is the image's centre."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]], np.float32)

    @cached_property
    def _action_units(self) -> dict[str, Float[np.ndarray, " N"]]:
        units = read_intensities(self.files.action_units)
        rows = min(map(len, units.values()), default=self.num_frames)
        if rows < self.num_frames:
            raise InputError(
                f"{self.files.action_units} has {rows} rows for {self.num_frames} frames: compute it again."
            )
        return {name: values[: self.num_frames] for name, values in units.items()}

    def au(self, name: str) -> Float[np.ndarray, " N"]:
        """OpenFace intensity (0..5) of the action unit ``name`` ("AU25") per frame, float32.

        Raises:
            InputError: if ``au.csv`` is missing, too short, or has no such column.
        """
        try:
            values = self._action_units[name]
        except KeyError:
            known = ", ".join(self._action_units) or "none"
            raise InputError(f"{self.files.action_units} has no column {name}_r (it has {known}).") from None
        return values.astype(np.float32)

    @cached_property
    def aus(self) -> Float[np.ndarray, "N 6"]:
        """Network input: raw intensities in the order of ``MODEL_AUS``, AU45 clipped to [0, 2] (docs/paper.md 1.3)."""
        values = np.stack([self.au(name) for name in MODEL_AUS], -1)
        values[:, -1] = np.clip(values[:, -1], 0, AU45_CLIP)
        return values

    @cached_property
    def blink(self) -> Float[np.ndarray, " N"]:
        """Eye closure in [0, 1]: AU45 clipped to [0, 2], halved (docs/paper.md 1.3)."""
        return self.aus[:, -1] / AU45_CLIP

    @cached_property
    def au25(self) -> Float[np.ndarray, " N"]:
        """AU25 (lips part), clipped at its 95th percentile (docs/paper.md 1.3)."""
        values = self.au("AU25")
        return np.clip(values, 0, np.percentile(values, 95)).astype(np.float32)

    @cached_property
    def read_emotion(self) -> Float[np.ndarray, "N 2"] | None:
        """Valence and arousal in [-1, 1] per frame as ``va.csv`` has them, float32; None without it."""
        path = self.files.valence_arousal
        return self._columns(path, "valence", "arousal") if path.exists() else None

    @cached_property
    def valence_arousal(self) -> Float[np.ndarray, "N 2"] | None:
        """Valence and arousal with which the main clip's frames are trained and scored; None without ``va.csv``.

        :attr:`read_emotion` where a network read it, or another tool; beside clips of expressions from the median, this
        person's neutral, as theirs are. Zero, neutral, where action units are all that was read.

        Deviation: the paper takes each frame's reading. Of a person who talks, action units read how the face talks
        (brows stress words, lips press and stretch), and the emotional targets are made from the same frames as from a
        neutral face: what the readings said of a frame's image was worth nothing on training frames, and .1 to .6 dB
        of PSNR and .1 of the lips' width were lost on others (benchmarks/recorded_emotion.py).
        """
        read = self.read_emotion
        providers = self.manifest.get("providers")
        if read is not None and isinstance(providers, dict) and providers.get("emotion") == EMOTION_FROM_UNITS:
            return np.zeros_like(read)
        if read is None or not self.expressions:
            return read
        return from_neutral(read, np.median(read[self.landmarks.detected], 0))

    @cached_property
    def gaze(self) -> Float[np.ndarray, "N 2"] | None:
        """Where the eyes look: radians to the viewer's right and up, in the head (docs/conventions.md), float32.

        ``gaze.csv``; without one, measured from ``landmarks.npz``; None where that has no shape, or no irises.
        """
        path, track = self.files.gaze, self.landmarks
        if track.shape is None:
            return None
        if not path.exists():
            return measure_gaze(
                track.points,
                self.viewmats,
                self.focal,
                (self.width, self.height),
                track.shape,
                track.layout,
                self.au("AU45"),
            )
        return self._columns(path, "x", "y")

    @cached_property
    def landmarks(self) -> LandmarkTrack:
        """``landmarks.npz``, or the 68 points of the ``.lms`` files (then without a 3-D shape)."""
        return read_landmarks(self.files, self.num_frames)

    @cached_property
    def mouth_opening(self) -> Float[np.ndarray, " N"]:
        """Vertical extent of the inner lips per frame, px."""
        return mouth_opening_of(self.landmarks.ibug68)

    def lips_rect(self, index: int) -> Box:
        """Square around the lips, px; an undetected frame takes the nearest detected one's."""
        track = self.landmarks
        if not track.detected[index]:
            detected = np.flatnonzero(track.detected)
            index = int(detected[np.abs(detected - index).argmin()])
        return lips_rect_of(track.points[index, list(track.layout.ibug68)], self.width, self.height)

    def audio_features(self, name: str = DEFAULT_FEATURE) -> Float[np.ndarray, "N S C"]:
        """Audio features per video frame, float32.

        Args:
            name: of a row of ``data.audio_features``, or its file's ("ds" for ``aud_ds.npy``); the file may also be
                called ``aud.npy``, as ER-NeRF has it, and is then known by its shape.

        Returns:
            [N, 16, C]; HuBERT as stored, [N, 2, 1024]. Up to 0.2 s missing at the end repeats the last frame.

        Raises:
            InputError: if the file is missing, malformed or shorter than the video.
        """
        path = self.files.audio_features(name)
        if not path.exists() and self.unnamed_feature() is audio_feature(name):
            path = self.files.unnamed_audio_features
        if not path.exists():
            known = sorted(p.stem.removeprefix("aud_") for p in self.files.root.glob("aud_*.npy"))
            raise InputError(f"{path} is missing (found: {', '.join(known) or 'no audio features'}): extract it.")
        with reading(path, "is no array of audio features", "extract them again"):
            features = np.asarray(load_array(path), np.float32)
        if features.ndim != 3:
            raise InputError(f"{path} has the shape {features.shape} instead of [frames, steps, channels].")
        missing = self.num_frames - len(features)
        if missing > AUDIO_SLACK_S * self.fps or len(features) == 0:
            raise InputError(f"{path} covers {len(features)} of {self.num_frames} frames: extract it again.")
        if missing > 0:
            features = np.concatenate([features, np.repeat(features[-1:], missing, 0)])
        return features[: self.num_frames]

    def unnamed_feature(self) -> AudioFeature | None:
        """The features that ``aud.npy`` holds, recognised by its shape; None without one."""
        try:
            shape = load_array(self.files.unnamed_audio_features, mmap_mode="r").shape
        except (OSError, ValueError, EOFError):
            return None
        return feature_of_shape(shape)

    @cached_property
    def colour_match(self) -> ColourMatch | None:
        """Of a clip of expressions: what brings its frames to the main clip's colours; None in a main clip."""
        facts = self._steps.get("colours")
        return None if facts is None else ColourMatch.from_json(facts, self.files.manifest)

    @cached_property
    def background(self) -> UInt8[np.ndarray, "H W 3"]:
        """Clean background plate, RGB."""
        return self._read(self.files.background)

    def original(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Frame as decoded, RGB."""
        return self._read(self.files.original(self._checked(index)))

    def target(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Training target of frame ``index`` (``gt_imgs``), RGB."""
        return self._read(self.files.target(self._checked(index)))

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight RGBA layer of torso and neck of frame ``index``."""
        return self._read(self.files.torso(self._checked(index)), 4)

    def normals(self, index: int) -> Float[np.ndarray, "H W 3"] | None:
        """Normals of the face in frame ``index``: unit vectors in camera space (OpenCV axes), zero off the face.

        Returns:
            float32; None in a folder without normal maps.

        Raises:
            InputError: if the folder has normal maps, but not this one.
        """
        path = self.files.normals(self._checked(index))
        if not path.parent.is_dir():
            return None
        colours = self._read(path)
        vectors = colours.astype(np.float32) / 127.5 - 1
        vectors[~colours.any(-1)] = 0
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)

    def masks(self, index: int) -> Masks:
        """Label map and teeth of frame ``index``; no teeth file means no teeth.

        Raises:
            InputError: if a file is missing, unreadable or of another size.
        """
        return read_masks(self.files, self._checked(index), (self.height, self.width))

    def frame(self, index: int) -> Frame:
        """Read frame ``index`` (0 <= index < num_frames) from disk.

        Raises:
            InputError: if one of its files is missing, unreadable or of another size.
            IndexError: if there is no such frame.
        """
        index = int(index)
        masks = self.masks(index)
        return Frame(
            index=index,
            image=self.target(index),
            torso=self.torso(index),
            labels=masks.labels,
            teeth=masks.teeth,
            lips_rect=self.lips_rect(index),
        )

    def load_tensors(
        self, indices: Sequence[int] | Int[np.ndarray, " F"], workers: int | None = None
    ) -> dict[str, UInt8[np.ndarray, "F H W ..."]]:
        """Read many frames at once, with threads, each straight into its slot of one array.

        Args:
            indices: frames to read.
            workers: threads; None: one per CPU core, at most 16.

        Returns:
            ``images`` [F, H, W, 3], ``torso`` [F, H, W, 4], ``labels`` [F, H, W], all uint8 (8 bytes a pixel).

        Raises:
            InputError: as :meth:`frame`.
        """
        size = (len(indices), self.height, self.width)
        images, torso = np.empty((*size, 3), np.uint8), np.empty((*size, 4), np.uint8)
        labels = np.empty(size, np.uint8)

        def load(slot: int) -> None:
            index = int(indices[slot])
            self._read(self.files.target(index), out=images[slot])
            self._read(self.files.torso(index), 4, out=torso[slot])
            labels[slot] = self.masks(index).labels

        _each(load, len(indices), workers)
        return {"images": images, "torso": torso, "labels": labels}

    def load_normals(
        self, indices: Sequence[int] | Int[np.ndarray, " F"], workers: int | None = None
    ) -> UInt8[np.ndarray, "F H W 3"] | None:
        """Normal maps of many frames as stored (:meth:`normals` decodes one), with threads.

        Returns:
            None in a folder without normal maps.

        Raises:
            InputError: if the folder has normal maps, but not all of these.
        """
        if not self.files.normals(0).parent.is_dir():
            return None
        maps = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        _each(lambda slot: self._read(self.files.normals(int(indices[slot])), out=maps[slot]), len(indices), workers)
        return maps

    def _columns(self, path: Path, first: str, second: str) -> Float[np.ndarray, "N 2"]:
        """Two columns of a table of the frames."""
        table = read_table(path)
        if first not in table or second not in table:
            raise InputError(f"{path} needs the columns {first} and {second}: compute it again.")
        values = np.stack([table[first], table[second]], -1).astype(np.float32)
        if len(values) != self.num_frames:
            raise InputError(f"{path} has {len(values)} rows for {self.num_frames} frames: compute it again.")
        return values

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"index: expected 0..{self.num_frames - 1}, got {index}")
        return index

    def _read(self, path: Path, channels: int = 3, out: np.ndarray | None = None) -> np.ndarray:
        """Decode an image of the subject's size, into ``out`` if given."""
        return read_subject_image(path, (self.height, self.width), channels, out)


def _fps(files: SubjectFiles, manifest: dict[str, Any]) -> Fraction:
    try:
        return frame_rate(manifest.get("fps", DEFAULT_FPS))
    except ValueError as error:
        raise InputError(f'{files.manifest} has {error}: write "fps": "25".') from error


def _each(load: Callable[[int], object], count: int, workers: int | None) -> None:
    """``load(0..count-1)`` on threads; None: one per CPU core, at most 16."""
    with ThreadPoolExecutor(workers or min(allowed_cores(), 16)) as pool:
        for _ in pool.map(load, range(count)):
            pass  # Draining the results raises the first error of a thread.
