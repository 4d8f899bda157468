"""Build a release into a folder: the source distribution, and from it a wheel for every platform, each inspected.

    python scripts/build_wheels.py [--platform TAG ...] [--output dist]    (needs the packages build and setuptools)

What is inspected: the wheel has one library for each instruction set, in the
format and for the machine of its platform, with all functions, and on Linux for no newer C library than its tag says.
"""

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from setup import CPU, PLATFORMS  # noqa: E402

STARTS = {
    "manylinux_2_17_x86_64": rb"\x7fELF\x02\x01.{12}\x3e\x00",
    "manylinux_2_17_aarch64": rb"\x7fELF\x02\x01.{12}\xb7\x00",
    "macosx_11_0_arm64": rb"\xcf\xfa\xed\xfe\x0c\x00\x00\x01",
    "win_amd64": rb"MZ.*?PE\x00\x00\x64\x86",
}
"""First bytes of a library: format and machine."""


def functions() -> list[str]:
    """Names of all functions that Python calls in the kernels."""
    code = "\n".join(path.read_text("utf-8").partition('extern "C"')[2] for path in sorted(CPU.glob("*.cpp")))
    return re.findall(r'^(?:extern "C" |\s*)(?:void \*?|int )(\w+)\(', code, re.MULTILINE)


def inspect(wheel: Path, tag: str) -> None:
    """Refuse a wheel whose libraries are not what its platform needs.

    Raises:
        SystemExit: with the reason.
    """
    names = functions()
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if "/ops/cpu/built/" in name]
        for level in PLATFORMS[tag].processors:
            found = [name for name in libraries if f"kernels-{level}-" in name and name.endswith(PLATFORMS[tag].suffix)]
            if len(found) != 1:
                raise SystemExit(f"{wheel.name}: {len(found)} libraries for {level}")
            content = archive.read(found[0])
            if not re.match(STARTS[tag], content, re.DOTALL):
                raise SystemExit(f"{wheel.name}: {found[0]} is for another platform")
            missing = [name for name in names if not re.search(rb"[\0_]" + name.encode() + rb"\0", content)]
            newer = [minor for minor in re.findall(rb"GLIBC_2\.(\d+)", content) if int(minor) > 17]
            if missing or newer:
                raise SystemExit(f"{wheel.name}: {found[0]} lacks {missing}, or needs a newer C library: {newer}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(libraries)} libraries, {len(names)} functions each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", action="append", choices=list(PLATFORMS), help="all, unless given")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    build = [sys.executable, "-m", "build", "--outdir", str(options.output)]
    subprocess.run([*build, "--sdist", str(ROOT)], check=True)
    source = max(options.output.glob("emotalking-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for tag in options.platform or PLATFORMS:
        setting = f"--config-setting=--build-option=--plat-name={tag}"
        subprocess.run([*build, "--wheel", setting, str(source)], check=True)
        inspect(options.output / f"{source.name.removesuffix('.tar.gz')}-py3-none-{tag}.whl", tag)


if __name__ == "__main__":
    main()
