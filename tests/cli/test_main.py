"""The command line: exit codes, sentences, and what the commands do."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from emotalking import api
from emotalking.cli.arguments import parameters, parse
from emotalking.cli.main import join_negative_values, load, main, overview, summary, verbs
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.files import SubjectFiles
from emotalking.errors import InputError
from emotalking.ops import devices
from emotalking.preprocess.config import PrepareConfig


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error that tells what is wrong."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("emotalking: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from emotalking.cli.main import main; "
        "codes = [main([*words, '--help']) for words in ([], ['prepare'], ['train'], ['render'], ['info'])]; "
        "heavy = {'torch', 'numpy', 'av', 'cv2', 'rich', 'scipy'} & set(sys.modules); "
        "sys.exit(repr(heavy) if heavy or any(codes) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("prepare", "train", "render", "info", "demo", "--va", "--preset"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("emotalking.data.validate, emotalking.models.avatar_file", {"torch", "scipy", "av"}),  # info, validate
        ("emotalking.models.avatar, emotalking.player.clip", {"scipy.spatial", "matplotlib", "typeguard"}),  # render
    ],
)
def test_modules_of_a_command_load_no_more_than_it_needs(modules: str, absent: set[str]) -> None:
    code = f"import sys, {modules}; sys.exit(repr({absent} & set(sys.modules)) if {absent} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_parsing_a_tuple_that_may_be_none_loads_no_type_checker() -> None:
    code = (
        "import sys; from emotalking.cli.main import main; main(['render', 'none.safetensors', '--audio', 'a.wav']); "
        "sys.exit('typeguard' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: emotalking" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("emotalking 0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sing"], "unknown command 'sing': see 'emotalking --help'"),
        (["--loud"], "--help"),
        (["render"], "required: avatar: see 'emotalking render --help'"),
        (["sync"], "choose one of sync measure, sync train"),
        (["train", "nowhere"], "required: -o/--output"),
        (["info", "a", "b"], "unrecognized arguments: b"),
        (["prepare", "a.mp4", "-o", "b", "--size", "big"], "argument --size: expected int, got 'big'"),
        (["prepare", "a.mp4", "-o", "b", "--part", "12"], "is not two numbers"),
        (["prepare", "a.mp4", "-o", "b", "--loud"], "unrecognized arguments: --loud"),
        (["evaluate", "a", "b", "-o", "c", "--scenarios", "self,moon"], "invalid choice: 'moon' (choose from self"),
        (["train-many", "-o", "c"], "required: subjects"),
        (["compare", "a", "b", "-o", "c"], "argument systems: 'b' is not of the form NAME=PATH"),
        (["render", "AVATAR"], "give one of audio and text"),
        (["render", "AVATAR", "--audio", "SPEECH", "--text", "Hello"], "give one of audio and text"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--voice", "m3"], "are for speech from text"),
        (["render", "AVATAR", "--audio", "SPEECH", "--strip", "a.gif"], ".png or .jpg"),
        (["train", "nowhere", "-o", "a.safetensors", "--preset", "huge"], "invalid choice: 'huge'"),
        (["train", "nowhere", "-o", "a.safetensors"], "no subject folder nowhere"),
        (["train", "nowhere", "-o", "."], "is a folder"),
        (["train", "nowhere", "-o", "a.safetensors", "--device", "abacus"], "no device 'abacus'"),
        (["train", "nowhere", "-o", "a.safetensors", "--device", "cuda:99"], "GPUs are usable"),
        (["train", "nowhere", "-o", "a.safetensors", "--device", "cpu,cpu"], "no device 'cpu,cpu'"),
        (["train", "nowhere", "-o", "a.safetensors", "--set", "colour=red"], "names no field"),
        (["prepare", "nowhere.mp4", "-o", "out"], "nowhere.mp4"),
        (["prepare", "TEXT", "-o", "out"], "words.wav"),
        (["info", "nowhere"], "does not exist"),
        (["info", "TEXT"], "words.wav"),
        (["render", "nowhere", "--audio", "SPEECH", "-o", "a.mp4"], "no avatar file nowhere"),
        (["render", "TEXT", "--audio", "SPEECH", "-o", "a.mp4"], "not a whole avatar file"),
        (["render", "CUT", "--audio", "SPEECH", "-o", "a.mp4"], "not a whole avatar file"),
        (["render", "AVATAR", "--audio", "TEXT", "-o", "a.mp4"], "not a sound or video file"),
        (["render", "AVATAR", "--audio", "nowhere.wav", "-o", "a.mp4"], "does not exist"),
        (["render", "AVATAR", "--audio", "SPEECH"], "nothing to write"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.gif"], "a.gif"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--background", "transparent"], "transparent"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--background", "reddish"], "reddish"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--va", "1.5,0"], "1.5"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--va", "-2,0"], "-2"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--va", "happy"], "happy"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--emotion", "grumpy"], "grumpy"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--emotion", "sad", "--va", "0,0"], "only one"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--track", "nowhere.csv"], "nowhere.csv"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--seconds", "-1"], "positive"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--batch", "0"], "at least 1"),
        (["render", "AVATAR", "--audio", "SPEECH", "-o", "a.mp4", "--features", "TEXT"], "cannot be read"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    words: list[str],
    says: str,
    tmp_path: Path,
    avatar_file: Path,
    speech_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text, cut = tmp_path / "words.wav", tmp_path / "cut.safetensors"
    text.write_text("these are words\n" * 100)
    cut.write_bytes(avatar_file.read_bytes()[:-1000])
    places = {"AVATAR": avatar_file, "SPEECH": speech_file, "TEXT": text, "CUT": cut}
    assert main([str(places.get(word, word)) for word in words]) == 2
    assert says in complaint(capsys)
    assert {path.name for path in tmp_path.iterdir()} <= {"words.wav", "cut.safetensors"}


@pytest.mark.parametrize("emotion", [[], ["--emotion", "happy:0.5"], ["--va", "-0.5,0.3"], ["--va=-0.5,-.3"]])
def test_render(tmp_path: Path, avatar_file: Path, speech_file: Path, emotion: list[str]) -> None:
    out = tmp_path / "out.mp4"
    assert main(["render", str(avatar_file), "--audio", str(speech_file), "-o", str(out), *emotion]) == 0
    with av.open(str(out)) as container:
        assert len(list(container.decode(container.streams.video[0]))) == 13  # ceil(0.5 * 25)
        assert container.streams.audio[0].rate == 48000


def test_render_frames_with_track_and_alpha(tmp_path: Path, avatar_file: Path, speech_file: Path) -> None:
    track = tmp_path / "track.csv"
    track.write_text("time,valence,arousal\n0,-0.5,0.2\n1,0.5,0.5\n")
    words = ["render", str(avatar_file), "--audio", str(speech_file), "--frames-folder", str(tmp_path / "frames")]
    assert (
        main([*words, "--track", str(track), "--background", "transparent", "--seconds", "0.4", "--poses", "fixed"])
        == 0
    )
    frames = sorted((tmp_path / "frames").iterdir())
    assert len(frames) == 10
    image = cv2.imread(str(frames[0]), cv2.IMREAD_UNCHANGED)
    assert image.shape == (36, 48, 4) and image[0, 0, 3] == 0 and image[35, 2, 3] == 255 and image[18, 24, 3] > 100
    assert main([*words, "--seconds", "0.2"]) == 2
    assert main([*words, "--seconds", "0.2", "--overwrite"]) == 0
    assert len(list((tmp_path / "frames").iterdir())) == 5


def test_info(avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(avatar_file)]) == 0
    shown = capsys.readouterr().out
    for words in ("48 x 36, 25 fps", "150 face, 50 mouth", "30 (1.2 s)", "Apache-2.0", "emotalking train"):
        assert words in shown
    assert re.search(rf"features +{DEFAULT_FEATURE}\n", shown)
    assert main(["info", str(avatar_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["licences"] == {"mesh-warp": "Apache-2.0"}


def test_info_lists_no_empty_item(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("emotalking.api.info", lambda path: {"run": {"generator": ["mesh-warp", ""]}})
    assert main(["info", "."]) == 0
    assert capsys.readouterr().out == "run\n  generator\n    - mesh-warp\n"


def test_info_of_a_subject_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    viewmats = np.tile(np.eye(4), (22, 1, 1))
    viewmats[:, 2, 3] = 0.7
    write.write_background(tmp_path, np.zeros((40, 48, 3), np.uint8))
    write.write_transforms(tmp_path, viewmats, 90.0, 48, 40)
    write.write_manifest(tmp_path, {"fps": "25", "providers": {"parsing": "embedded"}})
    assert main(["info", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in ("48 x 40, 25 fps", "22 (0.9 s)", "20 / 2", "embedded", "22 of 22 files are missing"):
        assert words in shown


def test_negative_values_belong_to_their_option() -> None:
    assert join_negative_values(["render", "--va", "-0.5,0.3", "-o", "x"]) == ["render", "--va=-0.5,0.3", "-o", "x"]
    assert join_negative_values(["--va=-0.5,0.3", "--seconds", "-.5"]) == ["--va=-0.5,0.3", "--seconds=-.5"]
    assert join_negative_values(["-o", "-1.mp4", "--transparent", "-o"]) == ["-o", "-1.mp4", "--transparent", "-o"]


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted: rerun the same command: it continues from the last checkpoint"),
        (InputError("two\nlines"), 2, "error: two lines"),
        (OSError(28, "No space left on device", "/full/x"), 2, "cannot write /full/x: No space left"),
        (NotADirectoryError(20, "Not a directory", "clip.wav"), 2, "error: clip.wav cannot be used: Not a directory"),
        (IsADirectoryError(21, "Is a directory", "some"), 2, "error: some cannot be used: Is a directory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("..."), 2, "memory is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 2, "the memory is full: close"),
        (ImportError("libavcodec.so: failed to map segment from shared object"), 2, "the memory is full: close"),
    ],
)
def test_failures_of_a_command(
    failure: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    load("train")  # its options are read from the function before it is replaced
    monkeypatch.setattr(api, "train", fail)
    assert main(["train", "subject", "-o", "avatar.safetensors", "--device", "cpu"]) == code
    assert says in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    load("info")  # its options are read from the function before it is replaced
    monkeypatch.setattr(api, "info", fail)
    with pytest.raises(ZeroDivisionError):
        main(["info", "x"])


def test_options_reach_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict] = []

    def record(**options: object) -> object:
        calls.append(options)
        made = {"stage_seconds": {"face": 1.0}, "path": "a", "page": "report.html", "files": SubjectFiles(Path("s"))}
        return type("Made", (), made)()

    for name in ("train", "prepare"):
        load(name)  # the options are read from the functions before they are replaced
        monkeypatch.setattr(api, name, record)
    settings = ["--set", "face.iterations=5", "--set", "seed=3"]
    words = ["train", "s", "-o", "a.safetensors", "--preset", "tiny", "--device", "cpu", "--no-resume", *settings]
    assert main(words) == 0
    options = calls.pop()
    assert (options["subject"], options["output"], options["preset"]) == (Path("s"), Path("a.safetensors"), "tiny")
    assert options["settings"] == ("face.iterations=5", "seed=3") and options["resume"] is False
    assert options["tensorboard"] is False and options["command"] == shlex.join(["emotalking", *words])
    monkeypatch.setattr("emotalking.preprocess.config.model_path", Path)
    csv = Path(__file__)
    words = ["--size", "256", "--seconds", "9", "--action-units", str(csv), "--parsing", "bisenet"]
    words += ["--emotion-model", "emonet", "--part", "1.5,80", "--audio-offset", "-0.04", "--fps", "30000/1001"]
    words += ["--expressions", "laughing.mp4"]
    assert main(["prepare", "c.mp4", "-o", "s", *words]) == 0
    expected = PrepareConfig(
        size=256,
        seconds=9.0,
        action_units=csv,
        parsing="bisenet",
        emotion_model="emonet",
        part=(1.5, 80.0),
        audio_offset=-0.04,
        fps="30000/1001",
    )
    given = {"clip": Path("c.mp4"), "output": Path("s"), "config": expected, "expressions": (Path("laughing.mp4"),)}
    assert calls.pop() == given


@pytest.mark.parametrize("name", sorted(verbs()))
def test_every_verb_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = load(name)
    assert f"  {name} " in overview() and summary(module) in overview()
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: emotalking {name} ")
    positional, _, options = shown.partition("\n options ")
    assert "-h, --help" in options and "(required)" not in positional
    assert not [one.name for one in parameters(module.FUNCTION) if not one.help]
    for example in re.findall(r"^  emotalking (.*)$", getattr(module, "EXAMPLES", ""), re.MULTILINE):
        assert example.startswith(name)


def test_api_renders_samples(tmp_path: Path, avatar_file: Path) -> None:
    samples = (0.1 * np.sin(np.arange(8000) * 0.2)).astype(np.float32)
    made = api.render(avatar_file, samples, tmp_path / "a.mp4", va=(0.5, -0.5), device="cpu")
    assert made.frames == 13 and made.video == tmp_path / "a.mp4"
    with pytest.raises(InputError, match="unknown emotion"):
        api.render(avatar_file, samples, tmp_path / "a.mp4", emotion="grumpy")


def test_package_offers_its_objects() -> None:
    import emotalking
    from emotalking.models.avatar import Avatar

    assert emotalking.Avatar is Avatar and emotalking.api is api
    for name in emotalking.__all__:
        assert getattr(emotalking, name) is not None
    with pytest.raises(AttributeError):
        emotalking.nothing  # noqa: B018


@pytest.mark.parametrize(("bindings", "gsplat"), [(True, False), (False, True), (False, False)])
def test_a_gpu_needs_one_of_two_rasterizers(monkeypatch: pytest.MonkeyPatch, bindings: bool, gsplat: bool) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "available", lambda: bindings)
    monkeypatch.setattr(devices, "find_spec", lambda name: object() if gsplat else None)
    assert api.choose_device("auto").type == ("cuda" if bindings or gsplat else "cpu")
    if bindings or gsplat:
        assert api.choose_device("cuda:0").type == "cuda"
        return
    with pytest.raises(InputError, match=r"cuda-bindings.*emotalking\[gpu\]"):
        api.choose_device("cuda")


def test_lists_of_devices_name_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "available", lambda: True)
    assert devices.parse_devices("cuda:1, cuda") == ["cuda:1", "cuda:0"]
    assert devices.parse_devices("auto") == ["cuda:0", "cuda:1", "cuda:2"]
    with pytest.raises(InputError, match="names a device twice"):
        devices.parse_devices("cuda,cuda:0")


def test_choices_are_in_declared_order_in_help_and_in_errors() -> None:
    """With any seed of Python's hashes, which the order of a set depends on."""
    code = (
        "from emotalking.cli.main import main; main(['prepare', '--help']); "
        "main(['prepare', 'a', '-o', 'b', '--normals', 'x'])"
    )
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "--normals {mesh,network,none}" in done.stdout
        assert "(choose from mesh, network, none)" in done.stderr


def test_no_choice_is_not_offered_as_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "a", "--compat", "moon"]) == 2
    said = capsys.readouterr().err
    assert "talkinggaussian" in said
    assert "None" not in said


def helped(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command on one line."""
    assert main([*command.split(), "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_the_default_of_a_switch(capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped("render", capsys)
    assert "instead of following every sound. (default: on)" in shown
    assert "frames of an earlier run (default: off)" in shown


def test_help_says_default_where_a_docstring_breaks_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(path: Path | None = None) -> None:
        """Do it.

        Args:
            path: a file; None:
                computed.
        """

    with pytest.raises(SystemExit):
        parse(parameters(verb), ["--help"], prog="verb", about=verb)
    assert "a file; default: computed." in " ".join(capsys.readouterr().out.split())


def test_help_offers_only_what_a_command_line_can_give(capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped("render", capsys)
    assert "any sound or video file, of any length. -o PATH" in shown
    assert "samples" not in shown and "loaded" not in shown and "In Python" not in shown
    assert "--gaze WHERE where the eyes look" in shown


def test_a_window_system_that_is_not_there_is_not_used() -> None:
    program = "import sys; from emotalking.cli.main import main; code = main(); import matplotlib; sys.exit(code)"
    found = subprocess.run(
        [sys.executable, "-c", program, "models"],
        env=os.environ | {"MPLBACKEND": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
