"""Subject folders with damaged files, or with numbers that lie: one sentence, and nothing is made of the claim."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotalking.cli.main import main
from emotalking.data.compat import PROGRAMS
from emotalking.data.frame import MOST_FRAMES, from_runs
from emotalking.data.subject import Subject
from emotalking.data.validate import validate
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError

from ..memory import memory_below
from .conftest import FRAMES, Tiny


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Reading makes no more than some megabytes."""
    with memory_below(32 << 20):
        yield


def into_json(path: Path, *keys: str | int, value: object) -> None:
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def use(root: Path) -> None:
    """Everything that training reads of a folder."""
    subject = Subject.open(root)
    subject.frame(0)
    _ = subject.aus, subject.landmarks, subject.valence_arousal, subject.audio_features()


RUNS = {"left": 0, "top": 0, "side": 9, "clip": [9, 9]}
CAMERA = ("frames", 0, "transform_matrix")
LIES: dict[str, tuple[str, tuple[str | int, ...], object]] = {
    "endless frame rate": ("subject.json", ("fps",), "1e999999999"),
    "frame rate of another kind": ("subject.json", ("fps",), {"a": 1}),
    "four hundred million frames": ("subject.json", ("framing",), RUNS | {"clip_frames": "0-400000000"}),
    "frames of another count": ("subject.json", ("framing",), RUNS | {"clip_frames": "0-3"}),
    "framing of another kind": ("subject.json", ("framing",), RUNS | {"clip_frames": "0-10", "clip": 9}),
    "a frame number of fifteen digits": ("transforms_train.json", ("frames", 0, "img_id"), 10**15),
    "a frame number of four hundred digits": ("transforms_train.json", ("frames", 0, "img_id"), 10**400),
    "a camera of four hundred digits": ("transforms_train.json", (*CAMERA, 0, 0), 10**400),
    "a camera without inverse": ("transforms_train.json", CAMERA, [[0.0] * 4] * 3 + [[0, 0, 0, 1]]),
    "a camera that is no motion": ("transforms_train.json", (*CAMERA, 3), [1, 1, 1, 1]),
    "a camera as text": ("transforms_train.json", CAMERA, "x"),
    "frames of another kind": ("transforms_train.json", ("frames",), 5),
    "a camera beyond float32": ("transforms_train.json", (*CAMERA, 0, 3), 1e308),
    "a focal length beyond float32": ("transforms_train.json", ("focal_len",), 1e300),
    "an endless focal length": ("transforms_train.json", ("focal_len",), 1e999),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("lie", LIES)
def test_numbers_that_lie_are_refused(lie: str, tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    name, keys, value = LIES[lie]
    into_json(tiny.root / name, *keys, value=value)
    with pytest.raises(InputError, match=name.split("_")[0]):
        use(tiny.root)
    assert any(finding.severity == "error" for finding in validate(tiny.root))
    assert main(["info", str(tiny.root)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_deep_json_is_one_sentence(tiny: Tiny) -> None:
    for name in ("subject.json", "transforms_val.json"):
        path = tiny.root / name
        whole = path.read_text()
        path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
        with pytest.raises(InputError, match="nested too deeply"):
            Subject.open(tiny.root)
        path.write_text(whole)


@pytest.mark.parametrize("damage", ["cut", "flipped", "bomb", "empty", "text"])
def test_damaged_landmarks_are_one_sentence_in_every_verb(
    damage: str, tiny: Tiny, little_memory: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # the table would break the file's name where the temporary folder's is long
    path = tiny.root / "landmarks.npz"
    whole = path.read_bytes()
    place = whole.index(b"points.npy") + 1000
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    contents: dict[str, bytes] = {"cut": whole[: len(whole) // 2], "flipped": flipped, "empty": b"", "text": b"points"}
    if damage == "bomb":
        np.savez_compressed(path, points=np.zeros(100 << 20, np.uint8))
    else:
        path.write_bytes(contents[damage])
    tracemalloc.reset_peak()
    with pytest.raises(InputError, match=r"landmarks.npz is no landmark archive \(.*\): prepare the clip again"):
        use(tiny.root)
    for compat in (None, *PROGRAMS):
        assert isinstance(validate(tiny.root, compat), list)
    assert main(["validate", str(tiny.root)]) == 2
    assert "landmarks.npz" in "".join(capsys.readouterr())


def test_an_image_that_claims_another_size_is_not_decoded(tiny: Tiny, little_memory: None) -> None:
    """A flat image of 6000 x 6000 takes some hundred kilobytes, and 108 MB when decoded."""
    subject = Subject.open(tiny.root)
    for path in (subject.files.target(3), subject.files.parsing(3)):
        encoded = cv2.imencode(".png", np.zeros((6000, 6000, 1), np.uint8))[1]
        path.write_bytes(encoded.tobytes())
        del encoded
        tracemalloc.reset_peak()
        with pytest.raises(InputError, match=r"has the size \(6000, 6000\) instead of"):
            subject.frame(3)
    tracemalloc.clear_traces()


@pytest.mark.parametrize("name", ["aud_hama.npy", "teeth_mask/0.npy"])
def test_arrays_that_claim_more_than_their_file_are_refused(name: str, tiny: Tiny, little_memory: None) -> None:
    path = tiny.root / name
    data = path.read_bytes()
    begin = data.index(b"'shape': (") + len(b"'shape': (")
    path.write_bytes(data[:begin] + b"999999999" + data[begin + 9 :])
    with pytest.raises(InputError, match=path.name):
        use(tiny.root)
    for compat in (None, *PROGRAMS):
        assert isinstance(validate(tiny.root, compat), list)


def test_runs_have_an_end() -> None:
    assert from_runs("0-3,3,5").tolist() == [0, 1, 2, 3, 3, 5] and from_runs("", 0).tolist() == []
    for text, count in ((f"0-{MOST_FRAMES}", None), ("0-3", 3), ("0-3", 5), ("3-1", None), ("\u0661", None)):
        with pytest.raises(ValueError):
            from_runs(text, count)


DIGITS = "9" * 400
TRACKS: dict[str, Callable[[], str]] = {
    "a.json": lambda: f'[{{"time": 0, "valence": {DIGITS}, "arousal": 0}}]',
    "b.json": lambda: f'[{{"time": {DIGITS}, "emotion": "happy"}}]',
    "c.json": lambda: f'[{{"time": {"9" * 5000}, "emotion": "happy"}}]',
    "d.json": lambda: '[{"time": 0, "emotion": ["happy"]}]',
    "e.json": lambda: "[" * 100_000,
    "f.csv": lambda: f"time,valence,arousal\n0,{DIGITS},0\n",
    "g.csv": lambda: "time,valence,arousal\n0,0.1,0\n1e300,0,0\n",
    "h.csv": lambda: "time,emotion\n0," + "x" * 200_000 + "\n",
}


@pytest.mark.parametrize("name", TRACKS)
def test_tracks_with_endless_numbers_are_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TRACKS[name]())
    with pytest.raises(InputError) as caught:
        EmotionTrack.from_file(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 400 + len(str(path))


def test_a_folder_as_it_should_be_is_read(tiny: Tiny) -> None:
    into_json(tiny.root / "subject.json", "framing", value=RUNS | {"clip_frames": f"0-{FRAMES - 1}"})
    use(tiny.root)
    assert Subject.open(tiny.root).place is not None
