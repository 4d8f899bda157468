"""Systems beside each other: the right one wins, and what is written says so."""

import json
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from emotalking.cli.arguments import named_numbers, named_paths
from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.compare import Comparison, as_published, compare
from emotalking.evaluate.compare_report import (
    chosen_frames,
    difference_table,
    main_table,
    published_table,
    write_report,
)
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import measure
from emotalking.evaluate.provenance import provenance
from emotalking.evaluate.systems import System, open_system

CPU = torch.device("cpu")


def noisy(subject: Subject, folder: Path, level: float, seed: int) -> Path:
    """The held-out frames with noise."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number, index in enumerate(subject.val_indices):
        frame = subject.target(int(index)) + generator.normal(0.0, level, (subject.height, subject.width, 3))
        cv2.imwrite(str(folder / f"{number}.png"), frame.clip(0, 255).round().astype(np.uint8)[..., ::-1])
    return folder


@pytest.fixture
def systems(actor_subject: Subject, tmp_path: Path) -> list[System]:
    good, bad = noisy(actor_subject, tmp_path / "good", 3.0, 0), noisy(actor_subject, tmp_path / "bad", 12.0, 1)
    paths = {"bad": str(bad), "good": str(good), "truth": "recording"}
    return [open_system(name, path, actor_subject, CPU) for name, path in paths.items()]


@pytest.fixture
def made(actor_subject: Subject, systems: list[System]) -> Comparison:
    return compare(actor_subject, systems, EvaluationModels.none(), published=True)


def test_figures_are_those_of_the_frames(made: Comparison, actor_subject: Subject) -> None:
    bad, good, truth = made.rows
    assert made.indices.tolist() == actor_subject.val_indices.tolist()
    assert abs(good.metrics["psnr"].value - 20 * np.log10(255 / 3.0)) < 0.6  # clipping takes some of the noise away
    assert bad.metrics["psnr"].value < 28.0 and np.isinf(truth.metrics["psnr"].value)
    assert made.reference is bad
    assert good.differences["psnr"] == good.metrics["psnr"].value - bad.metrics["psnr"].value
    assert not good.p and not good.intervals  # three frames are no four blocks of a second


def test_re_encoding_changes_the_figures(made: Comparison) -> None:
    bad, good, truth = (row.published for row in made.rows)
    assert set(good) == {"psnr", "lpips", "lmd"}
    assert good["psnr"].value != made.rows[1].metrics["psnr"].value
    assert good["psnr"].value > bad["psnr"].value
    assert np.isinf(truth["psnr"].value)  # both sides are the same file then
    table = published_table(made)
    assert table is not None and "PSNR re-encoded" in table.header


def test_lossless_video_is_re_encoded_as_a_folder_is(
    actor_subject: Subject, systems: list[System], tmp_path: Path
) -> None:
    folder = systems[1]
    frames = list(folder.frames(actor_subject.val_indices))
    for name, codec, pixels in (("whole.mkv", "ffv1", "bgr0"), ("lossy.mp4", "libx264", "yuv420p")):
        with av.open(str(tmp_path / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    whole, lossy = (open_system(n, str(tmp_path / n), actor_subject, CPU) for n in ("whole.mkv", "lossy.mp4"))
    wanted = actor_subject.val_indices
    plain, again, taken = (
        as_published(s, actor_subject, wanted, EvaluationModels.none())["psnr"].value for s in (folder, whole, lossy)
    )
    # x264's threads make runs differ by some thousandths of a decibel.
    assert again == pytest.approx(plain, abs=0.02) and abs(taken - plain) > 0.1


def test_only_the_recording_is_searched_mirrored(
    actor_subject: Subject, systems: list[System], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def spy(*frames: Any, of_recording: bool, **options: Any) -> Any:
        asked.append(of_recording)
        return measure(*frames, of_recording=of_recording, **options)

    monkeypatch.setattr(sys.modules[compare.__module__], "measure", spy)
    compare(actor_subject, systems, EvaluationModels.none())
    assert asked == [False, False, True]


def test_tables_mark_the_best_system_and_not_the_recording(made: Comparison) -> None:
    lines = main_table(made).markdown().splitlines()
    assert lines[2].startswith("| bad | 2") and "**" not in lines[2]
    assert lines[3].startswith("| good | **3") and lines[4].startswith("| truth | inf")
    against = difference_table(made)
    assert against is not None and [row[0] for row in against.rows] == ["good"]
    assert set(chosen_frames(made)) == {"worst", "median", "best"}


def test_report_is_written_whole(
    made: Comparison, systems: list[System], actor_subject: Subject, tmp_path: Path
) -> None:
    write_report(made, systems, actor_subject, provenance(actor_subject, None, "emotalking compare"), tmp_path / "out")
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [system["name"] for system in data["systems"]] == ["bad", "good", "truth"]
    assert data["systems"][2]["metrics"]["psnr"]["value"] == "inf"
    assert data["provenance"]["data"]["val"]["count"] == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 9 and "worst of bad" in page
    assert "\\begin{tabular}" in (tmp_path / "out" / "table.tex").read_text()
    assert "| good |" in (tmp_path / "out" / "table.md").read_text()


def test_sizes_names_and_parts_that_do_not_fit(actor_subject: Subject, systems: list[System], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for number in range(3):
        cv2.imwrite(str(small / f"{number}.png"), np.zeros((32, 48, 3), np.uint8))
    other = open_system("small", str(small), actor_subject, CPU)
    with pytest.raises(InputError, match="small .* shows frames of 48x32 and the subject is 64x64"):
        compare(actor_subject, [*systems, other], EvaluationModels.none())
    one = noisy(actor_subject, tmp_path / "one", 1.0, 2)
    (one / "2.png").unlink()
    (one / "1.png").unlink()
    first = open_system("first", str(one), actor_subject, CPU, start=int(actor_subject.val_indices[0]))
    last = open_system("last", str(one), actor_subject, CPU, start=int(actor_subject.val_indices[-1]))
    with pytest.raises(InputError, match="no held-out frame is shown by all systems"):
        compare(actor_subject, [first, last], EvaluationModels.none())


def test_words_of_the_command() -> None:
    assert named_paths(["a=b=c", "d=e"]) == {"a": "b=c", "d": "e"}
    assert named_paths(["a=1", "b=2", "a=3"]) == {"a": ["1", "3"], "b": "2"}
    assert named_numbers(["1617", "rival=1620"]) == {"": 1617, "rival": 1620}
    for words in (["ours"], ["=x"], ["a="]):
        with pytest.raises(ValueError, match="NAME=PATH"):
            named_paths(words)
    with pytest.raises(ValueError, match="no frame number"):
        named_numbers(["rival=soon"])


def test_bad_commands_end_in_one_sentence(
    actor_subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = str(actor_subject.files.root), ["-o", str(tmp_path / "out"), "--device", "cpu"]
    for words, says in (
        (["compare", "nowhere", "a=recording", *out], "no subject folder"),
        (["compare", root, "a=nowhere", *out], "there is nothing at"),
        (["compare", root, "a=recording", "a=nowhere", *out], "two systems are called a"),
        (["compare", root, "a=recording", *out, "--start", "b=soon"], "no frame number"),
        (["compare", root, "a=recording", *out, "--frames", "0"], "at least 1"),
        (["compare", root, "a=recording", *out, "--start", "b=3"], "no system here"),
        (["compare", root, "a=recording", *out, "--lpips", "vgg"], "vgg16"),
    ):
        assert main(words) == 2
        assert says in capsys.readouterr().err
