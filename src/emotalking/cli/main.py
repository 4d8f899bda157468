"""The command ``emotalking``: find the verb, parse its options, call its function, report failures in one sentence."""

import importlib
import inspect
import os
import pkgutil
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from io import TextIOBase
from types import ModuleType
from typing import cast

from emotalking import __version__
from emotalking.cli import commands
from emotalking.cli.terminal import Screen, Terminated, complain, end_in_order, prepare_streams, system_sentence
from emotalking.cores import Usage, share_cores, usage
from emotalking.errors import InputError, memory_full
from emotalking.io.outputs import claimed

SECTIONS = ("make an avatar", "use it", "evaluate", "inspect")
"""Sections of the help, in order; a verb names its own."""
INPUT_ERROR, INTERRUPTED = 2, 130


_MEMORY = {
    "the memory": "the memory is full: close other programs, or work on less at once",
    "the GPU's memory": "the GPU's memory is full: close other programs on it, or use --device cpu",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        Exit code: 0, 2 for what the user can fix, 130 when interrupted.
    """
    verb: ModuleType | None = None
    prepare_streams()
    if argv is None:
        end_in_order()
    started = usage() if argv is None else None
    try:
        arguments = join_negative_values(sys.argv[1:] if argv is None else argv)
        if not arguments:
            sys.stderr.write(overview())
            return INPUT_ERROR
        if arguments[0] in ("-h", "--help", "--version"):
            print(f"emotalking {__version__}" if arguments[0] == "--version" else overview(), end="")
            return 0
        name, rest = _split(arguments)
        verb = load(name)
        with redirect_stdout(Screen(cast(TextIOBase, sys.stdout))) if sys.stdout is not None else nullcontext():
            _run(verb, rest, started)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is noticed here, not when the process has ended
        return 0
    except SystemExit as end:  # --help
        return int(end.code or 0)
    except KeyboardInterrupt as end:
        code = end.args[0] if isinstance(end, Terminated) else INTERRUPTED
        return _fail(f"interrupted: {getattr(verb, 'IF_INTERRUPTED', 'nothing was written')}", code, "")
    except BrokenPipeError:  # "| head" has seen enough
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except InputError as error:
        return _fail(str(error), INPUT_ERROR)
    except OSError as error:
        return _fail(system_sentence(error), INPUT_ERROR)
    except (MemoryError, RuntimeError, ImportError) as error:
        full = memory_full(error)
        if full is not None:
            return _fail(_MEMORY[full], INPUT_ERROR)
        if "home directory" in str(error):
            return _fail("your home folder is not known: set the environment variable HOME", INPUT_ERROR)
        raise


def verbs(package: ModuleType = commands, prefix: str = "") -> dict[str, str]:
    """Every verb and its module: those of ``cli.commands``, where a package is a group such as ``sync train``.

    A package with a ``FUNCTION`` is a verb too, as ``models`` beside ``models get``.
    """
    found: dict[str, str] = {}
    for entry in pkgutil.iter_modules(package.__path__):
        name = prefix + entry.name.removesuffix("_").replace("_", "-")
        module = f"{package.__name__}.{entry.name}"
        group = importlib.import_module(module) if entry.ispkg else None
        if group is None or hasattr(group, "FUNCTION"):
            found[name] = module
        if group is not None:
            found |= verbs(group, f"{name} ")
    return found


def load(name: str) -> ModuleType:
    """The module of a verb, which has ``SECTION``, ``FUNCTION`` (whose parameters are its options) and ``run``.

    Raises:
        InputError: there is no such verb.
    """
    known = verbs()
    if name in known:
        return importlib.import_module(known[name])
    group = [verb for verb in known if verb.startswith(f"{name.split()[0]} ")]
    if group:
        raise InputError(f"choose one of {', '.join(group)}: see 'emotalking --help'")
    raise InputError(f"unknown command '{name}': see 'emotalking --help'")


def overview() -> str:
    """Help about all verbs."""
    lines = ["usage: emotalking COMMAND [OPTIONS]", "", "Emotional talking heads from a short clip, as 3-D Gaussians."]
    loaded = {name: importlib.import_module(module) for name, module in verbs().items()}
    for section in SECTIONS:
        lines += ["", f"{section}:"]
        lines += [f"  {name:<14} {summary(module)}" for name, module in loaded.items() if module.SECTION == section]
    return "\n".join([*lines, "", "Try 'emotalking demo', or 'emotalking COMMAND --help'.", ""])


def summary(module: ModuleType) -> str:
    """One line of help about a verb: the first of its function's docstring."""
    line = (inspect.getdoc(module.FUNCTION) or "").splitlines()[0].rstrip(".")
    return line[0].lower() + line[1:]


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Verb and what follows; a group's verb is two words."""
    known, pair = verbs(), " ".join(arguments[:2])
    return (pair, list(arguments[2:])) if pair in known else (arguments[0], list(arguments[1:]))


def _run(verb: ModuleType, arguments: list[str], started: Usage | None) -> None:
    """Parse and run; ``started``: use of the cores when this process began, None if it is not this command's own."""
    from emotalking.cli.arguments import bind, parameters, parse

    name = next(name for name, module in verbs().items() if module == verb.__name__)
    extras = parameters(verb.run, skip=("arguments",))
    api_parameters = parameters(verb.FUNCTION)
    examples = getattr(verb, "EXAMPLES", "")
    values = parse(
        [*api_parameters, *extras], arguments, prog=f"emotalking {name}", about=verb.FUNCTION, epilog=examples
    )
    bound = bind(api_parameters, values, verb.FUNCTION)
    if "command" in inspect.signature(verb.FUNCTION).parameters:
        bound["command"] = shlex.join(["emotalking", *name.split(), *arguments])
    from emotalking.progress import shown

    if started is not None:
        share_cores(started)
        # Nothing is shown in a window, and matplotlib fails at its import where a notebook's or an IDE's is unknown.
        os.environ["MPLBACKEND"] = "agg"
    more = {one.name: values[one.name] for one in extras}
    with shown(never_silent=started is not None), claimed([verb.FUNCTION, verb.run], bound | more, hold=False):
        verb.run(bound, **more)


def _fail(message: str, code: int, kind: str = "error: ") -> int:
    complain(f"emotalking: {kind}{message}")
    return code


def join_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--va -0.5,0.3`` as ``--va=-0.5,0.3``, which would otherwise be taken for an option of its own."""
    joined: list[str] = []
    for word in arguments:
        if joined and re.match(r"-\.?\d", word) and re.fullmatch(r"--[a-z][\w-]*", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
