"""What was written is read back, our folders and TalkingGaussian's alike."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import emotalking
from emotalking.data import Subject, validate
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.data.files import EMOTION_FROM_UNITS, SubjectFiles
from emotalking.data.frame import lip_gap
from emotalking.data.labels import LABEL_COLOURS, Label, Masks, colours_to_labels
from emotalking.data.layouts import IBUG68, MODEL_AUS, FaceLayout
from emotalking.data.readers import read_masks
from emotalking.errors import InputError
from emotalking.io.arrays import load_archive, load_array
from emotalking.io.images import read_image, write_image
from emotalking.ops.box import Box

from .conftest import FOCAL, FRAMES, HEIGHT, WIDTH, Tiny


def test_round_trip(tiny: Tiny) -> None:
    subject = Subject.open(tiny.root)
    assert (subject.num_frames, subject.width, subject.height) == (FRAMES, WIDTH, HEIGHT)
    assert subject.fps == Fraction(25)
    assert subject.focal == FOCAL
    np.testing.assert_allclose(subject.K, [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    np.testing.assert_allclose(subject.viewmats, tiny.viewmats, atol=1e-6)
    assert subject.train_indices.tolist() == list(range(10))
    assert subject.val_indices.tolist() == [10]
    for name, values in tiny.aus.items():
        np.testing.assert_allclose(subject.au(name), values, atol=1e-4)
    np.testing.assert_allclose(np.asarray(subject.valence_arousal), tiny.va, atol=1e-5)
    np.testing.assert_array_equal(subject.audio_features(), tiny.features)
    np.testing.assert_array_equal(subject.landmarks.points, tiny.points)
    assert subject.landmarks.layout == IBUG68
    assert subject.landmarks.shape is not None
    assert subject.manifest["providers"] == {"parsing": "embedded"}
    assert validate(tiny.root) == []


def test_frame(tiny: Tiny) -> None:
    frame = Subject.open(tiny.root).frame(3)
    # A smooth ramp survives JPEG at the chosen quality within two levels.
    assert np.abs(frame.image.astype(int) - tiny.images[3]).max() <= 3
    np.testing.assert_array_equal(frame.torso, tiny.torso[3])
    np.testing.assert_array_equal(frame.labels, tiny.labels[3])
    np.testing.assert_array_equal(frame.teeth, tiny.teeth[3])
    assert frame.mouth[tiny.teeth[3]].all()
    assert not (frame.face & frame.mouth).any()
    np.testing.assert_array_equal(frame.head, frame.face | frame.hair)
    np.testing.assert_array_equal(frame.body, np.isin(tiny.labels[3], [Label.NECK, Label.TORSO]))


def test_the_lips_gap_is_the_mean_of_three() -> None:
    points = np.zeros((1, 68, 2))
    points[0, [65, 66, 67], 1] = 6, 9, 3
    points[0, [61, 62, 63], 0] = 4, 0, 8
    assert lip_gap(points).tolist() == [(5 + 9 + 10) / 3]


def test_grey_teeth_of_a_talkinggaussian_folder_are_mouth_only(tiny: Tiny) -> None:
    path = tiny.root / "parsing" / "0.png"
    colours = LABEL_COLOURS[tiny.labels[0]]
    cv2.imwrite(str(path), colours[..., ::-1])
    frame = Subject.open(tiny.root).frame(0)
    np.testing.assert_array_equal(frame.labels, tiny.labels[0])


def test_load_tensors_equals_frames(tiny: Tiny) -> None:
    subject = Subject.open(tiny.root)
    loaded = subject.load_tensors([4, 0, 7], workers=2)
    for slot, index in enumerate([4, 0, 7]):
        frame = subject.frame(index)
        np.testing.assert_array_equal(loaded["images"][slot], frame.image)
        np.testing.assert_array_equal(loaded["torso"][slot], frame.torso)
        np.testing.assert_array_equal(loaded["labels"][slot], frame.labels)


def test_many_threads_read_masks(tiny: Tiny) -> None:
    """Without a lock around numpy's header parser, CPython 3.11 loses count of its depth (issue 106905)."""
    subject = Subject.open(tiny.root)
    with ThreadPoolExecutor(16) as pool:
        for index, masks in enumerate(pool.map(lambda i: subject.masks(i % FRAMES), range(2000))):
            np.testing.assert_array_equal(masks.labels, tiny.labels[index % FRAMES])
            np.testing.assert_array_equal(masks.teeth, tiny.teeth[index % FRAMES])


def test_one_thread_at_a_time_reads_a_header(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, load = [0], [0], np.load

    def counted(*args: Any, **options: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        try:
            return load(*args, **options)
        finally:
            inside[0] -= 1

    monkeypatch.setattr("numpy.load", counted)
    subject = Subject.open(tiny.root)
    reads = [
        subject.masks,
        lambda i: read_masks(subject.files, i),
        lambda i: load_array(subject.files.audio_features(), "r"),
    ]
    reads.append(lambda i: load_archive(tiny.root / "landmarks.npz"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: reads[i % len(reads)](i % FRAMES), range(80)))
    assert most[0] == 1


def test_only_one_module_reads_numpy_files() -> None:
    source = Path(emotalking.__file__).parent
    files = [*source.rglob("*.py"), *(Path(__file__).parents[2] / "benchmarks").rglob("*.py")]

    def callers(pattern: str) -> list[str]:
        return sorted(path.name for path in files if re.search(pattern, path.read_text("utf-8")))

    assert callers(r"\b(np|numpy)\.load\(") == ["arrays.py"]
    assert callers(r"\btorch\.load\(") == ["pickles.py", "torch_files.py"]
    assert callers(r"\bsafe_open\(") == ["safetensors_files.py", "tensors.py"]


def test_an_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", x=np.arange(3))
    assert load_array(tmp_path / "a.npy").tolist() == load_archive(tmp_path / "b.npz")["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="archive"):
        load_array(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="archive"):
        load_archive(tmp_path / "a.npy")
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:-40])
    with pytest.raises(ValueError):
        load_archive(tmp_path / "b.npz")


def test_curriculum_numbers(tiny: Tiny) -> None:
    """Paper-spec 1.3 by hand."""
    subject = Subject.open(tiny.root)
    raw = tiny.aus["AU45"]
    np.testing.assert_allclose(subject.blink, np.clip(raw, 0, 2) / 2, atol=1e-4)
    assert subject.aus.shape == (FRAMES, len(MODEL_AUS))
    np.testing.assert_allclose(subject.aus[:, -1], np.clip(raw, 0, 2), atol=1e-4)
    clipped = np.minimum(tiny.aus["AU25"], np.percentile(tiny.aus["AU25"], 95))
    np.testing.assert_allclose(subject.au25, clipped, atol=1e-3)
    opening = np.ptp(tiny.points[:, 60:68, 1], axis=1)
    np.testing.assert_allclose(subject.mouth_opening, opening, rtol=1e-6)


def test_lips_rect_is_the_square_around_the_lips(tiny: Tiny) -> None:
    points = np.full((FRAMES, 68, 2), 24.0, np.float32)
    points[:, 48] = [10, 20]  # corners at x = 10 and 30, lips at y = 18 and 22
    points[:, 54] = [30, 20]
    points[:, 51] = [20, 18]
    points[:, 57] = [20, 22]
    points[:, [49, 50, 52, 53, 55, 56, 58, 59]] = [20, 20]
    write.write_landmarks(tiny.root, points, np.ones(FRAMES, bool), None, IBUG68)
    assert Subject.open(tiny.root).lips_rect(0) == Box(10, 10, 30, 30)


def strip_extras(tiny: Tiny) -> None:
    for name in ("va.csv", "landmarks.npz", "subject.json", audio_feature(DEFAULT_FEATURE).file_name):
        (tiny.root / name).unlink()


def test_a_folder_of_talkinggaussians_scripts(tiny: Tiny) -> None:
    strip_extras(tiny)
    np.save(tiny.root / "aud.npy", np.zeros((FRAMES - 2, 16, 29), np.float32))
    np.save(tiny.root / "aud_hu.npy", np.zeros((FRAMES + 3, 2, 1024), np.float32))
    subject = Subject.open(tiny.root)
    assert subject.fps == 25
    assert subject.valence_arousal is None
    assert subject.landmarks.shape is None
    np.testing.assert_allclose(subject.landmarks.points, tiny.points, atol=1e-4)
    assert subject.audio_features("ds").shape == (FRAMES, 16, 29)
    assert subject.audio_features("hu").shape == (FRAMES, 2, 1024)
    assert [f for f in validate(tiny.root) if f.severity == "error"] == []


@pytest.mark.parametrize(("provider", "neutral"), [(EMOTION_FROM_UNITS, True), ("emonet", False)])
def test_what_action_units_read_of_a_talker_is_no_emotion(tiny: Tiny, provider: str, neutral: bool) -> None:
    manifest = Subject.open(tiny.root).manifest
    write.write_manifest(tiny.root, manifest | {"providers": {"emotion": provider}})
    subject = Subject.open(tiny.root)
    read, found = np.asarray(subject.read_emotion), np.asarray(subject.valence_arousal)
    assert read.any() and found.shape == read.shape and found.dtype == read.dtype
    assert np.array_equal(found, np.zeros_like(read) if neutral else read)


def test_missing_lms_is_an_undetected_frame(tiny: Tiny) -> None:
    strip_extras(tiny)
    (tiny.root / "ori_imgs" / "4.lms").unlink()
    subject = Subject.open(tiny.root)
    assert np.flatnonzero(~subject.landmarks.detected).tolist() == [4]
    assert subject.lips_rect(4) in (subject.lips_rect(3), subject.lips_rect(5))
    assert any("1 of 11" in finding.what for finding in validate(tiny.root))


def test_errors_name_the_file(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="no subject folder"):
        Subject.open(tiny.root / "nowhere")
    (tiny.root / "au.csv").write_text("frame, AU45_r\n1, 0.5\n")
    with pytest.raises(InputError, match="1 rows for 11 frames"):
        _ = Subject.open(tiny.root).aus
    write.write_action_units(tiny.root, {"AU45": np.zeros(FRAMES)}, 25)
    with pytest.raises(InputError, match="no column AU01_r"):
        _ = Subject.open(tiny.root).aus
    (tiny.root / "gt_imgs" / "5.jpg").unlink()
    with pytest.raises(InputError, match="5.jpg is missing"):
        Subject.open(tiny.root).load_tensors([1, 5])
    write.write_target(tiny.root, 5, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="size of bc.jpg"):
        Subject.open(tiny.root).frame(5)
    np.save(SubjectFiles(tiny.root).audio_features(), tiny.features[:2])
    with pytest.raises(InputError, match="2 of 11 frames"):
        Subject.open(tiny.root).audio_features()
    with pytest.raises(IndexError):
        Subject.open(tiny.root).frame(FRAMES)


def test_hostile_cameras(tiny: Tiny) -> None:
    path = tiny.root / "transforms_val.json"
    path.write_text('{"focal_len": 9, "frames": [{"img_id": 3, "transform_matrix": [[1]]}]}')
    with pytest.raises(InputError, match="transforms_val"):
        Subject.open(tiny.root)
    path.write_text("not json")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        Subject.open(tiny.root)
    path.write_text('{"focal_len": 9, "frames": [{"img_id": 3, "transform_matrix": []}]}')
    with pytest.raises(InputError, match="transforms_val"):
        Subject.open(tiny.root)


def test_a_gap_in_the_frame_numbers(tiny: Tiny) -> None:
    path = tiny.root / "transforms_val.json"
    path.write_text(path.read_text().replace('"img_id": 10', '"img_id": 12'))
    with pytest.raises(InputError, match="once each"):
        Subject.open(tiny.root)


def test_pickles_never_run(tiny: Tiny) -> None:
    path = SubjectFiles(tiny.root).audio_features()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=path.stem):
        Subject.open(tiny.root).audio_features()


def test_a_failed_write_leaves_the_old_file(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (tiny.root / "bc.jpg").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write.write_background(tiny.root, np.zeros((4, 4, 3), np.uint8))
    assert (tiny.root / "bc.jpg").read_bytes() == before
    assert not list(tiny.root.glob(".bc.jpg*"))


def test_masks_survive_both_files_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 6, (64, 48)).astype(np.uint8)
    teeth = rng.random(labels.shape) < 0.2
    labels[teeth] = Label.MOUTH
    masks = Masks(labels, teeth)
    write.write_masks(tmp_path, 3, masks)
    files = SubjectFiles(tmp_path)
    colours = read_image(files.parsing(3))
    assert (colours[teeth] == LABEL_COLOURS[Label.HEAD]).all()
    np.testing.assert_array_equal(colours[~teeth], LABEL_COLOURS[labels[~teeth]])
    with Image.open(files.parsing(3)) as image:  # as the other programs read it
        np.testing.assert_array_equal(np.array(image.convert("RGB")), colours)
    ours = read_masks(files, 3)
    write_image(files.parsing(3), colours)  # as they write it
    for back in (ours, read_masks(files, 3, (64, 48))):
        np.testing.assert_array_equal(back.labels, labels)
        np.testing.assert_array_equal(back.teeth, teeth)
    with pytest.raises(InputError, match="instead of"):
        read_masks(files, 3, (48, 64))


def test_colours_and_layout_text() -> None:
    labels = np.arange(6, dtype=np.uint8)[None]
    np.testing.assert_array_equal(colours_to_labels(LABEL_COLOURS[labels]), labels)
    noisy = np.clip(LABEL_COLOURS[labels].astype(int) + [[[12, -9, 7]]], 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(colours_to_labels(noisy), labels)
    assert FaceLayout.from_json(IBUG68.to_json()) == IBUG68
