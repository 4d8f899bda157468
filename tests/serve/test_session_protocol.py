"""The WebSocket protocol against a real server: clock, sound, interruption, return, change of avatar."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest

from emotalking.serve.protocol import LAST, SPEAKING, SYNTHETIC

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

from .talking import RATE, FakeAvatar, client, serving, sound, until


def test_whole_utterance_is_exact() -> None:
    spoken = sound(1.0)
    with serving() as server, client(server, "avatar=disc") as one:
        greeting = one.event("hello")
        assert greeting["version"] == 1 and greeting["synthetic"] is True
        assert (greeting["width"], greeting["fps"], greeting["sample_rate"]) == (32, 50.0, RATE)
        one.speak(spoken)
        started, ended = one.event("started"), one.event("ended")
        one.frame()
    assert started["utterance"] == ended["utterance"] == 1
    assert np.array_equal(one.said(), spoken)
    numbers = [frame.index for frame in one.frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(len(frame.audio) == RATE // 50 for frame in one.frames)
    speaking = [frame for frame in one.frames if frame.flags & SPEAKING]
    assert [frame.index for frame in speaking] == list(range(started["frame"], ended["frame"] + 1))
    assert [round(50 * frame.position_s) for frame in speaking] == list(range(1, 51))
    assert [frame.index for frame in one.frames if frame.flags & LAST] == [ended["frame"]]
    assert all(frame.flags & SYNTHETIC for frame in one.frames)
    assert all(not frame.audio.any() for frame in one.frames if not frame.flags & SPEAKING)


def test_frame_rate_that_does_not_divide_the_sample_rate() -> None:
    fps = Fraction(30000, 1001)
    with serving({"disc": FakeAvatar(fps=fps)}) as server, client(server) as one:
        one.event("hello")
        for _ in range(20):
            one.frame()
    assert one.frames[0].index == 0
    edges = [int(frame.index * RATE / fps) for frame in one.frames] + [int(len(one.frames) * RATE / fps)]
    assert [len(frame.audio) for frame in one.frames] == np.diff(edges).tolist()


def test_each_session_hears_its_own_sound() -> None:
    avatar = FakeAvatar()
    first, second = sound(0.6, 1), sound(0.6, 2)
    with serving({"disc": avatar}) as server, client(server) as one, client(server) as other:
        one.event("hello"), other.event("hello")
        until(lambda: 2 in avatar.batches)  # rendered together
        one.speak(first), other.speak(second)
        one.event("ended"), other.event("ended")
    assert np.array_equal(one.said(), first) and np.array_equal(other.said(), second)


def test_interruption_ends_the_sound_and_tells_what_was_heard() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        one.speak(sound(20.0))
        heard = one.frame(lambda frame: frame.position_s > 0.2)
        one.send("played", frame=heard.index)
        one.send("clear")
        cleared = one.event("cleared")
        for _ in range(20):
            assert not one.frame().utterance
        assert cleared["utterance"] == 1 and cleared["position_s"] == pytest.approx(heard.position_s)
        assert all(frame.generation == cleared["generation"] for frame in one.frames[-20:])
        assert all(not frame.audio.any() for frame in one.frames[-20:])
        one.send("clear")
        assert one.event("cleared")["utterance"] == 0
        one.speak(sound(0.2, 5))
        assert one.event("ended")["utterance"] == 2
    assert np.array_equal(one.said(2), sound(0.2, 5))


def test_position_heard_may_come_with_the_interruption() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        one.speak(sound(20.0))
        one.frame(lambda frame: frame.position_s > 0.3)
        early = next(frame for frame in one.frames if frame.position_s > 0.1)
        one.send("clear", heard_frame=early.index)
        assert one.event("cleared")["position_s"] == pytest.approx(early.position_s)


def test_sound_that_comes_late_is_waited_for() -> None:
    spoken = sound(1.0)
    with serving() as server, client(server) as one:
        one.event("hello")
        one.speak(spoken[: RATE // 2], flush=False)
        one.frame(lambda frame: bool(frame.utterance))
        stalled = one.frame(lambda frame: not frame.utterance)
        one.send("played", frame=stalled.index)
        one.speak(spoken[RATE // 2 :])
        one.event("ended")
    assert np.array_equal(one.said(), spoken)
    assert [event["type"] for event in one.events if event["type"] in ("started", "ended")] == ["started", "ended"]


def test_client_that_comes_back_misses_nothing() -> None:
    spoken = sound(2.0)
    with serving() as server:
        with client(server) as one:
            greeting = one.event("hello")
            one.speak(spoken)
            one.frame(lambda frame: frame.position_s > 0.2)
            one.vanish()
        session = server.scheduler.sessions[0]
        until(lambda: not session.attached)
        with client(server, f"resume={session.id}&secret=wrong") as thief:
            assert "ended" in thief.event("error")["message"]
            assert thief.code() == 4404
        with client(server, f"resume={session.id}&secret={greeting['secret']}") as again:
            hello = again.event("hello")
            assert hello["resumed"] and hello["session"] == greeting["session"]
            again.event("ended")
            again.socket.close()
        until(lambda: not server.scheduler.sessions)
    rest = again.said()
    assert len(rest) > RATE and np.array_equal(rest, spoken[len(spoken) - len(rest) :])
    assert hello["frame"] == again.frames[0].index > one.frames[-1].index


def test_second_connection_takes_a_session_over() -> None:
    with serving() as server, client(server) as one:
        greeting = one.event("hello")
        with client(server, f"resume={greeting['session']}&secret={greeting['secret']}") as other:
            other.frame()
            assert "another connection" in one.event("bye")["reason"]
            assert one.code() == 1000
            other.frame()
            assert len(server.scheduler.sessions) == 1


def test_another_avatar_goes_on_with_the_sentence() -> None:
    spoken = sound(2.0)
    avatars = {"disc": FakeAvatar(), "other": FakeAvatar(64, Fraction(25))}
    with serving(avatars) as server, client(server, "avatar=disc") as one:
        one.event("hello")
        one.send("emotion", valence=1, arousal=0)
        one.speak(spoken)
        one.frame(lambda frame: frame.position_s > 0.3)
        one.send("avatar", name="other")
        facts = one.event("avatar")
        assert (facts["avatar"], facts["width"], facts["fps"]) == ("other", 64, 25.0)
        assert one.event("ended")["utterance"] == 1
        one.speak(sound(0.2, 7))
        assert one.event("ended")["utterance"] == 2
        shown = one.frame(lambda frame: frame.format != "none")
    heard = one.said(1)  # changed at an odd frame, the last of the longer frames is filled with silence
    assert np.array_equal(heard[: len(spoken)], spoken) and not heard[len(spoken) :].any()
    assert len(heard) - len(spoken) in (0, RATE // 50)
    assert [frame.index for frame in one.frames] == list(range(one.frames[0].index, one.frames[-1].index + 1))
    positions = [frame.position_s for frame in one.frames if frame.utterance == 1]
    assert positions == sorted(positions) and positions[-1] == pytest.approx(2.0)
    image = decoded(shown.image)
    assert image.shape == (64, 64, 3) and image[32, 32, 1] > 200  # the same emotion: green by the valence


def decoded(image: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)


def test_image_formats_and_backgrounds() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        jpeg = one.frame(lambda frame: frame.format == "jpeg")
        assert decoded(jpeg.image).shape == (32, 32, 3)
        one.send("background", colour="transparent")
        webp = one.frame(lambda frame: frame.format == "webp")
        assert decoded(webp.image)[0, 0, 3] == 0 and decoded(webp.image)[16, 16, 3] == 255
        one.send("image", format="png")
        png = one.frame(lambda frame: frame.format == "png")
        assert decoded(png.image).shape == (32, 32, 4)
        one.send("background", colour="#00ff00")
        green = one.frame(lambda frame: decoded(frame.image).shape[2] == 3 if frame.image else False)
        assert decoded(green.image)[0, 0].tolist() == [0, 255, 0]
        one.send("image", every=5)
        one.send("ping", t=0)
        one.event("pong")
        for _ in range(5):  # that were on their way
            one.frame()
        numbers = [one.frame(lambda frame: frame.format != "none").index for _ in range(3)]
        assert all(number % 5 == 0 for number in numbers)


def test_text_is_said_with_captions() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        one.send("say", text="Good morning. How are you?")
        first, second = one.event("caption"), one.event("caption")
        assert (first["text"], second["text"]) == ("Good morning.", "How are you?")
        assert first["utterance"] == second["utterance"] == 1
        assert [word[0] for word in first["words"]] == ["Good", "morning"]
        assert second["start_s"] == first["end_s"] and second["words"][0][1] >= second["start_s"]
        one.send("clear")
        one.event("cleared")
        one.send("say", text="?!")
        assert "no words" in one.event("error")["message"]


def test_tags_of_a_text_are_felt_and_not_said() -> None:
    with serving({"disc": FakeAvatar(64, Fraction(25))}) as server, client(server) as one:
        one.event("hello")
        one.send("say", text="[v=-1,a=0] Good morning to you. [v=1,a=0] How are you?")
        first, second = one.event("caption"), one.event("caption")
        assert (first["text"], second["text"]) == ("Good morning to you.", "How are you?")
        before = one.frame(lambda frame: frame.image and frame.position_s > second["start_s"] - 0.3)
        assert one.event("emotion") == {"type": "emotion", "valence": 1.0, "arousal": 0.0}
        one.event("ended")
        after = one.frame(lambda frame: frame.format != "none")
        green = [int(decoded(frame.image)[32, 32, 1]) for frame in (before, after)]
        assert green[0] < 60 and green[1] > 200  # green by the valence
        one.send("say", text="[unheard of] Good morning.")
        assert "is no emotion tag" in one.event("error")["message"]


def test_ping_and_stats() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        one.send("ping", t=12.5)
        assert one.event("pong")["t"] == 12.5
        one.speak(sound(0.2))
        one.event("ended")
        stats = one.event("stats")
        assert stats["fps"] > 0 and stats["render_ms"] > 0 and stats["latency_ms"] > 0


def test_sound_of_32_bit_floats() -> None:
    spoken = sound(0.2)
    with serving() as server, client(server) as one:
        one.event("hello")
        one.send("audio", sample_rate=RATE, format="f32")
        one.socket.send((spoken / 32768).astype("<f4").tobytes())
        one.send("flush")
        one.event("ended")
        one.socket.send(np.full(10, np.nan, "<f4").tobytes())
        assert "no numbers" in one.event("error")["message"]
    assert np.array_equal(one.said(), spoken)


def test_what_cannot_be_done_is_an_error_and_no_end() -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        for message, wanted in (
            ({"type": "avatar", "name": "../disc"}, "no avatar"),
            ({"type": "emotion", "name": "sleepy"}, "unknown emotion"),
            ({"type": "pose", "yaw": 3.0}, "yaw"),
            ({"type": "background", "colour": "colourless"}, "no colour"),
            ({"type": "say", "text": "a" * 6000}, "5000"),
        ):
            one.socket.send(json.dumps(message))
            assert wanted in one.event("error")["message"]
        one.speak(sound(0.1))
        one.event("ended")
