"""Every program of examples/ runs."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from emotalking.data import Subject
from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.io.audio import save_wav
from emotalking.testing.actor.performance import Performance

from .train.small import small

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = small(pretraining=2)


def run(name: str, *arguments: str | Path) -> str:
    """Run an example as a user does and return its output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(name: str, *arguments: str | Path) -> str:
    """Output of an example that changes at most the features, run in this process, which has all imported."""
    out, known = io.StringIO(), set(AUDIO_FEATURES)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    for feature in AUDIO_FEATURES.keys() - known:
        del AUDIO_FEATURES[feature]
    return out.getvalue()


@pytest.fixture(scope="module")
def avatar(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example with a loss of its own trains."""
    path = tmp_path_factory.mktemp("examples") / "edges.safetensors"
    run("custom_loss.py", actor_subject.files.root, path, *SHORT)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    save_wav(path, Performance.generate(0.4, seed=2).waveform)
    return path


def test_render_video(avatar: Path, sound: Path, tmp_path: Path) -> None:
    assert "10 frames" in shown("render_video.py", avatar, sound, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_frame_by_frame(avatar: Path, sound: Path) -> None:
    lines = shown("frame_by_frame.py", avatar, sound).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("frame 0: 64x64")


def test_custom_loss(avatar: Path) -> None:
    log = avatar.with_name("edges.safetensors.run") / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("edges" in json.dumps(row) for row in rows)


@pytest.mark.usefixtures("unchecked")
def test_custom_audio_feature(actor_subject: Subject, tmp_path: Path) -> None:
    shown("custom_audio_feature.py", actor_subject.files.root, tmp_path / "level.safetensors", *SHORT)
    assert actor_subject.audio_features(DEFAULT_FEATURE).shape[2] != 4
    assert (actor_subject.files.root / "aud_level.npy").exists()


@pytest.mark.parametrize("name", ["custom_audio_feature", "custom_loss", "frame_by_frame", "render_video"])
def test_help_is_how_to_call_an_example(name: str) -> None:
    with pytest.raises(SystemExit, match=f"python {name}.py [A-Z]+ "):
        shown(f"{name}.py", "--help")


def test_every_option_of_talk_has_help() -> None:
    options = runpy.run_path(str(EXAMPLES / "talk.py"))["parser"]._actions
    assert len(options) > 10 and all(option.help for option in options)


def test_no_example_is_forgotten() -> None:
    tests = (Path(__file__), Path(__file__).parent / "serve" / "test_adapters.py")
    source = "".join(path.read_text("utf-8") for path in tests)
    assert all(f'"{path.name}"' in source for path in EXAMPLES.glob("*.py"))
