"""Whether teeth slide: vertical motion of what the mouth branch holds, by its place between upper and lower lip.

    python benchmarks/teeth.py AVATAR SUBJECT [--name teeth]

On held-out frames, driven by their own sound: standard deviation of the height of the mouth's Gaussians (opacity above
.3), in thousandths of the distance between the eyes and without the head's own motion. Upper teeth belong to the skull,
so theirs should be 0; lower ones follow the jaw, as the lower lip does, which is printed beside. And PSNR of the pixels
that show the inside of the mouth.
"""

import numpy as np
import torch
from _report import arguments, write

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.models.avatar import Avatar
from emotalking.train.initial import OPEN_PERCENTILE

PARTS = {"above the upper lip": (-0.5, 0.0), "upper": (0.0, 0.25), "middle": (0.25, 0.75), "lower": (0.75, 1.5)}
"""Places between the resting upper lip (0) and the lower lip of the open mouth (1)."""
LEAST_PIXELS = 10
OPAQUE = 0.3


@torch.no_grad()
def motion(avatar: Avatar, subject: Subject, indices: np.ndarray) -> dict[str, float]:
    """Deviation of heights, thousandths of the distance between the eyes."""
    track, head = subject.landmarks, avatar.head
    assert track.shape is not None, "the subject has no tracked shape"
    shape = torch.from_numpy(np.float32(track.shape))[list(track.layout.ibug68)]
    sound = audio_windows(torch.from_numpy(subject.audio_features(avatar.audio_features)), indices)
    aus = torch.from_numpy(np.float32(subject.aus[indices]))
    mouth, means = head.mouth, head.mouth.gaussians.means
    eyes = float((shape[[42, 45]].mean(0) - shape[[36, 39]].mean(0)).norm())
    moved = mouth.motion(means, mouth.audio(sound))["d_means"][..., 1].std(0) / eyes * 1e3
    lips = head.face.motion(head.face.motion.canonical(shape[[62, 66]]), head.face.audio(sound), aus)["d_means"]
    upper, lower = (lips[..., 1].std(0) / eyes * 1e3).tolist()
    points = track.ibug68[subject.train_indices]
    gap = np.nanpercentile(np.linalg.norm(points[:, 66] - points[:, 62], axis=-1), OPEN_PERCENTILE)
    between = np.nanmean(np.linalg.norm(points[:, [42, 45]].mean(1) - points[:, [36, 39]].mean(1), axis=-1))
    place = (shape[62, 1] - means[:, 1]) / (float(gap / between) * eyes)
    seen = mouth.gaussians.opacities.flatten() > OPAQUE
    found = {"upper lip": upper, "lower lip": lower}
    for name, (low, high) in PARTS.items():
        inside = seen & (place >= low) & (place < high)
        if inside.any():
            found[name] = float(moved[inside].mean())
    return found


def mouth_psnr(avatar: Avatar, subject: Subject, indices: np.ndarray) -> float:
    """Over all pixels of the mouth's inside, of frames that show some."""
    va = own_emotion(subject, indices) if avatar.head.emotional else None
    error, count = 0.0, 0
    for index, frame in zip(indices, reconstruct(avatar, subject, indices, va), strict=True):
        inside = torch.from_numpy(subject.masks(int(index)).labels == int(Label.MOUTH))
        if int(inside.sum()) >= LEAST_PIXELS:
            target = torch.from_numpy(subject.target(int(index))).float() / 255.0
            error += float((frame.cpu() - target)[inside].square().sum())
            count += 3 * int(inside.sum())
    return float(-10.0 * np.log10(error / count)) if count else float("nan")


def main() -> None:
    args = arguments(__doc__)
    avatar, subject = Avatar.load(args.avatar), Subject.open(args.subject)
    indices = np.asarray(subject.val_indices)
    found = motion(avatar, subject, indices) | {"psnr of the mouth's inside": mouth_psnr(avatar, subject, indices)}
    for name, value in found.items():
        print(f"{name:<28} {value:.2f}")
    write(args.name, {"subject": subject.files.root.name, "frames": len(indices), "found": found})


if __name__ == "__main__":
    main()
