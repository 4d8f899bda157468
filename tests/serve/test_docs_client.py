"""The client of docs/live.md, as it is printed there, against a server."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

import soundfile

from .talking import RATE, serving, sound

PAGE = Path(__file__).parents[2] / "docs" / "live.md"


def test_client_of_the_documentation(tmp_path: Path) -> None:
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "HEADER" in block
    )
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    (tmp_path / "client.py").write_text(code, "utf-8")
    (tmp_path / "out").mkdir()
    spoken = sound(1.0)
    soundfile.write(tmp_path / "speech.wav", spoken, RATE, "PCM_16")
    with serving() as server:
        address = f"ws://127.0.0.1:{server.port}"
        command = [sys.executable, "client.py", address, "speech.wav", "out"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, rate = soundfile.read(tmp_path / "out" / "said.wav", dtype="int16")
    assert rate == RATE and np.array_equal(said, spoken)
    assert any(path.read_bytes()[:2] == b"\xff\xd8" for path in (tmp_path / "out").glob("*.jpg"))
