"""Sessions of a server's scheduler in this process: how many keep the frame rate, and does each hear its own sound."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from emotalking.io.audio import SAMPLE_RATE
from emotalking.models.avatar import Avatar
from emotalking.player.streaming import LiveFrame
from emotalking.serve.encoding import encode
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings
from emotalking.serve.sinks import Event

RATE = 48000
WARM_S = 3.0
QUALITY = 85
_WAITING = 2


class Viewer:
    """What a WebSocket does with a session's frames before the network: images become JPEG, or are dropped."""

    def __init__(self, session: Session, encoders: Executor, sound: np.ndarray, clock: Callable[[], float]) -> None:
        self._session, self._encoders, self._clock = session, encoders, clock
        self.sound = sound
        self.images: list[float] = []
        """When each image was encoded."""
        self.bytes = 0
        self.heard: list[np.ndarray] = []
        self._waiting: list[Future[None]] = []

    def frame(self, frame: LiveFrame) -> None:
        """Encode an image, unless two are waiting."""
        if frame.utterance is not None:
            self.heard.append(frame.audio)
        self._waiting = [one for one in self._waiting if not one.done()]
        if frame.image is not None and len(self._waiting) < _WAITING:
            self._waiting.append(self._encoders.submit(self._encode, np.asarray(frame.image)))

    def event(self, event: Event) -> None:
        """Nothing."""

    def _encode(self, image: np.ndarray) -> None:
        self.bytes += len(encode(image, "jpeg", QUALITY)[0])
        self.images.append(self._clock())

    def exact(self) -> bool:
        """True if what was heard is the beginning of this session's own sound."""
        heard = np.concatenate([np.zeros(0, np.float32), *self.heard])
        return len(heard) > RATE and np.array_equal(heard, self.sound[: len(heard)])


def served(avatar: Avatar, speech: np.ndarray, count: int, seconds: float) -> dict[str, Any]:
    """So many sessions that speak all the time, each another sound, in real time.

    Args:
        speech: 16 kHz.
    """
    settings = ServeSettings(max_sessions=count)
    fps, viewers = float(avatar.fps), []
    with Scheduler({"avatar": avatar}, settings) as scheduler:
        speech = resample_poly(speech, RATE // SAMPLE_RATE, 1).astype(np.float32)
        long = np.tile(speech, 1 + int((WARM_S + seconds + 3) * RATE / len(speech)))
        for number in range(count):
            session = scheduler.open("avatar")
            session.wish("emotion", "happy", 0.3)
            sound = np.roll(long, 7919 * number) * np.float32(1 - number / (2 * count))
            session.push(sound, RATE)
            viewers.append(Viewer(session, scheduler.encoders, sound, time.perf_counter))
            session.attach(viewers[-1])
            scheduler.wake()
        time.sleep(WARM_S)
        begin, worked = time.perf_counter(), time.process_time()
        dropped = [viewer._session.dropped for viewer in viewers]
        late = _late(scheduler)
        time.sleep(seconds)
        end, used = time.perf_counter(), time.process_time() - worked
        late_after = _late(scheduler)
        lost = [viewer._session.dropped - before for viewer, before in zip(viewers, dropped, strict=True)]
        render = scheduler.renderers[0].render_ms
        threads = threading.active_count()
    rates = [sum(begin < when <= end for when in viewer.images) / (end - begin) for viewer in viewers]
    gaps = [np.diff([when for when in viewer.images if begin < when <= end]) for viewer in viewers]
    ticks = late_after[1] - late[1]
    return {
        "sessions": count,
        "images_per_s_least": round(min(rates), 2),
        "images_per_s_median": round(float(np.median(rates)), 2),
        "keeps_rate": min(rates) > 0.99 * fps,
        "dropped_share": round(sum(lost) / (count * seconds * fps), 4),
        "longest_gap_ms": round(1e3 * max((float(each.max()) for each in gaps if len(each)), default=0.0), 1),
        "render_ms": round(render, 2),
        "tick_ms": round(1e3 * (late_after[0] - late[0]) / ticks, 2) if ticks else None,
        "cores_used": round(used / (end - begin), 2),
        "all_exact": all(viewer.exact() for viewer in viewers),
        "threads": threads,
    }


def _late(scheduler: Scheduler) -> tuple[float, float]:
    """Sum and number of the times from a deadline until its frames were rendered."""
    samples = [sample for metric in scheduler.metrics.registry.collect() for sample in metric.samples]

    def summed(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name)

    return summed("emotalking_late_seconds_sum"), summed("emotalking_late_seconds_count")
