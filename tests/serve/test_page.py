"""The Studio page in a real browser: frames and sound arrive together, controls act, an interruption is silence."""

import io
import math
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")
pytest.importorskip("playwright.sync_api", reason="needs playwright")

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from emotalking.io.images import encode_image
from emotalking.player.idle import POSE_LIMITS
from emotalking.serve.connections import Socket
from emotalking.serve.job_routes import job_router
from emotalking.serve.jobs import Jobs
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings
from emotalking.serve.studio import page_router

from ..avatars import Frames, PlainAvatar
from .chromium import PATIENCE_S, launched, needs_chromium, wait

pytestmark = needs_chromium
PATIENCE_MS = 1000 * PATIENCE_S
RATE = 48000
PROBE = Path(__file__).with_name("page_probe.js").read_text()
METER = Path(__file__).with_name("page_probe_worklet.js")
"""Notes, in the page, when loud sound is heard and when each image is drawn."""


class Square(PlainAvatar):
    """An avatar that is a square, whose green is the valence, before a blue wall."""

    def __init__(self) -> None:
        super().__init__(64, 64, Fraction(25), 25)
        self.background[:] = (0, 0, 200)

    def render(self, viewmats, audio_windows, aus, va=None, background=None, speech=None) -> Frames:
        alpha = torch.zeros(len(viewmats), 64, 64)
        alpha[:, 16:48, 16:48] = 1.0
        return self.composed(alpha, 0.0, va, background)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    jobs = Jobs(tmp_path_factory.mktemp("uploads"), device="cpu", keep_free=0)
    meter = APIRouter()
    meter.add_api_route(f"/{METER.name}", lambda: FileResponse(METER, media_type="text/javascript"))
    parts = [job_router(jobs), page_router(), meter]
    with LiveServer({"square": Square(), "second": Square()}, ServeSettings(port=0), parts) as served:
        served.start()
        yield served
    jobs.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as opened:
        yield opened


@pytest.fixture
def page(browser: Any, server: LiveServer) -> Iterator[Any]:
    """The page, without a session; at the end it must not have reported an error of its own."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    opened.goto(server.link)
    opened.wait_for_selector("#avatars input:checked", state="attached")
    opened.errors = errors
    yield opened
    context.close()
    assert errors == []


def begin(page: Any) -> None:
    """Start a session and wait for its first frame."""
    page.click("#cover-start")
    wait(page, "studio.playback.heard !== null && document.getElementById('canvas').dataset.frame")


def recording(parts: list[tuple[float, float]]) -> dict[str, Any]:
    """A sound file of (seconds, level) parts, as Playwright hands it to a page."""
    samples = np.concatenate(
        [level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE) for seconds, level in parts]
    )
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return {"name": "beeps.wav", "mimeType": "audio/wav", "buffer": data.getvalue()}


def break_connections(server: LiveServer) -> None:
    """Cut all WebSockets, as a network does."""
    assert server._uvicorn is not None
    for connection in list(server._uvicorn.server_state.connections):
        if isinstance(connection, Socket):
            connection.loop.call_soon_threadsafe(connection.transport.abort)


def pixel(page: Any) -> list[int]:
    """Colour of the middle of the head."""
    return page.evaluate(
        "() => [...document.getElementById('canvas').getContext('2d').getImageData(32, 32, 1, 1).data]"
    )


def test_a_file_is_heard_and_seen_together(page: Any) -> None:
    begin(page)
    page.evaluate(PROBE)
    beeps = [part for _ in range(4) for part in ((1.2, 0.0), (0.3, 0.5))]
    page.set_input_files("#sound-input", recording(beeps))
    wait(page, "probe.sent.length >= 4 && probe.heard.length >= 4")
    wait(page, "document.getElementById('sound-progress').value === 1 && !studio.speaking")
    probe = page.evaluate("() => ({ sent: probe.sent, heard: probe.heard, drawn: probe.drawn })")
    if not len(probe["sent"]) == len(probe["heard"]) == 4:
        pytest.skip("this machine is too busy: there were long gaps in the sound")
    # When the image was shown in which a beep begins, or the next one that came, against the beep.
    offsets = []
    for beep, heard in zip(probe["sent"], probe["heard"], strict=True):
        images = {at: probe["drawn"].get(str(beep["index"] + at)) for at in range(5)}
        at, shown = next(((at, shown) for at, shown in images.items() if shown is not None), (0, None))
        if shown is not None:
            offsets.append(shown - 1000 * at / 25 + beep["offsetMs"] - heard)
    if not offsets:
        pytest.skip("this machine is too busy: no image came of any beep")
    assert abs(float(np.median(offsets))) < 40.0, offsets
    assert page.evaluate("() => studio.numbers.all.first") > 0
    assert page.text_content("#sound-name") == "beeps.wav"


def test_the_pad_changes_the_face_while_it_speaks(page: Any) -> None:
    begin(page)
    page.set_input_files("#sound-input", recording([(8.0, 0.4)]))
    wait(page, "studio.speaking")
    before = pixel(page)[1]
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    wait(page, f"document.getElementById('canvas').getContext('2d').getImageData(32, 32, 1, 1).data[1] > {before} + 80")
    assert page.evaluate("() => studio.speaking")
    assert "valence 0.90" in page.get_attribute("#pad", "aria-valuetext")


def test_the_pad_is_a_slider_for_keys_and_screen_readers(page: Any) -> None:
    begin(page)
    page.focus("#pad")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert page.get_attribute("#pad", "aria-valuetext").endswith("valence 0.10, arousal 0.15")
    page.keyboard.press("Home")
    assert page.get_attribute("#pad", "aria-valuetext").startswith("neutral")
    page.get_by_role("radio", name="happy").focus()
    page.keyboard.press("Space")
    assert page.get_attribute("#pad", "aria-valuetext").startswith("happy")
    page.fill("#strength", "0.5")
    assert page.get_attribute("#pad", "aria-valuetext").endswith("valence 0.37, arousal 0.16")


def test_an_interruption_is_silent_at_once(page: Any) -> None:
    begin(page)
    page.evaluate(PROBE)
    page.set_input_files("#sound-input", recording([(30.0, 0.5)]))
    wait(page, "probe.heard.length > 0 && studio.speaking")
    generation = page.evaluate("() => studio.playback.heard.generation")
    page.keyboard.press("Escape")
    page.evaluate("() => { probe.interrupted = performance.now(); }")
    wait(page, f"studio.playback.heard.generation > {generation} && !studio.speaking")
    page.wait_for_timeout(300)
    # Samples that had left for the sound card are heard out; nothing of the file comes after them.
    last = page.evaluate("() => probe.lastLoud - probe.interrupted")
    assert last < 150.0
    assert page.evaluate("() => studio.playback.heard.speaking") is False


def test_text_is_said_with_captions(page: Any) -> None:
    begin(page)
    page.fill("#text", "Hello there. This is the second sentence.")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('caption').textContent === 'Hello there.'")
    wait(page, "document.getElementById('caption').textContent === 'This is the second sentence.'")
    wait(page, "!studio.speaking && document.getElementById('caption').textContent === ''")


def test_the_plane_shows_the_emotion_of_a_texts_tag(page: Any) -> None:
    begin(page)
    page.fill("#text", "Fine. [sad] And this one is sad.")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('pad').getAttribute('aria-valuetext').startsWith('sad')")
    wait(page, "document.getElementById('pad-value').textContent.startsWith('sad')")


def test_a_refused_text_stays_in_its_box(page: Any) -> None:
    begin(page)
    page.fill("#text", "Good. [hungry] And this is refused.")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('text').value.startsWith('Good. [hungry]')")


def test_languages_have_names_and_each_is_there_once(page: Any) -> None:
    wait(page, "document.querySelectorAll('#language option').length > 3")
    names = page.eval_on_selector_all("#language option", "options => options.map(option => option.text)")
    tags = page.eval_on_selector_all("#language option", "options => options.map(option => option.value)")
    assert len(set(names)) == len(names) and not set(names) & set(tags) and {"en", "de", "cmn"} <= set(tags)
    assert page.input_value("#language") == "en"


def test_the_microphone_is_spoken(page: Any) -> None:
    begin(page)
    page.click("#microphone")
    wait(page, "studio.speaking && studio.numbers.all.glass > 0")
    page.click("#microphone")
    wait(page, "!studio.speaking")
    assert page.get_attribute("#microphone", "aria-pressed") == "false"


def test_what_is_recorded_has_image_and_sound(page: Any, tmp_path: Path) -> None:
    import av

    begin(page)
    page.set_input_files("#sound-input", recording([(3.0, 0.5)]))
    wait(page, "studio.speaking")
    page.click("#record")
    page.wait_for_timeout(1500)
    with page.expect_download() as download:
        page.click("#record")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(file)) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert frames[-1].shape[0] >= 512 and frames[-1][256, 256, 1] > 100, "neutral is half green"
    loudest = np.abs(sound.astype(np.float32)).max() / (32768 if sound.dtype == np.int16 else 1)
    assert 0.2 < loudest < 1.0


def test_backgrounds_are_composed_in_the_browser(page: Any) -> None:
    begin(page)
    corner = "document.getElementById('canvas').getContext('2d').getImageData(2, 2, 1, 1).data"
    page.check("input[name=background][value=colour]", force=True)
    page.fill("#colour", "#00ff00")
    wait(page, f"{corner}[1] > 200 && {corner}[2] < 60")
    page.check("input[name=background][value=transparent]", force=True)
    wait(page, f"{corner}[3] === 0")
    red = encode_image(np.full((8, 8, 3), (255, 0, 0), np.uint8), ".png")
    page.set_input_files("#image-input", {"name": "red.png", "mimeType": "image/png", "buffer": red})
    page.check("input[name=background][value=image]", force=True)
    wait(page, f"{corner}[0] > 200 && {corner}[1] < 60 && {corner}[3] === 255")


def test_it_connects_again_and_goes_on_with_the_session(page: Any, server: LiveServer) -> None:
    begin(page)
    session = page.evaluate("() => studio.session.session")
    page.evaluate("() => { globalThis.first = studio.playback.heard.index; }")
    break_connections(server)
    wait(page, "document.getElementById('connection').dataset.state === 'reconnecting'")
    wait(page, "document.getElementById('connection').dataset.state === 'live'")
    assert page.evaluate("() => studio.session.session") == session
    wait(page, "studio.playback.heard?.index > first")


def test_sessions_are_where_the_front_says_and_move_when_their_server_is_gone(browser: Any) -> None:
    settings = ServeSettings(port=0, allowed_hosts=("127.0.0.1",))  # the front's page may use the other servers
    one, other = (LiveServer({"square": Square()}, settings) for _ in range(2))
    places = [one.address, other.address]
    asked: list[None] = []

    def place() -> str:
        asked.append(None)
        if len(asked) == 1:
            raise HTTPException(503, "all sessions are in use: try again later.")  # it asks again
        return places[0]

    front = LiveServer({"square": Square()}, settings, [job_router(None), page_router(place)])
    context = browser.new_context()
    page = context.new_page()
    with one, other, front:
        for server in (one, other, front):
            server.start()
        page.goto(front.link)
        page.wait_for_selector("#avatars input:checked", state="attached")
        begin(page)
        assert (len(one.scheduler.sessions), len(front.scheduler.sessions)) == (1, 0)
        assert len(asked) == 2
        session = page.evaluate("() => studio.session.session")
        break_connections(one)
        places.reverse()  # a lost connection alone does not move a session
        wait(page, "document.getElementById('connection').dataset.state === 'reconnecting'")
        wait(page, "document.getElementById('connection').dataset.state === 'live'")
        assert page.evaluate("() => studio.session.session") == session
        break_connections(one)
        one.stop()
        wait(page, f"studio.session.session !== '{session}'")
        wait(page, "document.getElementById('connection').dataset.state === 'live'")
        assert len(other.scheduler.sessions) == 1
        context.close()


def test_another_avatar_and_the_end(page: Any) -> None:
    begin(page)
    page.get_by_role("radio", name="second").check(force=True)
    wait(page, "studio.session.avatar === 'second'")
    page.click("#start")
    wait(page, "document.getElementById('connection').dataset.state === 'idle'")
    assert page.is_visible("#cover-start") and page.is_disabled("#say")


def test_no_width_needs_scrolling_sideways(page: Any) -> None:
    for width in (320, 390, 900, 1600):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea, [role=slider]")]
          .filter((one) => !one.hidden && !(one.labels?.length || one.ariaLabel || one.getAttribute("aria-labelledby")
            || one.textContent.trim())).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_a_clip_is_uploaded_and_a_refusal_is_told(page: Any) -> None:
    page.click("nav a[href='#make']")
    page.set_input_files("#clip-input", {"name": "me & you.mp4", "mimeType": "video/mp4", "buffer": b"no film"})
    page.get_by_role("heading", name="me & you.mp4").wait_for()
    page.get_by_role("button", name="Check", exact=True).click()
    page.locator(".step.failed").wait_for()
    assert "me & you.mp4" in page.text_content(".step.failed .bad")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    page.locator(".clip-entry").wait_for(state="detached")


def test_a_token_is_taken_from_the_address_and_missed_without(browser: Any) -> None:
    settings = ServeSettings(port=0, token="a-secret-of-tests")
    with LiveServer({"square": Square()}, settings, [job_router(None), page_router()]) as served:
        served.start()
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(served.address)
        page.locator(".notice", has_text="needs a token").wait_for()
        page.goto(served.link)
        page.reload()
        page.wait_for_selector("#avatars img", state="attached")
        assert "secret" not in page.url
        begin(page)
        assert not page.is_visible(".views"), "this server takes no uploads"
        context.close()


def test_the_sliders_reach_what_the_head_can_do(page: Any) -> None:
    for name, limit in POSE_LIMITS.items():
        reach = [math.radians(float(page.get_attribute(f"#{name}", side))) for side in ("min", "max")]
        assert -limit <= reach[0] < -0.9 * limit and 0.9 * limit < reach[1] <= limit
    begin(page)
    for name in POSE_LIMITS:
        page.fill(f"#{name}", page.get_attribute(f"#{name}", "max"))
    page.wait_for_timeout(300)
    assert page.locator("#notices .notice").count() == 0


def test_a_microphone_stays_on_over_a_lost_connection(page: Any, server: LiveServer) -> None:
    """Sound that comes before the greeting, and its format, would be malformed."""
    begin(page)
    page.click("#microphone")
    wait(page, "studio.speaking")
    (session,) = [one for one in server.scheduler.sessions if one.attached]
    for _ in range(3):
        break_connections(server)
        wait(page, "document.getElementById('connection').dataset.state === 'reconnecting'")
        wait(page, "document.getElementById('connection').dataset.state === 'live' && studio.speaking")
    assert page.locator("#notices .notice").count() == 0
    assert session.ended is None and session.attached
    page.click("#microphone")


def test_stopping_a_recording_session_leaves_a_page_that_starts_again(page: Any) -> None:
    begin(page)
    page.set_input_files("#sound-input", recording([(3.0, 0.5)]))
    wait(page, "studio.speaking")
    page.click("#record")
    page.wait_for_timeout(500)
    with page.expect_download():
        page.click("#start")
    page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide'))")
    page.click("#cover-start")
    wait(page, "studio.playback.heard !== null && studio.session !== null")


def test_the_link_leads_to_the_servers_own_session(browser: Any, server: LiveServer) -> None:
    """`#session=` and its secret: the page watches the head that the server keeps, also after it was reloaded."""
    session = server.own_session()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.link)
        page.wait_for_selector("#avatars input:checked", state="attached")
        assert session.secret not in page.url and session.id not in page.url
        for _ in range(2):
            begin(page)
            assert page.evaluate("() => [studio.session.session, studio.session.resumed]") == [session.id, True]
            page.reload()
            page.wait_for_selector("#avatars input:checked", state="attached")
        assert session.ended is None, "it stays when its watcher leaves"
    finally:
        context.close()
        server.session, session.kept = None, False
        server.scheduler.close(session, "the test is over")
