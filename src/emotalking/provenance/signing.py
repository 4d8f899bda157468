"""Signatures of outputs (C2PA, by its library c2pa-python), and the reader of such signatures.

Nothing asks a network: no time-stamping authority, no revocation lists, no remote manifests. Formats that the library
cannot write into get a file beside them, ``NAME.c2pa``, which holds for the content as it was written.
"""

import errno
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from emotalking.errors import InputError
from emotalking.io.files import Finish, is_special, write_bytes
from emotalking.io.images import encode_image
from emotalking.io.kinds import SIDECAR_SUFFIX
from emotalking.io.reading import parse_json, reading, reason
from emotalking.options import Provenance
from emotalking.progress import doing
from emotalking.provenance.certificates import Credentials, credentials, own_certificates
from emotalking.provenance.manifest import ORIGIN, TOOL, Origin, definition

RECORD_SUFFIX = ".provenance.jsonl"
"""Added to the name of an avatar's file, or else of the output: record of outputs made without signature and mark."""
_MOST_SIDECAR = 16 << 20
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False, "verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
}
_logger = logging.getLogger("emotalking")


def finisher(output: str | Path, origin: Origin, provenance: Provenance = "on") -> Finish:
    """Last step of an output's files (:func:`emotalking.io.files.replacing`), made before the work begins.

    Args:
        output: file, or folder of files.
        origin: what the signature states.
        provenance: on: sign; off: do not, and record that.

    Raises:
        InputError: the signing key cannot be used.
    """
    if provenance == "off":
        return _Unsigned(Path(output), origin)
    library = _library()
    return _leave if library is None else _Signing(library, credentials(), origin)


@cache
def _library() -> ModuleType | None:
    """The C2PA library; None, with one warning, where it cannot be loaded."""
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError, ValueError) as error:  # its loader raises all of them
        _logger.warning(f"outputs are not signed: the C2PA library cannot be loaded here ({reason(error)})")
        return None
    return c2pa


@cache
def _say_once(sentence: str) -> None:
    _logger.info(sentence)


def _leave(content: Path, signed: Path, path: Path) -> bool:
    """Leave a file as it is, without the sidecar of an earlier one."""
    if not is_special(path):
        with suppress(OSError):
            sidecar(path).unlink(missing_ok=True)
    return False


def sidecar(path: Path) -> Path:
    """File beside ``path`` for the signature of a format that carries none."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


class _Signing:
    """Signs finished files."""

    def __init__(self, library: ModuleType, signer: Credentials, origin: Origin) -> None:
        self._library, self._origin = library, origin
        with reading(signer.file or "the signing key", "holds no certificates that C2PA accepts", "use others"):
            facts = library.C2paSignerInfo(signer.algorithm, signer.chain, signer.key, None)  # None: no time stamp
            settings = library.Settings.from_dict(_SETTINGS)
            self._context = library.Context(settings=settings, signer=library.Signer.from_info(facts))
            self._try_out()

    def _try_out(self) -> None:
        """Sign an image of one pixel, as the library looks at the certificates then.

        Raises:
            C2paError, ValueError: the library's reason.
        """
        signed = io.BytesIO()
        pixel = encode_image(np.zeros((1, 1, 3), np.uint8), ".png")
        builder = self._library.Builder(definition(self._origin), context=self._context)
        builder.sign("image/png", io.BytesIO(pixel), signed)
        signed.seek(0)
        report = _report(self._library, _reading_context(self._library, ""), signed)
        found = _signature(report, None, False)
        if not found.valid:
            raise ValueError(", ".join(found.problems))

    def __call__(self, content: Path, signed: Path, path: Path) -> bool:
        """Sign ``content``, streaming; what cannot be signed is kept, with a warning.

        Returns:
            True: ``signed`` is the file with its signature.
        """
        form = _embedded_form(content)
        try:
            if form is not None:
                with doing("signing"):
                    self._sign(content, signed, form)
                return True
            if not is_special(path):
                with doing("signing"):
                    manifest = self._sign(content, Path(os.devnull), None)
                write_bytes(sidecar(path), manifest)
                kind = path.suffix or "such"
                _say_once(f"{kind} files hold no signature: it is in {sidecar(path)}, to be kept beside the file")
        except (self._library.C2paError, OSError) as error:
            _logger.warning(f"{path} is not signed ({reason(error)})")
        return False

    def _sign(self, content: Path, signed: Path, form: str | None) -> bytes:
        """Write the signed file; ``form`` None: the signature alone is returned."""
        builder = self._library.Builder(definition(self._origin), context=self._context)
        if form is None:
            builder.set_no_embed()
        with content.open("rb") as source, signed.open("w+b") as target:
            return builder.sign(form or "application/octet-stream", source, target)


class _Unsigned:
    """Leaves files unsigned, and records it once, beside the avatar or, where it has no file, beside the output."""

    def __init__(self, output: Path, origin: Origin) -> None:
        self._output = output
        self._origin = origin
        self._recorded = False

    def __call__(self, content: Path, signed: Path, path: Path) -> bool:
        """Record at the first file.

        Raises:
            OSError: it cannot be recorded.
        """
        if not self._recorded:
            self._record()
            self._recorded = True
        return _leave(content, signed, path)

    def _record(self) -> None:
        facts = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "output": str(self._output.absolute()),
            "provenance": "off",
            "avatar_sha256": self._origin.avatar,
        }
        line = json.dumps({name: value for name, value in facts.items() if value is not None}) + "\n"
        avatar = self._origin.avatar_file
        if avatar is not None:
            with suppress(OSError):  # of a folder that is read-only
                return _append(avatar, line)
        if not is_special(self._output):
            _append(self._output, line)


def _append(path: Path, line: str) -> None:
    with path.with_name(path.name + RECORD_SUFFIX).open("a", encoding="utf-8") as file:
        file.write(line)


def _embedded_form(content: Path) -> str | None:
    """MIME type of a file whose signature goes into it, by its content; None: it goes beside the file.

    AVI could carry one, but the library would read the whole file into memory.
    """
    with content.open("rb") as file:
        head = file.read(12)
    if head.startswith(b"\x89PNG"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    return None


@dataclass(frozen=True)
class Signature:
    """A signature of a file, by whatever program."""

    valid: bool
    """The file and what is stated of it are as they were signed."""
    problems: tuple[str, ...] = ()
    """C2PA's codes of what is wrong, such as ``assertion.bmffHash.mismatch``."""
    own: bool = False
    """It was made with this user's own key (:mod:`emotalking.provenance.certificates`)."""
    trusted: bool = False
    """Its root certificate is the own one, or one of those that were given as trusted."""
    issuer: str = ""
    """Organisation in the signer's certificate."""
    time: str = ""
    """When it was made, as the signer states."""
    tool: str = ""
    """Name and version of the program."""
    actions: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    """IPTC's digital source types of the actions, without the address."""
    avatar: str | None = None
    """SHA-256 of the avatar's file."""
    consent: str | None = None
    """SHA-256 of the statement of consent."""
    licences: Mapping[str, str] = field(default_factory=dict)
    sidecar: bool = False
    """It was read from the file beside."""

    @property
    def ours(self) -> bool:
        """True if this program made it, as the signer states."""
        return self.tool.split(" ")[0] == TOOL


def read_signature(path: str | Path, *, anchors: str = "") -> Signature | None:
    """The signature in a file, or beside it.

    Args:
        path: the file.
        anchors: trusted root certificates beyond the own one, PEM.

    Returns:
        None: there is none.

    Raises:
        InputError: the file or ``anchors`` cannot be read, or the C2PA library cannot be loaded.
    """
    path, library = Path(path), _library()
    if library is None:
        raise InputError("signatures cannot be read, as the C2PA library cannot be loaded here: install c2pa-python.")
    own = own_certificates()
    with reading("the file of trusted certificates", "cannot be used", "give certificates as PEM"):
        if anchors:
            from cryptography.x509 import load_pem_x509_certificates

            load_pem_x509_certificates(anchors.encode())
        context = _reading_context(library, anchors + ("" if own is None else own.root.decode()))
    manifest = None
    with reading(path, "cannot be searched for a signature", "copy it again"), path.open("rb") as stream:
        try:
            try:
                report = _report(library, context, stream)
            except (library.C2paError.ManifestNotFound, library.C2paError.NotSupported):
                manifest = _sidecar_of(path)
                if manifest is None:
                    return None
                stream.seek(0)
                report = _report(library, context, stream, manifest)
        except library.C2paError as error:
            return Signature(False, (reason(error),), sidecar=manifest is not None)
        return _signature(report, None if own is None else own.serial, manifest is not None)


def _sidecar_of(path: Path) -> bytes | None:
    """Content of the file beside; None: there is none, such as where its name would be too long."""
    try:
        with sidecar(path).open("rb") as file:
            return file.read(_MOST_SIDECAR)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL):
            return None
        raise


def _reading_context(library: ModuleType, roots: str) -> Any:
    """The library's context for reading, with trusted root certificates."""
    settings = {**_SETTINGS, "trust": {"user_anchors": roots}} if roots else _SETTINGS
    return library.Context(settings=library.Settings.from_dict(settings))


def _report(
    library: ModuleType, context: Any, stream: io.BufferedIOBase, manifest: bytes | None = None
) -> dict[str, Any]:
    """The library's report on a file; ``manifest``: content of its sidecar.

    Raises:
        C2paError: of the library: there is none, or it is damaged.
    """
    form = None if manifest is None else "application/octet-stream"
    with library.Reader(form, stream, manifest, context=context) as reader:
        return parse_json(reader.json(), dict)


def _signature(report: Mapping[str, Any], own_serial: int | None, beside: bool) -> Signature:
    """What a report says.

    Raises:
        KeyError, TypeError, ValueError: it is not as the library makes it.
    """
    manifest = report["manifests"][report["active_manifest"]]
    signer = manifest.get("signature_info") or {}
    data: dict[str, list[Mapping[str, Any]]] = {}
    for assertion in manifest.get("assertions", ()):
        if isinstance(assertion.get("data"), dict):
            data.setdefault(assertion["label"].partition("__")[0], []).append(assertion["data"])
    actions = [action for name, found in data.items() if name.startswith("c2pa.actions") for action in _actions(found)]
    tool = (manifest.get("claim_generator_info") or [{}])[0]
    origin = next(iter(data.get(ORIGIN, ())), {})
    licences = origin.get("licences")
    trusted = report["validation_state"] == "Trusted"
    return Signature(
        valid=report["validation_state"] in ("Valid", "Trusted"),
        problems=tuple(
            status["code"]
            for status in report.get("validation_status", ())
            if status["code"] != "signingCredential.untrusted"
        ),
        own=trusted and str(own_serial) == signer.get("cert_serial_number"),
        trusted=trusted,
        issuer=str(signer.get("issuer") or ""),
        time=str(signer.get("time") or next((action["when"] for action in actions if action.get("when")), "")),
        tool=f"{tool.get('name', '')} {tool.get('version', '')}".strip(),
        actions=tuple(str(action.get("action")) for action in actions),
        source_types=tuple(
            str(action["digitalSourceType"]).rpartition("/")[2] for action in actions if "digitalSourceType" in action
        ),
        avatar=_text(origin.get("avatar_sha256")),
        consent=_text(origin.get("consent_sha256")),
        licences={str(k): str(v) for k, v in licences.items()} if isinstance(licences, dict) else {},
        sidecar=beside,
    )


def _actions(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [action for each in found for action in each.get("actions", ()) if isinstance(action, dict)]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
