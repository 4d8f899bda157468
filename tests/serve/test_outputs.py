"""Streams, files, virtual cameras and loudspeakers: what comes out has the images and the sound at their times."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from emotalking.errors import InputError, MissingPackageError
from emotalking.player.streaming import LiveFrame
from emotalking.provenance.manifest import Origin
from emotalking.provenance.signing import finisher, read_signature
from emotalking.serve import outputs
from emotalking.serve.outputs import Loudspeakers, MediaOutput, Output, VirtualCamera, even_rgb

from .talking import client, serving, sound

FPS, RATE, SIZE = Fraction(25), 48000, 64
FLASH = 12
"""Frames between the beginning of each second and its white frame, which a tone is under."""
TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(1920) / RATE)).astype(np.float32)


def frame(index: int, *, size: int = SIZE, generation: int = 0, image: bool = True) -> LiveFrame:
    """A dark frame with silence; every 25th is white and has a tone."""
    marked = index % 25 == FLASH
    pixels = np.full((size, size, 3), 255 if marked else 30, np.uint8) if image else None
    audio = TONE if marked else np.zeros_like(TONE)
    return LiveFrame(pixels, audio, RATE, index, 1, 0.0, False, generation)


def wait_until(true: Callable[[], object]) -> None:
    """Wait for other threads."""
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def play(output: Output, count: int, start: int = 0) -> None:
    """Give frames, each when the one before was taken."""
    for index in range(start, start + count):
        output.frame(frame(index))
        wait_until(lambda: len(output._waiting) < 2)


def decoded(media: Any, **options: Any) -> tuple[list[av.VideoFrame], list[av.AudioFrame]]:
    """Frames of a file or a stream, until it ends."""
    images, sounds = [], []
    with av.open(media, **options) as container:
        try:
            for packet in container.demux():
                for one in packet.decode():
                    (images if isinstance(one, av.VideoFrame) else sounds).append(one)
        except OSError:  # the sender of a live stream has gone
            pass
    return images, sounds


def flashes(images: list[av.VideoFrame]) -> list[float]:
    """Times at which images turn white."""
    white = [(float(one.pts * one.time_base), one.to_ndarray(format="gray").mean() > 128) for one in images]
    return [time_s for (time_s, now), (_, before) in zip(white[1:], white, strict=False) if now and not before]


def tones(sounds: list[av.AudioFrame]) -> list[float]:
    """Times at which the sound becomes loud."""
    samples = np.concatenate([one.to_ndarray()[0] for one in sounds])
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    first = loud[np.diff(loud, prepend=-RATE) > RATE // 4]
    return list(float(sounds[0].pts * sounds[0].time_base) + first / RATE)


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mkv", ".mp4"])
def test_sound_and_images_of_a_file_are_at_the_same_times(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"show{suffix}"
    output = MediaOutput(path, SIZE, SIZE, FPS)
    play(output, 90)
    output.close()
    assert output.error is None
    images, sounds = decoded(str(path))
    assert len(images) == 90 - output.dropped
    seen, heard = flashes(images), tones(sounds)
    assert len(seen) == 4
    assert heard == pytest.approx(seen, abs=0.005)
    assert np.diff(seen) == pytest.approx(1.0, abs=0.002)
    if suffix != ".ts":  # whose only text is the name of its programme
        with av.open(str(path)) as container:
            assert "synthetic" in {key.lower(): value for key, value in container.metadata.items()}["comment"]


def test_a_recording_is_signed_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    output = MediaOutput(path, SIZE, SIZE, FPS, finish=finisher(path, Origin(avatar="ab" * 32)))
    play(output, 30)
    output.close()
    signature = read_signature(path)
    assert output.error is None and signature is not None and signature.valid and signature.avatar == "ab" * 32
    assert len(decoded(str(path))[0]) == 30 - output.dropped
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_frames_without_images_keep_the_sound_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "show.mkv"
    output = MediaOutput(path, SIZE, SIZE, FPS)
    for index in range(60):
        output.frame(frame(index, image=index < 5 or index % 25 in (FLASH - 1, FLASH)))
        wait_until(lambda: len(output._waiting) < 2)
    output.close()
    images, sounds = decoded(str(path))
    assert len(images) == 5 + 4
    assert tones(sounds) == pytest.approx(flashes(images), abs=0.005)


def test_other_sizes_are_scaled_and_odd_and_transparent_ones_are_made_fit(tmp_path: Path) -> None:
    odd = np.full((5, 7, 4), 200, np.uint8)
    odd[..., 3] = 128
    made = even_rgb(odd)
    assert made.shape == (6, 8, 3) and (made == 100).all()
    output = MediaOutput(tmp_path / "show.mkv", 63, 47, FPS)
    for index in range(10):
        output.frame(frame(index, size=SIZE if index < 5 else 32))
        wait_until(lambda: not output._waiting)
    output.close()
    images, _ = decoded(str(tmp_path / "show.mkv"))
    assert {(one.width, one.height) for one in images} == {(64, 48)}


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        MediaOutput(taken, SIZE, SIZE, FPS)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(InputError, match="no place for a stream"):
        MediaOutput(tmp_path / "show.gif", SIZE, SIZE, FPS)
    with pytest.raises(InputError, match="cannot be written to"):
        MediaOutput(tmp_path / "nowhere" / "show.ts", SIZE, SIZE, FPS)
    with pytest.raises(InputError, match=r"^rtmp://127\.0\.0\.1:1 cannot") as found:
        MediaOutput("rtmp://127.0.0.1:1/live/my-secret-key", SIZE, SIZE, FPS)
    assert "my-secret-key" not in str(found.value)


def test_rtmp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"rtmp://127.0.0.1:{free.getsockname()[1]}/live/key"
    received: list[tuple[list[av.VideoFrame], list[av.AudioFrame]]] = []

    def receive() -> None:
        received.append(decoded(address, format="flv", options={"listen": "1", "timeout": "60"}))

    listener = threading.Thread(target=receive)
    listener.start()
    output = connected(lambda: MediaOutput(address, SIZE, SIZE, FPS))
    play(output, 45)
    output.close()
    listener.join()
    ((images, sounds),) = received
    assert len(images) >= 44 - output.dropped  # FFmpeg's listener loses the last one at times
    assert tones(sounds) == pytest.approx(flashes(images), abs=0.005)


def connected(make: Callable[[], MediaOutput]) -> MediaOutput:
    """An output whose other side begins to listen soon."""
    for _ in range(500):
        try:
            return make()
        except InputError:
            time.sleep(0.02)
    raise AssertionError("nobody listens")


def test_a_lost_connection_is_made_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(outputs, "_RETRY_S", (0.01, 0.02))
    server = socket.create_server(("127.0.0.1", 0))
    output = MediaOutput(f"tcp://127.0.0.1:{server.getsockname()[1]}", SIZE, SIZE, FPS)
    first, _ = server.accept()
    play(output, 20)
    first.close()
    indices = iter(range(20, 100_000))
    again: list[socket.socket] = []
    accepting = threading.Thread(target=lambda: again.append(server.accept()[0]))
    accepting.start()
    wait_until(lambda: play(output, 1, next(indices)) or again)
    accepting.join()
    data = bytearray()
    reading = threading.Thread(target=lambda: data.extend(iter_bytes(again[0])))
    reading.start()
    play(output, 40, 10_000)
    output.close()
    reading.join()
    server.close()
    assert "was lost" in caplog.text and "again" in caplog.text
    assert data.count(0x47) > 20, "a transport stream of its own has come"


def iter_bytes(connection: socket.socket) -> Iterator[int]:
    while chunk := connection.recv(65536):
        yield from chunk


def test_a_receiver_that_takes_nothing_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outputs, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(outputs, "_END_S", 0.1)
    caplog.set_level(logging.INFO)
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen()
    output = MediaOutput(f"tcp://127.0.0.1:{server.getsockname()[1]}", 256, 256, FPS, bitrate=50_000_000)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    index = 0

    def given_up() -> bool:
        nonlocal index
        output.frame(LiveFrame(np.roll(noise, index, 0), TONE, RATE, index, 1, 0.0, False, 0))
        index += 1
        return "has taken nothing" in caplog.text

    wait_until(given_up)
    assert sum(one.image is not None for _, one in output._waiting) <= 2
    assert len(output._waiting) <= 5 * FPS + 1, "what waits is bounded"
    output.close()
    server.close()


def test_interrupted_speech_is_not_written(tmp_path: Path) -> None:
    class Slow(Output):
        def __init__(self) -> None:
            super().__init__("slow")
            self.go_on, self.written = threading.Event(), []
            self._thread.start()

        def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
            assert self.go_on.wait(30)
            self.written.append((time_s, frame))

    output = Slow()
    for _ in range(8):
        output.frame(frame(FLASH))  # all of them loud
    output.frame(frame(0, generation=1))
    output.go_on.set()
    output.close()
    assert [time_s for time_s, _ in output.written] == [Fraction(index, 25) for index in range(9)]
    loud = [bool(one.audio.any()) for _, one in output.written]
    assert loud[1:] == [False] * 8, "but for the frame that was being written"
    assert [one.image is not None for _, one in output.written[1:]] == [False] * 7 + [True]


def test_an_output_that_fails_says_so_and_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Output):
        def __init__(self) -> None:
            super().__init__("failing")
            self._thread.start()

        def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
            raise InputError("the disk is full")

    output = Failing()
    output.frame(frame(0))
    wait_until(lambda: output.error)
    for index in range(1000):
        output.frame(frame(index))
    assert len(output._waiting) <= 1
    assert "the disk is full" in caplog.text
    output.close()


def test_a_head_of_the_server_is_sent_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "show.mkv"
    with serving() as server:
        avatar = server.scheduler.avatars["disc"]
        session = server.keep(MediaOutput(path, avatar.width, avatar.height, avatar.fps))
        assert f"session={session.id}&secret={session.secret}" in server.link
        query = f"resume={session.id}&secret={session.secret}"
        with client(server, query) as one:
            assert one.event("hello")["session"] == session.id
            one.speak(sound(0.5))
            one.event("ended")
        with client(server, query) as one:  # the first one has left, and the session goes on
            assert one.event("hello")["session"] == session.id
            one.send("clear")
            assert one.event("cleared")["utterance"] == 0
    images, sounds = decoded(str(path))
    assert images  # their number is up to the machine
    loud = np.abs(np.concatenate([one.to_ndarray()[0] for one in sounds])) > 0.05
    assert 0.2 < np.count_nonzero(loud) / RATE < 0.6


class Camera:
    """The interface of pyvirtualcam.Camera, for machines without a device."""

    made: "list[Camera]" = []

    def __init__(self, width: int, height: int, fps: float, *, device: str | None = None) -> None:
        if device == "none":
            raise RuntimeError("no camera of this name")
        self.shape, self.fps, self.device = (height, width, 3), fps, device or "fake"
        self.sent: list[np.ndarray] = []
        self.closed = False
        self.made.append(self)

    def send(self, image: np.ndarray) -> None:
        assert image.shape == self.shape and image.dtype == np.uint8
        self.sent.append(image)

    def close(self) -> None:
        self.closed = True


def test_virtual_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))
    output = VirtualCamera(SIZE, SIZE, FPS)
    for index, size in enumerate((SIZE, SIZE, 32)):
        output.frame(frame(index + FLASH - 1, size=size))
        wait_until(lambda: not output._waiting)
    output.frame(frame(3, image=False))
    output.close()
    camera = Camera.made[-1]
    assert output.device == "fake" and camera.fps == 25.0 and camera.closed
    assert [round(float(image.mean())) for image in camera.sent] == [30, 255, 30]
    with pytest.raises(InputError, match="no virtual camera"):
        VirtualCamera(SIZE, SIZE, FPS, "none")
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingPackageError, match=r"emotalking\[camera\]"):
        VirtualCamera(SIZE, SIZE, FPS)


def test_virtual_camera_through_pyvirtualcam() -> None:
    pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed (extra camera)")
    sent: list[np.ndarray] = []

    class Backend:
        def __init__(self, *, width: int, height: int, **_: Any) -> None:
            self.size = width * height * 3

        def send(self, image: np.ndarray) -> None:
            assert image.size == self.size
            sent.append(image.copy())

        def close(self) -> None:
            pass

        def device(self) -> str:
            return "a backend of this test"

        def native_fourcc(self) -> None:
            return None

    before = dict(pyvirtualcam.camera.BACKENDS)
    pyvirtualcam.camera.BACKENDS.clear()
    pyvirtualcam.register_backend("test", Backend)
    try:
        output = VirtualCamera(SIZE, SIZE, FPS)
        assert output.device == "a backend of this test"
        play(output, 15)
        output.close()
    finally:
        pyvirtualcam.camera.BACKENDS.clear()
        pyvirtualcam.camera.BACKENDS.update(before)
    assert len(sent) == 15 - output.dropped
    assert sum(image.mean() > 128 for image in sent) == 1


def test_loudspeakers(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[np.ndarray] = []

    class OutputStream:
        def __init__(self, *, samplerate: int, channels: int, device: object, **_: Any) -> None:
            if device == "none":
                raise ValueError("no such output")
            assert (samplerate, channels) == (RATE, 1)

        def start(self) -> None:
            pass

        def write(self, samples: np.ndarray) -> None:
            written.append(samples)

        def close(self) -> None:
            written.append(np.zeros((0, 1), np.float32))

    card = ModuleType("sounddevice")
    card.__dict__.update(OutputStream=OutputStream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    output = Loudspeakers(RATE)
    play(output, 20)
    output.close()
    assert np.array_equal(np.concatenate(written)[:, 0], np.concatenate([frame(index).audio for index in range(20)]))
    with pytest.raises(InputError, match="another output"):
        Loudspeakers(RATE, "none")
