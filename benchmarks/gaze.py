"""Eyes that look: what the gaze as an input of the face gives to the eyes of held-out frames, and whether it is obeyed.

python benchmarks/gaze.py SUBJECT AVATAR... [--device cuda] [--frames 200] [--name gaze] [--sheet eyes.png]

The avatars were trained on SUBJECT, for example with `--set model.gaze=true` and `false`. Per avatar: PSNR (of the mean
squared error) and LPIPS of the box around both eyes of held-out frames, and PSNR of the whole frame; and where the
avatar has a gaze, the slope and correlation of the irises that MediaPipe finds in rendered frames against the gaze that
was commanded, over the range of the clip. The sheet shows the recorded frame, then each avatar with its usual gaze and
looking left, right, up and down as far as the clip shows it.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from _report import RESULTS, write
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
from emotalking.player.poses import usual_pose
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh

MARGIN = 0.12
"""Of the distance between the outer corners of the eyes, around them."""
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


def obeyed(avatar: Avatar, still: Still, subject: Subject) -> dict[str, dict[str, float]]:
    """Irises in rendered frames against the commanded gaze, by axis."""
    assert avatar.gaze is not None and subject.landmarks.shape is not None
    low, high = np.quantile(avatar.gaze, [0.02, 0.98], axis=0)
    usual, results = np.median(avatar.gaze, axis=0), {}
    for axis, name in enumerate("xy"):
        asked = np.tile(usual, (LOOKS, 1))
        asked[:, axis] = np.linspace(low[axis], high[axis], LOOKS)
        mesh, found = MediaPipeMesh(), []
        for gaze in asked:
            points = mesh.detect(still.image(gaze))
            found.append(np.full((478, 2), np.nan) if points is None else points[:, :2])
        mesh.close()
        views, size = np.repeat(avatar.viewmats[[still.at]], LOOKS, 0), (avatar.width, avatar.height)
        shape, opened = np.float64(subject.landmarks.shape), np.zeros(LOOKS)
        seen = measure_gaze(
            np.array(found, np.float64), views, avatar.scene.focal, size, shape, MEDIAPIPE_LAYOUT, opened
        )
        assert seen is not None
        slope = float(np.polyfit(asked[:, axis], seen[:, axis], 1)[0])
        correlation = float(np.corrcoef(asked[:, axis], seen[:, axis])[0, 1])
        span = float(np.degrees(high[axis] - low[axis]))
        results[name] = {"slope": slope, "correlation": correlation, "span_degrees": span}
    return results


def looks(avatar: Avatar, still: Still, part: Box) -> list[np.ndarray]:
    """Eyes with the usual gaze, and to the left, right, up and down."""
    assert avatar.gaze is not None
    usual, (low, high) = np.median(avatar.gaze, axis=0), np.quantile(avatar.gaze, [0.01, 0.99], axis=0)
    places = [usual, (low[0], usual[1]), (high[0], usual[1]), (usual[0], high[1]), (usual[0], low[1])]
    return [still.image(np.array(place))[part.index] for place in places]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("avatars", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--name", default="gaze")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    args = parser.parse_args()
    subject = Subject.open(args.subject)
    results: dict[str, Any] = {}
    rows: list[np.ndarray] = []
    for path in args.avatars:
        avatar = Avatar.load(path, args.device)
        results[path.stem] = row = scores(avatar, subject, args.frames)
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
            rows.append(np.concatenate([np.concatenate(tiles[i : i + 2], 1) for i in (0, 2, 4)]))
        print(path.stem, row, flush=True)
    if args.sheet is not None and rows:
        write_image(args.sheet, np.concatenate(rows))
    write(args.name, results, args.out)


if __name__ == "__main__":
    main()
