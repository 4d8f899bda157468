"""What the commands write is signed with avatar, consent and licences; or is recorded as unsigned."""

import hashlib
import json
from pathlib import Path

import pytest

from emotalking.cli.main import main
from emotalking.models.avatar import Avatar
from emotalking.provenance import consent
from emotalking.provenance.consent import NO_CONSENT, read_consent
from emotalking.provenance.signing import RECORD_SUFFIX, Signature, read_signature

STATEMENT = "The ball has agreed to everything, on 2026-05-01."


def signature(path: Path) -> Signature:
    found = read_signature(path)
    assert found is not None and found.valid and found.own and found.ours
    return found


@pytest.fixture(scope="module")
def agreed(avatar_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The avatar with a statement of consent."""
    avatar = Avatar.load(avatar_file)
    avatar.metadata = avatar.metadata | {"consent": read_consent(STATEMENT).to_json()}
    path = tmp_path_factory.mktemp("agreed") / "agreed.safetensors"
    avatar.save(path)
    assert avatar.file == path and avatar.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def test_render_signs_video_frames_and_strip(
    agreed: Path, speech_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["render", str(agreed), "--audio", str(speech_file), "--device", "cpu", "-o", str(tmp_path / "a.mp4")]
    assert main([*words, "--frames-folder", str(tmp_path / "f"), "--strip", str(tmp_path / "s.jpg")]) == 0
    assert NO_CONSENT not in capsys.readouterr().err
    for path in (tmp_path / "a.mp4", tmp_path / "f" / "000003.png", tmp_path / "s.jpg"):
        found = signature(path)
        assert found.avatar == hashlib.sha256(agreed.read_bytes()).hexdigest()
        assert found.consent == hashlib.sha256(STATEMENT.encode()).hexdigest()
        assert found.licences == {"mesh-warp": "Apache-2.0"} and found.source_types == ("trainedAlgorithmicMedia",)
    assert not agreed.with_name(agreed.name + RECORD_SUFFIX).exists()


def test_render_off_is_recorded_and_consent_is_missed_once(
    avatar_file: Path,
    speech_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consent, "_reminded", False)
    words = ["render", str(avatar_file), "--audio", str(speech_file), "--device", "cpu", "--provenance"]
    assert main([*words, "off", "-o", str(tmp_path / "a.mp4"), "--strip", str(tmp_path / "s.png")]) == 0
    assert main([*words, "on", "-o", str(tmp_path / "b.webm")]) == 0
    told = capsys.readouterr().err
    assert told.count(NO_CONSENT) == 1 and "b.webm.c2pa" in told.replace("\n", "")
    assert read_signature(tmp_path / "a.mp4") is None and read_signature(tmp_path / "s.png") is None
    found = signature(tmp_path / "b.webm")
    assert found.sidecar and found.consent is None
    lines = avatar_file.with_name(avatar_file.name + RECORD_SUFFIX).read_text().splitlines()
    assert [json.loads(line)["output"] for line in lines] == [str(tmp_path / "a.mp4"), str(tmp_path / "s.png")]
    assert main([*words, "no", "-o", str(tmp_path / "c.mp4")]) == 2


def test_info_shows_consent(agreed: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(agreed)]) == 0
    assert STATEMENT in capsys.readouterr().out
    assert main(["info", str(avatar_file)]) == 0
    assert NO_CONSENT in capsys.readouterr().out
    assert main(["info", str(agreed), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["consent"]["SHA-256"] == hashlib.sha256(STATEMENT.encode()).hexdigest()
    assert "consent" not in facts["provenance"]


def test_speech_is_signed_by_what_made_it(tmp_path: Path, speech_file: Path) -> None:
    assert main(["tts", "Good morning.", "--speaker", "hibari", "-o", str(tmp_path / "a.wav")]) == 0
    found = signature(tmp_path / "a.wav")
    assert found.source_types == ("trainedAlgorithmicMedia",) and "Apache-2.0" in found.licences.values()
    assert main(["tts", "Good morning.", "--speaker", "espeak", "-o", str(tmp_path / "b.wav")]) == 0
    assert signature(tmp_path / "b.wav").source_types == ("algorithmicMedia",)
    words = ["tts", "speech", "--speaker", str(speech_file.parent)]
    assert main([*words, "-o", str(tmp_path / "c.wav")]) == 0
    assert read_signature(tmp_path / "c.wav") is None  # a person's voice
    assert main(["tts", "Hello.", "-o", str(tmp_path / "d.wav"), "--provenance", "off"]) == 0
    assert read_signature(tmp_path / "d.wav") is None and (tmp_path / f"d.wav{RECORD_SUFFIX}").exists()


def test_a_key_that_cannot_be_used_ends_the_command_before_the_work(
    agreed: Path,
    speech_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMOTALKING_SIGNING", str(tmp_path / "nowhere.pem"))
    words = ["render", str(agreed), "--audio", str(speech_file), "--device", "cpu", "-o", str(tmp_path / "a.mp4")]
    assert main(words) == 2
    assert "nowhere.pem" in capsys.readouterr().err and not list(tmp_path.iterdir())
