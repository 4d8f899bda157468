"""``emotalking info``: what an avatar file or a subject folder holds."""

import argparse
import json
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", type=Path, help="avatar file or subject folder")
    parser.add_argument("--json", action="store_true", help="as JSON, for other programs")


def run(args: argparse.Namespace) -> None:
    """Show the facts."""
    import sys

    from emotalking import api

    facts = api.info(args.path)
    if args.json:
        sys.stdout.write(json.dumps(facts, indent=2, default=str) + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for title, section in facts.items():
        console.print(title, style="bold", markup=False)
        for line in _lines(section, 1):
            console.print(line, markup=False)


def _lines(value: Any, depth: int) -> list[str]:
    """A section as indented lines."""
    indent = "  " * depth
    if isinstance(value, dict):
        lines = []
        width = max((len(str(key)) for key, item in value.items() if not _deep(item)), default=0)
        for key, item in value.items():
            if _deep(item):
                lines += [f"{indent}{key}", *_lines(item, depth + 1)]
            else:
                lines.append(f"{indent}{key!s:<{width}}  {_flat(item)}")
        return lines
    if isinstance(value, list):
        return [f"{indent}- {_flat(item)}" for item in value] or [f"{indent}none"]
    return [f"{indent}{_flat(value)}"]


def _deep(value: Any) -> bool:
    return isinstance(value, dict) or isinstance(value, list) and any(isinstance(item, str | dict) for item in value)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
