"""What the wheel installs is what is tested, and it has all that the checkout has.

``make test`` runs the tests against the installed wheel. An installation in place is the checkout itself, and with
``PYTHONPATH`` the checkout may be what is to be tested.
"""

import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

import emotalking
from emotalking.ops.cpu import toolchain
from emotalking.ops.cpu.build import prebuilt_library

SOURCE = Path(__file__).parents[1] / "src" / "emotalking"


@pytest.fixture
def installed() -> Distribution:
    """The distribution of the package; skips where the package is not installed from a wheel."""
    if "PYTHONPATH" in os.environ:
        pytest.skip("PYTHONPATH is set")
    try:
        found = Distribution.from_name("emotalking")
    except PackageNotFoundError:
        pytest.skip("emotalking is not installed")
    if not any(str(path) == "emotalking/__init__.py" for path in found.files or []):
        pytest.skip("emotalking is installed in place")
    return found


def test_tests_run_against_the_installed_package(installed: Distribution) -> None:
    package = Path(emotalking.__file__)
    assert package == Path(str(installed.locate_file("emotalking/__init__.py")))
    assert "site-packages" in package.parts
    assert not package.is_relative_to(SOURCE)
    assert installed.version == emotalking.__version__


def test_every_file_of_the_checkout_is_installed(installed: Distribution) -> None:
    ours = {
        path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    root = Path(emotalking.__file__).parent
    assert len(ours) > 300
    assert not [str(path) for path in ours if (SOURCE / path).read_bytes() != (root / path).read_bytes()]


def test_the_wheel_brings_all_kernels(installed: Distribution) -> None:
    if not toolchain.BUILT.is_dir():
        pytest.skip("no libraries are built for this platform (setup.py)")
    library = prebuilt_library()
    assert library is not None
    names = []
    for path in SOURCE.glob("ops/cpu/*.cpp"):
        code = path.read_text("utf-8").partition('extern "C"')[2]
        names += re.findall(r'^(?:extern "C" |\s*)(?:void \*?|int )(\w+)\(', code, re.MULTILINE)
    assert len(names) >= 10
    for name in names:
        assert getattr(library, name) is not None


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "emotalking"], [str(Path(sys.executable).parent / "emotalking")]]
)
def test_both_commands_run(installed: Distribution, command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert emotalking.__version__ in done.stdout
