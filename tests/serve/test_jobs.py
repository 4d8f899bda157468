"""Uploaded clips and their jobs: limits, one at a time, progress, cancelling, what is left for later."""

import errno
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from emotalking.errors import InputError
from emotalking.serve import jobs
from emotalking.serve.job_routes import curves, job_router
from emotalking.serve.jobs import JobError, Jobs
from emotalking.testing.actor.performance import Performance
from emotalking.testing.demo import film

CLIP = b"not a film, but the server never looks into it"


class Command:
    """A command that runs until the test ends it."""

    def __init__(self, arguments: Sequence[str], progress: Path, log: Path) -> None:
        self.arguments, self.progress, self.log = list(arguments), progress, log
        self.stopped = threading.Event()
        self._ended = threading.Event()
        self._code = 0

    def end(self, code: int = 0) -> None:
        self._code = code
        self._ended.set()

    def wait(self, seconds: float | int | None = 0) -> int | None:
        return self._code if self._ended.wait(seconds) else None

    def request_stop(self) -> None:
        self.stopped.set()
        self.end(130)

    def stop(self) -> None:
        self.request_stop()

    def failure(self, code: int) -> str:
        return self.log.read_text().splitlines()[-1]


class Bench:
    """Jobs whose commands a test ends, and a client of their routes."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.commands: list[Command] = []
        self.trained: list[tuple[str, Path]] = []
        self.jobs = Jobs(folder, launch=self._launch, trained=lambda *one: self.trained.append(one), **options)  # type: ignore[arg-type]
        app = FastAPI()
        app.include_router(job_router(self.jobs))
        self.client = TestClient(app)

    def _launch(self, arguments: Sequence[str], progress: Path, log: Path) -> Command:
        self.commands.append(Command(arguments, progress, log))
        return self.commands[-1]

    def upload(self, name: str = "me.mp4") -> str:
        answer = self.client.post("/v1/jobs/clips", params={"name": name}, content=CLIP)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def start(self, clip: str, kind: str, **options: object) -> dict:
        answer = self.client.post("/v1/jobs", json={"clip": clip, "kind": kind} | options)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def finish(self, job: dict, code: int = 0) -> dict:
        self.commands[-1].end(code)
        return self.ended(job)

    def ended(self, job: dict) -> dict:
        while (now := self.client.get(f"/v1/jobs/{job['id']}").json())["state"] in ("running", "stopping"):
            pass
        return now


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "uploads", keep_free=0)
    yield made
    made.jobs.close()


def test_a_server_without_uploads_says_so() -> None:
    app = FastAPI()
    app.include_router(job_router(None))
    client = TestClient(app)
    assert client.get("/v1/jobs").json() == {"enabled": False}
    assert client.post("/v1/jobs/clips", content=CLIP).status_code == 404


@pytest.mark.parametrize("name", ["../../../tmp/evil", "/etc/passwd", "a\x00b\x1b[31m", "", "x" * 255])
def test_the_name_of_an_upload_is_shown_and_never_a_path(bench: Bench, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(bench.jobs.folder)}
    clip = bench.upload(name)
    assert (bench.jobs.folder / clip / "clip").read_bytes() == CLIP
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(bench.jobs.folder)} == before
    shown = bench.client.get("/v1/jobs").json()["clips"][0]["name"]
    assert shown.isprintable() and 0 < len(shown) <= 80
    assert bench.jobs.avatar_name(bench.jobs.clip(clip)).replace("-", "").isalnum()


def test_an_upload_that_is_too_large_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes=100, keep_free=0)

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 10

    for body in (b"x" * 101, endless()):  # with a stated length, and without one
        answer = bench.client.post("/v1/jobs/clips", content=body)
        assert answer.status_code == 413 and "larger" in answer.json()["detail"]
    assert bench.client.post("/v1/jobs/clips", content=b"").status_code == 400
    assert list(tmp_path.iterdir()) == []
    assert bench.client.post("/v1/jobs/clips", content=b"x" * 100).status_code == 201


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep_free=1 << 60)
    answer = bench.client.post("/v1/jobs/clips", content=CLIP)
    assert answer.status_code == 409 and "full" in answer.json()["detail"]
    assert list(tmp_path.iterdir()) == []


def test_steps_come_in_order_and_one_at_a_time(bench: Bench) -> None:
    clip, other = bench.upload(), bench.upload("another.mov")
    refused = bench.client.post("/v1/jobs", json={"clip": clip, "kind": "train"})
    assert refused.status_code == 409 and "prepared" in refused.json()["detail"]
    prepare = bench.start(clip, "prepare", size=256)
    command = bench.commands[-1]
    home = str(bench.jobs.folder / clip)
    assert command.arguments[:4] == ["prepare", f"{home}/clip", "-o", f"{home}/subject"]
    assert command.arguments[-2:] == ["--size", "256"]
    assert bench.client.post("/v1/jobs", json={"clip": other, "kind": "check"}).status_code == 409
    assert bench.client.delete(f"/v1/jobs/clips/{clip}").status_code == 409
    command.progress.write_text(json.dumps({"what": "landmarks", "done": 3, "total": 12}))
    command.log.write_text(f"reading {home}/clip\n")
    now = bench.client.get(f"/v1/jobs/{prepare['id']}").json()
    assert now["progress"] == {"what": "landmarks", "done": 3, "total": 12}
    assert now["log"] == "reading me.mp4\n", "the server's folders are not told"
    assert bench.finish(prepare)["state"] == "finished"
    train = bench.start(clip, "train", preset="tiny")
    assert bench.commands[-1].arguments[:6] == [
        "train", f"{home}/subject", "-o", f"{home}/avatar.safetensors", "--preset", "tiny",
    ]  # fmt: skip
    assert bench.finish(train)["state"] == "finished" and "--consent" not in bench.commands[-1].arguments
    again = bench.start(clip, "train", preset="tiny", consent=" /etc/passwd and I agree \n")
    assert bench.commands[-1].arguments[-2:] == ["--consent", f"{home}/consent.txt"]
    assert Path(f"{home}/consent.txt").read_text() == "/etc/passwd and I agree"
    assert bench.finish(again)["state"] == "finished"
    bench.jobs.close()
    assert bench.trained == [(f"me-{clip[:4]}", bench.jobs.folder / clip / "avatar.safetensors")] * 2
    listed = {one["id"]: one for one in bench.client.get("/v1/jobs").json()["clips"]}
    assert listed[clip]["avatar"] == f"me-{clip[:4]}" and listed[other]["avatar"] is None


def test_a_failure_is_told_without_the_server_s_folders(bench: Bench) -> None:
    clip = bench.upload()
    job = bench.start(clip, "prepare")
    bench.commands[-1].log.write_text(f"at work\n{bench.jobs.folder / clip}/clip shows no face\n")
    ended = bench.finish(job, code=2)
    assert (ended["state"], ended["message"]) == ("failed", "me.mp4 shows no face")
    assert "prepare" not in bench.client.get("/v1/jobs").json()["clips"][0]["done"]
    bench.start(clip, "prepare")


def test_an_unusable_clip_is_a_finished_check(bench: Bench) -> None:
    clip = bench.upload()
    job = bench.start(clip, "check")
    measures = {"verdict": "unusable", "reasons": ["no face"], "warnings": [], "seconds": 3.0}
    (bench.jobs.folder / clip / "check.json").write_text(json.dumps(measures))
    assert bench.finish(job, code=2)["state"] == "finished"
    assert bench.client.get("/v1/jobs").json()["clips"][0]["check"] == measures


def test_cancelling_asks_the_command_to_stop(bench: Bench) -> None:
    job = bench.start(bench.upload(), "prepare")
    answer = bench.client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert answer["state"] in ("stopping", "cancelled")
    assert bench.commands[-1].stopped.is_set()
    assert bench.ended(job)["state"] == "cancelled"
    assert bench.client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_jobs_end_with_the_server_and_clips_stay(tmp_path: Path) -> None:
    first = Bench(tmp_path, keep_free=0)
    clip = first.upload("Ünïcode film.mp4")
    first.finish(first.start(clip, "prepare"))
    job = first.start(clip, "train")
    first.jobs.close()
    assert first.commands[-1].stopped.is_set()
    assert first.jobs.job(job["id"]).state == "cancelled"
    with pytest.raises(JobError, match="stopping"):
        first.jobs.start(first.jobs.clip(clip), "train")
    (tmp_path / "0011223344556677.part").write_bytes(b"of an upload that was broken off")
    second = Bench(tmp_path, keep_free=0)
    (known,) = second.client.get("/v1/jobs").json()["clips"]
    assert (known["id"], known["name"], list(known["done"])) == (clip, "Ünïcode film.mp4", ["prepare"])
    assert not list(tmp_path.glob("*.part"))
    assert second.client.delete(f"/v1/jobs/clips/{clip}").status_code == 204
    assert list(tmp_path.iterdir()) == []


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "write_bytes", full)
    answer = bench.client.post("/v1/jobs/clips", content=CLIP)
    assert answer.status_code == 507 and "disk may be full" in answer.json()["detail"]
    assert list(bench.jobs.folder.iterdir()) == [] and bench.client.get("/v1/jobs").json()["clips"] == []
    monkeypatch.undo()
    clip = bench.upload()
    job = bench.start(clip, "prepare")
    monkeypatch.setattr(jobs, "write_bytes", full)
    ended = bench.finish(job)
    assert ended["state"] == "failed" and "cannot be noted" in ended["message"]
    assert bench.client.get("/v1/jobs").json()["clips"][0]["done"] == {}
    monkeypatch.undo()
    assert bench.finish(bench.start(clip, "prepare"))["state"] == "finished", "the next job is not held up"


def test_a_job_that_cannot_be_started_and_a_clip_that_cannot_be_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = bench.upload()
    with monkeypatch.context() as patch:
        patch.setattr(bench.jobs, "_launch", full)
        patch.setattr(jobs.shutil, "rmtree", full)
        answers = [
            bench.client.post("/v1/jobs", json={"clip": clip, "kind": "check"}),
            bench.client.delete(f"/v1/jobs/clips/{clip}"),
        ]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert all("(No space left on device)" in answer.json()["detail"] for answer in answers)
    assert bench.finish(bench.start(clip, "check"))["state"] == "finished"


def test_a_length_of_any_number_of_digits(bench: Bench) -> None:
    answer = bench.client.post("/v1/jobs/clips", content=CLIP, headers={"Content-Length": "9" * 5000})
    assert answer.status_code == 413


def test_two_servers_have_not_one_folder(tmp_path: Path) -> None:
    """The second would remove what is being uploaded to the first, and run jobs on the same clips."""
    first = Bench(tmp_path, keep_free=0)
    part = first.jobs.new_file()
    with pytest.raises(InputError, match="in use by another command"):
        Bench(tmp_path, keep_free=0)
    assert part.exists()
    first.jobs.close()
    Bench(tmp_path, keep_free=0).jobs.close()


@pytest.mark.parametrize(
    "note",
    ['{"name": 5', "[]", '{"name": 5, "bytes": 1, "uploaded": 1, "done": {}}', "[" * 100_000]
    + [f'{{"name": "a", "bytes": 1, "uploaded": {text}, "done": {{}}}}' for text in ('"now"', "NaN", "1e999", "null")],
)  # fmt: skip
def test_a_damaged_note_costs_its_clip_and_not_the_page(tmp_path: Path, note: str) -> None:
    first = Bench(tmp_path, keep_free=0)
    lost, kept = first.upload("lost.mp4"), first.upload("kept.mp4")
    first.jobs.close()
    (tmp_path / lost / "clip.json").write_text(note)
    listed = Bench(tmp_path, keep_free=0).client.get("/v1/jobs").json()["clips"]
    assert [one["id"] for one in listed] == [kept] and (tmp_path / lost / "clip").exists()


def test_nothing_outside_a_clip_s_results_is_read(bench: Bench) -> None:
    clip = bench.upload()
    frames = bench.jobs.folder / clip / "avatar.safetensors.run" / "frames"
    frames.mkdir(parents=True)
    (frames / "face_000100.jpg").write_bytes(b"\xff\xd8\xff")
    (frames / "secret.txt").write_text("secret")
    assert bench.client.get(f"/v1/jobs/clips/{clip}/frames/face_000100.jpg").content == b"\xff\xd8\xff"
    for name in ("secret.txt", "..%2F..%2Fclip.json", "%2e%2e%2f%2e%2e%2fclip", "%2e%2e", "face_000100.jpg%00"):
        assert bench.client.get(f"/v1/jobs/clips/{clip}/frames/{name}").status_code == 404, name
    unknown = ("clips/..%2f/training", f"clips/{'0' * 16}/training", f"clips/{clip}/reports/clip.json", "nobody")
    for path in unknown:
        assert bench.client.get(f"/v1/jobs/{path}").status_code == 404, path
    assert bench.client.get(f"/v1/jobs/clips/{clip}/training").json() == {}


def test_reports_are_shown_without_scripts(bench: Bench) -> None:
    clip = bench.upload()
    (bench.jobs.folder / clip / "check.html").write_text("<script>alert(1)</script>")
    answer = bench.client.get(f"/v1/jobs/clips/{clip}/reports/check")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy and "script-src" not in policy and "default-src 'none'" in policy


def test_curves_of_a_training_have_one_axis_and_only_numbers() -> None:
    rows: list[dict] = [
        {"kind": "run", "time": "now"},
        {"kind": "stage", "stage": "mouth", "iterations": 100},
        {"kind": "step", "stage": "mouth", "iteration": 100, "loss": 0.5, "steps_per_second": 9.0},
        {"kind": "frames", "stage": "mouth", "iteration": 100, "psnr_mouth": 20.0, "image": "frames/mouth_000100.jpg"},
        {"kind": "stage", "stage": "face", "iterations": 5000},
        *(
            {"kind": "step", "stage": "face", "iteration": at, "loss": 1.0 / at, "steps_per_second": 8.0}
            for at in range(1, 1001)
        ),
        {"kind": "step", "stage": "face", "iteration": 1001, "loss": float("nan"), "steps_per_second": 7.0},
        {"kind": "frames", "stage": "face", "iteration": 500, "psnr": 30.0, "psnr_lips": 25.0},
        {"kind": "warning", "stage": "face", "iteration": 900, "name": "x", "text": "too dark."},
    ]
    told = curves(rows)
    assert told["stages"] == [
        {"name": "mouth", "start": 0, "iterations": 100},
        {"name": "face", "start": 100, "iterations": 5000},
    ]
    assert told["quality"] == {
        "Inside of the mouth": [[100, 20.0]],
        "Whole frame": [[600, 30.0]],
        "Lips": [[600, 25.0]],
    }
    loss = told["loss"]
    assert isinstance(loss, dict) and 100 <= len(loss["face"]) <= 300 and loss["face"][-1][0] <= 1100
    assert told["images"] == [{"stage": "mouth", "iteration": 100, "name": "mouth_000100.jpg"}]
    assert (told["warnings"], told["speed"], told["end"]) == (["too dark."], 7.0, None)
    json.dumps(told, allow_nan=False)
    ended = curves([*rows, {"kind": "end", "outcome": "failed", "why": "no memory"}])
    assert ended["end"] == {"outcome": "failed", "why": "no memory"}
    resumed = curves([*rows, {"kind": "end", "outcome": "interrupted"}, {"kind": "run"}])
    assert resumed["end"] is None, "a resumed run goes on"


def test_a_real_check_tells_progress_and_verdict(tmp_path: Path) -> None:
    film(tmp_path / "actor.mp4", Performance.generate(2.4, seed=5), 128)
    jobs = Jobs(tmp_path / "uploads", device="cpu", keep_free=0)
    part = jobs.new_file()
    part.write_bytes((tmp_path / "actor.mp4").read_bytes())
    clip = jobs.add(part, "actor.mp4")
    job = jobs.start(clip, "check")
    running = jobs._running
    assert running is not None
    running[2].join()
    told = jobs.progress(job)
    assert job.state == "finished", told["log"]
    assert told["progress"] == {"what": "faces", "done": 60, "total": 60}
    check = jobs.facts(clip)["check"]
    assert isinstance(check, dict) and check["verdict"] in ("good", "usable", "unusable") and check["seconds"] == 2.4
    assert (tmp_path / "uploads" / clip.id / "check.html").is_file()
    assert str(tmp_path) not in str(told)
    jobs.close()
