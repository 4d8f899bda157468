"""Eyes that look: what the gaze as an input of the face gives to the eyes of held-out frames, and whether it is obeyed.

python benchmarks/gaze.py SUBJECT AVATAR ... [--device cpu] [--frames 200] [--name gaze] [--sheet FILE] [--out FOLDER]

The avatars were trained on SUBJECT, for example with `--set model.gaze=true` and `false`. Per avatar: PSNR (of the mean
squared error) and LPIPS of the box around both eyes of held-out frames, and PSNR of the whole frame; and where the
avatar has a gaze, the slope and correlation of the irises that MediaPipe finds in rendered frames against the gaze that
was commanded, over the range of the clip, and sideways over 20 degrees to each side. ``read``: the same of recorded
frames whose irises were moved by as much (`train.glances`), the most that MediaPipe would find. The sheet shows the
recorded frame, then each avatar looking from left to right in five steps, up and down, as far as it may.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from _report import arguments, write
from torch import Tensor

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.gaze import measure_gaze
from emotalking.evaluate.held_out import pick_frames, reconstruct
from emotalking.io.images import write_image
from emotalking.losses.lpips import lpips
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import torso_over_plate
from emotalking.networks.lpips import Lpips
from emotalking.ops.box import Box
from emotalking.player.gaze import eyes_of
from emotalking.player.poses import usual_pose
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.train.data import TrainingData
from emotalking.train.glances import Glances
from emotalking.train.motion_pretraining import convex_eyes

MARGIN = 0.12
"""Of the distance between the outer corners of the eyes, around them."""
REACH = 0.35
"""Sideways [rad]: what `tiny` and `fast` learn (`model.gaze_reach`)."""
LOOKS = 9
"""Commanded directions along each axis."""


def eyes(subject: Subject, index: int) -> Box:
    """Box around both eyes of a frame."""
    layout, points = subject.landmarks.layout, subject.landmarks.points[index]
    around = points[[*layout.eye_loop("right"), *layout.eye_loop("left")]]
    box = Box.around(around)
    grown = box.grown(MARGIN * box.width)
    return Box(*(round(edge) for edge in grown)).clipped(subject.width, subject.height)


def scores(avatar: Avatar, subject: Subject, frames: int) -> dict[str, float]:
    """Of held-out frames, with their recorded gaze."""
    network, indices = Lpips.open("squeeze").to(avatar.device), pick_frames(subject, frames, evenly=True)
    errors, distances, whole = [], [], []

    def sized(image: Tensor) -> Tensor:
        return F.interpolate(image.permute(2, 0, 1)[None], (64, 160), mode="bilinear").permute(0, 2, 3, 1).contiguous()

    for index, image in zip(indices, reconstruct(avatar, subject, indices, None), strict=True):
        truth = torch.from_numpy(subject.target(int(index))).to(avatar.device).float() / 255.0
        whole.append(float((image - truth).square().mean()))
        part = eyes(subject, int(index)).index
        errors.append(float((image[part] - truth[part]).square().mean()))
        with torch.no_grad():
            distances.append(float(lpips(network, sized(image[part]), sized(truth[part]))))
    return {
        "eyes_psnr": float(-10 * np.log10(np.mean(errors))),
        "eyes_lpips": float(np.mean(distances)),
        "psnr": float(-10 * np.log10(np.mean(whole))),
    }


class Still:
    """An avatar in its usual pose, looking elsewhere."""

    def __init__(self, avatar: Avatar, subject: Subject) -> None:
        self.at = usual_pose(avatar.viewmats, avatar.aus)
        here = slice(self.at, self.at + 1)
        sound = torch.from_numpy(subject.audio_features(avatar.audio_features)).to(avatar.device)
        plate = torch.from_numpy(np.array(avatar.background)).to(avatar.device).float() / 255.0
        torso = torch.from_numpy(avatar.torso(self.at)).to(avatar.device)[None]
        views, aus = (torch.from_numpy(each[here]).to(avatar.device) for each in (avatar.viewmats, avatar.aus))
        self._given = (
            views,
            audio_windows(sound, subject.train_indices[here]),
            aus,
            None,
            torso_over_plate(torso, plate),
        )
        self._avatar = avatar

    def image(self, gaze: np.ndarray) -> np.ndarray:
        """The frame, uint8."""
        look = torch.from_numpy(np.float32(gaze)[None]).to(self._avatar.device)
        rgb = self._avatar.render(*self._given, gaze=look).rgb[0]
        return (rgb * 255).round().byte().cpu().numpy()


def follow(
    show: Callable[[np.ndarray], np.ndarray],
    avatar: Avatar,
    subject: Subject,
    at: int,
    low: float,
    high: float,
    axis: int,
) -> dict[str, float]:
    """Irises that MediaPipe finds in frames against the gaze that was commanded along an axis, radians.

    Args:
        show: the frame with a gaze.
        at: number of its pose.
    """
    assert avatar.gaze is not None and subject.landmarks.shape is not None
    asked = np.tile(np.median(avatar.gaze, axis=0), (LOOKS, 1))
    asked[:, axis] = np.linspace(low, high, LOOKS)
    mesh, found = MediaPipeMesh(), []
    for gaze in asked:
        points = mesh.detect(show(gaze))
        found.append(np.full((478, 2), np.nan) if points is None else points[:, :2])
    mesh.close()
    views, size = np.repeat(avatar.viewmats[[at]], LOOKS, 0), (avatar.width, avatar.height)
    shape, opened = np.float64(subject.landmarks.shape), np.zeros(LOOKS)
    seen = measure_gaze(np.array(found, np.float64), views, avatar.scene.focal, size, shape, MEDIAPIPE_LAYOUT, opened)
    assert seen is not None
    return {
        "slope": float(np.polyfit(asked[:, axis], seen[:, axis], 1)[0]),
        "correlation": float(np.corrcoef(asked[:, axis], seen[:, axis])[0, 1]),
        "span_degrees": float(np.degrees(high - low)),
    }


def obeyed(avatar: Avatar, still: Still, subject: Subject) -> dict[str, dict[str, float]]:
    """How far irises follow: over the clip's range of each axis, and sideways to :data:`REACH`; ``read``: see above."""
    assert avatar.gaze is not None
    low, high = np.quantile(avatar.gaze, [0.02, 0.98], axis=0)
    results = {
        name: follow(still.image, avatar, subject, still.at, low[axis], high[axis], axis)
        for axis, name in enumerate("xy")
    }
    results["x_far"] = follow(still.image, avatar, subject, still.at, -REACH, REACH, 0)
    index = subject.train_indices[still.at : still.at + 1]
    data = TrainingData.load(subject, index, avatar.audio_features, "cpu")
    assert data.shape is not None and data.conditions.gaze is not None
    data.shape = convex_eyes(data.shape, data.layout)
    turn, recorded = Glances(data, REACH), data.conditions.gaze[0]

    def warped(gaze: np.ndarray) -> np.ndarray:
        aside = torch.tensor([gaze[0] - float(recorded[0]), 0.0], dtype=torch.float32)
        return (turn.turned(0, aside)[0] * 255).round().byte().numpy()

    return results | {"read": follow(warped, avatar, subject, still.at, -REACH, REACH, 0)}


def looks(avatar: Avatar, still: Still, part: Box) -> list[np.ndarray]:
    """Eyes from left to right, then up and down, as far as they may look."""
    eyes = eyes_of(avatar, 0)
    assert avatar.gaze is not None and eyes is not None
    usual, low, high = np.median(avatar.gaze, axis=0), eyes.low, eyes.high
    aside = [(x, usual[1]) for x in (low[0], (low[0] + usual[0]) / 2, usual[0], (usual[0] + high[0]) / 2, high[0])]
    return [still.image(np.array(place))[part.index] for place in (*aside, (usual[0], high[1]), (usual[0], low[1]))]


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    subject = Subject.open(args.subject)
    results: dict[str, Any] = {}
    rows: list[np.ndarray] = []
    for path in args.avatars:
        avatar = Avatar.load(path, args.device)
        name = path.parent.name if path.stem == "avatar" else path.stem
        results[name] = row = scores(avatar, subject, args.frames)
        if avatar.gaze is not None:
            still = Still(avatar, subject)
            row["obeyed"] = obeyed(avatar, still, subject)
            frame = int(subject.train_indices[still.at])
            part = eyes(subject, frame).grown(round(0.04 * avatar.width)).clipped(avatar.width, avatar.height)
            tiles = [subject.target(frame)[part.index], *looks(avatar, still, part)]
            tiles = [
                cv2.resize(np.ascontiguousarray(tile), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
                for tile in tiles
            ]
            rows.append(np.concatenate([np.concatenate(tiles[i : i + 4], 1) for i in (0, 4)]))
        print(name, row, flush=True)
    if args.sheet is not None and rows:
        write_image(args.sheet, np.concatenate(rows))
    write(args.name, results, args.out)


if __name__ == "__main__":
    main()
