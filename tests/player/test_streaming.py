"""Sound in, frames with their sound out."""

import itertools
from importlib.util import find_spec

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.player.player import Player
from emotalking.player.streaming import PlaybackPosition, StreamingPlayer, render_batch

RATE = 16000


def take(player: StreamingPlayer, count: int) -> list:
    return list(itertools.islice(player, count))


@pytest.mark.parametrize("sample_rate", [16000, 22050, 48000])
def test_sound_comes_out_as_it_was_pushed(avatar, talk, sample_rate: int) -> None:
    player = StreamingPlayer(avatar, sample_rate=sample_rate)
    number = player.push(talk, sample_rate)
    player.flush()
    frames = take(player, -(-len(talk) * 25 // sample_rate) + 3)
    spoken = [frame for frame in frames if frame.utterance == number]
    sound = np.concatenate([frame.audio for frame in spoken])
    assert np.array_equal(sound[: len(talk)], talk) and not sound[len(talk) :].any()
    assert [frame.ended for frame in spoken] == [False] * (len(spoken) - 1) + [True]
    assert spoken[-1].position_s == pytest.approx(len(talk) / sample_rate)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    samples = np.cumsum([len(frame.audio) for frame in frames])
    assert np.abs(samples - np.arange(1, len(frames) + 1) * sample_rate / 25).max() < 1


def test_nothing_to_say_is_an_idle_head(avatar) -> None:
    frames = take(StreamingPlayer(avatar), 3)
    assert all(frame.utterance is None and frame.image.shape == (40, 48, 3) for frame in frames)
    assert all(len(frame.audio) == 1920 and not frame.audio.any() for frame in frames)


def test_speech_begins_with_the_look_ahead_and_waits_where_sound_runs_dry(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE, look_ahead_ms=80)
    player.push(talk[: RATE * 120 // 1000 - 1], RATE)
    assert next(player).utterance is None
    player.push(talk[RATE * 120 // 1000 - 1 : RATE * 240 // 1000], RATE)
    frames = take(player, 6)
    assert [frame.utterance for frame in frames] == [1, 1, 1, 1, None, None]
    assert frames[3].position_s == pytest.approx(0.16)
    player.push(talk[RATE * 240 // 1000 :], RATE)
    sound = np.concatenate([frame.audio for frame in [*frames[:4], *take(player, 10)]])
    assert np.array_equal(sound, talk[: len(sound)])


def test_clear_forgets_what_was_not_heard(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE)
    assert player.clear() is None
    player.push(talk, RATE)
    player.flush()
    player.push(talk, RATE)
    take(player, 20)
    assert player.clear() == PlaybackPosition(1, 0.8) and player.queued_s == 0
    frame = next(player)
    assert frame.utterance is None and not frame.audio.any() and frame.generation == 2
    gates = [player.conditions().gate for _ in range(2)]
    assert gates[0] == 0
    assert player.push(talk, RATE) == 3
    take(player, 5)
    assert player.clear(heard=0.1) == PlaybackPosition(3, 0.1)


def test_players_in_one_batch_are_as_alone(avatar, talk) -> None:
    def players() -> list[StreamingPlayer]:
        made = [
            StreamingPlayer(avatar, emotion="happy"),
            StreamingPlayer(avatar, emotion=(-0.5, 0.2), background="white", seed=4),
            StreamingPlayer(avatar, background="transparent"),
            StreamingPlayer(avatar),
            StreamingPlayer(avatar, emotion="sad", seed=7),
        ]
        for shift, player in enumerate(made):
            player.push(np.roll(talk, 3000 * shift), RATE)
        return made

    alone = [[frame.image for frame in take(player, 20)] for player in players()]
    together = players()
    for number in range(20):
        before = len(avatar.calls)
        images = render_batch([player.conditions() for player in together])
        assert len(avatar.calls) == before + 4  # happy and sad ones over the recorded background share one
        for one, image in zip(alone, images, strict=True):
            assert np.array_equal(one[number], image)


def test_what_cannot_be_done_is_one_sentence(avatar, talk) -> None:
    player = StreamingPlayer(avatar)
    with pytest.raises(InputError, match="finite"):
        player.push(np.array([np.nan], np.float32), RATE)
    with pytest.raises(InputError, match="rate"):
        player.push(talk, 100)
    player.push(talk, RATE)
    with pytest.raises(InputError, match="flush"):
        player.push(talk, 24000)
    with pytest.raises(InputError, match="yaw"):
        player.set_pose(yaw=1.0)
    with pytest.raises(InputError, match="look-ahead"):
        StreamingPlayer(avatar, look_ahead_ms=10)
    avatar.audio_features = "hubert"
    with pytest.raises(InputError, match="only mel and hama"):
        StreamingPlayer(avatar)
    avatar.audio_features, avatar.emotional = "hama", False
    with pytest.raises(InputError, match="emotion stage"):
        StreamingPlayer(avatar).set_emotion("happy")


def test_a_whole_file_is_near_the_offline_player(avatar, talk) -> None:
    sound = np.tile(talk, 2)  # longer than the recorded motion, which is then played to and fro offline too
    player = StreamingPlayer(avatar)
    player.push(sound, RATE)
    player.flush()
    live = np.stack([frame.image for frame in take(player, 101)]).astype(int)
    offline = np.stack(list(Player(avatar).frames(sound))).astype(int)
    assert np.array_equal(live[..., 1:], offline[..., 1:])
    assert np.abs(live - offline)[..., 0].mean() < 3


@pytest.mark.skipif(find_spec("hama") is None, reason="the package hama is not installed")
def test_an_emotion_is_heard_in_the_voice_and_fades(avatar) -> None:
    t = np.arange(RATE * 6) / RATE
    phase = np.cumsum(260 * 2 ** (5 * np.sin(2 * np.pi * 0.6 * t) / 12)) / RATE
    voice = sum(np.sin(2 * np.pi * k * phase) for k in range(1, 12))
    shout = 0.3 * np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t)) * voice
    player = StreamingPlayer(avatar, sample_rate=RATE, emotion="auto:1")
    player.push((shout / 4).astype(np.float32), RATE)
    player.flush()
    arousal = [float(player.conditions().va[1]) for _ in range(150)]
    assert arousal[0] == 0 and max(arousal) > 0.2 and np.abs(np.diff(arousal)).max() < 0.2
    later = [float(player.conditions().va[1]) for _ in range(250)]
    assert abs(later[-1]) < 0.15 * abs(arousal[-1]) + 0.01
    player.set_emotion("happy", seconds=0.0)
    assert player.conditions().va[0] > 0.5
