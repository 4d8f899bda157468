"""Every fault that is put into a folder is found, named, and comes with a remedy."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from emotalking.cli.main import main
from emotalking.data import Finding, validate
from emotalking.data import writer as write
from emotalking.data.findings import ranges
from emotalking.data.labels import LABEL_COLOURS
from emotalking.data.layouts import IBUG68
from emotalking.errors import InputError

from .conftest import FOCAL, FRAMES, HEIGHT, WIDTH, Tiny


def found(root: Path, compat: str | None = None) -> list[Finding]:
    findings = validate(root, compat)
    assert all(finding.remedy and finding.what for finding in findings)
    return findings


def replaced(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def cameras(tiny: Tiny, change: Callable[[np.ndarray], np.ndarray]) -> None:
    write.write_transforms(tiny.root, change(tiny.viewmats.copy()), FOCAL, WIDTH, HEIGHT)


def turned(axes: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda views: views @ np.diag([*axes, 1.0])


def small_target(tiny: Tiny) -> None:
    write.write_target(tiny.root, 5, np.zeros((8, 8, 3), np.uint8))


def other_colours(tiny: Tiny) -> None:
    for i in range(FRAMES):
        colours = np.full((HEIGHT, WIDTH, 3), (0, 0, 255), np.uint8)
        colours[:20] = (200, 160, 90)
        cv2.imwrite(str(tiny.root / "parsing" / f"{i}.png"), colours[..., ::-1])


def ernerf_colours(tiny: Tiny) -> None:
    for i in range(FRAMES):
        colours = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        colours[5:30, 10:40] = (0, 0, 255)
        cv2.imwrite(str(tiny.root / "parsing" / f"{i}.png"), colours[..., ::-1])
        np.save(tiny.root / "teeth_mask" / f"{i}.npy", np.zeros((HEIGHT, WIDTH), bool))


def copied_frame(tiny: Tiny) -> None:
    data = (tiny.root / "ori_imgs" / "9.jpg").read_bytes()
    (tiny.root / "ori_imgs" / "10.jpg").write_bytes(data)


def short_table(tiny: Tiny) -> None:
    lines = (tiny.root / "au.csv").read_text().splitlines(keepends=True)
    (tiny.root / "au.csv").write_text("".join(lines[:5]))


FAULTS: list[tuple[Callable[[Tiny], object], str, str, str]] = [
    (lambda t: (t.root / "torso_imgs" / "2.png").unlink(), "error", "torso_imgs", "1 of 11 files are missing (2)"),
    (lambda t: (t.root / "gt_imgs" / "3.jpg").write_bytes(b""), "error", "gt_imgs", "1 files are empty (3)"),
    (lambda t: (t.root / "gt_imgs" / "3.jpg").write_bytes(b"dear"), "error", "gt_imgs", "no readable images (3)"),
    (lambda t: write.write_original(t.root, 40, t.images[0]), "note", "ori_imgs", "beyond the 11 cameras (40)"),
    (small_target, "error", "gt_imgs", "1 images measure 8 x 8, bc.jpg 48 x 40 (5)"),
    (other_colours, "error", "parsing", "of the pixels have none of the six colours"),
    (ernerf_colours, "error", "parsing", "no inside of a mouth"),
    (ernerf_colours, "warning", "parsing", "no hair"),
    (copied_frame, "warning", "ori_imgs", "1 held-out frames are copies of training frames (10)"),
    (lambda t: cameras(t, turned((1, -1, -1))), "error", "transforms", "the head's y axis is not up"),
    (lambda t: cameras(t, turned((-1, -1, 1))), "error", "transforms", "the head's y axis is not up"),
    (lambda t: cameras(t, turned((-1, 1, -1))), "error", "transforms", "the head's x axis is mirrored"),
    (lambda t: cameras(t, turned((1, 1, 1.2))), "error", "transforms", "are no rotations (frames 0-10)"),
    (lambda t: cameras(t, lambda v: v - 2 * v * np.eye(4)[2, :, None] * np.eye(4)[3]), "error", "transf", "behind"),
    (lambda t: cameras(t, lambda v: v + 5 * np.eye(4)[2, :, None] * np.eye(4)[3]), "error", "transf", "as large as"),
    (
        lambda t: replaced(t.root / "transforms_val.json", '"img_id": 10', '"img_id": 4'),
        "error",
        "transforms",
        "1 frames train and validate at once (4)",
    ),
    (
        lambda t: replaced(t.root / "transforms_val.json", '"img_id": 10', '"img_id": 14'),
        "error",
        "transforms",
        "4 frame numbers are missing (10-13)",
    ),
    (short_table, "error", "au.csv", "4 rows for 11 frames"),
    (lambda t: replaced(t.root / "au.csv", " AU25_r", " AU26_r"), "error", "au.csv", "no column AU25_r"),
    (
        lambda t: write.write_action_units(t.root, t.aus | {"AU45": np.full(FRAMES, np.nan)}, 25),
        "error",
        "au.csv",
        "AU45_r is not finite",
    ),
    (
        lambda t: write.write_action_units(t.root, t.aus, 25, np.arange(FRAMES) < 5),
        "warning",
        "au.csv",
        "55% of the rows are marked as failed",
    ),
    (lambda t: (t.root / "va.csv").unlink(), "note", "va.csv", "missing"),
    (lambda t: write.write_valence_arousal(t.root, np.full((FRAMES, 2), 1.5)), "error", "va.csv", "is outside -1..1"),
    (lambda t: np.save(t.root / "aud_ds.npy", np.zeros((FRAMES, 8, 29))), "error", "aud_ds.npy", "8 steps of 29"),
    (lambda t: np.save(t.root / "aud_hu.npy", np.zeros((4, 2, 1024))), "error", "aud_hu.npy", "covers 4 of 11"),
    (lambda t: np.save(t.root / "aud_ds.npy", np.full((11, 16, 29), np.nan)), "error", "aud_ds.npy", "not finite"),
    (lambda t: (t.root / "aud.wav").unlink(), "warning", "aud.wav", "missing"),
    (lambda t: soundfile.write(t.root / "aud.wav", np.ones(44100), 22050), "warning", "aud.wav", "22050 Hz instead"),
    (lambda t: soundfile.write(t.root / "aud.wav", np.ones(32000), 16000), "warning", "aud.wav", "lasts 2.00 s"),
    (lambda t: write.write_audio(t.root, np.zeros(7040)), "warning", "aud.wav", "is silent"),
    (lambda t: (t.root / "subject.json").unlink(), "warning", "subject.json", "the frame rate is unknown"),
    (
        lambda t: write.write_landmarks(t.root, t.points - 90, np.ones(FRAMES, bool), None, IBUG68),
        "error",
        "landmarks.npz",
        "outside the image",
    ),
    (lambda t: (t.root / "bc.jpg").unlink(), "error", "bc.jpg", "missing"),
]


@pytest.mark.parametrize(("spoil", "severity", "where", "what"), FAULTS)
def test_each_fault_is_found(tiny: Tiny, spoil: Callable, severity: str, where: str, what: str) -> None:
    spoil(tiny)
    assert any(f.severity == severity and where in f.where and what in f.what for f in found(tiny.root)), [
        str(f) for f in found(tiny.root)
    ]


def test_our_own_folder_is_clean(tiny: Tiny) -> None:
    assert validate(tiny.root) == []
    assert [f.where for f in found(tiny.root, "talkinggaussian")] == ["aud_ds.npy"]
    assert [f.where for f in found(tiny.root, "ernerf") if f.severity == "error"] == ["aud.npy"]


@pytest.mark.parametrize(
    ("spoil", "compat", "where", "what"),
    [
        (lambda t: np.save(t.root / "aud.npy", np.zeros((11, 16, 29))), "talkinggaussian", "aud_ds.npy", "aud.npy is"),
        (lambda t: np.save(t.root / "aud_ds.npy", np.zeros((11, 16, 29))), "ernerf", "aud.npy", "aud_ds.npy is"),
        (lambda t: np.save(t.root / "aud_ds.npy", np.zeros((11, 29))), "talkinggaussian", "aud_ds.npy", "shape"),
        (lambda t: replaced(t.root / "au.csv", ", ", ","), "talkinggaussian", "au.csv", '" AU45_r"'),
        (lambda t: replaced(t.root / "transforms_val.json", '"cx"', '"c"'), "ernerf", "transforms_val.json", "no cx"),
        (lambda t: (t.root / "ori_imgs" / "2.lms").write_text("1 2\n"), "ernerf", "ori_imgs/*.lms", "not 68 rows"),
        (lambda t: (t.root / "teeth_mask" / "2.npy").unlink(), "talkinggaussian", "teeth_mask/*.npy", "1 of 11"),
        (
            lambda t: cv2.imwrite(str(t.root / "parsing" / "0.png"), LABEL_COLOURS[t.labels[0]] // 255 * 250),
            "talkinggaussian",
            "parsing/*.png",
            "none of the six exactly",
        ),
    ],
)
def test_obstacles_for_another_loader(tiny: Tiny, spoil: Callable, compat: str, where: str, what: str) -> None:
    spoil(tiny)
    assert any(f.where == where and what in f.what and f.severity == "error" for f in found(tiny.root, compat))


def test_the_command(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tiny.root)]) == 0
    assert "emotalking can use it (0 findings)" in " ".join(capsys.readouterr().out.split())
    (tiny.root / "gt_imgs" / "3.jpg").unlink()
    assert main(["validate", str(tiny.root)]) == 2
    shown = capsys.readouterr()
    assert "gt_imgs/*.jpg" in shown.out and "has 1 error" in shown.err
    assert main(["validate", str(tiny.root / "nowhere")]) == 2
    with pytest.raises(InputError, match="compat is 'x'"):
        validate(tiny.root, "x")


def test_ranges() -> None:
    assert ranges([3, 9, 7, 8]) == "3, 7-9"
    assert ranges(range(0, 20, 2)) == "0, 2, 4, 6, 8, ..."
    assert ranges([]) == ""
