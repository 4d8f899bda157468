"""``emotalking models get``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emotalking.cli.commands import Arguments
from emotalking.cli.console import note
from emotalking.errors import InputError
from emotalking.networks.registry import Model, find_model, models, record

if TYPE_CHECKING:
    from emotalking.networks.downloads import Download

SECTION = "inspect"
IF_INTERRUPTED = "what has arrived is kept, and the same command continues there"
EXAMPLES = """examples:
  emotalking models get syncnet emonet8
  emotalking models get --paper --accept

Of each model, source, size, licence and what it forbids are shown before the question. The model folder is
~/.cache/emotalking/models, or the one that EMOTALKING_MODELS names; HTTP_PROXY, HTTPS_PROXY, NO_PROXY and HF_ENDPOINT
are obeyed. A model that its authors give on a page only is fetched by hand: the command says from where and to where.
"""


def get(names: tuple[str, ...] = (), *, paper: bool = False, all: bool = False, accept: bool = False) -> None:
    """Download optional pretrained models into the model folder.

    Args:
        names: models, as 'emotalking models' lists them.
        paper: all that the paper and its baseline use.
        all: all of the list.
        accept: accept their terms without being asked; they are shown all the same.
    """


FUNCTION = get


def run(arguments: Arguments) -> None:
    """Get them one after another; one that fails does not stop the others."""
    chosen = _chosen(arguments["names"], arguments["paper"], arguments["all"])
    failures: dict[str, str] = {}
    for model in chosen:
        try:
            _get(model, arguments["accept"])
        except InputError as error:
            failures[model.name] = str(error)
            if len(chosen) > 1:
                note(f"{error}\n")
    if len(chosen) == 1 and failures:
        raise InputError(failures[chosen[0].name])
    if failures:
        raise InputError(f"{', '.join(failures)}: not here; what to do is said above.")


def _chosen(names: tuple[str, ...], paper: bool, every: bool) -> list[Model]:
    named = {find_model(name).name for name in names}
    chosen = [model for model in models().values() if every or paper and model.paper or model.name in named]
    if not chosen:
        raise InputError("no model is named: give names as 'emotalking models' lists them, --paper or --all.")
    return chosen


def _get(model: Model, accept: bool) -> None:
    """Show, ask, download, and say where it is."""
    from emotalking.networks.downloads import download, find_download

    there = model.installed()
    if there is not None:
        other = ", which is NOT the published file: move it away to get that" * (model.is_published(there) is False)
        print(f"{model.name} is in {there}{other}.")
        return
    job = find_download(model)
    print(_terms(job), flush=True)
    if not (accept or _agreed()):
        print(f"{model.name} was not downloaded.\n")
        return
    path = download(job)
    print(f"{model.name} is in {path}{_vouched(model, path)}.")
    print(f"For a machine without a network: copy {path} into its model folder.\n", flush=True)


def _terms(job: "Download") -> str:
    """Source, size, licence and check of a download."""
    from emotalking.networks.transfer import megabytes

    model = job.model
    facts = {
        "from": ", ".join(file.url for file in job.files),
        "of": model.source,
        "size": "not stated" if job.size is None else megabytes(job.size),
        "licence": f"{model.licence}: {model.limits}",
        "check": job.check,
        "to": str(job.path),
    }
    return "\n".join([f"{model.name}: {model.title}", *(f"  {key:<8} {value}" for key, value in facts.items())])


def _vouched(model: Model, path: Path) -> str:
    """What is known of the content that arrived."""
    if path.is_dir():
        return ", checksums verified"
    digest = record(path).read_text("utf-8").split()[0]
    return f", SHA-256 {digest}: {'recorded' if model.sha256 is None else 'verified'}"


def _agreed() -> bool:
    """Ask at the terminal.

    Raises:
        InputError: nobody can answer.
    """
    from emotalking.progress import asking

    try:
        with asking():
            return input("Download it under these terms? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        sys.stdout.write("\n")
        raise InputError("nobody can be asked here: repeat with --accept to accept the terms above.") from None
