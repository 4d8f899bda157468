"""``emotalking serve``: what it says while it serves."""

import time

import pytest

from emotalking import api, progress
from emotalking.cli.commands import serve


class Waiting:
    """A server to which nobody comes."""

    link = "http://127.0.0.1:1/"

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *_: object) -> None: ...

    def serve_forever(self) -> None:
        time.sleep(0.5)


def test_waiting_for_clients_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("FIRST_WORDS_S", "SILENCE_S", "_TICK_S"):
        monkeypatch.setattr(progress, name, 0.02)
    monkeypatch.setattr(api, "serve", lambda **_: Waiting())
    with progress.shown(never_silent=True):
        serve.run({"device": "cpu"})
    lines = capsys.readouterr().err.split(Waiting.link)[1].splitlines()
    assert lines == ["; stop with Ctrl+C", "the server has stopped"]
