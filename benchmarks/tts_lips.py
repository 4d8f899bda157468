"""Do an actor avatar's lips follow speech that it never heard? Correlation of their opening with the true opening.

python benchmarks/tts_lips.py AVATAR [--device cpu] [--sentences 10] [--seconds 20.0] [--name tts_lips]

The avatar is one of the synthetic actor ('emotalking demo', or trained on a folder of it): the actor's sounds and
mouth shapes are known, so that any speech with known sounds has a true opening (jaw times not pressed lips, with the
actor's own coarticulation). Four kinds of unseen speech:

- babble: the actor's own generator with a seed that no clip was made from;
- own voice: the curated sentences at espeak-ng's pace, spoken by the actor's synthesiser;
- hibari, espeak: the same sentences in hibari's voice and in espeak-ng's voices; their IPA sounds are read as the
  nearest of the actor's.

The opening of a picture is the gap between the inner lips over the distance between the eyes, by MediaPipe's points.
Beside each correlation: the best one within +-5 frames and at which lag (positive: lips late), chance (the same lips
against the truth of other speech of the same kind), and what the detector makes of the actor's own pictures of the same
speech: no avatar can be expected to do better than that.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from _report import arguments, write
from jaxtyping import Float

from emotalking.models.avatar import Avatar
from emotalking.player.player import Player
from emotalking.preprocess.landmarks import LandmarkProvider, open_provider
from emotalking.progress import track
from emotalking.testing.actor import Actor, ActorState, Viseme, head_viewmat
from emotalking.testing.actor.speech import Segment, babble, synthesize, viseme_curves
from emotalking.testing.actor.spoken import segments_of
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.sentences import curated_speech

UNSEEN_SEED = 7001
LAGS = range(-5, 6)


@dataclass(frozen=True)
class Speech:
    """A sound whose mouth shapes are known."""

    samples: Float[np.ndarray, " S"]
    segments: tuple[Segment, ...]

    def shapes(self, count: int, fps: float) -> Float[np.ndarray, "N 4"]:
        """The actor's (jaw, width, pucker, press) in the middle of each frame."""
        return viseme_curves(self.segments, (np.arange(count) + 0.5) / fps)

    def opening(self, count: int, fps: float) -> Float[np.ndarray, " N"]:
        """True opening of each frame, 0..1."""
        shapes = self.shapes(count, fps)
        return shapes[:, 0] * (1.0 - shapes[:, 3])


def speeches(sentences: int, seconds: float) -> dict[str, list[Speech]]:
    """The four kinds."""
    own = [babble(seconds / 4, UNSEEN_SEED + index) for index in range(4)]
    kinds = {"babble": [Speech(synthesize(each, UNSEEN_SEED + i), each) for i, each in enumerate(own)]}
    said = [each for each, _ in zip(curated_speech(open_synthesizer("espeak"), "en"), range(sentences), strict=False)]
    acted = [segments_of(each) for each in said]
    kinds["own voice"] = [Speech(synthesize(each, UNSEEN_SEED), each) for each in acted]
    natural = [open_synthesizer("hibari").synthesize(each.text) for each in said]
    kinds["hibari"] = [Speech(each.samples, segments_of(each)) for each in natural]
    kinds["espeak"] = [Speech(each.samples, segments) for each, segments in zip(said, acted, strict=True)]
    return kinds


def lip_gap(image: np.ndarray, provider: LandmarkProvider) -> float:
    """Mean gap of the inner lips over the distance of the eyes' corners; nan without a face."""
    found = provider.detect(np.ascontiguousarray(image))
    if found is None:
        return float("nan")
    points = found[list(provider.layout.ibug68), :2]
    eyes = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
    return float(np.linalg.norm(points[61:64] - points[[67, 66, 65]], axis=1).mean() / eyes)


def acted_pictures(speech: Speech, count: int, fps: float, actor: Actor) -> Iterator[np.ndarray]:
    """The actor himself saying it, his head still."""
    for shape in speech.shapes(count, fps):
        state = ActorState(head_viewmat(), viseme=Viseme(*(float(value) for value in shape)))
        yield (actor.image_of(state) * 255.0 + 0.5).astype(np.uint8)


def correlation(measured: np.ndarray, truth: np.ndarray, lag: int = 0) -> float:
    """Pearson's r of frames that both have; positive lag: the measured one is late."""
    count = min(len(measured), len(truth)) - abs(lag)
    a, b = measured[max(lag, 0) :][:count], truth[max(-lag, 0) :][:count]
    seen = np.isfinite(a)
    return float(np.corrcoef(a[seen], b[seen])[0, 1]) if seen.sum() > 10 and a[seen].std() > 0 else float("nan")


def compare(measured: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float | int | list[float]]:
    """Correlations over the speeches of a kind."""
    each = [correlation(m, t) for m, t in zip(measured, truth, strict=True)]
    curve = [float(np.nanmean([correlation(m, t, lag) for m, t in zip(measured, truth, strict=True)])) for lag in LAGS]
    others = [correlation(m, t) for i, m in enumerate(measured) for j, t in enumerate(truth) if i != j]
    return {
        "r": float(np.nanmean(each)),
        "r_best": max(curve),
        "lag_frames": LAGS[int(np.argmax(curve))],
        "chance_r": float(np.nanmean(others)) if others else float("nan"),
        "frames": sum(len(m) for m in measured),
        "without_a_face": int(sum(np.isnan(m).sum() for m in measured)),
        "each": [round(value, 4) for value in each],
    }


def main() -> None:
    args = arguments(__doc__)
    avatar = Avatar.load(args.avatar, args.device)
    player, fps, actor = Player(avatar), float(avatar.fps), Actor(size=256)
    results = {}
    for kind, items in speeches(args.sentences, args.seconds).items():
        truth, shown, acted = [], [], []
        for speech in track(items, kind):
            for pictures, into in ((player.frames(speech.samples, poses="fixed"), shown), (None, acted)):
                provider = open_provider()  # anew: the detector remembers the picture before
                count = len(shown[-1]) if pictures is None else 0
                source = acted_pictures(speech, count, fps, actor) if pictures is None else pictures
                into.append(np.array([lip_gap(image, provider) for image in source]))
                provider.close()
            truth.append(speech.opening(len(shown[-1]), fps))
        results[kind] = {"avatar": compare(shown, truth), "actor": compare(acted, truth)}
        for who, found in results[kind].items():
            print(
                f"{kind:<10} {who:<7} r {found['r']:.3f}  best {found['r_best']:.3f} at {found['lag_frames']:+d}  "
                f"chance {found['chance_r']:+.3f}  ({found['frames']} frames, {found['without_a_face']} faceless)"
            )
    facts = {"avatar": args.avatar.name, "sync": avatar.metadata.get("sync"), "command": " ".join(sys.argv[1:])}
    print(write(args.name, facts | results))


if __name__ == "__main__":
    main()
