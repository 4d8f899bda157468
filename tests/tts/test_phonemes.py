"""Inventories and coverage: an invented language by hand, and the curated sets."""

import importlib.util

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.base import TimedLabel, Utterance
from emotalking.tts.phonemes import Inventory, coverage, coverage_page, inventory, summary
from emotalking.tts.sentences import LANGUAGES, curated_speech

TOY = Inventory("Toy", ("t", "ʃ", "tʃ", "k"), ("a", "aː", "aɪ"), {"ɑ": ("a",), "ai": ("aɪ",), "x": ("k", "ʃ"), "ʔ": ()})


def said(*labels: str) -> Utterance:
    sounds = tuple(TimedLabel(label, 0.1 * index, 0.1 * index + 0.1) for index, label in enumerate(labels))
    return Utterance("toy", "toy", "m3", np.zeros(16000, np.float32), (), sounds)


@pytest.mark.parametrize(
    ("label", "sounds", "unknown"),
    [
        ("t", ["t"], ""),
        ("tʃ", ["tʃ"], ""),
        ("tʃaː", ["tʃ", "aː"], ""),
        ("aɪa", ["aɪ", "a"], ""),
        ("ɑt", ["a", "t"], ""),
        ("x", ["k", "ʃ"], ""),
        ("ʔ", [], ""),
        ("ɣa", ["a"], "ɣ"),
        ("", [], ""),
    ],
)
def test_signs_are_read_longest_first(label: str, sounds: list[str], unknown: str) -> None:
    assert TOY.split(label) == (tuple(sounds), unknown)


def test_coverage_of_an_invented_language() -> None:
    covered = coverage([said("tʃaː", "x", "t"), said("t", "ɣ", "ai")], TOY)
    assert covered.counts == {"t": 2, "ʃ": 1, "tʃ": 1, "k": 1, "a": 0, "aː": 1, "aɪ": 1}
    assert covered.missing == ("a",) and covered.share == pytest.approx(6 / 7) and covered.unknown == {"ɣ": 1}
    assert summary(covered) == "6 of 7 phonemes of Toy (86%); missing: a."
    page = coverage_page(covered, [said("tʃaː")]).html()
    assert "missing: a." in page and "ɣ (1)" in page and page.count("<svg") == 2
    nothing = coverage([], TOY)
    assert nothing.share == 0.0 and nothing.missing == TOY.phonemes
    with pytest.raises(InputError, match="not known"):
        coverage([Utterance("x", "en", "m3", np.zeros(1, np.float32), None, None)], TOY)


@pytest.mark.parametrize("language", LANGUAGES)
def test_inventories_are_sound(language: str) -> None:
    sounds = inventory(language)
    assert len(set(sounds.phonemes)) == len(sounds.phonemes) >= 24
    assert not set(sounds.read) & set(sounds.phonemes)
    assert {each for group in sounds.read.values() for each in group} <= set(sounds.phonemes)


def test_an_unknown_inventory_names_those_that_are_there() -> None:
    with pytest.raises(InputError, match="for 'tlh': there are en, de, fr, es, zh"):
        inventory("tlh")


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeak-ng: pip install 'emotalking[espeak]'"
)
@pytest.mark.parametrize(
    ("language", "missing"),
    [
        ("en", ("tʃ", "θ", "ʒ", "ʊ", "ɔɪ")),  # the paper's sentences
        ("de", ()),
        ("fr", ("ɥ",)),  # espeak-ng says y
        ("es", ()),
        ("zh", ()),
    ],
)
def test_what_the_curated_sets_hold(language: str, missing: tuple[str, ...]) -> None:
    covered = coverage(curated_speech(open_synthesizer("espeak"), language), inventory(language))
    assert covered.missing == missing and covered.unknown == {}
