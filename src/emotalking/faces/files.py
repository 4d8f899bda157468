"""Emotional faces written to files: an image, a video, a folder of frames, or a contact sheet."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.faces.config import FaceConfig
from emotalking.faces.edit import FaceEditor, grid_points
from emotalking.faces.generators import open_generator, open_paper_generator
from emotalking.faces.source import IMAGE_SUFFIXES, SubjectFaces, open_source
from emotalking.io.audio import iter_audio
from emotalking.io.files import Finish
from emotalking.io.images import WRITTEN_SUFFIXES, write_image
from emotalking.io.video_writer import AUDIO_RATE, FrameFolder, VideoWriter, codec_for
from emotalking.ops.devices import choose_device
from emotalking.options import Provenance
from emotalking.progress import track
from emotalking.provenance.manifest import LICENCES, Origin
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.provenance.signing import finisher
from emotalking.report.contact_sheet import circumplex_sheet, contact_sheet

_logger = logging.getLogger("emotalking")


@dataclass(frozen=True)
class Edited:
    """Result of an edit."""

    path: Path
    """Image, video or folder."""
    images: int
    unchanged: int = 0
    """Frames without a face that can be edited, which stayed as they were."""


def open_editor(source: Path, config: FaceConfig) -> FaceEditor:
    """Open a source of frames with its generator.

    Raises:
        InputError: the source, the generator or the device cannot be used.
        NoFaceError: the source shows no face.
    """
    device = choose_device(config.device)
    opened = open_source(source)
    for remark in opened.remarks:
        _logger.info(f"{source}: {remark}")
    licences = LICENCES | (opened.subject.licences if isinstance(opened, SubjectFaces) else {})
    if config.generator == "paper":
        file = None if config.faces is None else Path(config.faces)
        generator, of_networks = open_paper_generator(opened, file, device)
        return FaceEditor(opened, generator, device, licences | of_networks)
    warp = MeshWarpConfig(gain=config.gain, corners=not config.fixed_lips, resting_expression=config.resting_expression)
    return FaceEditor(opened, open_generator(opened, warp), device, licences)


def edit_to_files(
    source: Path,
    output: Path,
    emotion: EmotionTrack | int,
    config: FaceConfig,
    *,
    frame: int | None = None,
    seconds: float | int | None = None,
    overwrite: bool = False,
    provenance: Provenance = "on",
) -> Edited:
    """Write the faces of ``source`` with an emotion; the suffix of ``output`` selects the format.

    Args:
        emotion: valence and arousal over time; a number N: N x N images of one frame over the plane.
        frame: of which to make one image; None: the first.
        seconds: of a clip at most.
        overwrite: the folder may hold frames of an earlier run.
        provenance: on: sign the outputs (:mod:`emotalking.provenance.signing`) and mark them invisibly
            (:mod:`emotalking.provenance.mark`).

    Raises:
        InputError: source, output and options do not fit together.
    """
    face = open_editor(source, config)
    finish, marked = finisher(output, _origin(face), provenance), _marker(provenance)
    if isinstance(emotion, int):
        return _write_grid(face, output, emotion, frame or 0, finish, marked)
    if output.suffix.lower() in IMAGE_SUFFIXES:
        valence, arousal = emotion.at(np.zeros(1))[0].tolist()
        write_image(output, marked(face.images(frame or 0, [(valence, arousal)])[0], None), finish=finish)
        return Edited(output, 1)
    if face.source.fps is None:
        raise InputError(f"{source} is one image: end the name of the result with .png or .jpg.")
    if frame is not None:
        raise InputError("'frame' makes one image: end the name of the result with .png or .jpg, or omit it.")
    if output.suffix:
        codec_for(output, alpha=False)
        if output.exists() and source.is_file() and output.samefile(source):
            raise InputError(f"{output} is both the source and the result: give the result another name.")
    return _write_frames(face, output, emotion, seconds, overwrite, finish, marked)


def _origin(face: FaceEditor) -> Origin:
    """What the outputs' signatures state."""
    return Origin("compositeWithTrainedAlgorithmicMedia", licences=face.licences)


_Marker = Callable[[np.ndarray, float | None], np.ndarray]
"""Puts the invisible mark into a finished image that is shown at a time [s] of a video, or alone, or leaves it."""


def _marker(provenance: Provenance) -> _Marker:
    return Mark(Payload()).array if provenance == "on" else lambda image, time: image


def _write_frames(
    face: FaceEditor,
    output: Path,
    emotion: EmotionTrack,
    seconds: float | int | None,
    overwrite: bool,
    finish: Finish,
    marked: _Marker,
) -> Edited:
    """Write a video with the source's audio, or a folder."""
    source, fps = face.source, face.source.fps
    assert fps is not None
    limit = None if seconds is None else max(round(seconds * float(fps)), 1)
    total = source.count if limit is None or source.count is None else min(source.count, limit)
    done = 0
    with ExitStack() as stack:
        writer = None if output.suffix else FrameFolder(output, overwrite=overwrite, finish=finish)
        for image in track(face.frames(emotion, limit), "faces", total):
            if writer is None:
                sound = None if source.sound is None else iter_audio(source.sound, AUDIO_RATE)
                writer = stack.enter_context(
                    VideoWriter(output, image.shape[1], image.shape[0], fps, sound, finish=finish)
                )
            writer.write(marked(image, done / float(fps)))
            done += 1
    return Edited(output, done, face.num_unchanged)


def _write_grid(
    face: FaceEditor,
    output: Path,
    count: int,
    frame: int,
    finish: Finish,
    marked: _Marker,
) -> Edited:
    """Write one file per point, named after it."""
    if output.suffix:
        raise InputError(f"a grid is a folder of images, and {output} names a file: give a folder.")
    points = grid_points(count)
    for (valence, arousal), image in zip(points, face.images(frame, points), strict=True):
        write_image(output / f"v{valence:+.2f}_a{arousal:+.2f}.png", marked(image, None), finish=finish)
    return Edited(output, len(points))


def write_sheet(
    source: Path,
    output: Path,
    config: FaceConfig,
    *,
    frame: int,
    grid: int | None,
    cell: int,
    provenance: Provenance = "on",
) -> Path:
    """A contact sheet of one face: the evaluation's twelve test points, or a grid.

    Args:
        frame: number of the frame.
        grid: N x N places; None: the test points.
        cell: side of each image in pixels, 32 to 1024.
        provenance: as in :func:`edit_to_files`.

    Raises:
        InputError: a number is out of range, or ``output`` does not end as an image.
    """
    if not 32 <= cell <= 1024:
        raise InputError(f"cell {cell}: give a number of pixels from 32 to 1024.")
    if output.suffix.lower() not in WRITTEN_SUFFIXES:
        endings = f"{', '.join(WRITTEN_SUFFIXES[:-1])} or {WRITTEN_SUFFIXES[-1]}"
        raise InputError(f"a sheet is an image, and {output} is not named as one: end it with {endings}.")
    face = open_editor(source, config)
    finish = finisher(output, _origin(face), provenance)
    title = f"{source.stem}, frame {frame}, {face.generator.name}: pleasant to the right, excited to the top"
    if grid is not None:
        points = grid_points(grid)
        captions = [f"{valence:+.2f}, {arousal:+.2f}" for valence, arousal in points]
        page = contact_sheet(face.close_ups(frame, points), captions, columns=grid, cell=cell, title=title)
    else:
        points = [(0.0, 0.0), *((point.valence, point.arousal) for point in TEST_POINTS)]
        captions = ["as recorded", *(f"{p.label} {p.valence:+.2f}, {p.arousal:+.2f}" for p in TEST_POINTS)]
        page = circumplex_sheet(face.close_ups(frame, points), points, captions, cell=cell, title=title)
    write_image(output, _marker(provenance)(page, None), finish=finish)
    return output
