"""Getting models: from a server on loopback, that cuts connections, lies, or is not there."""

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import emotalking
from emotalking.api import inspection
from emotalking.cli.commands.models import get as get_command
from emotalking.cli.main import main
from emotalking.errors import InputError, MissingModelError
from emotalking.networks import downloads, registry, transfer
from emotalking.networks.registry import Model, is_as_downloaded

from .loopback import Site, serving

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, which is not there yet; no proxy, and no waiting."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "HF_ENDPOINT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(transfer, "WAIT", 0.0)
    return tmp_path / "models"


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with serving(Site(files={"/a.pth": CONTENT})) as served:
        yield served


def model(name: str = "a", **fields: object) -> Model:
    """An entry of the list."""
    given = {"files": (f"{name}.pth",), "licence": "CC BY-NC 4.0", "limits": "no commercial use"} | fields
    return Model(name, f"network {name}", source="https://example.org/a", purpose="p", alternative="none", **given)  # type: ignore[arg-type]


def listed(monkeypatch: pytest.MonkeyPatch, *models: Model) -> None:
    """Make ``models`` the list."""
    for module in (registry, inspection, get_command):
        monkeypatch.setattr(module, "models", lambda: {one.name: one for one in models})


def get(one: Model) -> Path:
    return downloads.download(downloads.find_download(one))


def left_behind(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != downloads.LOCK}


def test_shown_accepted_downloaded_and_listed(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(monkeypatch, model(url=f"{site.address}/a.pth", sha256=SHA256[:8]), model("b", paper=True))
    assert main(["models", "get", "a", "--accept"]) == 0
    told = capsys.readouterr().out
    for word in (
        "0.3 MB",
        "CC BY-NC 4.0: no commercial use",
        f"{site.address}/a.pth",
        "https://example.org/a",
        SHA256[:8],
    ):
        assert word in told
    assert f"copy {folder / 'a.pth'} into its model folder" in told and f"SHA-256 {SHA256}: verified" in told
    assert (folder / "a.pth").read_bytes() == CONTENT and left_behind(folder) == {"a.pth", "a.pth.sha256"}
    assert (folder / "a.pth.sha256").read_text() == f"{SHA256}  a.pth\n"
    asked = len(site.asked)
    assert main(["models", "get", "a"]) == 0 and len(site.asked) == asked
    assert f"a is in {folder / 'a.pth'}." in capsys.readouterr().out
    (folder / "a.pth").write_bytes(b"mine")
    assert main(["models", "get", "a", "--accept"]) == 0 and (folder / "a.pth").read_bytes() == b"mine"
    assert "NOT the published file: move it away" in capsys.readouterr().out
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "emotalking models get a" in told and "by hand" in told


def test_the_question(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(monkeypatch, model(url=f"{site.address}/a.pth"))
    for answer, code in (("n\n", 0), ("\n", 0), ("", 2)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert main(["models", "get", "a"]) == code and not folder.exists()
    assert "repeat with --accept" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["models", "get", "a"]) == 0 and (folder / "a.pth").is_file()
    assert f"SHA-256 {SHA256}: recorded" in capsys.readouterr().out


def test_which_models(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{site.address}/a.pth"
    listed(monkeypatch, model(url=url, paper=True), model("b", url=url), model("c", paper=True))
    assert main(["models", "get"]) == 2 and "no model is named" in capsys.readouterr().err
    assert main(["models", "get", "aa"]) == 2 and "did you mean a?" in capsys.readouterr().err
    assert main(["models", "get", "--paper", "--accept"]) == 2
    told = capsys.readouterr().err
    assert f"fetch c.pth from https://example.org/a and copy it to {folder / 'c.pth'}" in told
    assert told.splitlines()[-1].startswith("emotalking: error: c: not here") and (folder / "a.pth").is_file()
    assert main(["models", "get", "--all", "--accept"]) == 2 and (folder / "b.pth").is_file()
    with pytest.raises(MissingModelError, match=r"fetched by hand.*https://example\.org/a"):
        emotalking.get_model("c", accept=True)


def test_the_libraries_function(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch, model(url=f"{site.address}/a.pth"))
    with pytest.raises(InputError, match=r"CC BY-NC 4\.0, no commercial use"):
        emotalking.get_model("a")
    seen: list[tuple[float, float | None, str]] = []
    emotalking.on_progress(lambda done, total, what: seen.append((done, total, what)))
    try:
        assert emotalking.get_model("a", accept=True) == folder / "a.pth"
    finally:
        emotalking.on_progress(None)
    assert seen[-1] == (len(CONTENT), len(CONTENT), "a.pth") and len(seen) > 1
    assert emotalking.get_model("a") == folder / "a.pth", "what is there needs no terms"
    with pytest.raises(InputError, match="no model 'x'"):
        emotalking.get_model("x", accept=True)


def test_trust_on_first_use(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = model(url=f"{site.address}/a.pth")
    listed(monkeypatch, one)
    job = downloads.find_download(one)
    assert "no published checksum" in job.check and "recorded" in job.check
    path = downloads.download(job)
    assert is_as_downloaded(path) is True and one.is_published(path) is None
    main(["models"])
    assert ", as downloaded" in capsys.readouterr().out
    path.write_bytes(CONTENT[1:])
    assert is_as_downloaded(path) is False
    main(["models"])
    assert "CHANGED since it was downloaded" in capsys.readouterr().out


def test_a_wrong_checksum_is_kept_away(folder: Path, site: Site) -> None:
    with pytest.raises(InputError, match=f"SHA-256 {SHA256} instead of 00112233: it was not kept"):
        get(model(url=f"{site.address}/a.pth", sha256="00112233"))
    assert left_behind(folder) == set()


def test_a_cut_connection_continues(folder: Path, site: Site) -> None:
    site.cuts = [100_000, 50_000]
    assert get(model(url=f"{site.address}/a.pth", sha256=SHA256)).read_bytes() == CONTENT
    assert site.starts() == [0, 100_000, 150_000]
    assert left_behind(folder) == {"a.pth", "a.pth.sha256"}


def test_a_later_command_continues(folder: Path, site: Site) -> None:
    site.cuts = [100_000, *[0] * transfer.ATTEMPTS]
    one = model(url=f"{site.address}/a.pth", sha256=SHA256)
    with pytest.raises(InputError, match=r"lost .*after 0\.1 MB of a\.pth, which are kept: repeat"):
        get(one)
    assert (folder / ".a.pth.part").stat().st_size == 100_000 and not (folder / "a.pth").exists()
    site.cuts.clear()
    assert get(one).read_bytes() == CONTENT and site.starts()[-1] == 100_000
    assert left_behind(folder) == {"a.pth", "a.pth.sha256"}


def test_what_is_complete_is_not_fetched_again(folder: Path, site: Site) -> None:
    folder.mkdir()
    (folder / ".a.pth.part").write_bytes(CONTENT)
    assert get(model(url=f"{site.address}/a.pth", sha256=SHA256)).read_bytes() == CONTENT and site.starts() == []


@pytest.mark.parametrize("length", [True, False])
def test_a_server_without_ranges_begins_anew(folder: Path, site: Site, length: bool) -> None:
    site.ranges, site.length, site.cuts = False, length, [100_000] if length else []
    one = model(url=f"{site.address}/a.pth", sha256=SHA256)
    job = downloads.find_download(one)
    assert job.size == (len(CONTENT) if length else None)
    assert downloads.download(job).read_bytes() == CONTENT
    assert site.starts()[-1] == (100_000 if length else 0)


def test_another_version_is_not_appended(folder: Path, site: Site) -> None:
    site.cuts = [100_000, *[0] * transfer.ATTEMPTS]
    with pytest.raises(InputError, match="lost"):
        get(model(url=f"{site.address}/a.pth"))
    site.cuts.clear()
    site.tag, site.files["/a.pth"] = '"2"', CONTENT[::-1]
    assert get(model(url=f"{site.address}/a.pth")).read_bytes() == CONTENT[::-1]


def test_pieces_that_do_not_fit_are_fetched_anew(folder: Path, site: Site) -> None:
    """A server that gives the same tag to different bytes."""
    site.cuts = [100_000, *[0] * transfer.ATTEMPTS]
    one = model(url=f"{site.address}/a.pth", sha256=SHA256)
    with pytest.raises(InputError, match="lost"):
        get(one)
    (folder / ".a.pth.part").write_bytes(bytes(100_000))
    assert get(one).read_bytes() == CONTENT and site.starts()[-2:] == [100_000, 0]


def test_a_wrong_size(folder: Path, site: Site) -> None:
    job = downloads.find_download(model(url=f"{site.address}/a.pth"))
    site.files["/a.pth"] = CONTENT[:-1]
    with pytest.raises(InputError, match=f"has {len(CONTENT) - 1} bytes instead of {len(CONTENT)}"):
        downloads.download(job)
    site.length = False
    with pytest.raises(InputError, match="lost"):
        downloads.download(job)
    site.files["/a.pth"] = CONTENT + b"1"
    with pytest.raises(InputError, match="it sends more than it said"):
        downloads.download(job)
    assert not (folder / "a.pth").exists()


def test_busy_servers_web_pages_and_missing_files(folder: Path, site: Site) -> None:
    site.busy = 2
    get(model(url=f"{site.address}/a.pth"))
    with pytest.raises(InputError, match=r"answers 404 Not Found\): .*fetch http.*/b\.pth and copy it to .*b\.pth"):
        get(model("b", url=f"{site.address}/b.pth"))
    site.kind = "text/html"
    with pytest.raises(InputError, match="a web page in place of the file"):
        get(model("b", url=f"{site.address}/a.pth"))
    assert left_behind(folder) == {"a.pth", "a.pth.sha256"}


def test_redirects(folder: Path, site: Site) -> None:
    site.redirects["/b"] = "/a.pth"
    site.cuts = [100_000]
    assert get(model(url=f"{site.address}/b", sha256=SHA256)).read_bytes() == CONTENT
    assert [path for path, headers in site.asked if headers.get("Range") == "bytes=100000-"] == ["/b", "/a.pth"]
    handler, request = transfer._Redirects(), SimpleNamespace(full_url="https://example.org/a")
    with pytest.raises(OSError, match="not encrypted"):
        handler.redirect_request(request, None, 302, "Found", {}, f"{site.address}/a.pth")


def test_proxies(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", site.address)
    assert get(model(url="http://weights.invalid/a.pth", sha256=SHA256)).is_file()
    assert {path for path, _ in site.asked} == {"http://weights.invalid/a.pth"}
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="Connection refused"):
        get(model("b", url=f"{site.address}/a.pth"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert get(model("b", url=f"{site.address}/a.pth")).is_file()


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listed(monkeypatch, model(url="http://127.0.0.1:1/a.pth", sha256=SHA256))
    assert main(["models", "get", "a", "--accept"]) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[0] == "asking 127.0.0.1:1 for a" and told.count("\n") == 2 and "Connection refused" in told
    assert f"fetch http://127.0.0.1:1/a.pth and copy it to {folder / 'a.pth'} (SHA-256 {SHA256})" in told
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    listed(monkeypatch, model("h", files=("folder",), repo="someone/folder"))
    assert main(["models", "get", "h", "--accept"]) == 2
    told = capsys.readouterr().err
    assert "model.safetensors or pytorch_model.bin of http://127.0.0.1:1/someone/folder" in told
    assert f"into the folder {folder / 'folder'}" in told and not folder.exists()


def git_object(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def publish(site: Site, weights: str = "model.safetensors", version: str = "abc") -> None:
    """Put a repository with a folder on the site."""
    config, api = b'{"model_type": "hubert"}', "/api/models/someone/folder"
    site.files[f"{api}/revision/main"] = json.dumps({"sha": version}).encode()
    entries = [
        {"type": "file", "path": "config.json", "size": len(config), "oid": git_object(config)},
        {"type": "file", "path": weights, "size": len(CONTENT), "oid": "0", "lfs": {"oid": SHA256, "size": 1}},
        {"type": "file", "path": "tf_model.h5", "size": 1, "oid": "0"},
    ]
    site.files[f"{api}/tree/{version}"] = json.dumps(entries).encode()
    site.files[f"/someone/folder/resolve/{version}/config.json"] = config
    site.files[f"/someone/folder/resolve/{version}/{weights}"] = CONTENT


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_hugging_face(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    publish(site, weights)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    one = model("h", files=("folder",), repo="someone/folder")
    job = downloads.find_download(one)
    assert job.size == len(CONTENT) + 24 and f"checksums that {site.address[7:]} states" in job.check
    site.cuts = [100_000]
    assert downloads.download(job) == folder / "folder" == one.find()
    assert (folder / "folder" / weights).read_bytes() == CONTENT and is_as_downloaded(folder / "folder")
    assert left_behind(folder) == {"folder"}
    assert {path.name for path in (folder / "folder").iterdir()} == {
        "config.json", "config.json.sha256", weights, f"{weights}.sha256"
    }  # fmt: skip
    (folder / "folder/config.json").write_bytes(b"{}")
    assert is_as_downloaded(folder / "folder") is False


def test_a_folder_with_bad_or_replaced_files(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(site)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    one = model("h", files=("folder",), repo="someone/folder")
    site.files["/someone/folder/resolve/abc/config.json"] = b'{"model_type": "Hubert"}'
    with pytest.raises(InputError, match="git object name"):
        get(one)
    assert one.find() is None, "an incomplete folder is no model"
    publish(site, "pytorch_model.bin", "new")
    publish(site, "model.safetensors", "new")
    asked = len(site.asked)
    get(one)
    assert not any("safetensors" in path for path, _ in site.asked[asked:]), "fetched before, and still the same"
    site.files["/api/models/someone/folder/tree/new"] = b"[]"
    (folder / "folder").rename(folder / "other")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        get(one)
    (folder / "folder").mkdir()
    publish(site, version="new")
    with pytest.raises(InputError, match="is there and is no model: move it away"):
        get(one)


def test_two_at_once(folder: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "emotalking")
    site.gate = threading.Event()
    job = downloads.find_download(model(url=f"{site.address}/a.pth", sha256=SHA256))
    found: list[Path] = []
    both = [threading.Thread(target=lambda: found.append(downloads.download(job))) for _ in range(2)]
    both[0].start()
    assert site.started.wait(20)
    both[1].start()
    while "waiting for another download" not in caplog.text:
        time.sleep(0.01)
    site.gate.set()
    for thread in both:
        thread.join(20)
    assert found == [folder / "a.pth"] * 2 and site.starts() == [0]


def test_interrupted(folder: Path, site: Site) -> None:
    """Ctrl-C in a process of its own: exit code 130, and the part that has arrived is kept."""
    site.gate = threading.Event()
    program = (
        "import sys; from emotalking.networks import registry; from emotalking.cli.main import main;"
        f"registry.models = lambda: {{'a': registry.Model('a', 't', ('a.pth',), 's', 'l', 'l', 'p', 'n',"
        f" url='{site.address}/a.pth')}}; sys.exit(main(['models', 'get', 'a', '--accept']))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert site.started.wait(60)
    while not (folder / ".a.pth.part").exists() or not (folder / ".a.pth.part").stat().st_size:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    site.gate.set()
    assert process.returncode == 130 and "interrupted: what has arrived is kept" in told
    site.gate = None
    assert get(model(url=f"{site.address}/a.pth")).read_bytes() == CONTENT and site.starts()[-1] == 1000


def test_a_folder_that_cannot_be_written(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path / "file/models"))
    with pytest.raises(InputError, match=r"file/models cannot be written .*EMOTALKING_MODELS"):
        get(model(url=f"{site.address}/a.pth"))


def test_a_full_disk(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model(url=f"{site.address}/a.pth", sha256=SHA256)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(InputError, match=r"a\.pth\.part cannot be written \(0\.3 MB more are needed\)"):
            get(one)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a\.pth\.part cannot be written .*what has arrived is kept"):
            get(one)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert get(one).read_bytes() == CONTENT and site.starts()[-1] == 100_000
