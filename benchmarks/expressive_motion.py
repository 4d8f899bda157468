"""Expressive motion: head speed and blinks by arousal, smoothness, and whether the lips stay.

    python benchmarks/expressive_motion.py AVATAR ... --speech FILE [--render 0.0]

The motion of two minutes (the speech again and again) as recorded and at arousal -1, 0 and 1: mean speed of the head,
its largest and root-mean-square acceleration, blinks a minute, how long the eyes are closed in one, and how far the
angles go beyond the recorded ones. With ``--render`` so many seconds are rendered as recorded and expressively (arousal
as commanded), and the opening and width of the lips compared by the face mesh's points over the distance of the eyes.
"""

from typing import Any

import numpy as np
from _report import arguments, write
from scipy.spatial.transform import Rotation

from emotalking.audio.accents import Accents
from emotalking.emotion.tracks import EmotionTrack
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.models.avatar import Avatar
from emotalking.player.expressive import ExpressiveLoop
from emotalking.player.player import Player
from emotalking.player.poses import PoseLoop, Poses, usual_pose
from emotalking.preprocess.landmarks import MediaPipeMesh

SECONDS = 120
LEVELS = (-1.0, 0.0, 1.0)
EYES, OPENING, WIDTH = (33, 263), (13, 14), (61, 291)


def moved(poses: Poses, avatar: Avatar) -> dict[str, Any]:
    """Measures of a motion."""
    fps = float(avatar.fps)
    usual = avatar.viewmats[usual_pose(avatar.viewmats, avatar.aus), :3, :3]

    def angles(viewmats: np.ndarray) -> np.ndarray:
        return np.degrees(Rotation.from_matrix(usual.T @ viewmats[:, :3, :3]).as_rotvec())

    path, recorded = angles(poses.viewmats), angles(avatar.viewmats)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) * fps
    change = np.linalg.norm(np.diff(path, 2, axis=0), axis=1)
    shut = np.pad(poses.aus[:, 5] > 0.8, 1).astype(int)
    number = int((np.diff(shut) == 1).sum())
    return {
        "degrees_per_s": float(speed.mean()),
        "largest_change_of_a_frame_degrees": float(change.max()),
        "rms_change_of_a_frame_degrees": float(np.sqrt((change**2).mean())),
        "blinks_per_minute": number / (len(path) / fps / 60),
        "closed_ms": 1000 * float(shut.sum()) / fps / max(number, 1),
        "beyond_recording_degrees": float(
            np.maximum(path.max(0) - recorded.max(0), recorded.min(0) - path.min(0)).max()
        ),
    }


def lips(frames: np.ndarray) -> np.ndarray:
    """Opening and width of the lips over the distance of the eyes [F, 2]; nan without a face."""
    mesh, found = MediaPipeMesh(), []
    for image in frames:
        points = mesh.detect(image)
        if points is None:
            found.append((np.nan, np.nan))
        else:
            eyes, *gaps = (np.linalg.norm(points[a, :2] - points[b, :2]) for a, b in (EYES, OPENING, WIDTH))
            found.append(tuple(gap / eyes for gap in gaps))
    mesh.close()
    return np.array(found)


def rendered(avatar: Avatar, speech: np.ndarray, seconds: float) -> dict[str, Any]:
    """Lips of expressive renderings against those of the recorded motion with the same emotion."""
    player = Player(avatar)
    track = player.audio_features(speech)
    result = {}
    for level in LEVELS:
        emotion = EmotionTrack.constant(0.0, level * 0.8) if avatar.emotional else None
        pair = [
            lips(np.stack(list(player.frames(track, emotion, poses=poses, seconds=seconds))))
            for poses in ("recorded", "expressive")
        ]
        good = np.isfinite(pair[0] + pair[1]).all(1)
        result[f"{0.8 * level:g}"] = {
            name: {
                "r": float(np.corrcoef(pair[0][good, k], pair[1][good, k])[0, 1]),
                "spread_ratio": float(pair[1][good, k].std() / pair[0][good, k].std()),
            }
            for k, name in enumerate(("opening", "width"))
        }
    return result


def main() -> None:
    args = arguments(__doc__)
    speech = load_audio(args.speech)
    sound = np.tile(speech, -(-SECONDS * SAMPLE_RATE // len(speech)))
    results: dict[str, Any] = {}
    for path in args.avatars:
        avatar = Avatar.load(path, "cpu")
        frames = np.arange(round(SECONDS * float(avatar.fps)))
        rows = {"recorded": moved(PoseLoop(avatar.viewmats, avatar.aus, float(avatar.fps)).at(frames), avatar)}
        for level in LEVELS:
            loop = ExpressiveLoop(avatar, EmotionTrack.constant(0.0, level), Accents([sound]), 0)
            rows[f"arousal {level:g}"] = moved(loop.at(frames), avatar)
        for name, row in rows.items():
            print(f"{path.stem} {name:<12}", {key: round(value, 2) for key, value in row.items()})
        results[path.stem] = {"motion": rows}
        if args.render:
            results[path.stem]["lips"] = rendered(avatar, speech, args.render)
            print(results[path.stem]["lips"])
    print(write("expressive_motion", results))


if __name__ == "__main__":
    main()
