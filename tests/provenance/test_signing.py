"""Signatures: written into every format, or beside it; read back; tampering and remuxing are seen."""

import json
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.audio import load_audio, save_wav
from emotalking.io.files import Finish, write_bytes
from emotalking.io.images import read_image, write_image
from emotalking.io.video_writer import FrameFolder, VideoWriter
from emotalking.provenance import certificates, signing
from emotalking.provenance.manifest import Origin
from emotalking.provenance.signing import RECORD_SUFFIX, finisher, read_signature, sidecar

AVATAR, CONSENT = "ab" * 32, "cd" * 32
ORIGIN = Origin("trainedAlgorithmicMedia", AVATAR, CONSENT, {"a network": "MIT"})
IMAGE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)


def write(path: Path, finish: Finish | None) -> Path:
    """A small file of the kind that the ending names."""
    if path.suffix == ".wav":
        save_wav(path, np.sin(np.arange(4000, dtype=np.float32) / 9), finish=finish)
    elif path.suffix in (".png", ".jpg", ".webp"):
        write_image(path, IMAGE, finish=finish)
    else:
        sound = iter([np.zeros(9600, np.float32)])
        with VideoWriter(path, 48, 32, Fraction(25), sound, finish=finish) as writer:
            for shift in range(5):
                writer.write(np.roll(IMAGE, shift, 0))
    return path


EMBEDDED = (".mp4", ".mov", ".png", ".jpg", ".webp", ".wav")
BESIDE = (".mkv", ".webm", ".avi")


@pytest.mark.parametrize("suffix", EMBEDDED + BESIDE)
def test_every_format_says_what_made_it(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", finisher(tmp_path / f"a{suffix}", ORIGIN))
    found = read_signature(path)
    assert found is not None and found.valid and found.own and found.trusted and found.ours and not found.problems
    assert found.actions == ("c2pa.created",) and found.source_types == ("trainedAlgorithmicMedia",)
    assert (found.avatar, found.consent, found.licences) == (AVATAR, CONSENT, {"a network": "MIT"})
    assert found.time.startswith("20") and found.tool.startswith("emotalking ")
    assert found.issuer == certificates.SELF_MADE
    assert found.sidecar == (suffix in BESIDE) == sidecar(path).exists()
    assert {one.name for one in tmp_path.iterdir()} <= {path.name, sidecar(path).name}


@pytest.mark.parametrize("suffix", (".mp4", ".mov", ".png", ".jpg", ".wav", ".mkv", ".webm"))
def test_a_changed_byte_is_seen(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", finisher(tmp_path / f"a{suffix}", ORIGIN))
    data = bytearray(path.read_bytes())
    places = {".png": -100, ".jpg": -100, ".wav": 200, ".mkv": len(data) // 2, ".webm": len(data) // 2}
    data[places[suffix] if suffix in places else data.index(b"mdat") + 40] ^= 1
    path.write_bytes(data)
    found = read_signature(path)
    assert found is not None and not found.valid and not found.trusted and found.problems


def test_the_statement_itself_cannot_be_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", finisher(tmp_path / "a.png", ORIGIN))
    data = path.read_bytes()
    assert AVATAR.encode() in data
    path.write_bytes(data.replace(AVATAR.encode(), b"0" * 64))
    found = read_signature(path)
    assert found is not None and not found.valid


@pytest.mark.parametrize("suffix", (".mp4", ".mov", ".webm", ".mkv"))
def test_signed_videos_play_as_unsigned_ones(suffix: str, tmp_path: Path) -> None:
    def decoded(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    unsigned = write(tmp_path / f"u{suffix}", None)
    signed = write(tmp_path / f"s{suffix}", finisher(tmp_path / f"s{suffix}", ORIGIN))
    assert decoded(signed) == decoded(unsigned) and len(decoded(signed)) == 5
    assert np.array_equal(load_audio(signed), load_audio(unsigned))


def test_signed_images_and_sounds_hold_the_same(tmp_path: Path) -> None:
    image = write(tmp_path / "a.png", finisher(tmp_path / "a.png", ORIGIN))
    assert np.array_equal(read_image(image), IMAGE)
    sound, plain = write(tmp_path / "a.wav", finisher(tmp_path / "a.wav", ORIGIN)), write(tmp_path / "b.wav", None)
    assert np.array_equal(load_audio(sound), load_audio(plain))


def test_remuxing_strips_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", finisher(tmp_path / "a.mp4", ORIGIN))
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    assert read_signature(tmp_path / "b.mp4") is None


def test_a_public_reader_agrees_with_and_without_our_root(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", finisher(tmp_path / "a.mp4", ORIGIN))
    with c2pa.Reader(str(path)) as reader:
        stranger = json.loads(reader.json())
    assert stranger["validation_state"] == "Valid"
    assert [status["code"] for status in stranger["validation_status"]] == ["signingCredential.untrusted"]
    roots = {"trust": {"user_anchors": certificates.credentials().root.decode()}, "verify": {"verify_trust": True}}
    with c2pa.Reader(str(path), context=c2pa.Context(settings=c2pa.Settings.from_dict(roots))) as reader:
        assert reader.get_validation_state() == "Trusted"


def test_another_users_signature_is_valid_and_not_ours_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.png", finisher(tmp_path / "a.png", ORIGIN))
    root = certificates.credentials().root.decode()
    other = tmp_path / "other.pem"
    other.write_text(certificates.make_pem())
    monkeypatch.setenv(certificates.VARIABLE, str(other))
    found = read_signature(path)
    assert found is not None and found.valid and not found.trusted and not found.own
    known = read_signature(path, anchors=root)
    assert known is not None and known.trusted and not known.own
    with pytest.raises(InputError, match="trusted certificates cannot be used"):
        read_signature(path, anchors="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_files_without_a_signature(tmp_path: Path) -> None:
    for suffix in (*EMBEDDED, *BESIDE):
        assert read_signature(write(tmp_path / f"a{suffix}", None)) is None
    (tmp_path / "a.txt").write_text("no media")
    assert read_signature(tmp_path / "a.txt") is None
    with pytest.raises(InputError, match="missing"):
        read_signature(tmp_path / "nowhere.mp4")


def test_a_damaged_sidecar_is_no_signature_that_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", finisher(tmp_path / "a.mkv", ORIGIN))
    sidecar(path).write_bytes(sidecar(path).read_bytes()[:700])
    found = read_signature(path)
    assert found is not None and not found.valid and found.sidecar and found.problems


def test_frames_are_signed_one_by_one(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "frames", finish=finisher(tmp_path / "frames", ORIGIN))
    folder.write(IMAGE)
    folder.write(IMAGE)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["000000.png", "000001.png"]
    assert all(read_signature(tmp_path / "frames" / name) is not None for name in names)


def test_an_error_leaves_neither_file_nor_signature(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        with VideoWriter(tmp_path / "a.mkv", 48, 32, Fraction(25), finish=finisher(tmp_path / "a.mkv", ORIGIN)) as made:
            made.write(IMAGE)
            raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_permissions_links_and_special_files(tmp_path: Path) -> None:
    target = tmp_path / "target.png"
    target.write_bytes(b"")
    target.chmod(0o640)
    (tmp_path / "link.png").symlink_to(target)
    write(tmp_path / "link.png", finisher(tmp_path / "link.png", ORIGIN))
    assert (tmp_path / "link.png").is_symlink() and target.stat().st_mode & 0o777 == 0o640
    assert read_signature(target) is not None
    write_bytes(Path("/dev/null"), b"\x1a\x45\xdf\xa3", finisher("/dev/null", ORIGIN))
    assert not Path("/dev/null.c2pa").exists()


def test_off_signs_nothing_and_is_recorded_beside_the_avatar(tmp_path: Path) -> None:
    (tmp_path / "avatars").mkdir()
    avatar = tmp_path / "avatars" / "someone.safetensors"
    path, origin = tmp_path / "a.mkv", Origin(avatar=AVATAR, avatar_file=avatar)
    write(path, finisher(path, origin))
    assert sidecar(path).exists()
    folder = FrameFolder(tmp_path / "frames", finish=finisher(tmp_path / "frames", origin, "off"))
    folder.write(IMAGE)
    folder.write(IMAGE)
    write(path, finisher(path, origin, "off"))
    assert read_signature(path) is None and not sidecar(path).exists()
    assert read_signature(tmp_path / "frames" / "000000.png") is None
    lines = avatar.with_name(avatar.name + RECORD_SUFFIX).read_text().splitlines()
    facts = [json.loads(line) for line in lines]
    assert [one["output"] for one in facts] == [str(tmp_path / "frames"), str(path)]
    assert all(one["provenance"] == "off" and one["avatar_sha256"] == AVATAR and one["time"] for one in facts)


def test_off_without_an_avatar_is_recorded_beside_the_output(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", finisher(tmp_path / "a.wav", Origin(), "off"))
    lines = path.with_name(path.name + RECORD_SUFFIX).read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["output"] == str(path)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The C2PA library cannot be loaded."""
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    signing._library.cache_clear()
    yield
    signing._library.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_without_the_library_outputs_are_made_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "emotalking"):
        for name in ("a.png", "b.png"):
            write(tmp_path / name, finisher(tmp_path / name, ORIGIN))
    assert len(caplog.records) == 1 and "not signed" in caplog.text
    assert np.array_equal(read_image(tmp_path / "a.png"), IMAGE)
    with pytest.raises(InputError, match="c2pa-python"):
        read_signature(tmp_path / "a.png")


def test_a_file_that_cannot_be_signed_is_kept_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "emotalking"):
        write_bytes(tmp_path / "a.png", b"\x89PNG and no more", finisher(tmp_path / "a.png", ORIGIN))
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG and no more" and "is not signed" in caplog.text


def test_files_whose_sidecar_would_have_too_long_a_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".txt")
    path.write_text("no media")
    assert read_signature(path) is None
