"""Emotional faces, as training makes them, and the paper's generator of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.api.rendering import choose_device
from emotalking.errors import InputError
from emotalking.faces.config import FaceConfig
from emotalking.io.files import holding
from emotalking.io.outputs import checked
from emotalking.options import (
    Device,
    Emotion,
    Overwrite,
    PathLike,
    Provenance,
    Reads,
    Seconds,
    Seed,
    SubjectFolder,
    ValenceArousal,
    Writes,
)

if TYPE_CHECKING:
    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.faces.files import Edited


@checked
def edit_faces(
    source: SubjectFolder,
    output: Annotated[PathLike, Writes("edited")],
    *,
    emotion: Emotion = None,
    va: ValenceArousal = None,
    track: Annotated["PathLike | EmotionTrack | None", Reads()] = None,
    grid: int | None = None,
    frame: int | None = None,
    seconds: Seconds = None,
    overwrite: Overwrite = False,
    provenance: Provenance = "on",
    config: FaceConfig = FaceConfig(),
) -> "Edited":
    """Give an image, a clip or a subject's frames an emotion.

    Args:
        source: an image, a video, or a subject folder ('emotalking prepare').
        output: image (.png, .jpg), video (.mp4, .mov, .mkv, .webm; .avi: lossless), or a folder for PNG files.
        track: emotion over time: keyframes in a .csv or .json file (time, valence, arousal).
        grid: instead of one emotion, N x N images of one frame over the valence/arousal plane, into a folder.
        frame: number of the frame to make one image of; None: the first.
        config: generator of the faces.

    Raises:
        InputError: not one of emotion, va, track and grid is given, or an input or the output cannot be used.
        NoFaceError: no face was found.
    """
    from emotalking.emotion.tracks import emotion_track
    from emotalking.faces.files import edit_to_files

    if sum(option is not None for option in (emotion, va, track, grid)) != 1:
        raise InputError("which emotion? Give one of emotion, va, track and grid.")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"seconds is {seconds:g}: give a positive number.")
    wanted = emotion_track(emotion, va, track)
    chosen = wanted if wanted is not None else grid
    assert chosen is not None
    return edit_to_files(
        Path(source),
        Path(output),
        chosen,
        config,
        frame=frame,
        seconds=seconds,
        overwrite=overwrite,
        provenance=provenance,
    )


@checked
def face_sheet(
    source: SubjectFolder,
    output: Annotated[PathLike, Writes("image")],
    *,
    frame: int = 0,
    grid: int | None = None,
    cell: int = 256,
    overwrite: Overwrite = False,
    provenance: Provenance = "on",
    config: FaceConfig = FaceConfig(),
) -> Path:
    """Draw a contact sheet of one face over the valence/arousal plane.

    Args:
        source: an image, a video, or a subject folder ('emotalking prepare').
        output: image to write (.png, .jpg, .jpeg or .webp).
        frame: number of the frame.
        grid: N x N places instead of the evaluation's twelve.
        cell: side of each image in pixels.
        config: generator of the faces.

    Raises:
        InputError: an input or the output cannot be used.
        NoFaceError: no face was found.
    """
    from emotalking.faces.files import write_sheet

    return write_sheet(Path(source), Path(output), config, frame=frame, grid=grid, cell=cell, provenance=provenance)


@checked
def train_faces(
    subject: SubjectFolder,
    output: Annotated[PathLike | None, Writes("generator", "subject/faces.safetensors")] = None,
    *,
    epochs: int = 10,
    frames: int = 400,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> Path:
    """Train the paper's generator for a subject, from optional pretrained models (needs a GPU).

    Args:
        subject: subject folder ('emotalking prepare').
        output: generator file to write; None: ``faces.safetensors`` in the subject folder.
        epochs: passes over the frames.
        frames: use at most so many frames of the clip.

    Returns:
        The generator file.

    Raises:
        InputError: the folder or a number cannot be used.
        MissingModelError: a published network is missing.
    """
    from emotalking.data import Subject
    from emotalking.stylegan.edit_training import EditConfig
    from emotalking.stylegan.lip_aligned import NAME
    from emotalking.stylegan.personalise import Networks
    from emotalking.stylegan.personalise import train_faces as run

    for name, number in (("epochs", epochs), ("frames", frames)):
        if number < 1:
            raise InputError(f"{name} is {number}: give 1 or more.")
    opened = Subject.open(subject)
    file = Path(output) if output is not None else Path(subject) / NAME
    if file.is_dir():
        raise InputError(f"{file} is a folder: give the name of a file, such as {NAME}.")
    networks = Networks.open(choose_device(device))
    with holding(file.with_name(file.name + ".run")):
        run(opened, file, networks, config=replace(EditConfig(), epochs=epochs), frames=frames, seed=seed)
    return file
