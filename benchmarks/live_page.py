"""The Studio page in headless Chromium: first frame, frame rate, image against sound, interruption, microphone.

python benchmarks/live_page.py AVATAR [--device cpu] [--name live_page] [--serve]

The server runs in a process of its own. What is heard is measured by an AudioWorklet on what the page plays, what is
seen by the changes of its canvas (tests/serve/page_probe.js); a beep's place in the frames is read from the stream as
it was received. Everything runs on this machine, the browser's drawing without a GPU included.
"""

import io
import shutil
import statistics
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
from _report import arguments, write

PROBES = Path(__file__).parents[1] / "tests" / "serve"
METER = PROBES / "page_probe_worklet.js"
RATE = 48000
STEADY_S = 20.0
REPEATS = 10
LONGEST_S = 60.0


def serve(avatar: str, device: str) -> None:
    """Serve the avatar, the page, and the meter; print the address."""
    from fastapi import APIRouter
    from fastapi.responses import FileResponse

    from emotalking.api import load_avatar
    from emotalking.serve.job_routes import job_router
    from emotalking.serve.server import LiveServer
    from emotalking.serve.settings import ServeSettings
    from emotalking.serve.studio import page_router

    meter = APIRouter()
    meter.add_api_route(f"/{METER.name}", lambda: FileResponse(METER, media_type="text/javascript"))
    routers = [page_router(), job_router(None), meter]
    with LiveServer({"avatar": load_avatar(avatar, device)}, ServeSettings(port=0), routers) as server:
        print(server.link, flush=True)
        server.serve_forever()


def recording(parts: list[tuple[float, float]]) -> dict[str, Any]:
    """A sound file of (seconds, level) parts, a tone of 300 Hz."""
    rows = [level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE) for seconds, level in parts]
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.concatenate(rows) * 32767).astype("<i2").tobytes())
    return {"name": "beeps.wav", "mimeType": "audio/wav", "buffer": data.getvalue()}


class Measured:
    """A page with a running session."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.click("#cover-start")
        self.wait("studio.playback.heard !== null && document.getElementById('canvas').dataset.frame")
        page.evaluate((PROBES / "page_probe.js").read_text())
        page.wait_for_timeout(1500)

    def wait(self, expression: str) -> None:
        end = time.monotonic() + LONGEST_S
        while not self.page.evaluate(f"() => Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            self.page.wait_for_timeout(50)

    def play(self, parts: list[tuple[float, float]]) -> None:
        self.page.set_input_files("#sound-input", recording(parts))
        self.wait("studio.speaking")

    def numbers(self) -> dict[str, float]:
        return self.page.evaluate("() => studio.numbers.all")

    def first_frames(self) -> list[float]:
        """Milliseconds from a file's first push until its first frame is heard."""
        times = []
        for _ in range(REPEATS):
            self.play([(0.8, 0.5)])
            times.append(self.numbers()["first"])
            self.wait("!studio.speaking")
            self.page.wait_for_timeout(300)
        return times

    def steady(self) -> dict[str, float]:
        """Images a second while it speaks, and what was left out."""
        self.play([(STEADY_S + 3, 0.3)])
        before, seen = self.numbers(), "() => [Object.keys(probe.drawn).length, performance.now()]"
        drawn, began = self.page.evaluate(seen)
        self.page.wait_for_timeout(1000 * STEADY_S)
        drawn_later, ended = self.page.evaluate(seen)
        after = self.numbers()
        self.page.keyboard.press("Escape")
        self.wait("!studio.speaking")
        return {
            "images_per_s": 1000 * (drawn_later - drawn) / (ended - began),
            "dropped_images": after["dropped"] - before["dropped"],
            "gaps_in_speech": after["underruns"] - before["underruns"],
            "rendering_ms": after["render"],
            "round_trip_ms": after["rtt"],
        }

    def offsets(self) -> list[float]:
        """Milliseconds by which images are later than their sound, at beeps."""
        self.page.evaluate("() => { probe.sent.length = probe.heard.length = 0; }")
        self.play([part for _ in range(REPEATS) for part in ((0.6, 0.0), (0.3, 0.5))] + [(0.5, 0.0)])
        self.page.wait_for_timeout(900 * REPEATS)
        self.wait("!studio.speaking")
        probe = self.page.evaluate("() => ({ sent: probe.sent, heard: probe.heard, drawn: probe.drawn })")
        if len(probe["sent"]) != len(probe["heard"]):
            return []
        pairs = zip(probe["sent"], probe["heard"], strict=True)
        shown = [(probe["drawn"].get(str(sent["index"])), sent["offsetMs"], heard) for sent, heard in pairs]
        return [drawn + offset - heard for drawn, offset, heard in shown if drawn is not None]

    def interruptions(self) -> list[float]:
        """Milliseconds from an interruption until the last loud sample leaves the loudspeaker."""
        times = []
        for _ in range(REPEATS):
            self.play([(20.0, 0.5)])
            self.page.wait_for_timeout(800)
            asked = self.page.evaluate("() => { studio.interrupt(); return performance.now(); }")
            self.wait("!studio.speaking")
            self.page.wait_for_timeout(500)
            times.append(max(0.0, self.page.evaluate("() => probe.lastLoud") - asked))
        return times

    def microphone(self) -> list[float]:
        """Milliseconds from a sample of the microphone until its frame is shown and heard."""
        self.page.click("#microphone")
        self.wait("studio.speaking && studio.numbers.all.glass > 0")
        times = []
        for _ in range(50):
            self.page.wait_for_timeout(100)
            times.append(self.numbers()["glass"])
        self.page.click("#microphone")
        self.wait("!studio.speaking")
        return times


def summary(values: list[float]) -> dict[str, float | int]:
    """Median, spread and number."""
    if not values:
        return {"count": 0}
    return {
        "median_ms": statistics.median(values),
        "least_ms": min(values),
        "most_ms": max(values),
        "p95_ms": float(np.percentile(values, 95)),
        "count": len(values),
    }


def measure(link: str) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(link)
        page.wait_for_selector("#avatars input:checked", state="attached")
        measured = Measured(page)
        results: dict[str, Any] = {"browser": browser.version}
        results["first_frame_after_push"] = summary(measured.first_frames())
        results["steady"] = measured.steady()
        results["image_later_than_sound"] = summary(measured.offsets())
        results["interruption_to_silence"] = summary(measured.interruptions())
        results["microphone_to_screen"] = summary(measured.microphone())
        browser.close()
    return results


def main() -> None:
    options = arguments(__doc__)
    if options.serve:
        serve(str(options.avatar), options.device)
        return
    command = [sys.executable, __file__, str(options.avatar), "--device", options.device, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            results = {"device": options.device} | measure(server.stdout.readline().strip())
        finally:
            server.terminate()
    for name, values in results.items():
        print(f"{name:<26} {values}")
    print(write(options.name, results))


if __name__ == "__main__":
    main()
