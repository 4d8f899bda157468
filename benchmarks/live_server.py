"""The live server: sessions, latency and interruption; hours of use; attacks.

python benchmarks/live_server.py AVATAR [--device auto] [--sessions 1,2,4] [--seconds 20.0] [--minutes X]
    [--clients 2] [--pause 0.0] [--attacks]

The server is the command of its own process, the clients speak its WebSocket protocol. Every session says noise of its
own, sent in real time in messages of 20 ms, and compares what comes back with it sample by sample: what is heard is
exactly what was said, by nobody else. Latency: from when a frame's first sample was taken by the microphone until the
frame has come with its image; it holds one frame, the look-ahead, the rest of a message, rendering and the image's
coding. The baseline of several sessions is one session in the same run.
"""

import asyncio
import os
import random
import time
from typing import Any

import numpy as np
from _live import RATE, Listener, Process, noise, opened, quantiles, running, said
from _live_attacks import attack
from _report import arguments, write

INTERRUPTIONS = 3


async def talk(process: Process, seconds: float, seed: int) -> dict[str, Any]:
    """One session that speaks live, and is then interrupted in long speeches."""
    listener, reading = await opened(process)
    sound = noise(seconds, seed)
    began = await listener.speak(sound)
    ended, _ = await listener.until("ended", 0)
    result = spoken(listener, sound, began, ended)
    result["interruption_ms"] = [await interrupted(listener, seed) for _ in range(INTERRUPTIONS)]
    result["render_ms"] = [event["render_ms"] for _, event in listener.events if event["type"] == "stats"]
    await listener.socket.close()
    await reading
    return result


def spoken(listener: Listener, sound: np.ndarray, began: float, ended: float) -> dict[str, Any]:
    """Figures of an utterance that was sent in real time from ``began`` on."""
    came = [(when, frame) for when, frame in listener.frames if frame.utterance == 1]
    latency, taken = [], 0
    for when, frame in came:
        if frame.format != "none":
            latency.append(1e3 * (when - began - taken / RATE))
        taken += len(frame.audio)
    images = sum(frame.format != "none" for _, frame in came)
    heard = said(listener, 1)
    padded = np.pad(sound, (0, max(0, len(heard) - len(sound))))
    return {
        "exact": bool(np.array_equal(heard, padded)),
        "first_frame_ms": 1e3 * (came[0][0] - began),
        "latency_ms": latency,
        "fps": images / (ended - came[0][0]),
        "images": images / len(came),
    }


async def interrupted(listener: Listener, seed: int) -> float:
    """Milliseconds from ``clear`` until the last frame with old sound has come, of a speech that is queued."""
    since = len(listener.events)
    await listener.send("audio", sample_rate=RATE, format="s16")
    sound = noise(20.0, seed + 1000)
    for start in range(0, len(sound), RATE):
        await listener.socket.send(sound[start : start + RATE].astype("<i2").tobytes())
    await listener.until("started", since)
    await asyncio.sleep(0.7)
    sent = time.perf_counter()
    await listener.send("clear")
    cleared, _ = await listener.until("cleared", since)
    await asyncio.sleep(0.5)
    old = [when for when, frame in listener.frames if frame.utterance and when > sent]
    return 1e3 * (max([cleared, *old]) - sent)


async def sessions(process: Process, count: int, seconds: float) -> dict[str, Any]:
    """So many sessions at once, in one table row."""
    before, started = process.cpu_s(), time.perf_counter()
    found = await asyncio.gather(*(talk(process, seconds, seed) for seed in range(count)))
    cores = (process.cpu_s() - before) / (time.perf_counter() - started)
    return {
        "sessions": count,
        "all_exact": all(one["exact"] for one in found),
        "fps": round(min(one["fps"] for one in found), 2),
        "images_kept": round(min(one["images"] for one in found), 4),
        "latency_ms": quantiles([value for one in found for value in one["latency_ms"]]),
        "first_frame_ms": quantiles([one["first_frame_ms"] for one in found]),
        "interruption_ms": quantiles([value for one in found for value in one["interruption_ms"]]),
        "render_ms": quantiles([value for one in found for value in one["render_ms"]]),
        "cores_used": round(cores, 2),
        "memory_mb": round(process.memory_mb()),
    }


async def soak(process: Process, minutes: float, clients: int, pause: float) -> dict[str, Any]:
    """Clients that come, speak, interrupt, return and vanish, for so long; away for ``pause`` seconds on average."""
    began, worked = time.monotonic(), process.cpu_s()
    end = time.monotonic() + 60 * minutes
    counts = dict.fromkeys(("connects", "utterances", "interruptions", "returns", "vanished", "wrong_sound"), 0)
    drift, samples = [0.0], []

    async def use(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            listener, reading = await opened(process)
            counts["connects"] += 1
            for _ in range(chance.randint(1, 4)):
                await one_utterance(listener, chance, counts)
            if chance.random() < 0.3:
                listener.socket.transport.abort()
                await reading
                drift.append(drifted(listener))
                query = f"resume={listener.hello['session']}&secret={listener.hello['secret']}"
                listener, reading = await opened(process, query)
                counts["returns"] += 1
                await one_utterance(listener, chance, counts)
            if chance.random() < 0.5:
                listener.socket.transport.abort()
                counts["vanished"] += 1
            else:
                await listener.socket.close()
            await reading
            drift.append(drifted(listener))
            await asyncio.sleep(chance.uniform(0.0, 2 * pause))

    async def watch() -> None:
        while time.monotonic() < end:
            now = await asyncio.to_thread(process.metrics)
            samples.append(
                {
                    "minute": round(minutes - (end - time.monotonic()) / 60, 2),
                    "memory_mb": round(process.memory_mb(), 1),
                    "threads": process.threads(),
                    "files": process.files(),
                    "sessions": now["emotalking_sessions"],
                }
            )
            await asyncio.sleep(min(max(5.0, minutes / 2), max(0.1, end - time.monotonic())))

    await asyncio.gather(watch(), *(use(seed) for seed in range(clients)))
    later = [one for one in samples if one["minute"] >= minutes / 4] or samples
    slope = np.polyfit([one["minute"] for one in later], [one["memory_mb"] for one in later], 1)[0] * 60
    await asyncio.sleep(35)  # sessions of clients that vanished have ended
    return {
        "minutes": minutes,
        "clients": clients,
        "pause_s": pause,
        "cores_used": round((process.cpu_s() - worked) / (time.monotonic() - began), 3),
        **counts,
        "largest_drift_ms": max(drift),
        "memory_mb_per_hour_after_a_quarter": round(float(slope), 2),
        "sessions_left": (await asyncio.to_thread(process.metrics))["emotalking_sessions"],
        "threads_left": process.threads(),
        "files_left": process.files(),
        "samples": samples,
    }


async def one_utterance(listener: Listener, chance: random.Random, counts: dict[str, int]) -> None:
    """Speak for some seconds; one in three is interrupted."""
    since, seed = len(listener.events), chance.randrange(1 << 30)
    sound = noise(chance.uniform(0.5, 5.0), seed)
    if chance.random() < 0.33:
        speaking = asyncio.create_task(listener.speak(sound))
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        await listener.send("clear")
        await listener.until("cleared", since)
        await speaking
        since = len(listener.events)
        await listener.send("clear")  # what was said after the first one
        await listener.until("cleared", since)
        counts["interruptions"] += 1
        return
    await listener.speak(sound)
    _, ended = await listener.until("ended", since)
    heard = said(listener, ended["utterance"])
    counts["utterances"] += 1
    counts["wrong_sound"] += not np.array_equal(heard[: len(sound)], sound)


def drifted(listener: Listener) -> float:
    """Largest distance of the sound received from the clock of the frames, in milliseconds."""
    frames, largest = [frame for _, frame in listener.frames], 0.0
    taken = 0
    for frame, following in zip(frames, frames[1:], strict=False):
        taken += len(frame.audio)
        if following.generation != frame.generation:  # frames that waited were left out
            taken = round((following.index - frames[0].index) / listener.hello["fps"] * RATE)
        clock = (following.index - frames[0].index) / listener.hello["fps"]
        largest = max(largest, 1e3 * abs(taken / RATE - clock))
    return round(largest, 3)


def main() -> None:
    args = arguments(__doc__)
    counts = [int(word) for word in args.sessions.split(",")]
    about = {"avatar": args.avatar.stem, "device": args.device, "niceness": os.nice(0)}
    if args.attacks:
        with running(args.avatar, args.device, 4) as process:
            rows = asyncio.run(attack(process))
        for row in rows:
            print(f"{row['attack']:<52} {row['outcome']}")
        print(write(f"live_attacks_{args.avatar.stem}", about | {"attacks": rows}))
    elif args.minutes is not None:
        with running(args.avatar, args.device, args.clients * 4) as process:
            result = asyncio.run(soak(process, args.minutes, args.clients, args.pause))
        print({name: value for name, value in result.items() if name != "samples"})
        print(write(f"live_soak_{args.avatar.stem}", about | result))
    else:
        with running(args.avatar, args.device, max(counts)) as process:
            asyncio.run(sessions(process, 1, 3.0))  # warm-up
            rows = [asyncio.run(sessions(process, count, args.seconds)) for count in counts]
        for row in rows:
            print(row)
        print(write(f"live_server_{args.avatar.stem}", about | {"seconds": args.seconds, "rows": rows}))


if __name__ == "__main__":
    main()
