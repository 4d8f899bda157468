"""The signing key with its certificates: the user's own, or made at the first use; one PEM file.

A certificate that this computer makes for itself says that a file is unchanged since this key signed it, and not who
holds the key. Source: C2PA 2.2, section 14.5 (certificate profile).
"""

import logging
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from emotalking.errors import InputError
from emotalking.io.reading import read_text, reading

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

VARIABLE = "EMOTALKING_SIGNING"
"""Environment variable that names the PEM file."""
SELF_MADE = "EmoTalking (self-made, identity not verified)"
"""Organisation in certificates that this package makes."""
_YEARS = 20
_MOST = 1 << 20
"""Bytes of a PEM file."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\s*", re.DOTALL)
_REMEDY = (
    "give a PEM file with an unencrypted private key and its certificates, the signer's first, or remove it to have"
    " one made"
)
_logger = logging.getLogger("emotalking")


@dataclass(frozen=True)
class Credentials:
    """A private key and the certificates that vouch for it."""

    algorithm: str
    """C2PA's name: es256, es384, es512, ps256 or ed25519."""
    key: bytes = field(repr=False)
    """PEM, PKCS #8."""
    chain: bytes
    """PEM certificates, the signer's first."""
    root: bytes
    """The last of them."""
    serial: int
    """Of the first."""
    file: Path | None
    """None: kept in the memory of this process alone."""


def credentials_file() -> Path:
    """``$EMOTALKING_SIGNING``, else ``emotalking/signing.pem`` in the folder of the user's settings.

    Raises:
        InputError: ``$EMOTALKING_SIGNING`` names the home folder of somebody who has none here.
        RuntimeError: the home folder is not known.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:
            raise InputError(f"{VARIABLE}: the home folder in {chosen} is not known: give the whole path.") from error
    settings = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(settings) if os.path.isabs(settings) else Path.home() / ".config"
    return folder / "emotalking" / "signing.pem"


def credentials() -> Credentials:
    """The user's key and certificates; made where there are none.

    Raises:
        InputError: the file cannot be used, or the one that ``$EMOTALKING_SIGNING`` names is missing.
    """
    chosen = bool(os.environ.get(VARIABLE))
    try:
        file = credentials_file()
    except RuntimeError:
        return _unkept("the home folder is not known")
    try:
        if not chosen and not file.exists():
            _store(file, make_pem())
            _logger.info(f"outputs are signed with a key that was made for you: {file} (docs/responsible-use.md)")
    except OSError as error:
        return _unkept(f"{file} cannot be written ({error.strerror})")
    with reading(file, "is no file of a signing key", f"{VARIABLE} names it" if chosen else _REMEDY):
        found = file.stat()
    return _credentials(file, (found.st_ino, found.st_mtime_ns, found.st_size))


def own_certificates() -> Credentials | None:
    """:func:`credentials` for comparison, which makes none; None: there are none, or they cannot be used any more."""
    with suppress(InputError, OSError, RuntimeError):
        file = credentials_file()
        return read_credentials(file) if file.is_file() else None
    return None


@lru_cache(2)
def _credentials(file: Path, version: tuple[int, int, int]) -> Credentials:
    """The content of a file, read anew when the file has changed: certificates are renewed while a server runs."""
    found = read_credentials(file)
    if os.name == "posix" and file.stat().st_mode & 0o077:
        _logger.warning(f"others can read or change {file}, with which they can sign as you: chmod 600 {file}")
    return found


@cache
def _unkept(trouble: str) -> Credentials:
    """Credentials of this process alone."""
    _logger.info(f"{trouble}: outputs are signed with a key that is not kept, which nobody can recognise later")
    return _parsed(make_pem(), None)


def read_credentials(file: Path) -> Credentials:
    """Read a PEM file with a private key and its certificates.

    Raises:
        InputError: it is missing, damaged, encrypted or expired, or key and certificates do not belong together.
    """
    with reading(file, "is no file of a signing key", _REMEDY):
        return _parsed(read_text(file, _MOST), file)


def _parsed(text: str, file: Path | None) -> Credentials:
    """Credentials of a PEM text.

    Raises:
        ValueError, TypeError, UnsupportedAlgorithm: it cannot be used.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as form

    blocks = [(found[1], found[0].encode()) for found in _BLOCK.finditer(text)]
    keys = [block for name, block in blocks if name.endswith("PRIVATE KEY")]
    certificates = [x509.load_pem_x509_certificate(block) for name, block in blocks if name == "CERTIFICATE"]
    if len(keys) != 1 or not certificates:
        raise ValueError(f"{len(keys)} private keys and {len(certificates)} certificates")
    key = form.load_pem_private_key(keys[0], None)
    public = (form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*public) != certificates[0].public_key().public_bytes(*public):
        raise ValueError("the first certificate is of another key")
    now = datetime.now(UTC)
    for certificate in certificates:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < begin:  # no reason to throw the key away
            where = "your signing key" if file is None else str(file)
            raise InputError(
                f"{where} is valid from {begin:%Y-%m-%d} on, and this machine's clock says {now:%Y-%m-%d}: "
                "set the clock."
            )
        if now > end:
            raise ValueError(
                f"a certificate is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, and it is {now:%Y-%m-%d}"
            )
    pems = [certificate.public_bytes(form.Encoding.PEM) for certificate in certificates]
    plain = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return Credentials(_algorithm(key), plain, b"".join(pems), pems[-1], certificates[0].serial_number, file)


def _algorithm(key: "PrivateKeyTypes") -> str:
    """C2PA's name of the signature that a key makes.

    Raises:
        ValueError: C2PA knows none.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if key.curve.name in names:
            return names[key.curve.name]
    elif isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise ValueError("a key that C2PA does not know: use ECDSA P-256, P-384 or P-521, RSA of 2048 bits, or Ed25519")


def make_pem() -> str:
    """A new key and its certificates: the signer's, and that of the authority, whose own key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    mark = secrets.token_hex(4)
    issuer, subject = _name(f"EmoTalking root {mark}"), _name(f"EmoTalking signer {mark}")
    issued = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    purposes = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
    root = (
        _draft(issuer, issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    leaf = (
        _draft(subject, issuer, signer.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(issued, critical=False)
    )
    signed = [one.sign(authority, hashes.SHA256()).public_bytes(form.Encoding.PEM) for one in (leaf, root)]
    key = signer.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return b"".join((key, *signed)).decode()


def _name(name: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name(
        [
            x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, SELF_MADE),
            x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name),
        ]
    )


def _draft(subject: "x509.Name", issuer: "x509.Name", key: "CertificatePublicKeyTypes") -> "x509.CertificateBuilder":
    """A certificate with the names, the key and the times; from yesterday on, for clocks that go wrong."""
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _store(file: Path, text: str) -> None:
    """Write a new file that its owner alone can read; one that another process wrote meanwhile stays.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        try:
            os.link(scratch, file)
        except (AttributeError, OSError):  # there is one, or the system or the disk has no links
            if not file.exists():
                os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)
