"""Write a subject folder from the actor's ground truth, as an error-free `prepare` would."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

import emotalking
from emotalking.audio.features import extract_features
from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import FaceLayout
from emotalking.testing.actor.state import MODEL_AUS, ActorFrame

AU25_PER_JAW = 5.0
"""A jaw that is wide open counts as lips parted at the top of OpenFace's scale."""


def write_actor_subject(
    out: Path | str,
    frames: Iterable[ActorFrame],
    samples: Float[np.ndarray, " S"],
    fps: Fraction,
    layout: FaceLayout,
    neutral: Float[np.ndarray, "K 3"],
) -> Subject:
    """Write the exact masks, poses, landmarks, action units, valence/arousal and layers, normals of a performance.

    Args:
        frames: rendered frames in order; each is written before the next is rendered.
        samples: the performance's speech, 16 kHz mono.
        layout: meaning of the actor's landmarks.
        neutral: the actor's neutral 3-D landmarks, head frame.
    """
    root = Path(out)
    viewmats = []
    aus = []
    points = []
    emotions = []
    jaws = []
    frame = None
    for index, frame in enumerate(frames):
        write.write_original(root, index, frame.image)
        write.write_target(root, index, frame.image)
        write.write_masks(root, index, Masks(frame.labels, frame.teeth))
        write.write_torso(root, index, frame.torso)
        write.write_normals(root, index, frame.normals * (frame.labels == Label.HEAD)[..., None])
        write.write_ibug_landmarks(root, index, frame.landmarks[list(layout.ibug68)])
        viewmats.append(frame.state.viewmat)
        aus.append(frame.model_aus)
        points.append(frame.landmarks)
        emotions.append((frame.state.valence, frame.state.arousal))
        jaws.append(frame.state.viseme.jaw * (1.0 - frame.state.viseme.press))
    if frame is None:
        raise ValueError("frames is empty: a subject needs at least one frame")
    count = len(viewmats)
    height, width = frame.image.shape[:2]
    table: dict[str, np.ndarray] = dict(zip(MODEL_AUS, np.array(aus, np.float32).T, strict=True))
    table["AU25"] = AU25_PER_JAW * np.array(jaws, np.float32)
    write.write_background(root, frame.background)
    write.write_action_units(root, table, fps)
    write.write_valence_arousal(root, np.array(emotions, np.float32))
    write.write_landmarks(root, np.array(points, np.float32), np.ones(count, bool), neutral, layout)
    write.write_transforms(root, np.array(viewmats, np.float32), float(frame.K[0, 0]), width, height)
    write.write_audio(root, samples)
    write.write_audio_features(root, DEFAULT_FEATURE, extract_features(samples, count, fps))
    write.write_manifest(
        root,
        {"fps": str(fps), "frames": count, "provider": "actor ground truth", "emotalking": emotalking.__version__},
    )
    return Subject.open(root)
