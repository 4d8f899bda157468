"""The signing key: made once, for its owner alone; the user's own; and what cannot be used."""

import errno
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from emotalking.errors import InputError
from emotalking.provenance import certificates
from emotalking.provenance.certificates import VARIABLE, credentials, make_pem, own_certificates, read_credentials


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and no key that was read before."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    certificates._credentials.cache_clear()
    certificates._unkept.cache_clear()
    return tmp_path


def test_a_key_is_made_at_the_first_use_and_found_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert own_certificates() is None
    with caplog.at_level(logging.INFO, "emotalking"):
        made = credentials()
    file = home / ".config" / "emotalking" / "signing.pem"
    assert made.file == file and made.algorithm == "es256" and str(file) in caplog.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and [one.name for one in file.parent.iterdir()] == [file.name]
    certificates._credentials.cache_clear()
    assert credentials() == made == own_certificates()


def test_another_processs_key_is_kept(tmp_path: Path) -> None:
    file, first = tmp_path / "signing.pem", make_pem()
    file.write_text(first)
    certificates._store(file, make_pem())
    assert file.read_text() == first and len(list(tmp_path.iterdir())) == 1


def test_first_uses_at_the_same_time_agree(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {one.key for one in pool.map(lambda _: credentials(), range(16))}
    assert len(keys) == 1 and len(list((home / ".config" / "emotalking").iterdir())) == 1


def test_a_key_is_kept_on_disks_without_links(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    made = credentials()
    assert made.file is not None and stat.S_IMODE(made.file.stat().st_mode) == 0o600
    certificates._credentials.cache_clear()
    assert credentials() == made and [one.name for one in made.file.parent.iterdir()] == ["signing.pem"]


def test_a_full_disk_leaves_no_half_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.INFO, "emotalking"):
        assert credentials().file is None
    assert "No space left" in caplog.text and not list((home / ".config" / "emotalking").iterdir())


def test_a_settings_folder_that_cannot_be_looked_into(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as another user's, or a name that is too long: as if it could not be written to."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ("x" * 300)))
    assert own_certificates() is None and credentials().file is None


def test_home_of_an_unknown_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was asked for by name is never replaced by another."""
    monkeypatch.setenv(VARIABLE, "~nobody-of-this-name/key.pem")
    with pytest.raises(InputError, match="nobody-of-this-name"):
        credentials()
    assert own_certificates() is None


def test_a_renewed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own key; $(x) \u00e9.pem"
    monkeypatch.setenv(VARIABLE, str(file))
    serials = set()
    for _ in range(2):
        file.write_text(make_pem())
        os.utime(file, ns=(len(serials), len(serials)))
        serials |= {credentials().serial, credentials().serial}
    assert len(serials) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "own.pem"
    file.write_text(make_pem())
    file.chmod(0o644)
    monkeypatch.setenv(VARIABLE, str(file))
    credentials(), credentials()
    assert caplog.text.count(f"chmod 600 {file}") == 1
    file.chmod(0o600)
    certificates._credentials.cache_clear()
    credentials()
    assert caplog.text.count("chmod") == 1


def test_the_key_is_in_no_log(home: Path) -> None:
    made = credentials()
    assert b"PRIVATE KEY" in made.key and "PRIVATE" not in repr(made)


def test_settings_folder_of_the_system_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))
    assert credentials().file == home / "settings" / "emotalking" / "signing.pem"


@pytest.mark.parametrize("trouble", ("no home", "unwritable"))
def test_without_a_place_the_key_lives_as_long_as_the_process(
    trouble: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if trouble == "no home":

        def unknown() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", unknown)
    else:
        (home / ".config").write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO, "emotalking"):
        made = credentials()
    assert made.file is None and credentials() is made and caplog.text.count("not kept") == 1
    assert own_certificates() is None


def chain(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, days: int = 10) -> str:
    """PEM of a key with a certificate for it by an authority of its own."""
    authority = ec.generate_private_key(ec.SECP384R1())
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)]) for name in ("A studio", "Root")]
    made = []
    for ca, subject, public in ((False, names[0], key.public_key()), (True, names[1], authority.public_key())):
        draft = x509.CertificateBuilder().subject_name(subject).issuer_name(names[1]).public_key(public)
        draft = draft.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=20))
        draft = draft.not_valid_after(now + timedelta(days=days))
        draft = draft.add_extension(x509.BasicConstraints(ca, 0 if ca else None), True)
        draft = draft.add_extension(certificates._usage(signs_certificates=ca), True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        draft = draft.add_extension(issuer, False)
        if not ca:
            draft = draft.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        made.append(draft.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return b"".join((*made, plain)).decode()


@pytest.mark.parametrize(
    ("make", "algorithm"),
    (
        (lambda: ec.generate_private_key(ec.SECP256R1()), "es256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "es512"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    ),
)
def test_the_users_own_key_signs(make, algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from emotalking.io.images import write_image
    from emotalking.provenance.manifest import Origin
    from emotalking.provenance.signing import finisher, read_signature

    (tmp_path / "own.pem").write_text(chain(make()))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own.pem"))
    assert credentials().algorithm == algorithm
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8), finish=finisher(tmp_path / "a.png", Origin()))
    found = read_signature(tmp_path / "a.png")
    assert found is not None and found.valid and found.own and found.issuer == "A studio"


def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, whole = ec.generate_private_key(ec.SECP256R1()), make_pem()
    parts = whole.split("-----BEGIN CERTIFICATE-----")
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    cases = {
        "0 private keys": "nothing",
        "1 private keys and 0": parts[0],
        "of another key": make_pem().split("-----BEGIN CERTIFICATE-----")[0] + "-----BEGIN CERTIFICATE-----" + parts[1],
        "valid from": chain(key, days=-1),
        "[Pp]assword": encrypted + "-----BEGIN CERTIFICATE-----" + parts[1],
        "does not know": chain(ec.generate_private_key(ec.SECP256K1())),
        "longer than": "A" * (1 << 21),
        "no file of a signing key": whole.replace("M", "!", 20),
    }
    for trouble, text in cases.items():
        file = tmp_path / "bad.pem"
        file.write_text(text)
        with pytest.raises(InputError, match=trouble) as caught:
            read_credentials(file)
        assert str(file) in str(caught.value)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.pem"))
    with pytest.raises(InputError, match="nowhere.pem"):
        credentials()
    assert not os.path.exists(tmp_path / "nowhere.pem")


def test_a_clock_that_went_back_is_no_reason_to_remove_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.pem").write_text(make_pem())

    class Dead(datetime):
        """The clock of a machine whose battery is empty."""

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(certificates, "datetime", Dead)
    with pytest.raises(InputError, match=r"key.pem is valid from 20.* clock says 2001-01-01: set the clock.$"):
        read_credentials(tmp_path / "key.pem")


def test_certificates_that_c2pa_refuses_are_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emotalking.provenance.manifest import Origin
    from emotalking.provenance.signing import finisher

    file = tmp_path / "self.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Alone")])
    alone = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    alone = alone.serial_number(1).not_valid_before(datetime.now(UTC) - timedelta(1))
    alone = alone.not_valid_after(datetime.now(UTC) + timedelta(9)).sign(key, hashes.SHA256())
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(plain + alone.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv(VARIABLE, str(file))
    with pytest.raises(InputError, match="self.pem holds no certificates that C2PA accepts"):
        finisher(tmp_path / "a.png", Origin())
