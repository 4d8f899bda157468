"""``emotalking info``."""

from json import dumps

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import output

SECTION = "inspect"
FUNCTION = api.info
_LONG = ("train", "steps")
"""Every setting of the training, every measure of the preparation: hundreds of lines, which JSON alone shows."""


def run(arguments: Arguments, *, json: bool = False) -> None:
    """Show the facts.

    Args:
        json: print JSON, for other programs.
    """
    facts = api.info(**arguments)
    if json:
        print(dumps(facts, indent=2, default=str))
        return

    console = output(highlight=False, soft_wrap=True)
    for title, section in facts.items():
        console.print(title, style="bold", markup=False)
        for line in _lines(section, 1):
            console.print(line, markup=False)


def _lines(value: object, depth: int) -> list[str]:
    """A section as indented lines."""
    indent = "  " * depth
    if isinstance(value, dict):
        lines = []
        width = max((len(str(key)) for key, item in value.items() if not _deep(item)), default=0)
        for key, item in value.items():
            if key in _LONG and isinstance(item, dict):
                lines.append(f"{indent}{key!s:<{width}}  (shown by --json)")
            elif _deep(item):
                lines += [f"{indent}{key}", *_lines(item, depth + 1)]
            else:
                lines.append(f"{indent}{key!s:<{width}}  {_flat(item)}")
        return lines
    if isinstance(value, list):
        return [f"{indent}- {_flat(item)}" for item in value if item != ""] or [f"{indent}none"]
    return [f"{indent}{_flat(value)}"]


def _deep(value: object) -> bool:
    return isinstance(value, dict) or isinstance(value, list) and any(isinstance(item, str | dict) for item in value)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
