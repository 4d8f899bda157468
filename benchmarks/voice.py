"""How good are the offline voices, and are the times of their phonemes right?

python benchmarks/voice.py [--out FOLDER]

The curated English sentences and twenty more, by hibari's voice and by espeak-ng's first two. Per voice:

- seconds of computation per second of speech (after the first call) on one thread;
- level: RMS over the loud half of the steps, peak, samples at full scale, dBFS; silence before and behind the words, s;
- words per minute between the first word and the last;
- phone error rate of the recogniser behind the default audio features (package hama, greedy CTC) against the
  synthesizer's own phonemes, and word error rate of pocketsphinx with its own language model: how much is speech;
- phonemes' starts and ends less those of a forced alignment by pocketsphinx, for the phonemes on which both
  pronunciations agree (median, and median of the absolute difference from it, ms).
"""

import difflib
import re
import time

import numpy as np
import torch
from _report import arguments, write
from hama.vocab import Vocabulary
from jaxtyping import Float
from pocketsphinx import Decoder

from emotalking.audio.hama_model import hama_network
from emotalking.io.audio import SAMPLE_RATE
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.base import Utterance
from emotalking.tts.phonemes import inventory
from emotalking.tts.sentences import curated

VOICES = (("hibari", "heart"), ("espeak", "m3"), ("espeak", "f2"))
RATES = (1.0, 0.8, 1.3)
SENTENCES = (
    "My sister keeps three green boats near the old harbor.",
    "He poured hot coffee into a thin blue cup.",
    "The children laughed when the puppy chased its tail.",
    "We should leave before the storm reaches the valley.",
    "Every morning the baker opens his shop at six.",
    "The judge asked both men to tell the truth.",
    "A large yellow van blocked the narrow street.",
    "Please bring your own shoes and a warm jacket.",
    "They found a small box under the wooden floor.",
    "The garden looks lovely after a week of rain.",
    "Her voice was calm, but her hands were shaking.",
    "I would rather walk than wait for another bus.",
    "The new bridge will be finished by next July.",
    "Fresh bread smells best when you are hungry.",
    "The teacher wrote five long words on the board.",
    "Nobody knew why the lights went out that night.",
    "Put the brown bag behind the chair, if you can.",
    "The ship turned south and vanished in the fog.",
    "She plays the violin with great joy and patience.",
    "Our neighbor sold his farm and moved to the city.",
)
ARPA = {
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "tʃ": "CH", "dʒ": "JH", "f": "F", "v": "V", "θ": "TH",
    "ð": "DH", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "h": "HH", "m": "M", "n": "N", "ŋ": "NG", "l": "L", "ɹ": "R",
    "j": "Y", "w": "W", "iː": "IY", "ɪ": "IH", "eɪ": "EY", "ɛ": "EH", "æ": "AE", "ɑː": "AA", "ɔː": "AO", "oʊ": "OW",
    "ʊ": "UH", "uː": "UW", "ʌ": "AH", "ə": "AH", "ɝ": "ER", "aɪ": "AY", "aʊ": "AW", "ɔɪ": "OY",
}  # fmt: skip


def plain_words(text: str) -> list[str]:
    """Words as in pocketsphinx's dictionary."""
    return re.findall(r"[a-z']+", text.lower().replace("’", "'").replace("é", "e"))


def sphinx_phones(text: str, samples: Float[np.ndarray, " n"]) -> list[tuple[str, float, float]]:
    """Phones with start and end, by forced alignment."""
    decoder = Decoder(lm=None, loglevel="FATAL")
    decoder.set_align_text(" ".join(plain_words(text)))
    try:
        _decode(decoder, samples)
        decoder.set_alignment()
        _decode(decoder, samples)
    except RuntimeError:  # it finds no path
        return []
    found = [phone for word in decoder.get_alignment() for phone in word]
    return [(each.name, each.start / 100, (each.start + each.duration) / 100) for each in found if each.name != "SIL"]


def heard_words(samples: Float[np.ndarray, " n"]) -> list[str]:
    """Words that pocketsphinx understands."""
    decoder = Decoder(loglevel="FATAL")
    _decode(decoder, samples)
    hypothesis = decoder.hyp()
    return hypothesis.hypstr.split() if hypothesis else []


def _decode(decoder: Decoder, samples: Float[np.ndarray, " n"]) -> None:
    decoder.start_utt()
    decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()


def heard_phones(samples: Float[np.ndarray, " n"], names: list[str]) -> list[str]:
    """Phones that hama's recogniser hears: greedy decoding, the best path's repetitions and blanks left out."""
    best = hama_network().log_posteriors(torch.from_numpy(samples.copy())[None])[0].argmax(1).tolist()
    return [names[each] for place, each in enumerate(best) if place == 0 or best[place - 1] != each]


def distance(said: list[str], heard: list[str]) -> int:
    """Levenshtein's."""
    row = list(range(len(heard) + 1))
    for i, wanted in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != got))
    return row[-1]


def as_arpa(labels: list[str]) -> list[str]:
    """IPA as the phones of pocketsphinx; what is no English phoneme is left out."""
    english = inventory("en")
    return [ARPA[phoneme] for label in labels for phoneme in english.split(label.replace("͡", ""))[0]]


def differences(utterance: Utterance) -> list[tuple[float, float]]:
    """Start and end of each phoneme less those of the forced alignment, s."""
    english = inventory("en")
    own = [
        (ARPA[parts[0]], each) for each in utterance.phonemes or () if len(parts := english.split(each.label)[0]) == 1
    ]
    aligned = sphinx_phones(utterance.text, utterance.samples)
    blocks = difflib.SequenceMatcher(None, [name for name, _ in own], [name for name, *_ in aligned], autojunk=False)
    found = []
    for block in blocks.get_matching_blocks():
        for (_, mine), (_, start, end) in zip(own[block.a :][: block.size], aligned[block.b :], strict=False):
            found.append((mine.start_s - start, mine.end_s - end))
    return found


def timing(utterances: list[Utterance]) -> dict[str, float]:
    """Agreement of the phonemes' times with the forced alignment."""
    errors = 1000.0 * np.array([pair for each in utterances for pair in differences(each)])
    median = np.median(errors, 0)
    spread = np.median(np.abs(errors - median), 0)
    within = (np.abs(errors) <= 40.0).mean(0)
    return {
        "phonemes": len(errors),
        "start_median_ms": float(median[0]),
        "start_spread_ms": float(spread[0]),
        "start_within_40_ms": float(within[0]),
        "end_median_ms": float(median[1]),
        "end_spread_ms": float(spread[1]),
        "end_within_40_ms": float(within[1]),
    }


def row(speaker: str, voice: str) -> dict[str, object]:
    """All figures of a voice."""
    synthesizer = open_synthesizer(speaker)
    texts = [*curated("en"), *SENTENCES]
    synthesizer.synthesize(texts[0], voice=voice)
    begun = time.perf_counter()
    said = [synthesizer.synthesize(text, voice=voice) for text in texts]
    took = time.perf_counter() - begun
    names = [*Vocabulary.load().decoder, "", ""]
    samples = np.concatenate([each.samples for each in said])
    steps = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = np.sqrt((steps.astype(np.float64) ** 2).mean(1))
    words = [plain_words(text) for text in texts]
    spoken_s = sum(each.words[-1].end_s - each.words[0].start_s for each in said if each.words)
    phones = [
        (as_arpa([p.label for p in each.phonemes or ()]), as_arpa(heard_phones(each.samples, names))) for each in said
    ]
    return {
        "speaker": speaker,
        "voice": voice,
        "speech_s": len(samples) / SAMPLE_RATE,
        "computed_s_per_s": took / (len(samples) / SAMPLE_RATE),
        "level_dbfs": 20 * float(np.log10(np.sqrt((level[level > np.median(level)] ** 2).mean()))),
        "peak_dbfs": 20 * float(np.log10(np.abs(samples).max())),
        "clipped_samples": int((np.abs(samples) >= 1.0).sum()),
        "silence_before_s": float(np.median([each.words[0].start_s for each in said if each.words])),
        "silence_behind_s": float(np.median([each.seconds - each.words[-1].end_s for each in said if each.words])),
        "words_per_minute": 60.0 * sum(map(len, words)) / spoken_s,
        "phone_error_rate": sum(distance(*pair) for pair in phones) / sum(len(own) for own, _ in phones),
        "word_error_rate": sum(distance(own, heard_words(each.samples)) for own, each in zip(words, said, strict=True))
        / sum(map(len, words)),
        "times": {
            f"{rate:g}": timing([synthesizer.synthesize(text, voice=voice, rate=rate) for text in texts])
            for rate in RATES
        },
    }


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    rows = [row(speaker, voice) for speaker, voice in VOICES]
    for each in rows:
        print(each)
    print(write("voice", {"voices": rows}, args.out))


if __name__ == "__main__":
    main()
