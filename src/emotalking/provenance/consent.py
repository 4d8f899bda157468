"""Consent of the person shown: a statement with its hash, carried by the avatar's metadata."""

import base64
import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from emotalking.errors import InputError
from emotalking.io.reading import reading

NO_CONSENT = "no consent recorded"
"""What an avatar without a statement says."""
KEY = "consent"
"""Key in the avatar's metadata."""
SIGNATURE_SUFFIXES = (".sig", ".asc", ".p7s", ".minisig")
"""Endings of detached signatures, added to the statement's whole name."""
_MOST_STATEMENT, _MOST_SIGNATURE = 64 << 20, 64 << 10
"""Bytes."""
MOST_TEXT = 20_000
"""Characters of a statement that is kept; of a longer one the hash is."""
_logger = logging.getLogger("emotalking")
_reminded = False


@dataclass(frozen=True)
class Consent:
    """A statement that the person shown, or whoever may, agreed."""

    sha256: str
    """Of the file's bytes, or of the text as UTF-8."""
    recorded: str
    """Time at which it was put into the avatar, ISO 8601, UTC."""
    statement: str | None = None
    """Its text; None: the file holds no text, or a longer one than is kept."""
    file: str | None = None
    """Name of the file; None: the statement was given as text."""
    signature: tuple[str, str] | None = None
    """Name and content (Base64) of the detached signature beside the file, which is kept and not checked."""

    def to_json(self) -> dict[str, object]:
        """As the avatar's metadata hold it."""
        facts = {
            "sha256": self.sha256,
            "recorded": self.recorded,
            "statement": self.statement,
            "file": self.file,
            "signature": None if self.signature is None else {"file": self.signature[0], "base64": self.signature[1]},
        }
        return {name: value for name, value in facts.items() if value is not None}


def read_consent(given: str | Path) -> Consent:
    """The statement in a file, with the detached signature beside it if there is one; or given as text.

    Args:
        given: a file of any kind, or the statement itself: a sentence that says who agreed to what and when.

    Raises:
        InputError: there is no such file and no sentence either, or it cannot be read.
    """
    recorded = datetime.now(UTC).isoformat(timespec="seconds")
    if _is_text(given):
        text = str(given).strip()
        return Consent(
            hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
            recorded,
            text if len(text) <= MOST_TEXT else None,
        )
    path = Path(given)
    with reading(path, "is no statement of consent", "give a file, or the statement as a sentence"):
        data = _content(path, _MOST_STATEMENT)
        if not data.strip():
            raise ValueError("it is empty")
        try:
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            text = None
        kept = text if text is not None and "\0" not in text and len(text) <= MOST_TEXT else None
        return Consent(hashlib.sha256(data).hexdigest(), recorded, kept, path.name, _signature(path))


def read_consents(given: str | Path, names: Iterable[str]) -> dict[str, Consent]:
    """Statements of several people.

    Args:
        given: a file or a sentence that holds for all of them, or a folder with a file for each: its name without the
            ending is the person's among ``names``.

    Raises:
        InputError: somebody's statement is missing, or there are two; or one cannot be read.
    """
    folder = Path(given)
    if _is_text(given) or not folder.is_dir():
        statement = read_consent(given)
        return dict.fromkeys(names, statement)
    with reading(folder, "cannot be searched for statements of consent", "give another folder"):
        files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.suffix not in SIGNATURE_SUFFIXES]
    found = {name: [file for file in files if file.stem == name] for name in names}
    wrong = [f"{len(of)} of {name}" for name, of in found.items() if len(of) != 1]
    if wrong:
        raise InputError(f"{folder} has to hold one statement of each subject, NAME.*, and holds {', '.join(wrong)}.")
    return {name: read_consent(of[0]) for name, of in found.items()}


def _is_text(given: str | Path) -> bool:
    """True for a sentence that names no file."""
    if isinstance(given, Path) or len(given.split()) < 2:
        return False
    try:
        return not Path(given).exists()
    except (OSError, ValueError):  # too long for a name
        return True


def _content(path: Path, most: int) -> bytes:
    """A file's bytes.

    Raises:
        ValueError: it is longer than ``most``.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"longer than {most >> 10} KiB")
    return data


def _signature(path: Path) -> tuple[str, str] | None:
    beside = (path.with_name(path.name + suffix) for suffix in SIGNATURE_SUFFIXES)
    found = next((one for one in beside if one.is_file()), None)
    if found is None:
        return None
    return found.name, base64.b64encode(_content(found, _MOST_SIGNATURE)).decode()


def consent_of(metadata: Mapping[str, object]) -> Consent | None:
    """The consent in an avatar's metadata; None: no consent is recorded, or not as this package does."""
    found = metadata.get(KEY)
    if not isinstance(found, Mapping) or not isinstance(found.get("sha256"), str):
        return None
    statement, file, signature = (found.get(name) for name in ("statement", "file", "signature"))
    pair = (signature.get("file"), signature.get("base64")) if isinstance(signature, Mapping) else (None, None)
    return Consent(
        found["sha256"],
        str(found.get("recorded", "")),
        statement if isinstance(statement, str) else None,
        file if isinstance(file, str) else None,
        (pair[0], pair[1]) if isinstance(pair[0], str) and isinstance(pair[1], str) else None,
    )


def consent_facts(metadata: Mapping[str, object]) -> dict[str, str] | str:
    """The consent in an avatar's metadata, for people."""
    consent = consent_of(metadata)
    if consent is None:
        return NO_CONSENT
    facts = {
        "statement": consent.statement or f"not text: file {consent.file}",
        "file": consent.file,
        "signature": None if consent.signature is None else f"{consent.signature[0]} (kept, not checked)",
        "recorded": consent.recorded,
        "SHA-256": consent.sha256,
    }
    return {name: value for name, value in facts.items() if value is not None}


def remind(metadata: Mapping[str, object]) -> None:
    """Tell once in a process that an avatar carries no consent."""
    global _reminded  # noqa: PLW0603
    if _reminded or consent_of(metadata) is not None:
        return
    _reminded = True
    _logger.info(f"{NO_CONSENT} in this avatar: train with the statement of the person shown (docs/responsible-use.md)")
