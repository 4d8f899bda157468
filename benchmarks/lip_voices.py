"""Do a head's lips follow any voice? Other people's speech, closures and vowels, degraded sound.

    python benchmarks/lip_voices.py AVATAR ... [--clips CLIP|FOLDER ...] [--speech FILE ...] [--name lip_voices]

Avatars are rendered as the player shows them, heads still, without emotion; opening and width are those of evaluate
(MediaPipe, in distances between the eyes).

- Clips of other people: r and lag against the speaker's own opening. Late sound is corrected as prepare does. The clips
  of a folder (GRID's .mpg with .align) are pooled. Chance: against the speaker's opening half the clip later.
- Phones of espeak-ng in two voices, and of GRID, aligned with its words by pocketsphinx. Of a consonant counts the
  lowest opening from 60 ms before it (espeak-ng gives the closure to the phone before) to its end, of a vowel the
  median. 0 is the opening in digital silence, 1 the median of the a vowels; below 0.15 a consonant is closed.
- Degraded sound: r of the opening with that of the clean sound. Sung: the spectral envelope (linear prediction) on a
  pulse train whose pitch glides. Monotone: on a steady one, which the gate of voice activity may take for music.
"""

from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _degraded import degraded
from _report import arguments, write
from phone_frames import aligned

from emotalking.evaluate.metrics.lips import apart, lip_series, series_scores
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.video import read_frames
from emotalking.lipsync.offset import TRUSTED, measure_offset
from emotalking.models.avatar import Avatar
from emotalking.player.player import Player
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.tts.backends import open_synthesizer

SENTENCES = (
    "Bob and Pam may stop by a camp to pop my map.",
    "A calm papa put a big apple on my palm.",
    "Mama made a bad bomb, but Barbara mopped the farm.",
    "Who moved two blue shoes so slowly home?",
    "We need to eat three cheap green peas each week.",
)
VOICES = ("m3", "f2")
GROUPS = {
    "a": "a ɑː æ ɑ aɪ aʊ ɑːɹ AA AE AY AW",
    "p b m": "p b m P B M",
    "t d k g s n l": "t d k ɡ s z n l T D K G S Z N L",
    "o u": "uː ʊ oʊ ɔː w UW UH OW AO W",
    "i e": "iː i ɪ eɪ ɛ IY IH EY EH",
}
CONSONANTS = ("p b m", "t d k g s n l")
LEAD_S, CLOSED = 0.06, 0.15
CLIP_S, SPEECH_S, GRID_CLIPS = 30, 10, 24

Phones = list[tuple[str, float, float]]
"""Label, begin and end in seconds."""
Lips = tuple[np.ndarray, np.ndarray]
"""Opening and width of each frame."""
Values = dict[str, float]


class Recording(NamedTuple):
    """A clip of a person, its sound corrected by ``late_s``; without phones where its words are not known."""

    samples: np.ndarray
    lips: Lips
    phones: Phones
    late_s: float


def lips(images: Iterable[np.ndarray]) -> Lips:
    """Of consecutive images."""
    mesh, index = MediaPipeMesh(), list(MEDIAPIPE_LAYOUT.ibug68)
    faces = [mesh.detect(image) for image in images]
    mesh.close()
    points = np.stack([np.full((68, 2), np.nan) if face is None else face[index, :2] for face in faces])
    return lip_series(points)


def rendered(avatar: Avatar, samples: np.ndarray, gate: bool = True) -> Lips:
    """Of the head with this sound."""
    return lips(Player(avatar).frames(samples, poses="fixed", vad=gate))


def recording(path: Path, fps: float) -> Recording:
    """The clip's lips at ``fps``, and its sound, corrected if it is late."""
    found = lips(islice(read_frames(path, round(fps)), round(CLIP_S * fps)))
    samples = load_audio(path)[: round(len(found[0]) / fps * SAMPLE_RATE)]
    offset = measure_offset(found[0], fps, samples)
    late = offset.seconds if offset.confidence >= TRUSTED and abs(offset.seconds) >= 0.5 / fps else 0.0
    shift = round(late * SAMPLE_RATE)
    samples = np.pad(samples, (max(-shift, 0), max(shift, 0)))[max(shift, 0) :][: len(samples)]
    phones = []
    if (text := path.with_suffix(".align")).exists():
        words = [line.split()[2] for line in text.read_text().splitlines()]
        phones = aligned(samples, [word for word in words if word not in ("sil", "sp")]) or []
    return Recording(samples, found, [(name, first / 100, stop / 100) for name, first, stop in phones], late)


def follow(made: list[np.ndarray], true: list[np.ndarray], fps: float) -> Values:
    """Agreement of pooled series, and of those with the truth half a series later."""
    pairs = [(ours[: len(theirs)], theirs[: len(ours)]) for ours, theirs in zip(made, true, strict=True)]
    ours, theirs = (np.concatenate(each) for each in zip(*pairs, strict=True))
    ends = np.cumsum([0, *(len(one) for one, _ in pairs)]).tolist()
    runs = [slice(begin, end) for begin, end in pairwise(ends)]
    scores = series_scores(apart(ours, runs), apart(theirs, runs), fps)
    chance = series_scores(ours, np.roll(theirs, len(theirs) // 2), fps)
    return {"opening_r": scores.r, "spread": scores.spread, "lag_ms": scores.lag, "chance_r": chance.r}


def by_phone(items: list[tuple[Lips, Phones]], rest: float, fps: float) -> dict[str, Values]:
    """Median opening and width of each group of phones, and share of closed ones."""
    table, full = {}, float("nan")
    for name, members in GROUPS.items():  # the first is a, which makes the scale
        lead, kind = (LEAD_S, np.nanmin) if name in CONSONANTS else (0.0, np.nanmedian)
        pairs = []
        for (opening, width), phones in items:
            middles = (np.arange(len(opening)) + 0.5) / fps
            for label, begin, end in phones:
                inside = (middles >= begin - lead) & (middles <= end) & np.isfinite(opening)
                if label in members.split() and inside.any():
                    pairs.append((kind(opening[inside]) - rest, np.median(width[inside])))
        values, widths = np.array(pairs).T
        full = float(np.median(values)) if name == "a" else full
        opening = {"opening": float(np.median(values / full)), "closed": float((values / full < CLOSED).mean())}
        table[name] = {"count": len(values), **opening, "width": float(np.median(widths))}
    return table | {"scale": {"rest": rest, "a": rest + full}}


def alike(avatar: Avatar, samples: np.ndarray, fps: float) -> dict[str, Values]:
    """The opening under each form of the sound against that under the clean one."""
    found: dict[str, Values] = {}
    for gate, suffix in ((True, ""), (False, "_no_gate")):
        made = {kind: rendered(avatar, sound.astype(np.float32), gate)[0] for kind, sound in degraded(samples).items()}
        for kind in list(made)[1:]:
            scores = series_scores(made[kind], made["clean"], fps)
            found.setdefault(kind, {}).update({f"r{suffix}": scores.r, f"spread{suffix}": scores.spread})
    return found


def heard(avatar: Avatar, clips: list[Recording], rest: float, fps: float) -> dict[str, Values]:
    """The head under the clips' sound."""
    made = [rendered(avatar, clip.samples) for clip in clips]
    plain, true = [rendered(avatar, clip.samples, gate=False)[0] for clip in clips], [clip.lips[0] for clip in clips]
    found = {"voice": follow([opening for opening, _ in made], true, fps)}
    found["voice"]["r_no_gate"] = follow(plain, true, fps)["opening_r"]
    if clips[0].phones:
        found |= by_phone([(series, clip.phones) for series, clip in zip(made, clips, strict=True)], rest, fps)
    return found


def main() -> None:
    """Measure, print, write ``results/lip_voices.json``."""
    args = arguments(__doc__)
    named = len({path.stem for path in args.avatars}) == len(args.avatars)
    avatars = {path.stem if named else str(path): Avatar.load(path) for path in args.avatars}
    fps, espeak = float(next(iter(avatars.values())).fps), open_synthesizer("espeak")
    said = [espeak.synthesize(text, voice=voice) for voice in VOICES for text in SENTENCES]
    spoken = [[(each.label, each.start_s, each.end_s) for each in one.phonemes or ()] for one in said]
    people: dict[str, list[Recording]] = {}
    results: dict[str, dict[str, Values]] = {}

    def show(name: str, source: str, found: dict[str, Values]) -> None:
        for kind, values in found.items():
            results.setdefault(name, {})[f"{source}, {kind}"] = values
            numbers = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
            print(f"{name:<28} {source + ', ' + kind:<34} {numbers}", flush=True)

    for path in args.clips:
        files = sorted(path.glob("*.mpg"))[:GRID_CLIPS] if path.is_dir() else [path]
        people[path.stem] = clips = [recording(file, fps) for file in files]
        show("recorded", path.stem, {"sound": {"late_s": float(np.median([clip.late_s for clip in clips]))}})
        if clips[0].phones:
            rest = float(np.nanpercentile(np.concatenate([clip.lips[0] for clip in clips]), 2))
            show("recorded", path.stem, by_phone([(clip.lips, clip.phones) for clip in clips], rest, fps))
    for name, avatar in avatars.items():
        rest = float(np.nanmedian(rendered(avatar, np.zeros(2 * SAMPLE_RATE, np.float32))[0]))
        made = [rendered(avatar, one.samples) for one in said]
        show(name, "espeak", by_phone(list(zip(made, spoken, strict=True)), rest, fps))
        for person, clips in people.items():
            show(name, person, heard(avatar, clips, rest, fps))
        for path in args.speech:
            show(name, path.stem, alike(avatar, load_audio(path)[: SPEECH_S * SAMPLE_RATE], fps))
    print(write(args.name, results))


if __name__ == "__main__":
    main()
