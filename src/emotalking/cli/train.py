"""``emotalking train``: a subject folder to an avatar file."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device, add_generator, add_settings

IF_INTERRUPTED = "run the same command again to go on from the last checkpoint"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("subject", type=Path, help="subject folder ('emotalking prepare', or TalkingGaussian's layout)")
    parser.add_argument("avatar", type=Path, help="avatar file to make, such as someone.safetensors")
    parser.add_argument(
        "--preset",
        choices=("tiny", "fast", "paper"),
        default="fast",
        help="tiny: minutes on a CPU; fast: minutes on a GPU; paper: the paper's schedule (default: %(default)s)",
    )
    add_device(parser, "; two, such as cuda:0,cuda:1, train mouth and face at the same time")
    add_settings(parser, "the preset")
    add_generator(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="start again even if an interrupted run of the same avatar is there"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write TensorBoard events into the run folder AVATAR.run too (needs emotalking[tensorboard])",
    )


def run(args: argparse.Namespace) -> None:
    """Train the avatar."""
    from emotalking import api
    from emotalking.cli.options import note, say_device

    say_device("training", api.choose_device(args.device.partition(",")[0]))
    made = api.train(
        args.subject,
        args.avatar,
        preset=args.preset,
        device=args.device,
        overrides=args.settings,
        resume=not args.fresh,
        tensorboard=args.tensorboard,
        generator=args.generator,
        faces=args.faces,
        command=args.command_line,
    )
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in made.stage_seconds.items())
    note(f"{made.path} is ready ({took}): 'emotalking render {made.path} --audio SPEECH -o out.mp4'")
    note(f"how it went: {made.page}")
