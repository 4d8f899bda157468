"""``emotalking sync``: train a personal sync expert; measure how well lips and sound of a clip are in step."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

IF_INTERRUPTED = "no expert and no page was written"

_EXAMPLES = """examples:
  emotalking sync train someone
  emotalking sync train someone other another -o shared_expert.safetensors
  emotalking sync measure out.mp4 --expert someone/sync_expert.safetensors
  emotalking sync measure someone --page sync.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    from emotalking.cli.options import add_device

    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    train = verbs.add_parser(
        "train", help="make a subject's sync expert: seconds on a GPU, about eleven minutes on a CPU core"
    )
    train.add_argument("subjects", nargs="+", type=Path, metavar="SUBJECT", help="its folder; then others that help")
    train.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: sync_expert.safetensors in the folder")
    train.add_argument("--steps", type=int, help="optimizer steps (default: 600 on a GPU, 200 on a CPU)")
    train.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    add_device(train)
    measure = verbs.add_parser("measure", help="offset, Sync-E and Sync-C of a video or a subject's clip")
    measure.add_argument("clip", type=Path, metavar="CLIP|SUBJECT", help="video with sound, or subject folder")
    measure.add_argument(
        "--expert", default="personal", metavar="NAME|FILE",
        help="personal (the subject folder's), syncnet, or an expert's file (default: %(default)s)",
    )  # fmt: skip
    measure.add_argument("--page", type=Path, metavar="HTML", help="write a page with the offset curve")
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    add_device(measure)


def run(args: argparse.Namespace) -> None:
    """Do what the verb says."""
    _train(args) if args.verb == "train" else _measure(args)


def _train(args: argparse.Namespace) -> None:
    import sys

    from emotalking import api
    from emotalking.data import Subject
    from emotalking.errors import UserError
    from emotalking.lipsync.training import train_expert

    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps}: give one step or more.")
    if args.out is not None and args.out.is_dir():
        raise UserError(f"{args.out} is a folder: give the name of a file, such as expert.safetensors.")
    subjects = [Subject.open(folder) for folder in args.subjects]
    device = api.choose_device(args.device)
    report = train_expert(subjects, args.out, steps=args.steps, device=device, seed=args.seed)
    lines = [f"{report.path}: {report.steps} steps in {report.seconds:.0f} s on {device.type}"]
    for folder, part in zip(args.subjects, report.held_out, strict=True):
        if part is None:
            lines.append(f"  {folder}: too few held-out seconds to measure")
            continue
        lines.append(
            f"  {folder}, {part.seconds:.1f} held-out seconds: offset {part.offset:+d} frames, Sync-E {part.sync_e:.3f}"
            f", Sync-C {part.sync_c:.3f}; {part.within_one:.0%} of {part.pieces} pieces of 2 s within one frame"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _measure(args: argparse.Namespace) -> None:
    import json
    import sys

    from emotalking import api
    from emotalking.data import Subject
    from emotalking.evaluate.sync import SyncMeter, offset_plot
    from emotalking.io.files import write_bytes
    from emotalking.lipsync.expert import open_expert
    from emotalking.report import Page

    subject = Subject.open(args.clip) if args.clip.is_dir() else None
    expert = open_expert(args.expert, subject, api.choose_device(args.device))
    fps, frames, samples = _subject_frames(subject) if subject is not None else _clip_frames(args.clip)
    meter = SyncMeter(expert, fps)
    for image, points in frames:
        meter.add(image, points)
    scores = meter.scores(samples)
    if args.json is not None:
        facts: dict[str, Any] = {"clip": args.clip.name, "expert": scores.expert, "sync_e": scores.error}
        facts |= {"sync_c": scores.confidence, "offset_frames": scores.offset, "curve": scores.curve.tolist()}
        write_bytes(args.json, (json.dumps(facts, indent=2) + "\n").encode())
    if args.page is not None:
        page = Page(f"Sync of {args.clip.name}", scores.summary())
        page.plot(offset_plot(scores), "mean distance of lips and sound, by how many frames the sound comes first")
        page.write(args.page)
    sys.stdout.write(f"{args.clip}: {scores.summary()}\n")


_Frames = Iterator[tuple["np.ndarray", "np.ndarray | None"]]


def _subject_frames(subject: Any) -> tuple[Any, _Frames, "np.ndarray"]:
    """Rate, frames with landmarks, and sound of a prepared clip."""
    import numpy as np

    from emotalking.io.audio import load_audio
    from emotalking.progress import track

    points = subject.landmarks.without_guesses().ibug68.astype(np.float64)
    numbers = track(range(subject.num_frames), "sync")
    return subject.fps, ((subject.original(i), points[i]) for i in numbers), load_audio(subject.files.audio)


def _clip_frames(clip: Path) -> tuple[int, _Frames, "np.ndarray"]:
    """The same of any video, at 25 frames a second."""
    from emotalking.io.audio import load_audio
    from emotalking.io.video import read_frames
    from emotalking.lipsync.windows import FPS
    from emotalking.preprocess.landmarks import open_provider
    from emotalking.progress import track

    samples = load_audio(clip)

    def frames() -> _Frames:
        provider = open_provider()
        try:
            for image in track(read_frames(clip, FPS), "sync"):
                found = provider.detect(image)
                yield image, None if found is None else found[list(provider.layout.ibug68), :2]
        finally:
            provider.close()

    return FPS, frames(), samples
