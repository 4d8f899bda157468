"""Our metrics against public implementations, on real and on made pictures; the rest against their definitions.

python benchmarks/metric_agreement.py SUBJECT [--public FOLDER]

FOLDER: where ``pip install --target FOLDER --no-deps scikit-image lazy-loader torchmetrics lightning-utilities lpips``
put the public ones (none is a dependency); what cannot be imported is said, not skipped in silence (piq and lpips
import torchvision). torchmetrics' SSIM is compared with ours on mirrored borders, its own definition. LPIPS needs the
backbone's weights in the model folder; the public package takes its own heads and the same backbone. Nothing that can
be installed measures LMD, Sync-E or Sync-C: they are calculated once more in plain loops from their definitions, LMD on
the subject's landmarks of neighbouring frames, sync on made vectors that agree best three frames apart.
"""

import sys
from collections.abc import Callable
from importlib.metadata import distributions
from typing import Any

import numpy as np
import torch
from _report import arguments, write

from emotalking.data import Subject
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.metrics.image import psnr, ssim
from emotalking.evaluate.metrics.lips import landmark_distance
from emotalking.lipsync.scores import sync_scores
from emotalking.networks.registry import model_path
from emotalking.networks.weights import read_weights
from emotalking.ops.reference.ssim import RADIUS

PAIRS = 6


def pictures(subject: Subject) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs in [0, 1]: neighbours, far frames, and a frame with noise."""
    frames = [subject.target(int(i)) / 255 for i in np.linspace(0, subject.num_frames - 2, PAIRS).round()]
    following = subject.target(1) / 255
    noise = np.random.default_rng(0).normal(0, 0.05, frames[0].shape)
    pairs = {"neighbours": (frames[0], following), "noise": (frames[0], np.clip(frames[0] + noise, 0, 1))}
    pairs |= {f"far {i}": (frames[0], frames[i]) for i in range(1, PAIRS)}
    return {name: (a.astype(np.float32), b.astype(np.float32)) for name, (a, b) in pairs.items()}


def mirrored(image: torch.Tensor) -> torch.Tensor:
    """A picture continued by its mirror image, so that windows centred on its border are whole."""
    return torch.nn.functional.pad(image.permute(2, 0, 1), (RADIUS,) * 4, mode="reflect").permute(1, 2, 0)


def ours() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Our metrics on arrays."""
    distance = EvaluationModels.open().lpips

    def of(metric: Callable[..., torch.Tensor]) -> Callable[[np.ndarray, np.ndarray], float]:
        return lambda a, b: float(metric(torch.from_numpy(a), torch.from_numpy(b)))

    found = {"psnr": of(psnr), "ssim": of(ssim), "ssim mirrored": of(lambda a, b: ssim(mirrored(a), mirrored(b)))}
    if distance is not None and distance.name == "LPIPS (squeeze)":
        found["lpips squeeze"] = of(lambda a, b: distance(a[None], b[None])[0])
    return found


def skimage() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """scikit-image's."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # pyright: ignore

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return float(structural_similarity(a, b, data_range=1.0, channel_axis=-1, **settings))

    return {"psnr": lambda a, b: float(peak_signal_noise_ratio(b, a, data_range=1.0)), "ssim": similarity}


def torchmetrics() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """torchmetrics' functions."""
    from torchmetrics.functional.image import (  # pyright: ignore
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    def of(metric: Callable[..., Any]) -> Callable[[np.ndarray, np.ndarray], float]:
        def run(a: np.ndarray, b: np.ndarray) -> float:
            first, second = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b))
            return float(metric(first, second, data_range=1.0))

        return run

    return {"psnr": of(peak_signal_noise_ratio), "ssim mirrored": of(structural_similarity_index_measure)}


def piq() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """piq's functions, its SSIM without the halving of large pictures."""
    from piq import psnr as their_psnr  # pyright: ignore
    from piq import ssim as their_ssim  # pyright: ignore

    def tensors(a: np.ndarray, b: np.ndarray) -> list[torch.Tensor]:
        return [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b)]

    return {
        "psnr": lambda a, b: float(their_psnr(*tensors(a, b), data_range=1.0)),
        "ssim": lambda a, b: float(their_ssim(*tensors(a, b), data_range=1.0, downsample=False)),
    }


def lpips() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """The authors' package with the model folder's backbone."""
    import lpips as package  # pyright: ignore

    network = package.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    weights = read_weights(model_path("squeezenet"))
    for name, tensor in network.net.state_dict().items():
        layer = name.split(".", 1)[1]  # "slice3.5.squeeze.weight": the layer keeps its number
        tensor.copy_(weights[f"features.{layer}"])

    def run(a: np.ndarray, b: np.ndarray) -> float:
        first, second = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b))
        with torch.no_grad():
            return float(network(first, second, normalize=True))

    return {"lpips squeeze": run}


def landmark_distance_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """LMD of [N, 68, 2]: points 48-67, each set less its own mean; mean length of the differences (TalkingGaussian)."""
    total, count = 0.0, 0
    for one, other in zip(a, b, strict=True):
        centres = [sum(points[48:68]) / 20 for points in (one, other)]
        for k in range(48, 68):
            (x, y), (u, v) = one[k] - centres[0], other[k] - centres[1]
            total, count = total + ((x - u) ** 2 + (y - v) ** 2) ** 0.5, count + 1
    return total / count


def sync_by_hand(lips: np.ndarray, sound: np.ndarray, reach: int) -> tuple[float, float]:
    """Sync-E and Sync-C of [N, D] vectors: zeros beyond the ends, as in SyncNet's evaluation."""
    means = []
    for shift in range(-reach, reach + 1):
        lengths = []
        for at in range(len(lips)):
            other = sound[at + shift] if 0 <= at + shift < len(sound) else np.zeros_like(sound[0])
            lengths.append(float(np.sqrt(((lips[at] - other + 1e-6) ** 2).sum())))
        means.append(sum(lengths) / len(lengths))
    ordered = sorted(means)
    return ordered[0], ordered[len(ordered) // 2] - ordered[0]


def by_definition(subject: Subject) -> dict[str, Any]:
    """Ours and the same by hand."""
    seen = np.flatnonzero(subject.landmarks.detected)[:200]
    points = subject.landmarks.ibug68[seen].astype(np.float64)
    generator = np.random.default_rng(0)
    sound = generator.normal(size=(120, 1024))
    lips = 0.5 * np.roll(sound, -3, axis=0) + generator.normal(size=sound.shape)
    scores = sync_scores(torch.from_numpy(lips), torch.from_numpy(sound), expert="made")
    error, confidence = sync_by_hand(lips, sound, scores.vshift)
    ours_lmd = float(np.mean(landmark_distance(points[:-1], points[1:])))
    pairs = {
        "lmd": (ours_lmd, landmark_distance_by_hand(points[:-1], points[1:])),
        "sync_e": (scores.error, error),
        "sync_c": (scores.confidence, confidence),
    }
    for name, (ours_value, by_hand) in pairs.items():
        print(f"{name:14s} by definition ours {ours_value:.6f}, by hand {by_hand:.6f}; {abs(ours_value - by_hand):.2e}")
    return {name: {"ours": a, "by_hand": b, "difference": abs(a - b)} for name, (a, b) in pairs.items()}


def main() -> None:
    args = arguments(__doc__)
    if args.public is not None:
        sys.path.append(str(args.public))
    subject = Subject.open(args.subject)
    pairs, own = pictures(subject), ours()
    mine = {metric: {name: run(*pair) for name, pair in pairs.items()} for metric, run in own.items()}
    rows: dict[str, Any] = {"ours": mine, "public": {}, "not importable": {}}
    for package in (skimage, torchmetrics, piq, lpips):
        try:
            metrics = package()
        except ImportError as error:
            rows["not importable"][package.__name__] = str(error)
            print(f"{package.__name__}: cannot be imported ({error})")
            continue
        for metric in metrics.keys() & mine.keys():
            theirs = {name: metrics[metric](*pair) for name, pair in pairs.items()}
            worst = max(abs(theirs[name] - mine[metric][name]) for name in pairs)
            rows["public"][f"{metric}, {package.__name__}"] = {"values": theirs, "largest_difference": worst}
            example = f"ours {mine[metric]['far 1']:.5f}, theirs {theirs['far 1']:.5f}"
            print(f"{metric:14s} {package.__name__:13s} {example}; largest difference {worst:.2e}")
    rows["by definition"] = by_definition(subject)
    names = {"scikit-image", "torchmetrics", "piq", "lpips", "torchvision"}
    rows["versions"] = {d.name: d.version for d in distributions() if d.name in names}
    print(write("metric_agreement", rows))


if __name__ == "__main__":
    main()
