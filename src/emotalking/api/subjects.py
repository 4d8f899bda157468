"""From clips and other programs' folders to subject folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.io.outputs import checked
from emotalking.jobs.config import JobsConfig
from emotalking.options import Input, OptionalInput, PathLike, Reads, SoundTrack, SubjectFolder, Turn, Writes
from emotalking.preprocess.config import PrepareConfig

Expressions = Annotated[Sequence[PathLike], Reads()]

if TYPE_CHECKING:
    from emotalking.data import Subject
    from emotalking.jobs.page import ManyResult
    from emotalking.preprocess.check.verdict import Footage
    from emotalking.preprocess.import_subject import Imported


@checked
def check(clip: Input, *, turn: Turn = 0, audio_track: SoundTrack = None, expressions: Expressions = ()) -> "Footage":
    """Check whether a clip can become an avatar, before preparing it.

    Args:
        clip: video of one person talking to the camera, with sound.
        expressions: further clips of the same person showing emotions, to be checked too.

    Raises:
        InputError: no video that can be read at all.
    """
    if expressions:
        from emotalking.preprocess.expressions import check_with

        return check_with(clip, expressions, turn=turn, audio_track=audio_track)
    from emotalking.preprocess.check.clip import check_clip

    return check_clip(clip, turn=turn, audio_track=audio_track)


@checked
def prepare(
    clip: Input,
    output: Annotated[PathLike, Writes("subject")],
    config: PrepareConfig = PrepareConfig(),
    *,
    expressions: Expressions = (),
) -> "Subject":
    """Prepare a clip: make its subject folder.

    Args:
        clip: video of one person talking to the camera, with sound, two seconds or longer.
        output: subject folder to make, or to finish.
        config: options.
        expressions: further clips of the same person showing emotions, with or without sound, for the emotion branch
            to learn from. One that is named after an emotion (angry.mp4) shows that one; of others it is read from the
            face. A finished folder of the same clip is kept, and they are added.

    Raises:
        InputError: a clip or an option cannot be used, or a clip of expressions shows another person.
    """
    if expressions:
        from emotalking.preprocess.expressions import prepare_with

        return prepare_with(clip, output, expressions, config)
    from emotalking.preprocess.prepare import prepare as run

    return run(clip, output, config)


@checked
def prepare_many(
    videos: Annotated[Sequence[PathLike], Reads()],
    output: Annotated[PathLike, Writes("subjects")],
    config: PrepareConfig = PrepareConfig(),
    jobs: JobsConfig = JobsConfig(),
) -> "ManyResult":
    """Prepare many clips, here or on a cluster, with one page about all of them.

    Args:
        videos: clips, each of one person talking to the camera; of each, the subject folder NAME is made.
        output: folder for the subject folders, their logs, and ``index.html`` about all of them. What is finished
            there, with the same options, is kept.
        config: options of all clips.
        jobs: where the clips are prepared, and how many at once.

    Raises:
        InputError: two clips have one name, or an option or the cluster cannot be used. A clip that cannot be prepared
            raises nothing: it is among the result's ``failures``.
    """
    from emotalking.jobs.engine import open_engine
    from emotalking.preprocess.many import prepare_many as run

    with open_engine(jobs, config.device) as engine:
        return run([Path(video) for video in videos], Path(output), config, engine)


@checked
def import_subject(
    folder: Input,
    output: Annotated[PathLike | None, Writes("imported", "folder/")] = None,
    *,
    clip: OptionalInput = None,
) -> "Imported":
    """Complete a TalkingGaussian or ER-NeRF folder, so that emotion can be trained on it.

    Args:
        folder: subject folder of TalkingGaussian's or ER-NeRF's scripts.
        output: new folder with links to the old files; None: new files beside the old ones.
        clip: the video that it was made from, for its sound where that is missing.

    Raises:
        InputError: the folder cannot be completed.
    """
    from emotalking.preprocess.import_subject import import_folder

    return import_folder(folder, output, clip)


@checked
def preview(subject: SubjectFolder) -> tuple[Path, Path]:
    """Draw a subject folder's landmarks, masks and curves as a video and a page.

    Args:
        subject: subject folder.

    Returns:
        ``preview.mp4`` and ``preview.html`` in the folder.

    Raises:
        InputError: the folder lacks what is to be shown.
    """
    from emotalking.data import Subject
    from emotalking.preprocess.preview import make_preview

    return make_preview(Subject.open(subject))
