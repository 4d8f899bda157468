"""WebRTC in a real browser: image and sound arrive together, and an interruption is silence."""

import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="aiortc is not installed (extra serve)")
pytest.importorskip("playwright.sync_api", reason="needs playwright")

import aioice.ice

from emotalking.player.streaming import LiveFrame
from emotalking.serve import webrtc
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings
from emotalking.serve.webrtc import webrtc_router

from .chromium import PATIENCE_S, launched, needs_chromium, wait
from .talking import FakeAvatar

pytestmark = needs_chromium
RATE, SIZE = 48000, 64
TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 25) / RATE)).astype(np.float32)
PROBE = Path(__file__).with_name("webrtc_probe.js").read_text()


class Marked(webrtc.Peer):
    """While nobody speaks, a white image and a tone with every 25th frame, and else neither."""

    def frame(self, frame: LiveFrame) -> None:
        if frame.utterance is None:
            marked = frame.index % 25 == 12
            image = np.full((SIZE, SIZE, 3), 255 if marked else 30, np.uint8)
            frame = replace(frame, image=image, audio=TONE if marked else np.zeros_like(TONE))
        super().frame(frame)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    monkeypatch.setattr(webrtc, "Peer", Marked)
    avatars = {"disc": FakeAvatar(SIZE, Fraction(25))}
    with LiveServer(avatars, ServeSettings(port=0), [webrtc_router()]) as served:
        served.start()
        yield served


def test_a_browser_sees_and_hears_the_head_and_interrupts_it(server: LiveServer) -> None:
    flags = ("--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns")
    with launched(*flags) as browser:
        page = browser.new_page()
        page.goto(f"{server.address}health")
        page.evaluate(PROBE)
        wait(page, "probe.state === 'connected' && probe.events.length && probe.events[0].type === 'hello'", "probe")
        wait(page, "probe.flashes.length >= 6 && probe.tones.length >= 6", "probe")
        seen, heard = (np.array(page.evaluate(f"() => probe.{name}")[2:]) for name in ("flashes", "tones"))
        (session,) = server.scheduler.sessions
        session.push(np.tile(TONE, 500), RATE)
        wait(page, "probe.events.some(({ type }) => type === 'started')", "probe")
        page.wait_for_timeout(1000)
        wait(page, "performance.now() - probe.lastLoud < 100", "probe")
        asked = page.evaluate(
            "() => { probe.channel.send(JSON.stringify({ type: 'clear' })); return performance.now(); }"
        )
        wait(
            page,
            "probe.events.some(({ type }) => type === 'cleared') && performance.now() - probe.lastLoud > 300",
            "probe",
        )
        silent_ms = page.evaluate("() => probe.lastLoud") - asked
        page.evaluate("() => probe.channel.close()")
        end = time.monotonic() + PATIENCE_S
        while server.scheduler.sessions:
            assert time.monotonic() < end
            time.sleep(0.02)
    apart = seen - heard[np.abs(seen[:, None] - heard).argmin(1)]
    near = apart[np.abs(apart) < 500]  # of the others, one of the two was dropped
    if len(near) < 2:
        pytest.skip("this machine is too busy: images or sounds were dropped")
    # Chromium begins with sound that waits longer than images, and brings them together within half a minute; the meter
    # hears some 40 ms late. Measured: 110 ms at first, 50 ms after 30 s, silence after 120 ms, with 20 others at work.
    assert abs(float(np.median(near))) < 300.0, apart
    assert silent_ms < 1000.0
