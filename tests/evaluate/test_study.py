"""The blind study: page and key, the server, answers and shares."""

import csv
import errno
import io
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotalking.cli.main import main
from emotalking.errors import InputError
from emotalking.evaluate.answers import Results, preferences, read_answers, write_rows
from emotalking.evaluate.study import COLUMNS, QUESTIONS, Study, make_study
from emotalking.evaluate.study_server import MOST_BODY, StudyServer
from emotalking.io.video_writer import VideoWriter


def clip(path: Path, *, frames: int = 10, sound: bool = True) -> Path:
    tone = [np.full(48_000, 0.1, np.float32)] if sound else None
    with VideoWriter(path, 32, 32, Fraction(25), tone) as writer:
        for number in range(frames):
            writer.write(np.full((32, 32, 3), 10 * number, np.uint8))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: [clip(folder / f"{name}{number}.mp4") for number in (1, 2)] for name in ("ours", "rival")}


@pytest.fixture
def study(clips: dict[str, list[Path]], tmp_path: Path) -> tuple[Study, Path]:
    return make_study(clips, tmp_path / "study", emotions=("happy", "<b>angry</b>")), tmp_path / "study"


def rows_of(study: Study, choose: str, participant: str = "0123abcd") -> list[dict[str, object]]:
    """Somebody who always chooses one system (or none)."""
    rows = []
    for number, group in enumerate(study.groups):
        code = next((code for code, name in group.items() if name == choose), "none")
        for question in QUESTIONS:
            row = {"study": study.id, "participant": participant, "seed": 7, "group": number, "seconds": "4.5"}
            rows.append(row | {"order": " ".join(group), "question": question["id"], "choice": code})
    return rows


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_page_is_blind_and_whole(study: tuple[Study, Path]) -> None:
    made, folder = study
    page = (folder / "page" / "index.html").read_text()
    assert not re.search(r"\b(ours|rival)", page)
    assert "http://" not in page and "https://" not in page and "<b>angry" not in page
    assert sorted(path.stem for path in (folder / "page" / "clips").iterdir()) == sorted(
        code for group in made.groups for code in group
    )
    assert Study.read(folder / "key.json") == made
    with pytest.raises(InputError, match="holds a study already"):
        make_study({"a": [], "b": []}, folder)


def test_page_keeps_its_order_and_offers_another_try(study: tuple[Study, Path]) -> None:
    """Regressions found in a browser: a reload drew another order, a failed submission could not be repeated, and a
    clip moved to its end counted as seen."""
    page = (study[1] / "page" / "index.html").read_text()
    welcome = page[page.index("function welcome()") : page.index("function watched(")]
    assert welcome.index("keep();") < welcome.index("show()") and "return finish()" in welcome
    assert "Send again" in page and "if (!watched(video)) return;" in page and "video.onerror" in page


def test_embedded_page_needs_no_files(clips: dict[str, list[Path]], tmp_path: Path) -> None:
    make_study(clips, tmp_path, embed=True)
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
    assert (tmp_path / "page" / "index.html").read_text().count("data:video/mp4;base64,") == 4


def test_unfit_clips_are_refused(clips: dict[str, list[Path]], tmp_path: Path) -> None:
    first = clips["ours"][0]
    cases = {
        "at least two": {"a": [first]},
        "different numbers": {"a": [first], "b": clips["rival"]},
        "called 'none'": {"none": [first], "b": [first]},
        "no sound": {"a": [first], "b": [clip(tmp_path / "still.mp4", sound=False)]},
        "differ in length": {"a": [first], "b": [clip(tmp_path / "long.mp4", frames=20)]},
        "not play in every browser": {"a": [first], "b": [clip(tmp_path / "film.mkv")]},
        "no such file": {"a": [first], "b": [tmp_path / "nowhere.mp4"]},
    }
    for words, given in cases.items():
        with pytest.raises(InputError, match=words):
            make_study(given, tmp_path / "study")
    with pytest.raises(InputError, match="2 groups of clips and 1 emotions"):
        make_study(clips, tmp_path / "study", emotions=("happy",))


def test_shares_and_intervals(study: tuple[Study, Path], tmp_path: Path) -> None:
    made, _ = study
    taste = ["ours"] * 6 + ["rival"] * 3 + ["nobody"]
    files = [save(tmp_path / f"{n}.csv", rows_of(made, who, f"{n:08x}")) for n, who in enumerate(taste)]
    answers = read_answers([*files, files[0]], made)  # the same file twice counts once
    found = preferences(answers, made)["lips"]
    assert {name: share.share for name, share in found.items()} == {"ours": 0.6, "rival": 0.3, "none": 0.1}
    interval = found["ours"].interval
    assert interval is not None and 0.25 <= interval.low <= 0.4 and 0.8 <= interval.high <= 0.95
    table = Results(made, answers).table.markdown()
    assert "**60.0 (" in table and "| none |" in table
    assert Results(made, answers).summary == "10 participants, 20 groups of clips answered, 60 answers"
    few = read_answers(files[:2], made)
    assert preferences(few, made)["lips"]["ours"].interval is None and "at least 5" in Results(made, few).summary


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choice": "deadbeef"}, "line 2: the choice is no clip"),
        ({"question": "beauty"}, "no such question"),
        ({"study": "ffffffff"}, "another study"),
        ({"group": "9"}, "out of range"),
        ({"seed": "many"}, "no number"),
        ({"participant": "=cmd()"}, "hexadecimal"),
        ({"order": "x y"}, "order"),
    ],
)
def test_bad_answers_are_refused(study: tuple[Study, Path], tmp_path: Path, change: dict, words: str) -> None:
    made, _ = study
    rows = rows_of(made, "ours")
    path = save(tmp_path / "a.csv", [rows[0] | change, *rows[1:]])
    with pytest.raises(InputError, match=words):
        read_answers([path], made)


def test_contradicting_answers_and_strange_files_are_refused(study: tuple[Study, Path], tmp_path: Path) -> None:
    made, _ = study
    files = [save(tmp_path / f"{who}.csv", rows_of(made, who)) for who in ("ours", "rival")]
    with pytest.raises(InputError, match="answered differently"):
        read_answers(files, made)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00nonsense")
    with pytest.raises(InputError, match=r"b\.csv"):
        read_answers([tmp_path / "b.csv"], made)
    with pytest.raises(InputError, match="cannot be read"):
        read_answers([tmp_path / "nowhere.csv"], made)


@pytest.fixture
def server(study: tuple[Study, Path]) -> Iterator[StudyServer]:
    made = StudyServer(study[1], port=0)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(
    server: StudyServer, path: str, body: bytes | None = None, kind: str = "application/json", **headers: str
) -> tuple[int, bytes]:
    """Status and body of a request."""
    request = urllib.request.Request(server.address + path, body, headers | {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def sent(study: Study, choose: str, participant: str = "0123abcd") -> bytes:
    rows = rows_of(study, choose, participant)
    short = [{name: row[name] for name in ("group", "order", "question", "choice", "seconds")} for row in rows]
    return json.dumps({"study": study.id, "participant": participant, "seed": 7, "rows": short}).encode()


def test_server_stores_valid_answers_once(server: StudyServer) -> None:
    study = server.study
    assert ask(server, "answers", sent(study, "ours"))[0] == 200
    # A page that did not hear the answer sends the same once more; others under the same number are refused.
    assert ask(server, "answers", sent(study, "ours"))[0] == 200
    assert ask(server, "answers", sent(study, "rival"))[0] == 409
    assert ask(server, "answers", sent(study, "rival", "00000001"))[0] == 200
    answers = read_answers([server.answers], study)
    assert len(answers) == 12 and preferences(answers, study)["emotion"]["ours"].share == 0.5


def test_restarted_server_knows_who_has_answered(server: StudyServer) -> None:
    assert ask(server, "answers", sent(server.study, "ours"))[0] == 200
    with StudyServer(server.folder, port=0) as again:
        assert again.store(json.loads(sent(server.study, "ours")))[0] == 200
        assert again.store(json.loads(sent(server.study, "rival")))[0] == 409
    assert len(server.answers.read_text().splitlines()) == 1 + 6


def test_answers_reach_the_file_in_one_write(study: tuple[Study, Path], tmp_path: Path) -> None:
    """A server that is killed between two writes would leave part of a participant, and a file that nobody reads."""
    made, _ = study
    answers = read_answers([save(tmp_path / "a.csv", rows_of(made, "ours"))], made) * 200
    writes: list[int] = []

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            writes.append(len(data))
            return super().write(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, buffering=-1: Counted(path, "a"))
        write_rows(tmp_path / "b.csv", answers)
    assert len(writes) == 1 and len((tmp_path / "b.csv").read_bytes().splitlines()) == 1201


def test_server_refuses_what_is_malformed(server: StudyServer) -> None:
    body = sent(server.study, "ours")
    assert ask(server, "answers", b"{")[0] == 400
    assert ask(server, "answers", b"[" * 5000)[0] == 400
    assert ask(server, "answers", body.replace(b'"lips"', b'"quality"'))[0] == 400
    assert ask(server, "answers", body, kind="text/plain")[0] == 404
    short = json.loads(body)
    short["rows"] = short["rows"][1:]
    assert ask(server, "answers", json.dumps(short).encode())[0] == 400
    assert ask(server, "answers", b" " * (MOST_BODY + 1))[0] == 413
    assert not server.answers.exists()


def test_server_gives_the_page_and_clips_and_nothing_else(server: StudyServer) -> None:
    assert b"<!doctype html>" in ask(server, "")[1]
    code = next(iter(server.study.groups[0]))
    status, whole = ask(server, f"clips/{code}.mp4")
    assert status == 200 and len(whole) == (server.folder / "page" / "clips" / f"{code}.mp4").stat().st_size
    assert ask(server, f"clips/{code}.mp4", Range="bytes=4-7") == (206, whole[4:8])
    assert ask(server, f"clips/{code}.mp4", Range="bytes=10-") == (206, whole[10:])
    assert ask(server, f"clips/{code}.mp4", Range="bytes=99999999-")[0] == 416
    for path in ("key.json", "../key.json", "clips/../../key.json", "answers.csv", "clips/00000000.mp4"):
        assert ask(server, path)[0] == 404


def test_commands(clips: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{name}={path}" for name, paths in clips.items() for path in paths]
    assert main(["study", "make", *words, "-o", str(tmp_path)]) == 0
    study = Study.read(tmp_path / "key.json")
    save(tmp_path / "answers.csv", rows_of(study, "ours"))
    assert main(["study", "results", str(tmp_path)]) == 0
    assert "| ours | **100.0** |" in capsys.readouterr().out
    assert main(["study", "make", "-o", str(tmp_path / "other"), "ours"]) == 2
    assert main(["study", "make", "-o", str(tmp_path / "other")]) == 2
    assert main(["study", "results", str(tmp_path / "other")]) == 2
    assert main(["study", "serve", str(tmp_path / "other")]) == 2
    capsys.readouterr()
    (tmp_path / "answers.csv").unlink()
    assert main(["study", "results", str(tmp_path)]) == 2
    assert "nobody has answered yet" in capsys.readouterr().err


def test_a_full_disk_stores_nothing_and_says_so(server: StudyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(server, "answers", sent(server.study, "ours"))[0] == 200
    before = server.answers.read_bytes()

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *a, **k: Full(path, "a") if a == ("ab",) else opened(path, *a, **k))
        assert ask(server, "answers", sent(server.study, "rival", "00000001"))[0] == 507
    assert server.answers.read_bytes() == before
    assert ask(server, "answers", sent(server.study, "rival", "00000001"))[0] == 200
    assert len(read_answers([server.answers], server.study)) == 12


@pytest.mark.parametrize("cut", [1, 2, 3, 30, 60])
def test_a_torn_last_line_is_left_out_and_sent_again(server: StudyServer, cut: int) -> None:
    assert ask(server, "answers", sent(server.study, "ours"))[0] == 200
    whole = server.answers.read_bytes()
    server.answers.write_bytes(whole[:-cut])
    assert len(read_answers([server.answers], server.study)) in (5, 6)
    with StudyServer(server.folder, port=0) as again:
        assert again.store(json.loads(sent(server.study, "rival", "00000001")))[0] == 200
    assert len(read_answers([server.answers], server.study)) in (11, 12)
    server.answers.write_bytes(whole[:200] + b"?" + whole[200:])
    with pytest.raises(InputError, match="line"):
        read_answers([server.answers], server.study)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "localhost.evil:1"])
def test_pages_of_other_names_cannot_ask(server: StudyServer, host: str) -> None:
    with socket.create_connection(server.server_address[:2], timeout=10) as link:
        link.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert link.recv(100).startswith(b"HTTP/1.1 421")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 9", '{"a": Infinity}'),
        ("Content-Length: " + "9" * 5000, ""),
        ("Content-Length: 8", '{"a": NaN}'),
    ],
)
def test_numbers_that_are_none(server: StudyServer, head: str, body: str) -> None:
    with socket.create_connection(server.server_address[:2], timeout=10) as link:
        text = f"POST /answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}\r\n\r\n{body}"
        link.sendall(text.encode())
        assert link.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    rows = json.loads(sent(server.study, "ours"))
    rows["seed"] = float("inf")
    assert server.store(rows)[0] == 400


def test_connections_that_send_a_letter_at_a_time_end(server: StudyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # The handler allows each request its time when it begins to read: there is no order between it and this thread.
    monkeypatch.setattr(server, "allow", lambda request: StudyServer.allow(server, request, 0.0))
    with socket.create_connection(server.server_address[:2], timeout=30) as link:
        link.sendall(b"GET / HT")
        assert link.recv(100) == b""
