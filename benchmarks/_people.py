"""Many synthetic people with known emotions, lips and landmarks, as small FFHQ squares in one file.

python benchmarks/_people.py FILE [--people 600] [--each 25] [--size 64] [--seed 1]

Identities are random styles of the actor; valence and arousal are uniform over [-1, 1]^2 and independent of what the
mouth says, so that nothing but the face itself tells them. In half of the pictures the lips do not take part: they show
another emotion, drawn anew, as those of somebody who is saying something may. So who learns to read these faces reads
brows, lids and cheeks too, and is on known ground where lips stay and the rest of the face changes.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from _report import arguments
from jaxtyping import Bool, Float32, Int64, UInt8

from emotalking.io.arrays import load_archive
from emotalking.progress import track
from emotalking.stylegan.ffhq import FaceAlignment, aligned_crops
from emotalking.testing.actor import Actor, ActorState, ActorStyle, Viseme, head_viewmat
from emotalking.testing.actor.actor import project
from emotalking.testing.actor.state import emotional_aus

FRAME = 1.3
"""Pixels a side of the rendered frame in sides of the square: the actor's square is about .79 of his frame."""
QUALITY = 92
"""Quality of the stored images (WebP)."""
LIP_AUS = ("AU12", "AU15", "AU17", "AU20", "AU23")
FREE_LIPS = 0.5
"""Share of the pictures whose lips show another emotion than the face."""


@dataclass(frozen=True)
class People:
    """Pictures and what is known of each."""

    images: UInt8[np.ndarray, "N S S 3"]
    ibug68: Float32[np.ndarray, "N 68 2"]
    """True landmarks in the square, -1 to 1."""
    va: Float32[np.ndarray, "N 2"]
    """Commanded valence and arousal."""
    person: Int64[np.ndarray, " N"]
    """Number of the identity."""
    free: Bool[np.ndarray, " N"]
    """The lips show another emotion than the face."""

    @classmethod
    def read(cls, path: Path) -> "People":
        """Inverse of :func:`write`."""
        file = load_archive(path)
        parts = np.split(file["bytes"], np.cumsum(file["lengths"])[:-1])
        images = np.stack([np.asarray(cv2.imdecode(part, cv2.IMREAD_COLOR))[..., ::-1] for part in parts])
        return cls(images, file["ibug68"], file["va"], file["person"], file["free"])


def random_style(rng: np.random.Generator, name: str) -> ActorStyle:
    """A person: skin, hair, clothes, proportions."""

    def spread(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def tinted(base: tuple[float, float, float], low: float, high: float) -> tuple[float, float, float]:
        level = rng.uniform(low, high)
        red, green, blue = (float(np.clip(level * b * rng.uniform(0.92, 1.08), 0.02, 1.0)) for b in base)
        return red, green, blue

    hair = tinted(((0.34, 0.24, 0.15), (0.2, 0.17, 0.15), (0.5, 0.36, 0.22))[rng.integers(3)], 0.4, 1.3)
    return ActorStyle(
        name=name,
        skin=tinted((0.87, 0.66, 0.54), 0.5, 1.08),
        blush=spread(0.2, 0.8),
        lips=tinted((0.72, 0.36, 0.35), 0.75, 1.05),
        hair=hair,
        brows=(0.7 * hair[0], 0.7 * hair[1], 0.7 * hair[2]),
        iris=((0.30, 0.42, 0.44), (0.26, 0.15, 0.08), (0.25, 0.40, 0.58))[rng.integers(3)],
        cloth=tinted((0.6, 0.6, 0.6), 0.3, 1.3),
        background=tinted((0.75, 0.78, 0.8), 0.6, 1.15),
        hair_style=("short", "long", "cropped")[rng.integers(3)],
        beard=spread(0.4, 0.9) if rng.random() < 0.2 else 0.0,
        glasses=bool(rng.random() < 0.1),
        lashes=spread(0.4, 1.0),
        face_width=spread(0.94, 1.06),
        jaw_width=spread(0.9, 1.08),
        nose_size=spread(0.85, 1.15),
        eye_size=spread(0.93, 1.1),
        lip_fullness=spread(0.85, 1.25),
        brow_thickness=spread(0.75, 1.25),
        brow_angle=spread(-0.002, 0.002),
    )


def random_state(rng: np.random.Generator) -> ActorState:
    """A moment: pose, speech and emotion are independent of each other."""
    yaw, pitch = rng.uniform(-0.25, 0.25), rng.uniform(-0.12, 0.12)
    closed = rng.random() < 0.4
    aus = {name: float(max(0.0, rng.normal(0.0, 0.6))) for name in ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07")}
    aus["AU45"] = float(rng.uniform(0.5, 2.0)) if rng.random() < 0.08 else 0.0
    valence, arousal, *other = (float(part) for part in rng.uniform(-1, 1, 4))
    free = rng.random() < FREE_LIPS
    if free:
        own, shown = emotional_aus(valence, arousal), emotional_aus(*other)
        aus |= {name: shown[name] - own[name] for name in LIP_AUS}
    return ActorState(
        viewmat=head_viewmat(yaw, pitch, rng.uniform(-0.05, 0.05)),
        aus=aus,
        viseme=Viseme(
            jaw=0.0 if closed else float(rng.uniform(0.0, 0.8)),
            width=float(rng.uniform(-0.7, 0.7)),
            pucker=float(max(0.0, rng.uniform(-0.6, 0.8))),
            press=float(rng.uniform(0.0, 1.0)) if closed else 0.0,
        ),
        valence=valence,
        arousal=arousal,
        gaze=(float(-0.9 * yaw), float(-0.9 * pitch)),
        emotional_jaw=not free,
    )


def write(path: Path, people: int, each: int, size: int, seed: int) -> None:
    """Render and store; the same seed gives the same people."""
    rng = np.random.default_rng(seed)
    pictures, points, emotions, persons, free = [], [], [], [], []
    for person in track(range(people), "render people"):
        actor = Actor(random_style(rng, f"p{person}"), round(FRAME * size))
        ibug = list(actor.layout.ibug68)
        for _ in range(each):
            state = random_state(rng)
            seen = project(actor.landmarks_world(state), state.viewmat, actor.K)[ibug, :2]
            frame = torch.from_numpy(np.clip(actor.image_of(state), 0, 1).astype(np.float32))[None]
            places = torch.from_numpy(seen)[None]
            alignment = FaceAlignment.around(places)
            crop = (aligned_crops(frame, alignment, size)[0].clamp(0, 1) * 255).round().byte().numpy()
            done, packed = cv2.imencode(".webp", crop[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
            assert done
            pictures.append(packed.ravel())
            points.append(alignment.from_frame(places)[0].numpy())
            emotions.append((state.valence, state.arousal))
            persons.append(person)
            free.append(not state.emotional_jaw)
    np.savez(
        path,
        bytes=np.concatenate(pictures),
        lengths=np.array([len(part) for part in pictures]),
        ibug68=np.array(points, np.float32),
        va=np.array(emotions, np.float32),
        person=np.array(persons, np.int64),
        free=np.array(free),
    )


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    write(options.file, options.people, options.each, options.size, options.seed)


if __name__ == "__main__":
    main()
