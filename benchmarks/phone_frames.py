"""Share of frames whose strongest phone in the features "phones" is the spoken one, on clips whose words are known.

EMOTALKING_DATA=DIR python benchmarks/phone_frames.py   (DIR/clips/grid_s1: GRID corpus, *.mpg with *.align)

Truth: pocketsphinx's forced alignment of the known words, so errors of the alignment count as ours. Steps of 20 ms in
which a phone is aligned count. Baselines of the same run: always the most frequent phone, and pocketsphinx's own phone
decoder (its phone language model; silence counts as wrong). Also: the correlation of our cepstra with those that
pocketsphinx computes, which include its tracking of noise (its model's settings overrule a decoder's).
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pocketsphinx
from _report import write

from emotalking.audio import phones
from emotalking.audio.features import feature_track
from emotalking.audio.mel import Counted
from emotalking.audio.phones_model import SILENT, acoustic_model
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.progress import track

Segments = list[tuple[str, int, int]]
"""Phone, first frame of 10 ms and the one behind the last."""
WIDE = {"beam": 1e-100, "wbeam": 1e-80, "pbeam": 1e-100}


def decode(samples: np.ndarray, decoder: Any) -> None:
    decoder.start_utt()
    decoder.process_raw(np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()


def aligned(samples: np.ndarray, words: Iterable[str]) -> Segments | None:
    """Phones of the known words; None where no path goes through them."""
    decoder = pocketsphinx.Decoder(pocketsphinx.Config(lm=None, loglevel="FATAL", cmn="batch", **WIDE))
    decoder.set_align_text(" ".join(words))
    try:
        decode(samples, decoder)
        if not decoder.hyp():
            return None
        decoder.set_alignment()
        decode(samples, decoder)
    except RuntimeError:  # no path was left at the end
        return None
    return [
        (phone.name, phone.start, phone.start + phone.duration) for word in decoder.get_alignment() for phone in word
    ]


def decoded(samples: np.ndarray) -> Segments:
    """Output of pocketsphinx's phone decoder."""
    model = pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin")
    config = pocketsphinx.Config(
        allphone=model, lw=2.0, beam=1e-20, pbeam=1e-20, lm=None, loglevel="FATAL", cmn="batch"
    )
    decoder = pocketsphinx.Decoder(config)
    decode(samples, decoder)
    return [(segment.word, segment.start_frame, segment.end_frame + 1) for segment in decoder.seg()]


def labels(segments: Segments, steps: int, names: list[str]) -> np.ndarray:
    """Phone's number of each step of 20 ms, -1 for none; their frame 2 s is 3 ms after the middle of our step s."""
    frames = np.full(2 * steps, -1)
    for name, start, stop in segments:
        frames[start:stop] = names.index(name) if name in names else -1
    return frames[::2]


def their_cepstra(samples: np.ndarray) -> np.ndarray:
    """Cepstra as pocketsphinx logs them."""
    with tempfile.TemporaryDirectory() as folder:
        config = pocketsphinx.Config(mfclogdir=folder, loglevel="FATAL", cmn="none")
        decode(samples, pocketsphinx.Decoder(config))
        content = next(Path(folder).glob("*.mfc")).read_bytes()
    order = "<" if 4 * int(np.frombuffer(content, "<i4", 1)[0]) == len(content) - 4 else ">"
    return np.frombuffer(content, f"{order}f4", offset=4).reshape(-1, phones.CEPSTRA)


def likeness(samples: np.ndarray) -> np.ndarray:
    """Correlation of each cepstrum with theirs over time."""
    theirs = their_cepstra(samples)
    # Ours begin a little before the sound, so that they are centred on the steps of 20 ms: cut that off.
    counted = Counted([samples[phones.LEAD :]])
    power = np.concatenate(list(phones.iter_power(counted)))
    ours = phones.cepstra(power, np.full(phones.BANDS, 1e-14, np.float32))
    count = min(len(ours), len(theirs)) - 2
    pairs = zip(ours[1:count].T, theirs[1:count].T, strict=True)
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])


def main() -> None:
    """Measure, print, write ``results/phone_frames.json``."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    names = [phone for phone in acoustic_model().phones if phone not in SILENT]
    clips = sorted((Path(os.environ["EMOTALKING_DATA"]) / "clips" / "grid_s1").glob("*.align"))
    truth, ours, theirs, alike = [], [], [], []
    lost = 0
    for path in track(clips, "phones"):
        samples = load_audio(path.with_suffix(".mpg"))
        words = [line.split()[2] for line in path.read_text().splitlines()]
        segments = aligned(samples, [word for word in words if word not in ("sil", "sp")])
        if segments is None:
            lost += 1
            continue
        values = feature_track(samples, "phones").values
        truth.append(labels(segments, len(values), names))
        ours.append(values[: len(values)].argmax(1))
        theirs.append(labels(decoded(samples), len(values), names))
        alike.append(likeness(samples))
    said = np.concatenate(truth)
    spoken = said >= 0
    right = {
        "ours": float((np.concatenate(ours) == said)[spoken].mean()),
        "most frequent phone": float(np.bincount(said[spoken]).max() / spoken.sum()),
        "pocketsphinx's phone decoder": float((np.concatenate(theirs) == said)[spoken].mean()),
    }
    results: dict[str, Any] = {"clips": len(clips), "not_aligned": lost, "steps": int(spoken.sum()), "right": right}
    for name, share in right.items():
        print(f"{name:<30} {share:.1%} of {spoken.sum()} steps right")
    median = np.median(alike, 0)
    results["cepstra_against_theirs"] = [float(value) for value in median]
    print(f"cepstra: correlation with pocketsphinx's {median.min():.3f} to {median.max():.3f} (median over the clips)")
    results["sample_rate"] = SAMPLE_RATE
    print(write("phone_frames", results | {"command": "EMOTALKING_DATA=DIR python benchmarks/phone_frames.py"}))


if __name__ == "__main__":
    main()
