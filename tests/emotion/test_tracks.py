"""Emotion tracks: interpolation and every way to get a file wrong."""

from pathlib import Path

import numpy as np
import pytest

from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.tracks import EmotionTrack, emotion_track, gaze_track
from emotalking.errors import InputError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_constant_and_text() -> None:
    out = EmotionTrack.from_text("0.6, -0.4").at(np.array([0.0, 9.0]))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[0.6, -0.4]] * 2, rtol=1e-6)
    np.testing.assert_allclose(EmotionTrack.from_text("Happy").at(np.zeros(1))[0], PRESETS["happy"], rtol=1e-6)
    half = EmotionTrack.from_text("sad:0.5").at(np.zeros(1))[0]
    np.testing.assert_allclose(half, np.multiply(PRESETS["sad"], 0.5), rtol=1e-6)
    assert EmotionTrack.from_text("happy").at(np.zeros(0)).shape == (0, 2)


def test_keyframes_are_met_held_and_never_overshot(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "time,valence,arousal\n1,0,0\n2,0.8,-0.2\n2.5,0.8,0.5\n\n# end\n4,-1,1\n")
    track = EmotionTrack.from_file(path)
    np.testing.assert_allclose(track.at(np.array([1, 2, 2.5, 4.0]))[:, 0], [0, 0.8, 0.8, -1], atol=1e-6)
    np.testing.assert_allclose(track.at(np.array([-5.0, 99.0])), [[0, 0], [-1, 1]], atol=1e-6)
    fine = track.at(np.linspace(0, 5, 1001))
    assert fine[:, 0].max() <= 0.8 + 1e-6 and np.abs(fine).max() <= 1
    # Velocity is continuous: its largest step between samples falls with the sampling interval.
    bends = [np.abs(np.diff(track.at(np.arange(0, 5, h)).astype(float), 2, axis=0)).max() / h for h in (0.02, 0.005)]
    assert bends[1] < 0.4 * bends[0]


def test_names_in_csv_and_json_agree(tmp_path: Path) -> None:
    csv = EmotionTrack.from_file(write(tmp_path, "a.csv", "\ufefftime, emotion\n0, happy\n2, angry\n"))
    text = '[{"time": 0, "emotion": "happy"}, {"time": 2, "valence": -0.74, "arousal": 0.31}]'
    json = EmotionTrack.from_file(write(tmp_path, "a.json", text))
    times = np.linspace(0, 3, 7)
    np.testing.assert_allclose(csv.at(times), json.at(times), atol=1e-6)


TABLE = "time,valence,arousal\n0,0.5,-0.25\n1.5,-1,1\n"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE.replace(",", ";").replace(".", ","),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", "\t").replace(".", ","),
        "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
        TABLE.replace("\n", ",,\n") + ",,,,\n",
        TABLE.replace("\n", ";;\n").replace(",", ";"),
        '"time","valence","arousal"\n"0","0,5","-0,25"\n"1,5","-1","1"\n',
        TABLE.replace("time", "Time (s)").replace("arousal", "Arousal [-1..1]"),
        "# made by hand; not, by a program\n" + TABLE,
        TABLE.replace("0.5", ".5").replace("-0.25", "-.25"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    track = EmotionTrack.from_file(path)
    np.testing.assert_allclose(track.times, [0, 1.5])
    np.testing.assert_allclose(track.values, [[0.5, -0.25], [-1, 1]])


@pytest.mark.parametrize("text", ["time,emotion\n0,happy:0.5\n2,Sad\n", "time;emotion\n0;happy:0,5\n2;sad : 1\n"])
def test_strengths_in_a_track(tmp_path: Path, text: str) -> None:
    track = EmotionTrack.from_file(write(tmp_path, "t.csv", text))
    np.testing.assert_allclose(track.values, [np.multiply(PRESETS["happy"], 0.5), PRESETS["sad"]])
    json = '[{"time": 0, "emotion": "happy:0.5"}]'
    np.testing.assert_allclose(EmotionTrack.from_file(write(tmp_path, "t.json", json)).values, track.values[:1])


@pytest.mark.parametrize("name", ["happy:2", "happy:x", "happy:", "glum:0.5"])
def test_a_wrong_strength_names_its_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"t.csv line 2: (the strength|strength|unknown emotion)"):
        EmotionTrack.from_file(write(tmp_path, "t.csv", f"time,emotion\n0,{name}\n"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no keyframes"),
        ("a.csv", "time,valence,arousal\n", "no keyframes"),
        ("a.csv", "t,v\n0,1\n", "line 1: the header"),
        ("a.csv", "time,valence,arousal\n0,1\n", "line 2: 2 columns where the header has 3"),
        ("a.csv", "time,valence,arousal\n0,x,0\n", 'line 2: valence "x" is not a number'),
        ("a.csv", "time,valence,arousal\n0,,0\n", 'line 2: valence "" is not a number'),
        ("a.csv", 'time,valence,arousal\n0,".2\n4",0\n', 'line 3: valence ".2 4" is not a number'),
        ("a.csv", "time,valence,arousal\n0,2,0\n", "line 2: valence is 2 but"),
        ("a.csv", "time,valence,arousal\n0,nan,0\n", "line 2: valence must be a finite"),
        ("a.csv", "time,valence,arousal\n1,0,0\n1,0,0\n", "line 3: time 1 does not follow 1"),
        ("a.csv", "time,emotion\n0,happy\n1,merry\n", 'line 3: unknown emotion "merry"'),
        ("a.csv", "time,emotion\n-1,happy\n", "line 2: time -1 is negative"),
        ("a.json", "{", "line 1: not valid JSON"),
        ("a.json", "{}", "expected a list"),
        ("a.json", "[]", "no keyframes"),
        ("a.json", "[3]", "keyframe 1: expected an object"),
        ("a.json", '[{"time": 0}]', "keyframe 1: valence"),
        ("a.json", '[{"emotion": "happy"}]', "keyframe 1: time"),
        ("a.json", '[{"time": true, "emotion": "happy"}]', "keyframe 1: time"),
        ("a.json", '[{"time": 0, "emotion": "happy", "valence": 0}]', "not both"),
        ("a.json", '[{"time": 0, "mood": "happy"}]', "unknown field 'mood'"),
        ("a.txt", "happy", "must be a .csv or .json file"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(InputError, match=message) as error:
        EmotionTrack.from_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        EmotionTrack.from_file(tmp_path / "none.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="UTF-8"):
        EmotionTrack.from_file(binary)


@pytest.mark.parametrize("text", ["0.1", "0.1,0.2,0.3", "a,b", "2,0", "happy:x", "happy:2", "happy:-1", "merry", ""])
def test_malformed_text(text: str) -> None:
    with pytest.raises(InputError):
        EmotionTrack.from_text(text)


def test_command_line_options(tmp_path: Path) -> None:
    now = np.zeros(1)
    assert emotion_track() is None
    np.testing.assert_allclose(emotion_track(va=(0.5, -0.5)).at(now), [[0.5, -0.5]])
    path = write(tmp_path, "a.csv", "time,emotion\n0,sad\n")
    np.testing.assert_allclose(emotion_track(track=path).at(now)[0], PRESETS["sad"], rtol=1e-6)
    assert emotion_track(track=(track := EmotionTrack.from_text("happy"))) is track
    with pytest.raises(InputError, match="only one"):
        emotion_track("happy", (0.0, 0.0))


def test_wrong_arrays_are_programming_errors() -> None:
    with pytest.raises(ValueError, match="increasing"):
        EmotionTrack(np.array([1.0, 0.0]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="expected"):
        EmotionTrack(np.zeros(0), np.zeros((0, 2)))


def test_numbers_in_place_of_a_name_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="emotion"):  # in tests the checker of types is first with its own
        emotion_track((0.1, 0.2), None, None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", ["0.5,-0.2", (0.5, -0.2)])
def test_a_gaze_is_two_numbers(given: str | tuple[float, float]) -> None:
    track = gaze_track(given)
    assert track is not None
    np.testing.assert_allclose(track.at(np.array([0.0, 9.0])), [[0.5, -0.2]] * 2, atol=1e-6)


def test_a_gaze_is_recorded_or_the_camera_or_a_file(tmp_path: Path) -> None:
    assert gaze_track("recorded") is None
    camera = gaze_track("camera")
    assert camera is not None and not camera.at(np.zeros(1)).any() and gaze_track(camera) is camera
    (tmp_path / "g.csv").write_text("time;x;y\n0;-1;0\n2,5;1;0,5\n")
    (tmp_path / "g.json").write_text('[{"time": 0, "x": -1, "y": 0}, {"time": 2.5, "x": 1, "y": 0.5}]')
    tracks = [gaze_track(tmp_path / name) for name in ("g.csv", "g.json")]
    for track in tracks:
        assert track is not None
        np.testing.assert_allclose(track.at(np.array([0.0, 2.5])), [[-1, 0], [1, 0.5]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,x\n0,1\n", "must be time,x,y"),
        ("time,x,y\n0,2,0\n", "between -1 and 1"),
        ("time,x,y\n-1,0,0\n", "negative"),
        ("time,x,y\n1,0,0\n1,0,0\n", "does not follow"),
        ("time,x,y,z\n1,0,0,0\n", "unknown field 'z'"),
    ],
)
def test_a_bad_gaze_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "g.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        gaze_track(path)
    for wrong in ("left", "2,0", "0.1,0.2,0.3", "a,b"):
        with pytest.raises(InputError, match="gaze"):
            gaze_track(wrong)
