"""Train a subject with a preset and score its held-out frames, against the same avatar with its motion frozen.

python benchmarks/train_quality.py SUBJECT AVATAR [--preset fast] [--device cpu] [--set KEY=VALUE ...]
"""

import time

import torch
from _report import arguments, write

from emotalking.data import Subject
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.train.run import train


def main() -> None:
    args = arguments(__doc__)
    begin = time.process_time()
    made = train(args.subject, args.avatar, args.preset, args.device, args.set, resume=False)
    cpu_seconds = time.process_time() - begin
    subject = Subject.open(args.subject)
    with_emotion = evaluate_held_out(made.avatar, subject).summary()
    without_emotion = evaluate_held_out(made.avatar, subject, emotion=False).summary()
    gaussians = {"face": made.avatar.head.face.gaussians.count, "mouth": made.avatar.head.mouth.gaussians.count}
    with torch.no_grad():
        for motion in (made.avatar.head.face.motion, made.avatar.head.mouth.motion):
            for weight in motion.trunk.parameters():
                weight.zero_()
    made.avatar.to(args.device)
    still = evaluate_held_out(made.avatar, subject, emotion=False).summary()
    results = {
        "preset": args.preset,
        "settings": args.set,
        "stage_seconds": made.stage_seconds,
        "total_seconds": sum(made.stage_seconds.values()),
        "cpu_seconds": cpu_seconds,
        "gaussians": gaussians,
        "held_out": with_emotion,
        "held_out_without_emotion": without_emotion,
        "held_out_motion_frozen": still,
        "head_error_ratio": 10 ** ((with_emotion["psnr_head"] - still["psnr_head"]) / 10),
    }
    if torch.cuda.is_available():
        results["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    print(write(f"train_{args.preset}_{torch.device(args.device).type}", results).read_text())


if __name__ == "__main__":
    main()
