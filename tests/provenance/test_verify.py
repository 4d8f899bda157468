"""``verify``: videos in pieces, images, sound, and what is none of these."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotalking.api import verify
from emotalking.cli.main import main
from emotalking.errors import InputError
from emotalking.io.audio import save_wav
from emotalking.io.images import write_image
from emotalking.io.video_writer import VideoWriter
from emotalking.provenance import verify as module
from emotalking.provenance.correlation import Geometry
from emotalking.provenance.detect import Found
from emotalking.provenance.evidence import Evidence, Piece
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.provenance.verify import read_mark

MARK = Mark(Payload(0xABCDEF01))


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of soft noise that moves."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 7, (256 // scale, 256 // scale, 3)), (256, 256), interpolation=cv2.INTER_CUBIC)
        for scale in (2, 8, 32)
    ]
    image = np.sum(layers, axis=0)
    return [np.roll((image + 120).clip(0, 255).astype(np.uint8), index, 1) for index in range(count)]


def video(path: Path, frames: list[np.ndarray]) -> Path:
    with VideoWriter(path, 256, 256, Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_stretches_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_FRAMES", 10)
    frames = images(30)
    path = video(tmp_path / "a.mp4", [*frames[:10], *(MARK.array(frame) for frame in frames[10:])])
    report = read_mark(path)
    assert report is not None and report.marked and report.kind == "video" and report.frames == 30
    assert report.best is not None and report.best.payload == MARK.payload
    assert len(report.stretches) == 1 and report.stretches[0] == pytest.approx((0.4, 1.16))
    beginning = read_mark(path, seconds=0.4)
    assert beginning is not None and beginning.frames == 10 and not beginning.marked and not beginning.stretches


def test_command_on_videos_and_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = images(1)[0] // 2 + 60  # in rougher images of this size the mark is found, and not always read
    write_image(tmp_path / "marked.png", MARK.array(frame))
    write_image(tmp_path / "plain.jpg", frame)
    assert main(["verify", str(tmp_path / "marked.png")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("marked\n") and "EmoTalking, avatar abcdef01" in text and "signature: none" in text
    assert main(["verify", str(tmp_path / "plain.jpg")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("neither signed nor marked\n") and "mark: none" in text
    assert main(["verify", str(tmp_path / "marked.png"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "marked" and found["mark"]["best"]["payload"] == {"avatar": 0xABCDEF01, "tool": 1}
    assert found["mark"]["best"]["false_alarm"] < 1e-6


def test_sound_has_no_images(tmp_path: Path) -> None:
    save_wav(tmp_path / "a.wav", np.zeros(4000, np.float32))
    found = verify(tmp_path / "a.wav")
    assert found.mark is None and found.verdict == "neither signed nor marked"


def test_unusable_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no video")
    with pytest.raises(InputError, match="not a video"):
        verify(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no such file"):
        verify(tmp_path / "b.mp4")
    with pytest.raises(InputError, match="is a folder or a device: give an image, a video or a sound"):
        verify(tmp_path)
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(InputError, match="is a HEIC image, which cannot be read"):
        verify(tmp_path / "b.heic")
    with pytest.raises(InputError, match="positive"):
        verify(tmp_path / "a.txt", seconds=0)
    write_image(tmp_path / "flat.png", np.full((100, 100, 3), 90, np.uint8))
    flat = verify(tmp_path / "flat.png").mark
    assert flat is not None and flat.best is None and not flat.marked


def test_pieces_that_are_not_readable_alone_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = Found(1e-9, 8.0, None, None, Geometry(1.0, 1.0))
    read = replace(unread, false_alarm=1e-8, payload=MARK.payload, bit_error=0.2)

    def recheck(evidence: Evidence, known: Geometry) -> Found:
        return read if evidence.steady.max() == 3 else unread

    monkeypatch.setattr(module, "search", lambda evidence: unread)
    monkeypatch.setattr(module, "recheck", recheck)
    piece = Piece()
    monkeypatch.setattr(piece, "evidence", lambda: Evidence(np.ones((1, 64, 64), np.float32)))
    pieces = module._Pieces()
    for _ in range(3):
        pieces.search(piece)
    found = pieces.result()
    assert found is not None and found.payload == MARK.payload and found.false_alarm == pytest.approx(2e-8)
