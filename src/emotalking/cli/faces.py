"""``emotalking faces``: emotional faces from a picture, a clip or a subject folder, as training makes them.

And the training of the paper's generator for a subject.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emotalking.cli.options import add_device, add_generator

if TYPE_CHECKING:
    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.faces.edit import FaceEditor

IF_INTERRUPTED = (
    "no picture, no video and no generator was written; frames already in a folder are whole, and a training goes on"
    " from its last checkpoint"
)

_EXAMPLES = """examples:
  emotalking faces sheet portrait.jpg sheet.png
  emotalking faces sheet someone sheet.png --frame 300 --grid 5
  emotalking faces apply portrait.jpg happy.png --emotion happy
  emotalking faces apply clip.mp4 angry.mp4 --va -0.7,0.3
  emotalking faces apply someone frames/ --track emotions.csv
  emotalking faces train someone
  emotalking faces sheet someone sheet.png --generator paper
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    apply = verbs.add_parser("apply", help="give a picture, a clip or a subject's frames an emotion")
    _add_source(apply)
    apply.add_argument(
        "out",
        type=Path,
        help="picture (.png, .jpg), video (.mp4, .mov, .mkv, .webm; .avi: lossless), or a folder for PNG files",
    )
    emotion = apply.add_argument_group("emotion (one of)")
    emotion.add_argument("--emotion", metavar="NAME", help="happy, sad, angry, ..., or with a strength: happy:0.5")
    emotion.add_argument("--va", metavar="V,A", help="valence and arousal, each from -1 to 1, such as -0.5,0.3")
    emotion.add_argument("--track", type=Path, metavar="FILE", help="keyframes (.csv or .json: time, valence, arousal)")
    emotion.add_argument("--grid", type=int, metavar="N", help="N x N pictures of one frame, into a folder")
    apply.add_argument("--seconds", type=float, help="only the beginning of a clip")
    apply.add_argument("--overwrite", action="store_true", help="the folder may hold frames of an earlier run")
    _add_generator(apply)
    sheet = verbs.add_parser("sheet", help="contact sheet of one face over the valence/arousal plane")
    _add_source(sheet)
    sheet.add_argument("out", type=Path, help="picture to write (.png or .jpg)")
    sheet.add_argument("--grid", type=int, metavar="N", help="N x N places instead of the evaluation's twelve")
    sheet.add_argument(
        "--cell", type=int, default=256, metavar="PX", help="side of each picture (default: %(default)s)"
    )
    _add_generator(sheet)
    train = verbs.add_parser(
        "train", help="the paper's generator for a subject, from published networks that you bring (needs a GPU)"
    )
    train.add_argument("subject", type=Path, help="subject folder ('emotalking prepare')")
    train.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: faces.safetensors in the folder")
    train.add_argument("--epochs", type=int, default=10, help="passes over the squares (default: %(default)s)")
    train.add_argument("--squares", type=int, default=400, help="of the clip, at most (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    add_device(train)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a picture, a video, or a subject folder ('emotalking prepare')")
    parser.add_argument("--frame", type=int, metavar="N", help="which frame to make one picture of (default: 0)")


def _add_generator(parser: argparse.ArgumentParser) -> None:
    """What makes the faces; see ``faces.generators``."""
    group = parser.add_argument_group("how the faces are made")
    add_generator(group)
    group.add_argument("--gain", type=float, default=1.0, help="strength from 0 to 1 (default: %(default)s)")
    group.add_argument("--fixed-lips", action="store_true", help="leave the corners of the mouth where they are")
    group.add_argument(
        "--resting-expression",
        "--habit",
        metavar="V,A",
        help="what the resting face already shows, to be taken away (default: read from its mouth; none: 0,0)",
    )
    add_device(group)


def run(args: argparse.Namespace) -> None:
    """Do what the verb says."""
    _VERBS[args.verb](args)


def _apply(args: argparse.Namespace) -> None:
    import numpy as np

    from emotalking.cli.options import note
    from emotalking.emotion.tracks import parse_emotion
    from emotalking.errors import UserError
    from emotalking.faces.source import PICTURES
    from emotalking.io.images import write_image

    given = [args.emotion, args.va, args.track, args.grid]
    if sum(option is not None for option in given) != 1:
        raise UserError("say which emotion: give one of --emotion, --va, --track and --grid.")
    if args.seconds is not None and not args.seconds > 0:
        raise UserError(f"--seconds {args.seconds:g}: give a positive number.")
    emotion = parse_emotion(args.emotion, args.va, args.track)
    face = _open(args)
    if args.grid is not None:
        _write_grid(face, args)
    elif args.out.suffix.lower() in PICTURES:
        valence, arousal = emotion.at(np.zeros(1))[0].tolist()
        write_image(args.out, face.pictures(args.frame or 0, [(valence, arousal)])[0])
        note(f"{args.out} is written")
    elif face.source.fps is None:
        raise UserError(f"{args.source} is one picture: end the name of the result with .png or .jpg.")
    elif args.frame is not None:
        raise UserError("--frame makes one picture: end the name of the result with .png or .jpg, or leave it away.")
    else:
        _write_frames(face, emotion, args)


def _open(args: argparse.Namespace) -> "FaceEditor":
    """The source with its generator; its remarks are printed."""
    from emotalking import api
    from emotalking.cli.options import note
    from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
    from emotalking.emotion.tracks import parse_pair
    from emotalking.errors import UserError
    from emotalking.faces.edit import FaceEditor
    from emotalking.faces.generators import open_generator, open_paper_generator
    from emotalking.faces.source import open_source

    if not 0 <= args.gain <= 1:
        raise UserError(f"--gain {args.gain:g}: give a strength from 0 to 1; stronger faces would be caricature.")
    resting = None if args.resting_expression is None else parse_pair(args.resting_expression)
    config = MeshWarpConfig(gain=args.gain, corners=not args.fixed_lips, resting_expression=resting)
    if args.generator == "mesh" and args.faces is not None:
        raise UserError("--faces is the file of the paper's generator: say --generator paper too.")
    if args.generator == "paper" and config != MeshWarpConfig():
        raise UserError("--gain, --fixed-lips and --resting-expression belong to the mesh warp: leave them away.")
    device = api.choose_device(args.device)
    source = open_source(args.source)
    for remark in source.remarks:
        note(f"{args.source}: {remark}")
    if args.generator == "paper":
        return FaceEditor(source, open_paper_generator(source, args.faces, device), device)
    return FaceEditor(source, open_generator(source, config), device)


def _write_frames(face: "FaceEditor", emotion: "EmotionTrack", args: argparse.Namespace) -> None:
    """A video with the source's sound, or a folder."""
    from contextlib import ExitStack

    from emotalking.cli.options import note
    from emotalking.errors import UserError
    from emotalking.io.audio import iter_audio
    from emotalking.io.video_writer import AUDIO_RATE, FrameFolder, VideoWriter, codec_for
    from emotalking.progress import track

    source, fps = face.source, face.source.fps
    assert fps is not None
    limit = None if args.seconds is None else max(round(args.seconds * float(fps)), 1)
    if args.out.suffix:
        codec_for(args.out, alpha=False)
        if args.out.exists() and args.source.is_file() and args.out.samefile(args.source):
            raise UserError(f"{args.out} is both the source and the result: give the result another name.")
    total = source.count if limit is None or source.count is None else min(source.count, limit)
    done = 0
    with ExitStack() as stack:
        writer = None if args.out.suffix else FrameFolder(args.out, overwrite=args.overwrite)
        for image in track(face.frames(emotion, limit), "faces", total):
            if writer is None:
                sound = None if source.sound is None else iter_audio(source.sound, AUDIO_RATE)
                writer = stack.enter_context(VideoWriter(args.out, image.shape[1], image.shape[0], fps, sound))
            writer.write(image)
            done += 1
    alone = f"; {face.left_alone} show no face that can be edited and stayed as they were" if face.left_alone else ""
    note(f"{args.out}: {done} frames{alone}")


def _write_grid(face: "FaceEditor", args: argparse.Namespace) -> None:
    """One file a place, named after it."""
    from emotalking.cli.options import note
    from emotalking.errors import UserError
    from emotalking.faces.edit import grid_points
    from emotalking.io.images import write_image

    if args.out.suffix:
        raise UserError(f"--grid writes a folder of pictures, and {args.out} names a file: give a folder.")
    points = grid_points(args.grid)
    for (valence, arousal), image in zip(points, face.pictures(args.frame or 0, points), strict=True):
        write_image(args.out / f"v{valence:+.2f}_a{arousal:+.2f}.png", image)
    note(f"{args.out}: {len(points)} pictures")


def _sheet(args: argparse.Namespace) -> None:
    from emotalking.cli.options import note
    from emotalking.emotion.circumplex import TEST_POINTS
    from emotalking.errors import UserError
    from emotalking.faces.edit import grid_points
    from emotalking.io.images import write_image
    from emotalking.report.contact_sheet import circumplex_sheet, contact_sheet

    if not 32 <= args.cell <= 1024:
        raise UserError(f"--cell {args.cell}: give a number of pixels from 32 to 1024.")
    face = _open(args)
    number = args.frame or 0
    title = f"{args.source.stem}, frame {number}, {face.generator.name}: pleasant to the right, excited to the top"
    if args.grid is not None:
        points = grid_points(args.grid)
        captions = [f"{valence:+.2f}, {arousal:+.2f}" for valence, arousal in points]
        pictures = face.close_ups(number, points)
        page = contact_sheet(pictures, captions, columns=args.grid, cell=args.cell, title=title)
    else:
        points = [(0.0, 0.0), *((point.valence, point.arousal) for point in TEST_POINTS)]
        captions = ["as recorded", *(f"{p.label} {p.valence:+.2f}, {p.arousal:+.2f}" for p in TEST_POINTS)]
        pictures = face.close_ups(number, points)
        page = circumplex_sheet(pictures, points, captions, cell=args.cell, title=title)
    write_image(args.out, page)
    note(f"{args.out} is written")


def _train(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.data import Subject
    from emotalking.errors import UserError
    from emotalking.stylegan.config import EditConfig
    from emotalking.stylegan.personalise import Networks, train_faces
    from emotalking.stylegan.trained import NAME

    for name in ("epochs", "squares"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: give one or more.")
    subject = Subject.open(args.subject)
    out = args.out or args.subject / NAME
    if out.is_dir():
        raise UserError(f"{out} is a folder: give the name of a file, such as {NAME}.")
    device = api.choose_device(args.device)
    networks = Networks.open(device)
    say_device("training", device)
    config = replace(EditConfig(), epochs=args.epochs)
    train_faces(subject, out, networks, config=config, frames=args.squares, seed=args.seed)
    note(f"{out} is ready: 'emotalking train {args.subject} AVATAR --generator paper'")


_VERBS = {"apply": _apply, "sheet": _sheet, "train": _train}
