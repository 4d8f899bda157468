"""A head for pipecat: python pipecat_avatar.py AVATAR [SOUND], then open the printed address.

`HeadProcessor` stands between the speech service and the transport's output. Run as a program, it lets the head say a
sound file to each visitor, through SmallWebRTCTransport.
"""

import asyncio
import sys
from collections import deque

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from emotalking.serve.frames import AsyncFrames
from emotalking.serve.session import Session


class HeadProcessor(FrameProcessor):
    """Takes the speech service's sound and gives it back with the images, frame by frame, when it is due.

    Set the transport's `video_out_width`, `video_out_height` and `audio_out_sample_rate` to those of the avatar and the
    session (48 kHz), so that nothing is scaled or resampled.
    """

    def __init__(self, session: Session, **options: object) -> None:
        super().__init__(**options)
        self._session = session
        self._ends: deque[TTSStoppedFrame] = deque()
        self._open = False
        self._context: str | None = None
        self._frames: AsyncFrames | None = None
        self._pump: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Speech goes to the head and comes back with its images; everything else passes."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            samples = np.frombuffer(frame.audio, np.int16).reshape(-1, frame.num_channels).mean(1) / 32768
            self._open, self._context = True, frame.context_id
            await asyncio.to_thread(self._session.push, samples.astype(np.float32), frame.sample_rate)
            return
        if isinstance(frame, TTSStoppedFrame) and self._open:
            self._open = False
            self._ends.append(frame)  # passes when its last sound has been given
            await asyncio.to_thread(self._session.flush)
            return
        if isinstance(frame, StartFrame):
            self._frames = AsyncFrames()
            self._session.attach(self._frames)
            self._pump = self.create_task(self._show(self._frames))
        elif isinstance(frame, InterruptionFrame):
            self._open = False
            self._ends.clear()
            await asyncio.to_thread(self._session.clear)
        elif isinstance(frame, EndFrame):
            while self._session.busy:  # what was ordered is said
                await asyncio.sleep(0.02)
            await self._stop()
        elif isinstance(frame, CancelFrame):
            await self._stop()
        await self.push_frame(frame, direction)

    async def _show(self, frames: AsyncFrames) -> None:
        async for frame in frames:
            if frame.image is not None:
                height, width = frame.image.shape[:2]
                image = OutputImageRawFrame(
                    np.ascontiguousarray(frame.image[..., :3]).tobytes(), (width, height), "RGB"
                )
                image.sync_with_audio = True
                await self.push_frame(image)
            if frame.utterance is not None:
                samples = (np.clip(frame.audio, -1, 1) * 32767).astype(np.int16)
                sound = TTSAudioRawFrame(samples.tobytes(), frame.sample_rate, 1, context_id=self._context)
                await self.push_frame(sound)
            if frame.ended and self._ends:
                await self.push_frame(self._ends.popleft())

    async def _stop(self) -> None:
        if self._frames is not None and self._pump is not None:
            self._session.detach(self._frames)
            self._frames.close()
            await self._pump
            self._pump = None


def main(avatar: str, sound: str | None = None) -> None:
    """Show the head to visitors: one page, and pipecat's endpoint for WebRTC."""
    import uvicorn
    from fastapi import BackgroundTasks, FastAPI
    from fastapi.responses import HTMLResponse
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineTask
    from pipecat.transports.base_transport import TransportParams
    from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
    from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport

    from emotalking import Avatar
    from emotalking.io.audio import SAMPLE_RATE, load_audio
    from emotalking.serve.scheduler import Scheduler
    from emotalking.serve.settings import ServeSettings

    head = Avatar.load(avatar)
    scheduler = Scheduler({"head": head}, ServeSettings())
    speech = None if sound is None else (load_audio(sound) * 32767).astype(np.int16).tobytes()
    app = FastAPI()

    async def talk(connection: SmallWebRTCConnection) -> None:
        params = TransportParams(
            audio_out_enabled=True,
            audio_out_sample_rate=48000,
            video_out_enabled=True,
            video_out_width=head.width,
            video_out_height=head.height,
            video_out_framerate=round(head.fps),
        )
        transport = SmallWebRTCTransport(connection, params)
        session = scheduler.open("head")
        task = PipelineTask(Pipeline([HeadProcessor(session), transport.output()]))

        @transport.event_handler("on_client_connected")
        async def greet(*_: object) -> None:
            if speech is not None:
                await task.queue_frames([TTSAudioRawFrame(speech, SAMPLE_RATE, 1), TTSStoppedFrame()])

        @transport.event_handler("on_client_disconnected")
        async def leave(*_: object) -> None:
            await task.cancel()

        await PipelineRunner(handle_sigint=False).run(task)
        scheduler.close(session, "the visitor has left")

    @app.post("/offer")
    async def offer(request: dict[str, str], background: BackgroundTasks) -> dict[str, str]:
        connection = SmallWebRTCConnection()
        await connection.initialize(sdp=request["sdp"], type=request["type"])
        background.add_task(talk, connection)
        return connection.get_answer()

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    print("open http://127.0.0.1:7860/")
    with scheduler:
        uvicorn.run(app, host="127.0.0.1", port=7860, log_level="warning")


PAGE = """<!doctype html><button>Connect</button><br><video autoplay playsinline></video><script>
document.querySelector("button").onclick = async () => {
  const connection = new RTCPeerConnection(), stream = new MediaStream();
  connection.addTransceiver("audio", {direction: "recvonly"});
  connection.addTransceiver("video", {direction: "recvonly"});
  connection.ontrack = ({track}) => { stream.addTrack(track); document.querySelector("video").srcObject = stream; };
  await connection.setLocalDescription();
  await new Promise(done => connection.iceGatheringState === "complete" ? done()
    : connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && done());
  const {sdp, type} = connection.localDescription, headers = {"Content-Type": "application/json"};
  const answer = await fetch("offer", {method: "POST", headers, body: JSON.stringify({sdp, type})});
  await connection.setRemoteDescription(await answer.json());
};
</script>"""

if __name__ == "__main__":
    main(*sys.argv[1:])
