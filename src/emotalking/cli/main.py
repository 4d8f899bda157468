"""The command ``emotalking``: find the subcommand, run it, turn failures into one sentence and an exit code."""

import argparse
import errno
import importlib
import keyword
import os
import re
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from emotalking import __version__
from emotalking.errors import UserError

COMMANDS = {
    "check": "will this clip make an avatar? a verdict and a page, in seconds",
    "prepare": "clip to subject folder: track the face, find masks, action units, emotion, sound",
    "train": "subject folder to avatar file",
    "train-many": "many subject folders to avatar files, on every GPU at once; one page about all of them",
    "report": "how a training run goes or went: its page, anew from its record",
    "render": "avatar file and speech to video, with emotion",
    "faces": "emotional faces from a picture, a clip or a subject, as training makes them; sheets over the circumplex",
    "say": "text to speech, with the times of its words and sounds; voices, curated sentences and their coverage",
    "evaluate": "the paper's three scenarios on held-out frames: tables, plots and a page",
    "compare": "score anyone's frames or videos of a subject beside each other, in one table",
    "ablate": "train and score the paper's ablations of a subject: table 4",
    "study": "a blind side-by-side user study with the paper's three questions: page, server, results",
    "sync": "are lips and sound in step: train a sync expert on a subject, measure a clip",
    "import": "complete a folder of TalkingGaussian or ER-NeRF, so that emotion can be trained on it",
    "validate": "what is missing or odd in a subject folder, and what to do",
    "info": "what an avatar file or a subject folder holds",
    "models": "networks that you may bring: where from, under which licence, whether they are there",
    "demo": "the whole way in one go, on a synthetic actor",
}
"""Every command is the module ``emotalking.cli.<name>`` (``train_many``; ``import_``, a word of Python) with
``configure(parser)`` and ``run(args)``, imported when it is called, so that help costs nothing."""

USER_ERROR, INTERRUPTED, BUG = 2, 130, 1
_FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class _Parser(argparse.ArgumentParser):
    """Complains in the house's one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        Exit code: 0, 2 for what the user can mend, 130 when interrupted.
    """
    module: ModuleType | None = None
    try:
        arguments = join_negative_values(sys.argv[1:] if argv is None else argv)
        name = next((word for word in arguments if not word.startswith("-")), None)
        if name in COMMANDS:
            module = importlib.import_module(f"emotalking.cli.{name.replace('-', '_')}{'_' * keyword.iskeyword(name)}")
        parser = _parser(name, module)
        if not arguments:
            parser.print_help(sys.stderr)
            return USER_ERROR
        parsed = parser.parse_args(arguments)
        assert module is not None  # the parser refuses a missing or unknown command
        parsed.command_line = shlex.join(["emotalking", *arguments])
        from emotalking.progress import shown

        with shown():
            module.run(parsed)
        return 0
    except SystemExit as end:  # --help, --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail(f"interrupted: {getattr(module, 'IF_INTERRUPTED', 'nothing was written')}", INTERRUPTED, "")
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        return _fail(str(error), USER_ERROR)
    except OSError as error:
        if error.errno not in _FULL_OR_FORBIDDEN:
            raise
        place = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot write{place}: {error.strerror}", USER_ERROR)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, without importing torch
            raise
        return _fail("the GPU's memory is full: close other programs on it, or use --device cpu", USER_ERROR)


def _fail(message: str, code: int, kind: str = "error: ") -> int:
    sentence = " ".join(message.split())
    sys.stderr.write(f"emotalking: {kind}{sentence}\n")
    return code


def _parser(name: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    """The whole parser; only the chosen command's options are filled in."""
    parser = _Parser(
        prog="emotalking",
        description="Emotional talking heads from a short clip, as 3-D Gaussians.",
        epilog="Try 'emotalking demo', or 'emotalking COMMAND --help'.",
    )
    parser.add_argument("--version", action="version", version=f"emotalking {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command, summary in COMMANDS.items():
        sub = commands.add_parser(
            command,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command == name and module is not None:
            module.configure(sub)
    return parser


def join_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--va -0.5,0.3`` as ``--va=-0.5,0.3``, which argparse would otherwise take for an option of its own."""
    joined: list[str] = []
    for word in arguments:
        if joined and re.match(r"-\.?\d", word) and re.fullmatch(r"--[a-z][\w-]*", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
