"""Consent: what is kept of a statement, and what avatars with and without one say."""

import base64
import hashlib
import logging
from pathlib import Path

import pytest

from emotalking.errors import InputError
from emotalking.provenance import consent
from emotalking.provenance.consent import (
    NO_CONSENT,
    Consent,
    consent_facts,
    consent_of,
    read_consent,
    read_consents,
    remind,
)
from emotalking.provenance.manifest import Origin

STATEMENT = "I, Robin, agree to an avatar of me for the museum's guide. 2026-05-01"


def test_a_sentence() -> None:
    found = read_consent(f" {STATEMENT}\n")
    assert found.statement == STATEMENT and found.file is None and found.signature is None
    assert found.sha256 == hashlib.sha256(STATEMENT.encode()).hexdigest() and found.recorded.startswith("20")
    assert consent_of({"consent": found.to_json()}) == found


def test_a_file_with_its_detached_signature(tmp_path: Path) -> None:
    file = tmp_path / "consent form.txt"
    file.write_text(STATEMENT)
    (tmp_path / "consent form.txt.asc").write_bytes(b"a signature")
    found = read_consent(str(file))
    assert found.statement == STATEMENT and found.file == "consent form.txt"
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.signature == ("consent form.txt.asc", base64.b64encode(b"a signature").decode())
    assert consent_of({"consent": found.to_json()}) == found
    facts = consent_facts({"consent": found.to_json()})
    assert isinstance(facts, dict) and facts["statement"] == STATEMENT and "not checked" in facts["signature"]


def test_statements_of_several_people(tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("Anna agrees")
    (tmp_path / "anna.txt.sig").write_text("her signature")
    (tmp_path / "ben.v2.pdf").write_bytes(b"%PDF\0")
    found = read_consents(tmp_path, ["anna", "ben.v2"])
    assert found["anna"].statement == "Anna agrees" and found["anna"].signature is not None
    assert found["ben.v2"].file == "ben.v2.pdf"
    (tmp_path / "anna.pdf").write_bytes(b"%PDF\0")
    with pytest.raises(InputError, match=r"holds 2 of anna, 0 of carla\."):
        read_consents(str(tmp_path), ["anna", "carla", "ben.v2"])
    for all_of_them in (STATEMENT, tmp_path / "ben.v2.pdf"):
        alike = read_consents(all_of_them, ["anna", "ben"])
        assert alike["anna"] == alike["ben"] and alike["anna"].sha256 == read_consent(all_of_them).sha256


def test_a_file_that_is_no_text_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF\0\xff\xfe")
    found = read_consent(tmp_path / "scan.pdf")
    assert found.statement is None and found.file == "scan.pdf" and len(found.sha256) == 64
    facts = consent_facts({"consent": found.to_json()})
    assert isinstance(facts, dict) and "scan.pdf" in facts["statement"]


def test_what_is_no_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "_MOST_STATEMENT", 100)
    monkeypatch.setattr(consent, "_MOST_SIGNATURE", 100)
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "long.txt").write_text("a" * 101)
    (tmp_path / "signed.txt").write_text("yes")
    (tmp_path / "signed.txt.sig").write_text("a" * 101)
    for given, trouble in (
        ("consent.txt", "consent.txt cannot be read"),
        (tmp_path / "empty.txt", "empty"),
        (tmp_path / "long.txt", "longer than"),
        (tmp_path / "signed.txt", "longer than"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InputError, match=trouble):
            read_consent(given)


@pytest.mark.parametrize("metadata", ({}, {"consent": None}, {"consent": "yes"}, {"consent": {"sha256": 3}}))
def test_nothing_recorded(metadata: dict) -> None:
    assert consent_of(metadata) is None and consent_facts(metadata) == NO_CONSENT


def test_metadata_of_others_are_read_with_care() -> None:
    odd = {"sha256": "ab", "recorded": 3, "statement": ["x"], "file": {}, "signature": {"file": 1, "base64": "x"}}
    assert consent_of({"consent": odd}) == Consent("ab", "3")


def test_the_reminder_comes_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "_reminded", False)
    with caplog.at_level(logging.INFO, "emotalking"):
        remind({"consent": read_consent(STATEMENT).to_json()})
        assert not caplog.records
        remind({})
        remind({})
    assert len(caplog.records) == 1 and NO_CONSENT in caplog.text


def test_the_origin_of_an_avatar_carries_its_hash_and_licences() -> None:
    class Avatar:
        sha256 = "ab" * 32
        metadata = {"consent": read_consent(STATEMENT).to_json(), "licences": {"a": "MIT"}}

    origin = Origin.of_avatar(Avatar(), composite=True, licences={"voice": "Apache-2.0"})
    assert origin.consent == hashlib.sha256(STATEMENT.encode()).hexdigest() and origin.avatar == "ab" * 32
    assert origin.licences == {"a": "MIT", "voice": "Apache-2.0"}
    assert origin.source_type == "compositeWithTrainedAlgorithmicMedia"
    assert Origin.of_avatar(object()) == Origin()
