"""Contents of files and folders, and the optional models that are installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emotalking.errors import InputError
from emotalking.io.outputs import checked
from emotalking.networks.registry import Model, find_model, models
from emotalking.options import Input

if TYPE_CHECKING:
    from emotalking.data.findings import Finding


@checked
def info(path: Input) -> dict[str, object]:
    """Show what an avatar file or a subject folder holds.

    Args:
        path: avatar file or subject folder.

    Returns:
        Plain values in titled sections.

    Raises:
        InputError: ``path`` is neither.
    """
    from emotalking.data.validate import subject_facts
    from emotalking.models.avatar_file import avatar_facts

    return subject_facts(Path(path)) if Path(path).is_dir() else avatar_facts(Path(path))


@checked
def validate(subject: Input, *, compat: Literal["talkinggaussian", "ernerf"] | None = None) -> "list[Finding]":
    """Validate a subject folder: what is missing or odd, and what to do.

    Args:
        subject: subject folder, also one of TalkingGaussian's or ER-NeRF's scripts.
        compat: check instead what that program's loader would miss.

    Returns:
        Findings, worst first; empty: nothing is missing or odd.
    """
    from emotalking.data import validate as run

    return run(subject, compat)


def list_models() -> dict[str, Model]:
    """List optional pretrained models (source, licence, installed)."""
    return models()


def get_model(name: str, *, accept: bool = False) -> Path:
    """Download an optional pretrained model, if it is not there.

    An interrupted download continues where it stopped. Proxies are those of the environment, and HF_ENDPOINT names
    another server in place of Hugging Face's.

    Args:
        name: key of :func:`list_models`.
        accept: you accept the model's terms (its ``licence`` and ``limits``); without it nothing is downloaded.

    Returns:
        Its file or folder in the model folder.

    Raises:
        MissingModelError: it has to be fetched by hand; the message says from where and to where.
        InputError: the terms are not accepted, the server cannot be reached, the content is not the published one, or
            the disk is full or cannot be written.
    """
    from emotalking.networks.downloads import download, find_download

    model = find_model(name)
    there = model.installed()
    if there is not None:
        return there
    job = find_download(model)
    if not accept:
        raise InputError(f"{name} has terms to accept first: {model.licence}, {model.limits}.")
    return download(job)
