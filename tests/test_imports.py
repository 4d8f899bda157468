"""What importing the package must not need or do."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"

WITHOUT_POSIX = """
import importlib, os, pathlib, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
os.umask = None
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    parts = path.relative_to(sys.argv[1]).with_suffix("").parts
    if parts[-1] != "__main__":
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
from emotalking.io.files import write_bytes
write_bytes(pathlib.Path(sys.argv[2]) / "a", b"1")
"""


def test_every_module_imports_without_posix_modules(tmp_path: Path) -> None:
    """As on Windows; ``os.umask`` would change the whole process, threads of others included."""
    command = [sys.executable, "-c", WITHOUT_POSIX, str(SOURCE), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "a").read_bytes() == b"1"
