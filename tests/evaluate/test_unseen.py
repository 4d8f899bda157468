"""Systems that say a sound which nobody was recorded saying: only what needs no recording is measured."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.compare import compare
from emotalking.evaluate.compare_report import write_report
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.provenance import provenance
from emotalking.evaluate.speech import Speech, UnseenSpeech
from emotalking.evaluate.systems import VideoSource, open_unseen, to_same_length
from emotalking.io.audio import save_wav

CPU = torch.device("cpu")
SPEECH = Speech("french.wav", np.sin(np.arange(16000) / 10).astype(np.float32) * 0.1)
"""A second: 25 frames."""


def folder(subject: Subject, path: Path, count: int, level: float = 0.0, first: int = 0) -> Path:
    path.mkdir()
    generator = np.random.default_rng(count)
    for number in range(count):
        frame = subject.target(number) + generator.normal(0, level, (subject.height, subject.width, 3))
        cv2.imwrite(str(path / f"{number + first}.png"), frame.clip(0, 255).astype(np.uint8)[..., ::-1])
    return path


def test_only_what_needs_no_recording_is_measured(actor_subject: Subject, tmp_path: Path) -> None:
    unseen = UnseenSpeech(SPEECH, (0.5, -0.2))
    # Counted from 1 (ER-NeRF's validation), and a frame short at the end, as feature windows leave some out.
    paths = {
        "still": folder(actor_subject, tmp_path / "a", 25),
        "noisy": folder(actor_subject, tmp_path / "b", 24, 9, 1),
    }
    opened = [open_unseen(name, str(path), actor_subject, CPU, unseen) for name, path in paths.items()]
    systems = to_same_length(opened, unseen, 25.0, None)
    made = compare(actor_subject, systems, EvaluationModels.none(), unseen=unseen)
    assert made.indices.tolist() == list(range(24)) and made.speech == "french.wav"
    first, second = (row.metrics for row in made.rows)
    assert math.isnan(first["psnr"].value) and first["psnr"].reason == "there is no recorded frame to compare with"
    assert first["jitter_background"].value < second["jitter_background"].value
    assert len(to_same_length(opened, unseen, 25.0, 5)[1].source.numbers) == 24
    assert (to_same_length(opened, unseen, 25.0, 5)[1].indices >= 0).sum() == 5
    write_report(made, systems, actor_subject, provenance(actor_subject, None, "emotalking compare"), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 2 and "saying french.wav, without recorded frames" in page
    assert "Not measured: PSNR" in (tmp_path / "out" / "table.md").read_text()
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["speech"] == "french.wav"


def test_sound_and_command_follow_the_frames() -> None:
    unseen = UnseenSpeech(SPEECH, (0.5, -0.2))
    assert len(unseen.speech.under(5, 25.0)) == 3200
    commanded = unseen.commanded(3)
    assert commanded is not None and commanded.tolist() == [[0.5, -0.2]] * 3
    assert UnseenSpeech(SPEECH).commanded(3) is None


def test_what_says_another_sound_is_refused(actor_subject: Subject, tmp_path: Path) -> None:
    unseen = UnseenSpeech(SPEECH)
    with pytest.raises(InputError, match="french.wav was never recorded"):
        open_unseen("truth", "recording", actor_subject, CPU, unseen)
    with pytest.raises(InputError, match="there is nothing at"):
        open_unseen("a", str(tmp_path / "nowhere"), actor_subject, CPU, unseen)
    short = open_unseen("a", str(folder(actor_subject, tmp_path / "short", 19)), actor_subject, CPU, unseen)
    with pytest.raises(InputError, match="has 19 frames and french.wav lasts 25"):
        to_same_length([short], unseen, 25.0, None)
    assert len(to_same_length([short], unseen, 25.0, 19)) == 1


def test_bad_commands_end_in_one_sentence(
    actor_subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = tmp_path / "a.wav"
    save_wav(sound, SPEECH.samples)
    start = ["compare", str(actor_subject.files.root), "a=recording", "-o", str(tmp_path / "out"), "--device", "cpu"]
    for words, says in (
        (["--va", "0.5,0.5"], "so it needs audio too"),
        (["--audio", str(sound), "--va", "0.5"], "two numbers"),
        (["--audio", str(sound), "--start", "3"], "a start needs recorded frames"),
        (["--audio", str(sound), "--as-published"], "the published protocol needs recorded frames"),
        (["--audio", str(sound)], "a.wav was never recorded"),
        (["--audio", str(tmp_path / "none.wav")], "none.wav"),
    ):
        assert main([*start, *words]) == 2
        assert says in capsys.readouterr().err


def test_videos_tell_what_they_have_lost(tmp_path: Path) -> None:
    wanted = {
        ("ffv1", "bgr0", "a.mkv"): "",
        ("ffv1", "yuv420p", "b.mkv"): "ffv1 video in yuv420p: its halved colours are part of the metrics",
        ("libx264", "yuv420p", "c.mp4"): "h264 video: its compression and halved colours are part of the metrics",
        ("libx264", "yuv444p", "d.mp4"): "h264 video: its compression is part of the metrics",
    }
    for (codec, pixels, name), note in wanted.items():
        with av.open(str(tmp_path / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = pixels
            for _ in range(3):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
                )
            container.mux(stream.encode(None))
        assert VideoSource(tmp_path / name, Fraction(25)).note == note
