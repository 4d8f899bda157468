"""The compiled CPU kernels where they cannot be compiled: said once, and the reference serves."""

from pathlib import Path

import pytest
import torch

from emotalking.ops.cpu import build
from emotalking.ops.cpu import ssim as compiled
from emotalking.ops.similarity import ssim


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caches = build._library, compiled.library
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


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


def test_a_compiler_with_its_own_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ -g0")
    assert build.load_library("ssim.cpp").ssim_forward is not None


def test_a_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(build.NoCompiler, match="could not build"):
        build.load_library("ssim.cpp")
