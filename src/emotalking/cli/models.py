"""``emotalking models``: the networks that a person may bring, where they come from and whether they are there."""

import argparse
import json
from typing import Any

MEGABYTE = 1e6


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON, for other programs")


def run(args: argparse.Namespace) -> None:
    """List them."""
    import sys

    from emotalking.networks.registry import model_folders, models

    facts = {name: _facts(model) for name, model in models().items()}
    if args.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    folders = " or ".join(str(folder) for folder in model_folders())
    lines = [f"None of these is needed; the embedded methods work without. Put the files into {folders}."]
    for name, fields in facts.items():
        lines += ["", f"{name}: {fields.pop('what')}"]
        lines += [f"  {key:<8} {value}" for key, value in fields.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _facts(model: Any) -> dict[str, str]:
    """What to show of a :class:`~emotalking.networks.registry.Model`."""
    path = model.find()
    if path is None:
        state = f"missing ({' or '.join(model.files)})"
    else:
        known = {True: ", the published file", False: ", NOT the published file", None: ""}
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
        size = f"{sum(file.stat().st_size for file in files) / MEGABYTE:.1f} MB"
        state = f"{path}, {size}{known[model.is_published(path)]}"
    return {
        "what": model.title,
        "for": model.purpose,
        "state": state,
        "licence": f"{model.licence}: {model.limits}",
        "source": model.source,
        "without": model.alternative,
    }
