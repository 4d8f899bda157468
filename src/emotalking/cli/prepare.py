"""``emotalking prepare``: a clip to a subject folder."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device
from emotalking.preprocess.config import EMOTION_MODELS, NORMALS, PARSINGS

IF_INTERRUPTED = "run the same command again to go on from the last finished step"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("clip", type=Path, help="video of one person talking to the camera, with sound")
    parser.add_argument("out", type=Path, help="subject folder to make, or to finish")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="side of the square frames (default: 512, or the clip's)"
    )
    parser.add_argument("--seconds", type=float, help="use only the beginning of the clip, or of the part")
    parser.add_argument("--part", type=_part, metavar="BEGIN,END", help="use only this part of the clip, in seconds")
    parser.add_argument("--force", action="store_true", help="go on with a clip that 'check' calls unusable")
    parser.add_argument(
        "--fps",
        default="25",
        help="frames a second, also as 30000/1001; 'source': the clip's true rate (default: %(default)s)",
    )
    parser.add_argument(
        "--audio-offset",
        type=_offset,
        default="auto",
        metavar="auto|none|SECONDS",
        help="how late the sound is: measured, left alone, or given (default: %(default)s)",
    )
    parser.add_argument(
        "--landmarker", type=Path, metavar="TASK", help="MediaPipe .task file (default: the embedded face mesh)"
    )
    parser.add_argument(
        "--aus", type=Path, metavar="CSV", help="action units by OpenFace (default: measured from the landmarks)"
    )
    brought = parser.add_argument_group("networks that you bring (see 'emotalking models')")
    brought.add_argument(
        "--parsing",
        choices=list(PARSINGS),
        default="embedded",
        help="masks: embedded method, BiSeNet, or BiSeNet and EasyPortrait's teeth (default: %(default)s)",
    )
    brought.add_argument(
        "--emotion-model",
        "--emotion-judge",
        dest="emotion_model",
        choices=list(EMOTION_MODELS),
        default="landmarks",
        help="valence and arousal: rules on the landmarks, or EmoNet (default: %(default)s; formerly --emotion-judge)",
    )
    brought.add_argument(
        "--normals",
        choices=list(NORMALS),
        default="mesh",
        help="normal maps: the tracked landmarks' mesh, a network, or none (default: %(default)s)",
    )
    add_device(brought)
    parser.add_argument(
        "--preview", action="store_true", help="also write preview.mp4 and preview.html: landmarks, masks, curves"
    )


def _part(text: str) -> tuple[float, float]:
    """``12.5,80``."""
    begin, _, end = text.partition(",")
    try:
        return float(begin), float(end)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no pair of seconds such as 12.5,80") from None


def _offset(text: str) -> str | float:
    """``auto``, ``none`` or seconds."""
    try:
        return text if text in ("auto", "none") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither auto, none nor seconds") from None


def run(args: argparse.Namespace) -> None:
    """Prepare the clip."""
    from emotalking import api
    from emotalking.cli.options import note

    api.prepare(
        args.clip,
        args.out,
        size=args.size,
        seconds=args.seconds,
        part=args.part,
        force=args.force,
        fps=args.fps,
        audio_offset=args.audio_offset,
        landmarker=args.landmarker,
        action_units=args.aus,
        parsing=args.parsing,
        emotion_model=args.emotion_model,
        normals=args.normals,
        device=args.device,
    )
    if args.preview:
        video, page = api.preview(args.out)
        note(f"look at {video} and {page}")
    note(f"{args.out} is ready: 'emotalking train {args.out} AVATAR'")
