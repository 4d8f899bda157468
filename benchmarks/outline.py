"""The head's outline: haze beside the head in turned poses and emotions, and what torso layers show where the head was.

    python benchmarks/outline.py SUBJECT [AVATAR ...] [--device cpu] [--frames 12] [--name outline]

Haze is alpha further than 12 px (of 512) from where the head covers more than half, in pixels of a frame: recorded
poses and those turned to the limits of live heads, without emotion, and recorded ones with the twelve test points. A
layer's error is taken where the head of its frame hides the body and that of another frame does not: the other frame,
aligned by the motion of collar and shoulders, is the truth; none of the frames is among those that layers are composed
of. The shoulders' error is that of the subject's layers over the plate within 2 px of the outline between body and
background, clear of the head, on held-out frames. Seam and outline on held-out frames are the metrics PSNR neck and
PSNR outline (benchmarks/sharpness.py); here the outline's squared error is told apart by what meets there, and by how
much of it moving each frame's head by one translation, or one affine motion, would take away (to first order, by the
recorded frame's gradients; that sees no shift of more than a pixel or two, and none of hair against face). ``poses``:
the same frames once more with each head pose fitted to its own frame, by three Gauss-Newton steps through the renderer:
what better poses could give.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch
from _report import arguments, write
from scipy.spatial.transform import Rotation

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.labels import BODY, WHOLE_HEAD, Label, mask_of
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.evaluate.metrics.image import OUTLINE, outline_band
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import torso_over_plate
from emotalking.player.idle import POSE_LIMITS
from emotalking.preprocess.hidden_body import SAMPLES, SEAM_PX, HiddenBody
from emotalking.preprocess.layers import torso_layer


def spread(count: int, size: int) -> list[int]:
    """``size`` of ``count`` indices, evenly."""
    return np.unique(np.linspace(0, count - 1, size).round().astype(int)).tolist()


def turned(viewmat: np.ndarray) -> list[np.ndarray]:
    """A camera, and those that see the head turned to each limit and to all."""
    yaw, pitch, roll = POSE_LIMITS.values()
    turns = [
        (0, 0, 0),
        (yaw, 0, 0),
        (-yaw, 0, 0),
        (0, pitch, 0),
        (0, -pitch, 0),
        (yaw, pitch, roll),
        (-yaw, -pitch, -roll),
    ]
    out = []
    for turn in turns:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("yxz", turn).as_matrix()
        out.append((viewmat @ matrix).astype(np.float32))
    return out


def haze(alpha: np.ndarray) -> tuple[float, float]:
    """Sum and largest value of the alpha that stands beside the head."""
    radius = max(1, round(OUTLINE * len(alpha)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    outside = alpha * (cv2.dilate((alpha > 0.5).astype(np.uint8), disc) == 0)
    return float(outside.sum()), float(outside.max())


def haze_of(avatar: Avatar, subject: Subject, frames: int) -> dict[str, dict[str, float]]:
    """Mean and largest haze of held-out frames as recorded, turned, and with emotions."""
    device = avatar.device
    sound = torch.from_numpy(subject.audio_features(avatar.audio_features)).to(device)
    found: dict[str, list[tuple[float, float]]] = {"recorded": [], "turned": [], "emotions": []}

    def put(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)[None]

    for place in spread(len(subject.val_indices), frames):
        index = int(subject.val_indices[place])
        window, units = audio_windows(sound, np.array([index])), put(subject.aus[index])
        recorded = subject.viewmats[index]
        conditions = [("recorded" if n == 0 else "turned", view, None) for n, view in enumerate(turned(recorded))]
        if avatar.emotional:
            conditions += [("emotions", recorded, put(np.array([p.valence, p.arousal]))) for p in TEST_POINTS]
        for kind, view, va in conditions:
            found[kind].append(haze(avatar.render(put(view), window, units, va).alpha[0].cpu().numpy()))
    return {
        kind: {
            "mean_px": float(np.mean(values, 0)[0]),
            "most_px": float(np.max(values, 0)[0]),
            "peak": float(np.max(values, 0)[1]),
        }
        for kind, values in found.items()
        if values
    }


def over_plate(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A straight RGBA layer over the background, [H, W, 3], grey levels."""
    alpha = layer[..., 3:] / 255.0
    return layer[..., :3] * alpha + plate * (1 - alpha)


def layer_errors(subject: Subject, frames: int) -> dict[str, float]:
    """Error of torso layers in grey levels at what other frames show of the body: continued alone, and composed."""
    taken = spread(subject.num_frames, SAMPLES)
    hidden = HiddenBody(lambda i: (subject.original(i), subject.masks(i).labels), taken)
    others = [i for i in spread(subject.num_frames, 2 * frames) if i not in taken]
    shown = {i: (subject.target(i), subject.masks(i).labels) for i in others}
    motions = {i: hidden.motion(image) for i, (image, _) in shown.items()}
    sums, count, plate = {"continued": 0.0, "composed": 0.0}, 0, subject.background
    for i in others[::2]:
        image, labels = shown[i]
        layers = {"continued": torso_layer(image, labels), "composed": torso_layer(image, labels, plate, hidden)}
        over = {name: over_plate(layer, plate) for name, layer in layers.items()}
        head, here = mask_of(labels, *WHOLE_HEAD), motions[i]
        for j in others:
            there = motions[j]
            if i == j or here is None or there is None:
                continue
            whole = [np.vstack([motion, [0, 0, 1]]) for motion in (here, there)]
            matrix = (whole[1] @ np.linalg.inv(whole[0]))[:2]
            truth, classes = shown[j]
            near = mask_of(classes, *WHOLE_HEAD)
            distance = cv2.distanceTransform((~near).astype(np.uint8), cv2.DIST_L2, 3)
            classes = np.where(distance > SEAM_PX * len(classes) / 512, classes, np.uint8(Label.HEAD))
            size = image.shape[1::-1]
            truth = cv2.warpAffine(truth, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            classes = cv2.warpAffine(classes, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
            where = head & mask_of(classes, *BODY)
            count += int(where.sum())
            for name, frame in over.items():
                sums[name] += float(np.abs(frame - truth).mean(-1)[where].sum())
    return {name: value / max(count, 1) for name, value in sums.items()} | {"pixels": count}


SHOULDER_PX, CLEAR_PX = 2, 14
"""Distance from the body's outline, and from the head at 512 px, of the shoulders' band."""


def shoulder_errors(subject: Subject, frames: int) -> dict[str, float]:
    """Absolute error in grey levels of the stored torso layers over the plate at the shoulders' outline."""
    plate, found = subject.background, []
    for index in np.asarray(subject.val_indices)[spread(len(subject.val_indices), frames)].tolist():
        labels, layer = subject.masks(index).labels, subject.torso(index)
        head, body, behind = mask_of(labels, *WHOLE_HEAD), mask_of(labels, *BODY), labels == Label.BACKGROUND
        to_head, to_body, to_background = (
            cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 5) for part in (head, body, behind)
        )
        band = (behind & (to_body <= SHOULDER_PX)) | (body & (to_background <= SHOULDER_PX))
        band &= to_head > CLEAR_PX * len(labels) / 512
        found.append(np.abs(over_plate(layer, plate) - subject.target(index)).mean(-1)[band])
    errors = np.concatenate(found)
    if not len(errors):
        return {"pixels": 0}
    return {"mean": float(errors.mean()), "worst_percent": float(np.percentile(errors, 99)), "pixels": len(errors)}


def outline_of(avatar: Avatar, subject: Subject, frames: int) -> dict[str, dict[str, float]]:
    """Squared error [grey levels^2] of the outline band of held-out frames, by what meets there.

    ``share``: of the band's whole error; ``pixels``: of its pixels; ``translation``, ``affine``: share of the part's
    error that a motion of each frame would take away.
    """
    indices = np.asarray(subject.val_indices)[spread(len(subject.val_indices), frames)]
    va = own_emotion(subject, indices) if avatar.head.emotion is not None else None
    found: dict[str, list[np.ndarray]] = {}
    for index, image in zip(indices.tolist(), reconstruct(avatar, subject, indices, va), strict=True):
        recorded, labels = np.asarray(subject.target(index), np.float64), subject.masks(index).labels
        error = 255.0 * image.cpu().numpy().astype(np.float64) - recorded
        gradients = np.stack([cv2.Sobel(recorded, cv2.CV_64F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))], -1)
        head = mask_of(labels, *WHOLE_HEAD)
        band, hair = outline_band(head), nearest(labels, head, Label.HAIR)
        body = nearest(labels, ~head, *BODY)
        rows, columns = np.nonzero(band)
        places = np.stack([np.ones(len(rows)), rows - rows.mean(), columns - columns.mean()], -1)
        flat, moves = error[band], gradients[band]
        residuals = {"whole": flat}
        for name, bases in (("translation", places[:, :1]), ("affine", places)):
            columns_of = (moves[..., None] * bases[:, None, None]).reshape(flat.size, -1)
            motion, *_ = np.linalg.lstsq(columns_of, flat.reshape(-1), rcond=None)
            residuals[name] = flat - (columns_of @ motion).reshape(flat.shape)
        squares = np.stack([np.square(residual).mean(-1) for residual in residuals.values()], -1)
        for inner, inside in (("hair", hair), ("face", ~hair)):
            for outer, outside in (("background", ~body), ("body", body)):
                found.setdefault(f"{inner} and {outer}", []).append(squares[(inside & outside)[band]])
    every = {name: np.concatenate(parts) for name, parts in found.items()}
    every["all"] = np.concatenate(list(every.values()))
    sums = {name: rows.sum(0) for name, rows in every.items()}
    return {
        name: {
            "pixels": len(rows) / len(every["all"]),
            "mean": float(rows[:, 0].mean()),
            "share": float(sums[name][0] / sums["all"][0]),
            "translation": float(1 - sums[name][1] / sums[name][0]),
            "affine": float(1 - sums[name][2] / sums[name][0]),
        }
        for name, rows in every.items()
        if len(rows)
    }


STEPS = np.array([0.004, 0.004, 0.004, 0.001, 0.001, 0.002])
"""Turn [rad] and shift [world units] by which a pose's derivatives are taken."""
LIPS_PX = 6
"""Pixels around the lips that poses are not fitted to."""


def fitted(render: Callable[[np.ndarray], np.ndarray], recorded: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Turn and shift, in :data:`STEPS`, of the head that bring ``render`` of them nearest to ``recorded`` (L1)."""
    place, image = np.zeros(6), render(np.zeros(6))
    for _ in range(3):
        residual = (image - recorded)[region].ravel()
        columns = [(render(place + axis) - image)[region].ravel() for axis in np.eye(6)]
        jacobian = np.stack(columns, 1)
        weighted = jacobian / np.maximum(np.abs(residual), 0.02)[:, None]
        normal = weighted.T @ jacobian
        step = np.linalg.solve(normal + 1e-3 * np.diag(np.diag(normal)), -weighted.T @ residual)
        nearer = render(place + step)
        if np.abs((nearer - recorded)[region]).mean() >= np.abs(residual).mean():
            break
        place, image = place + step, nearer
    return place


def poses_of(avatar: Avatar, subject: Subject, frames: int) -> dict[str, float]:
    """Squared error [grey levels^2] of the outline band with recorded and with fitted poses, and how these differ."""
    strict = replace(avatar, lips="strict", skin=False)
    sound = torch.from_numpy(subject.audio_features(avatar.audio_features)).to(avatar.device)
    plate = torch.from_numpy(np.array(subject.background)).to(avatar.device) / 255.0
    rows = []
    for index in np.asarray(subject.val_indices)[spread(len(subject.val_indices), frames)].tolist():
        recorded, labels = subject.target(index) / 255.0, subject.masks(index).labels
        head, lips = mask_of(labels, *WHOLE_HEAD), subject.lips_rect(index).grown(LIPS_PX)
        region = cv2.dilate(head.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        region[lips.clipped(subject.width, subject.height).index] = False
        torso = torch.from_numpy(np.array(subject.torso(index))).to(avatar.device)
        behind = torso_over_plate(torso, plate)[None]
        tables = (subject.aus, subject.valence_arousal if avatar.emotional else None, subject.gaze)
        aus, va, gaze = (
            None if table is None else torch.from_numpy(np.float32(table[index])).to(avatar.device)[None]
            for table in tables
        )
        assert aus is not None
        window = audio_windows(sound, np.array([index]))

        def render(
            place: np.ndarray, index: int = index, window: torch.Tensor = window, aus: torch.Tensor = aus,
            va: torch.Tensor | None = va, gaze: torch.Tensor | None = gaze, behind: torch.Tensor = behind,
        ) -> np.ndarray:  # fmt: skip
            matrix = np.eye(4)
            matrix[:3, :3] = Rotation.from_rotvec((place * STEPS)[:3]).as_matrix()
            matrix[:3, 3] = (place * STEPS)[3:]
            view = torch.from_numpy(np.float32(subject.viewmats[index] @ matrix)).to(avatar.device)[None]
            return strict.render(view, window, aus, va, behind, gaze=gaze).rgb[0].cpu().numpy().astype(np.float64)

        place, band = fitted(render, recorded, region), outline_band(head)
        errors = [255.0**2 * np.square(render(each) - recorded)[band].mean() for each in (np.zeros(6), place)]
        turn, shift = np.degrees((place * STEPS)[:3]), 1000.0 * (place * STEPS)[3:]
        rows.append([*errors, float(np.linalg.norm(turn)), float(np.linalg.norm(shift))])
    names = ("recorded", "fitted", "turn_deg", "shift_mm")
    return dict(zip(names, np.mean(rows, 0).tolist(), strict=True))


def nearest(labels: np.ndarray, among: np.ndarray, *classes: Label) -> np.ndarray:
    """Pixels whose nearest pixel of ``among`` is one of ``classes``."""
    here, there = among & mask_of(labels, *classes), among & ~mask_of(labels, *classes)
    distances = [cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 5) for part in (here, there)]
    return distances[0] <= distances[1]


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    subject = Subject.open(args.subject)
    report = {"layers": layer_errors(subject, args.frames), "shoulders": shoulder_errors(subject, args.frames)}
    print(report, flush=True)
    report |= {"haze": {}, "outline": {}, "poses": {}}
    for file in args.avatars:
        avatar = Avatar.load(file, args.device)
        report["haze"][file.name] = haze_of(avatar, subject, args.frames)
        report["outline"][file.name] = outline_of(avatar, subject, args.frames)
        report["poses"][file.name] = poses_of(avatar, subject, args.frames)
        print(file, *(report[part][file.name] for part in ("haze", "outline", "poses")), flush=True)
    write(args.name, {"subject": args.subject.name, "frames": args.frames} | report)


if __name__ == "__main__":
    main()
