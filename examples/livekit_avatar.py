"""A head for livekit-agents: python livekit_avatar.py AVATAR ROOM_URL TOKEN.

`HeadGenerator` is the VideoGenerator of an AvatarRunner. Run as a program, it joins a room and shows what an agent says
that sends its sound there (`DataStreamAudioOutput`). Within an agent, `QueueAudioOutput` takes the sound instead.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)

from emotalking import Avatar
from emotalking.serve.frames import AsyncFrames
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings


class HeadGenerator(VideoGenerator):
    """Frames and sound of a session, by its clock; sound is given only while the head speaks, as livekit counts it."""

    def __init__(self, session: Session) -> None:
        self._session, self._frames = session, AsyncFrames()
        session.attach(self._frames)

    @property
    def options(self) -> AvatarOptions:
        """What the runner has to know."""
        avatar = self._session.player.avatar
        return AvatarOptions(avatar.width, avatar.height, float(avatar.fps), self._session.player.sample_rate, 1)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Say a piece of sound, or end the utterance."""
        if isinstance(frame, AudioSegmentEnd):
            await asyncio.to_thread(self._session.flush)
            return
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels).mean(1) / 32768
        await asyncio.to_thread(self._session.push, samples.astype(np.float32), frame.sample_rate)

    async def clear_buffer(self) -> None:
        """Interrupt: what was not played is forgotten."""
        await asyncio.to_thread(self._session.clear)

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        async for frame in self._frames:
            if frame.image is not None:
                height, width = frame.image.shape[:2]
                pixels = np.ascontiguousarray(frame.image[..., :3]).tobytes()
                yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, pixels)
            if frame.utterance is not None:
                samples = (np.clip(frame.audio, -1, 1) * 32767).astype(np.int16)
                yield rtc.AudioFrame(samples.tobytes(), frame.sample_rate, 1, len(samples))
            if frame.ended:
                yield AudioSegmentEnd()

    def close(self) -> None:
        """End the stream of frames."""
        self._session.detach(self._frames)
        self._frames.close()


async def main(avatar: str, url: str, token: str) -> None:
    """Join a room and show the head until the agent has left."""
    with Scheduler({"head": Avatar.load(avatar)}, ServeSettings(idle_minutes=24 * 60)) as scheduler:
        head = HeadGenerator(scheduler.open("head"))
        room = rtc.Room()
        await room.connect(url, token)
        runner = AvatarRunner(room, audio_recv=DataStreamAudioReceiver(room), video_gen=head, options=head.options)
        await runner.start()
        await runner.wait_for_complete()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
