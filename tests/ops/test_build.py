"""The compiled CPU kernels: taken from the wheel or compiled, and what happens where neither is possible."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from emotalking.ops.cpu import build, toolchain
from emotalking.ops.cpu import ssim as compiled
from emotalking.ops.similarity import ssim


def clear() -> None:
    for each in (build._compiled_library, build.prebuilt_library, build._process_folder, compiled.library):
        each.cache_clear()


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(toolchain, "BUILT", tmp_path / "built")
    clear()
    yield
    clear()


def place(source: str = "ssim.cpp") -> Path:
    """Where the library was loaded from."""
    return Path(build.load_library(source)._name)


def test_a_compiler_that_fails_runs_once_and_the_reference_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls, script = tmp_path / "calls", tmp_path / "cc"
    script.write_text(f'#!/bin/sh\ncase "$1" in --version) ;; *) echo x >> {calls}; echo broken >&2; exit 1 ;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    image = torch.rand(12, 13, 3)
    for _ in range(3):
        torch.testing.assert_close(ssim(image, image), torch.tensor(1.0))
    assert calls.read_text() == "x\n"
    with pytest.raises(build.NoCompiler, match="broken"):
        build.load_library("ssim.cpp")


@pytest.mark.parametrize("compiler", ["no-such-compiler", "no-such-wrapper g++"])
def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(build.NoCompiler, match=r"ssim\.cpp"):
        build.load_library("ssim.cpp")


def test_no_compiler_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(build.NoCompiler, match=r"install g\+\+ or clang\+\+"):
        build.load_library("ssim.cpp")


def test_ziglang_where_the_machine_has_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "ziglang")
    assert build._compiler()[1:] == ["-m", "ziglang", "c++"]


def test_a_compiler_with_its_own_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ -g0")
    assert build.load_library("ssim.cpp").ssim_forward is not None


def test_what_was_compiled_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = place()
    assert first.is_relative_to(tmp_path / "cache")
    changed = first.stat().st_mtime_ns
    clear()
    assert place() == first
    assert first.stat().st_mtime_ns == changed


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = place().parent
    assert folder == tmp_path / "temporary" / f"emotalking-libraries-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("home", ["", "relative"])
def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda _: home or "~")  # what it gives for a user without a home
    assert place().is_relative_to(tmp_path / "temporary")
    assert not (tmp_path / "relative").exists()
    assert not (tmp_path / "~").exists()


def another_users(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder.mkdir()
    os.chown(folder, 12345, -1)


def open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize("plant", [another_users, open_to_all, a_link])
def test_folders_in_which_others_can_put_libraries_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    planted = tmp_path / "temporary" / f"emotalking-libraries-{os.geteuid()}"
    plant(planted)
    folder = place().parent
    assert folder not in (planted, planted.resolve())
    assert not list(planted.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_damaged_library_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / "other" / "emotalking" / "libraries" / place().name
    clear()
    damaged.parent.mkdir(mode=0o700, parents=True)
    damaged.write_bytes(b"no library")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert place().is_relative_to(tmp_path / "temporary")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Stand-in for a wheel's folder of libraries: for each instruction set, the library of one source."""
    library = place()
    (tmp_path / "built").mkdir()
    for level in ("avx512", "avx2", "base"):
        shutil.copy(library, tmp_path / "built" / f"{toolchain.library_name(level)}.so")
    clear()
    return tmp_path / "built"


@pytest.mark.parametrize(
    ("capability", "level"),
    [("AVX512", "avx512"), ("AVX2", "avx2"), ("DEFAULT", "base"), ("NO AVX", "base"), ("SVE256", "base")],
)
def test_the_wheels_library_for_the_processor(
    monkeypatch: pytest.MonkeyPatch, wheel: Path, capability: str, level: str
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert place().parent == wheel
    assert f"-{level}-" in place().name
    assert build.load_library("mesh.cpp") is build.load_library("ssim.cpp")


@pytest.mark.parametrize(
    ("damaged", "instead"), [(("avx512",), "kernels-avx2-"), (("avx512", "avx2", "base"), "ssim-")]
)
def test_wheels_libraries_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, wheel: Path, damaged: tuple[str, ...], instead: str
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    for level in damaged:
        next(wheel.glob(f"*-{level}-*")).write_bytes(b"no library")
    assert place().name.startswith(instead)


def test_edited_sources_are_compiled(monkeypatch: pytest.MonkeyPatch, wheel: Path, tmp_path: Path) -> None:
    assert place().parent == wheel
    clear()
    edited = tmp_path / "edited"
    edited.mkdir()
    for path in (*toolchain.SOURCES.glob("*.cpp"), *toolchain.SOURCES.glob("*.h")):
        shutil.copy(path, edited)
    monkeypatch.setattr(toolchain, "SOURCES", edited)
    assert place().parent == wheel
    clear()
    with (edited / "ssim.cpp").open("a") as source:
        source.write('extern "C" int added() { return 7; }\n')
    assert build.load_library("ssim.cpp").added() == 7
    assert place().is_relative_to(tmp_path / "cache")
