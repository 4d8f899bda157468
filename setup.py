"""Build step of the wheels: compile the CPU kernels for the wheel's platform. All else is in pyproject.toml.

The compiler is zig's (package ziglang): it comes from the package index, brings its own C++ library, and compiles for
every platform on any. A wheel of another platform is built by naming it:
``--config-setting=--build-option=--plat-name=win_amd64``. Where the platform is not in `PLATFORMS`, the wheel has no
libraries, and the kernels are compiled at their first use.
"""

import platform
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

CPU = Path(__file__).parent / "src" / "emotalking" / "ops" / "cpu"
X86_64 = {
    "avx512": "x86_64+avx2+fma+avx512f+avx512bw+avx512dq+avx512vl",
    "avx2": "x86_64+avx2+fma",
    "base": "x86_64",
}


@dataclass(frozen=True)
class Platform:
    """How libraries are compiled for one platform tag."""

    target: str
    """As zig names it, with the oldest C library that it must run on."""
    suffix: str = ".so"
    processors: dict[str, str] = field(default_factory=lambda: X86_64)
    """zig's name of the processor by instruction set (``ops/cpu/toolchain.py``)."""


PLATFORMS = {
    "manylinux_2_17_x86_64": Platform("x86_64-linux-gnu.2.17"),
    "manylinux_2_17_aarch64": Platform("aarch64-linux-gnu.2.17", processors={"base": "generic"}),
    "macosx_11_0_arm64": Platform("aarch64-macos.11.0", ".dylib", {"base": "apple_m1"}),
    "win_amd64": Platform("x86_64-windows-gnu", ".dll"),
}
HERE = {
    ("Linux", "x86_64"): "manylinux_2_17_x86_64",
    ("Linux", "aarch64"): "manylinux_2_17_aarch64",
    ("Darwin", "arm64"): "macosx_11_0_arm64",
    ("Windows", "AMD64"): "win_amd64",
}
"""Platform tag by system and machine."""


def build_libraries(wanted: Platform, folder: Path, scratch: Path) -> None:
    """Compile all kernels into one library for each instruction set of a platform.

    The sources are compiled for the instruction set and linked for the plain processor, for which zig builds its C++
    library once (it takes a minute of one core, and is kept in zig's cache). All instruction sets at once.
    """
    toolchain = runpy.run_path(str(CPU / "toolchain.py"))
    zig = [sys.executable, "-m", "ziglang", "c++", "-target", wanted.target]
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier build for another platform
    folder.mkdir(parents=True)
    scratch.mkdir(parents=True, exist_ok=True)

    def build(level: str) -> None:
        objects = []
        for source in sorted(CPU.glob("*.cpp")):
            objects.append(str(scratch / f"{source.stem}-{level}.o"))
            flags = [f"-mcpu={wanted.processors[level]}", *toolchain["FLAGS"], "-g0"]
            subprocess.run([*zig, *flags, "-c", str(source), "-o", objects[-1]], check=True)
        library = folder / (toolchain["library_name"](level) + wanted.suffix)
        linked = [f"-mcpu={wanted.processors['base']}", "-shared", "-s", "-pthread", *objects, "-o", str(library)]
        subprocess.run([*zig, *linked], check=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(build, wanted.processors))
    for other in folder.iterdir():
        if other.suffix != wanted.suffix:  # import library and debug data of Windows
            other.unlink()


class BuildKernels(build_py):
    """Add the libraries to the package's files, but not to a checkout that is installed in place."""

    def run(self) -> None:
        super().run()
        tag = self.get_finalized_command("bdist_wheel").get_tag()[2]
        if not self.editable_mode and tag in PLATFORMS:
            folder = Path(self.build_lib, *CPU.parts[-3:], "built")
            build_libraries(PLATFORMS[tag], folder, Path(self.get_finalized_command("build").build_temp, tag))


class PlatformWheel(bdist_wheel):
    """Any Python 3, one platform: the libraries are loaded with ctypes."""

    def get_tag(self) -> tuple[str, str, str]:
        here = None if self.plat_name_supplied else HERE.get((platform.system(), platform.machine()))
        if here and here.startswith("manylinux") and platform.libc_ver()[0] != "glibc":
            here = None
        return "py3", "none", here or super().get_tag()[2]


class PlatformDistribution(Distribution):
    """One whose files differ between platforms."""

    def has_ext_modules(self) -> bool:
        return True


if __name__ == "__main__":
    setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildKernels, "bdist_wheel": PlatformWheel})
