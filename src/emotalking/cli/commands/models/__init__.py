"""``emotalking models``."""

from json import dumps

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.networks.registry import BUNDLED, Model, is_as_downloaded, model_folders

SECTION = "inspect"
FUNCTION = api.list_models


def run(arguments: Arguments, *, json: bool = False) -> None:
    """List them.

    Args:
        json: print JSON, for other programs.
    """
    facts = {name: _facts(model) for name, model in api.list_models(**arguments).items()}
    if json:
        print(dumps(facts, indent=2))
        return
    folders = " or ".join(str(folder) for folder in model_folders())
    lines = [f"None of these is needed; the embedded methods work without. The files belong into {folders}."]
    for name, fields in facts.items():
        lines += ["", f"{name}: {fields.pop('what')}"]
        lines += [f"  {key:<8} {value}" for key, value in fields.items()]
    print("\n".join(lines))


def _facts(model: Model) -> dict[str, str]:
    """Title, purpose, state, licence and source of a model."""
    path = model.find()
    if path is None:
        state = f"missing ({' or '.join(model.files)})"
    elif path.parent == BUNDLED:
        state = f"comes with this package, {path.stat().st_size / 1e6:.1f} MB"
    else:
        known = {True: ", the published file", False: ", NOT the published file", None: ""}
        recorded = {True: ", as downloaded", False: ", CHANGED since it was downloaded", None: ""}
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
        size = f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
        state = f"{path}, {size}{known[model.is_published(path)] or recorded[is_as_downloaded(path)]}"
    return {
        "what": model.title,
        "for": model.purpose,
        "state": state,
        "licence": f"{model.licence}: {model.limits}",
        "source": model.source,
        "get": f"emotalking models get {model.name}" if model.downloadable else "by hand",
        "without": model.alternative,
    }
