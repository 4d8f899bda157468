"""``emotalking render``: an avatar file and speech to a video."""

import argparse
import time
from pathlib import Path

from emotalking.cli.options import add_device

IF_INTERRUPTED = "no video was written; frames already in the folder of --frames are whole"

_EXAMPLES = """examples:
  emotalking render someone.safetensors --audio speech.mp3 -o out.mp4 --emotion happy
  emotalking render someone.safetensors --audio speech.wav -o out.mp4 --va -0.5,0.3
  emotalking render someone.safetensors --audio speech.wav -o out.webm --transparent
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("avatar", type=Path, help="avatar file ('emotalking train')")
    parser.add_argument("--audio", type=Path, required=True, help="speech: any sound or video file, of any length")
    parser.add_argument(
        "-o", "--output", type=Path, help="video to write: .mp4, .mov, .mkv or .webm; transparent: .mov or .webm"
    )
    parser.add_argument("--frames", type=Path, metavar="DIR", help="write every frame as a PNG file into this folder")
    emotion = parser.add_argument_group("emotion (at most one; without any, the face as it was recorded)")
    emotion.add_argument("--emotion", metavar="NAME", help="happy, sad, angry, ..., or with a strength: happy:0.5")
    emotion.add_argument("--va", metavar="V,A", help="valence and arousal, each from -1 to 1, such as -0.5,0.3")
    emotion.add_argument("--track", type=Path, metavar="FILE", help="keyframes (.csv or .json: time, valence, arousal)")
    picture = parser.add_argument_group("picture")
    picture.add_argument(
        "--background", metavar="WHAT", help="a picture file, a colour (white, #00ff00) or transparent"
    )
    picture.add_argument("--transparent", action="store_true", help="the same as --background transparent")
    picture.add_argument(
        "--paste", type=Path, metavar="CLIP", help="paste the head back into the full frames of the clip it came from"
    )
    picture.add_argument(
        "--poses", choices=("recorded", "fixed"), default="recorded", help="head motion (default: %(default)s)"
    )
    picture.add_argument("--seconds", type=float, help="render only the first seconds")
    add_device(parser)
    parser.add_argument("--batch", type=int, default=8, help="frames rendered together (default: %(default)s)")
    parser.add_argument(
        "--features", type=Path, metavar="NPY", help="audio features of the speech, for an avatar not trained on 'mel'"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="the folder of --frames may hold frames of an earlier run"
    )


def run(args: argparse.Namespace) -> None:
    """Render the video."""
    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.errors import UserError
    from emotalking.progress import bar

    if args.transparent and args.background not in (None, "transparent"):
        raise UserError("--transparent and --background exclude each other: give one of them")
    device = api.choose_device(args.device)
    emotion = api.emotion_track(name=args.emotion, va=args.va, track=args.track)
    avatar = api.load_avatar(args.avatar, device)
    say_device("rendering", device)
    begin = time.perf_counter()
    with bar() as progress:
        task = progress.add_task("render", total=None, note="")
        made = api.render(
            avatar,
            args.audio,
            args.output,
            folder=args.frames,
            features=args.features,
            emotion=emotion,
            poses=args.poses,
            background="transparent" if args.transparent else args.background,
            paste=args.paste,
            seconds=args.seconds,
            batch=args.batch,
            overwrite=args.overwrite,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    rate = made.frames / (time.perf_counter() - begin)
    where = " and ".join(str(place) for place in (made.video, made.folder) if place is not None)
    note(f"{where}: {made.frames} frames, {made.seconds:.2f} s ({rate:.1f} frames/s)")
