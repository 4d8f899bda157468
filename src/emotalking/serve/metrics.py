"""Counts and times of the server, for Prometheus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_RENDER_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.5, 1.0)
_BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_LATENCY_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class DeviceFigures:
    """The figures of one device."""

    sessions: Gauge
    frames: Counter
    render: Histogram
    batch: Histogram
    late: Histogram


class Metrics:
    """The figures of one server.

    Args:
        sessions: number of sessions now.
        attached: number of those that a client watches.
    """

    def __init__(self, sessions: Callable[[], int], attached: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        names = {"namespace": "emotalking", "registry": self.registry}
        Gauge("sessions", "Sessions now.", **names).set_function(sessions)
        Gauge("sessions_attached", "Sessions with a client now.", **names).set_function(attached)
        self.opened = Counter("sessions_opened", "Sessions opened.", **names)
        self.failed = Counter("sessions_failed", "Sessions ended by an error of their own.", **names)
        self.refused = Counter("requests_refused", "Requests and connections refused.", ["reason"], **names)
        device = ["device"]
        self._placed = Gauge("sessions_placed", "Sessions on a device now.", device, **names)
        self._frames = Counter("frames", "Frames rendered.", device, **names)
        self.dropped = Counter("frames_dropped", "Images not rendered, or not read, in time.", ["where"], **names)
        self._render = _times("render_seconds", "Rendering of an avatar's due frames.", _RENDER_S, device, **names)
        self._batch = _times("batch_frames", "Frames rendered together.", _BATCHES, device, **names)
        self._late = _times("late_seconds", "From frames' deadline until all are rendered.", _RENDER_S, device, **names)
        self.first_frame = _times(
            "first_frame_seconds", "From an utterance's first sample to its first frame.", _LATENCY_S, **names
        )

    def of_device(self, device: str) -> DeviceFigures:
        """The figures of one device, by its name."""
        placed, frames = self._placed.labels(device), self._frames.labels(device)
        render, batch, late = (each.labels(device) for each in (self._render, self._batch, self._late))
        return DeviceFigures(placed, frames, render, batch, late)

    def page(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self.registry)


def _times(
    name: str,
    about: str,
    buckets: Sequence[float],
    labels: Sequence[str] = (),
    *,
    namespace: str,
    registry: CollectorRegistry,
) -> Histogram:
    return Histogram(name, about, labels, namespace=namespace, registry=registry, buckets=buckets)
