"""Registry of the optional pretrained models: source, licence, purpose, and where their checkpoints are found."""

import hashlib
import os
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path

from emotalking.errors import InputError, MissingModelError

FOLDER_VARIABLE = "EMOTALKING_MODELS"
"""Environment variable that names the model folder."""

BUNDLED = Path(__file__).parent / "data"
"""Folder of the files that come with this package, with their licences."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a folder of Hugging Face's, the preferred one first."""


@dataclass(frozen=True)
class Model:
    """One entry of ``models.toml``."""

    name: str
    title: str
    files: tuple[str, ...]
    """Accepted names of the file (or of a folder with its ``config.json``), the published one first."""
    source: str
    licence: str
    limits: str
    """Uses that the licence forbids."""
    purpose: str
    alternative: str
    """Replacement that does the same work without this file."""
    sha256: str | None = None
    """SHA-256 of the published file, or its first digits; None where it is not publicly known."""
    url: str | None = None
    """Address of the published file, where its authors give one that a program can use."""
    repo: str | None = None
    """Repository on Hugging Face that holds the folder."""
    paper: bool = False
    """True for the networks that the paper and its baseline use."""
    bundled: str | None = None
    """Name of the file that comes with this package and serves where the model folders hold none."""

    def find(self) -> Path | None:
        """Path of the checkpoint (the user's before the package's), or None."""
        places = [folder / file for folder in model_folders() for file in self.files]
        if self.bundled is not None:
            places.append(BUNDLED / self.bundled)
        return next((place for place in places if place.is_file() or (place / "config.json").is_file()), None)

    @property
    def downloadable(self) -> bool:
        """True if a program can fetch it."""
        return self.url is not None or self.repo is not None

    def installed(self) -> Path | None:
        """:meth:`find` in the model folders alone."""
        path = self.find()
        return None if path is None or path.parent == BUNDLED else path

    def is_published(self, path: Path) -> bool | None:
        """True if ``path`` is the published file, byte by byte; None if its hash or that of this format is unknown."""
        if self.sha256 is None or path.is_dir() or path.suffix != Path(self.files[0]).suffix:
            return None
        return sha256_of(path).startswith(self.sha256)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(path: Path) -> Path:
    """File in which the SHA-256 of a downloaded file is kept, in the form of ``sha256sum``."""
    return path.with_name(f"{path.name}.sha256")


def is_as_downloaded(path: Path) -> bool | None:
    """True if a file, or every one of a folder, has the SHA-256 that its download recorded; None: there is no record.

    Raises:
        OSError: a file cannot be read.
    """
    files = [path] if path.is_file() else [file for file in path.iterdir() if record(file).is_file()]
    known = {file: record(file).read_text("utf-8", "replace").split() for file in files if record(file).is_file()}
    return all(words[:1] == [sha256_of(file)] for file, words in known.items()) if known else None


def model_folders() -> tuple[Path, ...]:
    """Folders searched for checkpoints, in this order: ``$EMOTALKING_MODELS``, ``~/.cache/emotalking/models``."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    home = Path("~/.cache/emotalking/models").expanduser()
    return (Path(chosen).expanduser(), home) if chosen else (home,)


@cache
def models() -> dict[str, Model]:
    """All entries by name, in the file's order."""
    text = resources.files("emotalking.networks").joinpath("models.toml").read_text(encoding="utf-8")
    return {
        name: Model(name=name, **{**fields, "files": tuple(fields["files"])})
        for name, fields in tomllib.loads(text).items()
    }


def find_model(name: str) -> Model:
    """The entry ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in models():
        near = get_close_matches(name, models(), 1)
        raise InputError(f"there is no model '{name}': {f'did you mean {near[0]}?' if near else ', '.join(models())}")
    return models()[name]


def model_path(name: str) -> Path:
    """Path of the checkpoint of model ``name``.

    Raises:
        MissingModelError: it is in none of the model folders; the message names the file, its source, its licence and
            the replacement.
        KeyError: ``models.toml`` has no such entry.
    """
    model = models()[name]
    path = model.find()
    if path is None:
        folders = " or ".join(str(folder) for folder in model_folders())
        get = f"get it by 'emotalking models get {name}'" if model.downloadable else "get it by hand"
        raise MissingModelError(
            f"the checkpoint {model.files[0]} ({model.title}; licence: {model.licence}, {model.limits}) is not in"
            f" {folders}: {get} from {model.source}, or go without it with {model.alternative}."
        )
    return path
