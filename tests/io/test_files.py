"""Atomic writes on machines where they fail, what kills leave behind, and locks."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.arrays import mapped_array, save_array
from emotalking.io.audio import save_wav
from emotalking.io.files import (
    CannotWriteError,
    holding,
    remove_stale,
    remove_stale_within,
    replacing,
    reserve,
    write_bytes,
)
from emotalking.io.images import write_image
from emotalking.io.video_writer import FrameFolder, VideoWriter

LIMIT = 20_000
NOISE = np.random.default_rng(0)


@pytest.fixture
def small_disk() -> object:
    """Files of at most LIMIT bytes; writing further is an error of the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def video(path: Path) -> None:
    with VideoWriter(path, 64, 64, Fraction(25)) as writer:
        for _ in range(60):
            writer.write(NOISE.integers(0, 255, (64, 64, 3), np.uint8))


def frames(path: Path) -> None:
    FrameFolder(path.parent / "frames").write(NOISE.integers(0, 255, (200, 200, 3), np.uint8))


def mapped(path: Path) -> None:
    with replacing(path) as scratch:
        mapped_array(scratch, (LIMIT, 2))[:] = 1


WRITERS = {
    "a.bin": lambda path: write_bytes(path, bytes(2 * LIMIT)),
    "a.npy": lambda path: save_array(path, np.zeros(LIMIT)),
    "b.npy": mapped,
    "a.wav": lambda path: save_wav(path, np.zeros(2 * LIMIT, np.float32)),
    "a.png": lambda path: write_image(path, NOISE.integers(0, 255, (200, 200, 3), np.uint8)),
    "a.mp4": video,
    "a.avi": video,
    "a.mkv": video,
    "a.webm": video,
    "frames": frames,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(name: str, tmp_path: Path, small_disk: object) -> None:
    if name != "frames":
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(CannotWriteError, match=r"cannot be written \(.+\): .*choose another place\.$") as error:
        WRITERS[name](tmp_path / name)
    assert error.value.errno == errno.EFBIG
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ([] if name == "frames" else [tmp_path / name])
    assert name == "frames" or (tmp_path / name).read_bytes() == b"old"


def test_errors_without_words_and_of_other_files(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotWriteError, match=r"a cannot be written \(OSError\)"),
        replacing(tmp_path / "a"),
    ):
        raise CannotWriteError(tmp_path / "a", OSError())
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):  # of an input that is read meanwhile
        (tmp_path / "nowhere").read_bytes()
    assert str(CannotWriteError(tmp_path, OSError(98765, ""))) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "replace"])
def test_every_call_of_the_system_may_fail(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    place = {"mkdir": (Path, "mkdir"), "open": (os, "open"), "write": (Path, "write_bytes"), "replace": (os, "replace")}
    with monkeypatch.context() as patch:
        patch.setattr(*place[call], fail)
        with pytest.raises(CannotWriteError, match="No space left on device.*free some space"):
            write_bytes(tmp_path / "a", b"content")
    assert not list(tmp_path.iterdir())


def test_space_is_reserved_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.touch()
    reserve(path, 1 << 16)
    assert path.stat().st_blocks * 512 >= 1 << 16

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space left"):
        mapped_array(tmp_path / "b.npy", (100, 2))


def test_only_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    """Not what a process is writing, nor files of another name, nor the user's."""
    mine = tmp_path / ".a.pt.0123abcd.part"
    others = [".a.b.pt.0123abcd.part", ".a.pt.part", ".a.pt.0123abcd.part.txt", "a.pt.0123abcd.part"]
    for name in (mine.name, *others):
        (tmp_path / name).touch()
    with replacing(tmp_path / "a.pt") as scratch:
        remove_stale(tmp_path / "a.pt")
        assert scratch.exists() and not mine.exists()
        assert all((tmp_path / name).exists() for name in others)
        remove_stale_within(tmp_path)
        assert scratch.exists() and not (tmp_path / others[0]).exists() and (tmp_path / "a.pt.0123abcd.part").exists()


@pytest.mark.parametrize("length", [1, 190, 200, 215, 240, 255])
def test_names_up_to_the_longest(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("é" * (length // 2) + "a" * (length % 2))
    with pytest.raises(ZeroDivisionError), replacing(path) as scratch:
        scratch.write_bytes(b"half")
        _ = 1 / 0
    write_bytes(path, b"whole")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(path.name, b"whole")]


def test_a_killed_rendering_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from emotalking.io.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as scratch: print('begun', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.mp4")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"begun\n"
        remove_stale(tmp_path / "a.mp4")
        assert len(list(tmp_path.iterdir())) == 1
        other.kill()
    remove_stale(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding(tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="b is in use by another command: wait"), holding(tmp_path / "a" / "b"):
            pass
        with pytest.raises(InputError), holding(tmp_path / "a" / "b", shared=True):
            pass
    assert not (tmp_path / "a").exists()
    with holding(tmp_path, shared=True), holding(tmp_path, shared=True):
        pass
    with pytest.raises(ZeroDivisionError), holding(tmp_path / "c"):
        (tmp_path / "c" / "file").touch()
        _ = 1 / 0
    assert (tmp_path / "c" / "file").exists()
    (tmp_path / "d").touch()
    with pytest.raises(CannotWriteError), holding(tmp_path / "d" / "e"):
        pass

    def unknown(*args: object) -> None:  # of some network drives
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with holding(tmp_path / "a"), holding(tmp_path / "a"):
        pass
