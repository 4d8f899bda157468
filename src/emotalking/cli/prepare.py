"""``emotalking prepare``: a clip to a subject folder."""

import argparse
from pathlib import Path

IF_INTERRUPTED = "run the same command again to go on from the last finished step"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("clip", type=Path, help="video of one person talking to the camera, with sound")
    parser.add_argument("out", type=Path, help="subject folder to make, or to finish")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="side of the square frames (default: 512, or the clip's)"
    )
    parser.add_argument("--seconds", type=float, help="use only the beginning of the clip")
    parser.add_argument(
        "--landmarker", type=Path, metavar="TASK", help="MediaPipe .task file (default: the embedded face mesh)"
    )
    parser.add_argument(
        "--aus", type=Path, metavar="CSV", help="action units by OpenFace (default: measured from the landmarks)"
    )
    parser.add_argument(
        "--normals",
        choices=["mesh", "none"],
        default="mesh",
        help="normal maps of the face from the tracked landmarks, or none (default: mesh)",
    )


def run(args: argparse.Namespace) -> None:
    """Prepare the clip."""
    from emotalking import api
    from emotalking.cli.options import note

    api.prepare(
        args.clip,
        args.out,
        size=args.size,
        limit_seconds=args.seconds,
        task_model=args.landmarker,
        action_units=args.aus,
        normals=args.normals,
    )
    note(f"{args.out} is ready: 'emotalking train {args.out} AVATAR'")
