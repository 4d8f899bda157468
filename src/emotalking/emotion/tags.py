"""Emotion tags in a text that is to be spoken: ``[happy] Hello. [calm] And now, [sad:0.6] this.``

A tag holds from the word after it until the next one. It names an emotion, with or without a strength, or gives
``[v=0.5,a=-0.2]``. A backslash makes the bracket after it, or the backslash, a plain sign.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotalking.emotion.circumplex import PRESETS, check_va
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.tts.base import TimedLabel, Utterance, bare_word

GLIDE_S = 0.4
"""Time of the change from one emotion to the next; it is complete as the word begins."""
_FAR = 60
"""Characters that may lie between a word and the next one that is found in the text."""
_PART = re.compile(r"\\(?P<plain>[\[\]\\])|\[(?P<tag>[^\[\]]*)\]|(?P<bracket>[\[\]])", re.DOTALL)
_PAIR = re.compile(r"\s*v\s*=\s*(?P<v>[^,\s]+)\s*,\s*a\s*=\s*(?P<a>[^,\s]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Tag:
    """An emotion from a place of the text on."""

    place: int
    """Character of the text without tags."""
    valence: float
    arousal: float


def parse_tags(text: str) -> tuple[str, tuple[Tag, ...]]:
    """The text that is spoken, and its tags.

    Raises:
        InputError: an unknown emotion, a malformed tag, or a bracket without its other one.
    """
    plain = ""
    tags: list[Tag] = []
    end = 0
    for part in _PART.finditer(text):
        plain += text[end : part.start()]
        end = part.end()
        if part["bracket"] is not None:
            shown = " ".join(text[max(0, part.start() - 10) : part.start() + 20].split())
            raise InputError(f'a bracket stands alone in "{shown}": write \\{part["bracket"]} if it is to be read.')
        if part["plain"] is not None:
            plain += part["plain"]
            continue
        if text[end : end + 1] == " " and (not plain or plain[-1].isspace()):
            end += 1
        tags.append(Tag(len(plain), *_emotion(" ".join(part["tag"].split()))))
    return plain + text[end:], tuple(tags)


def _emotion(tag: str) -> tuple[float, float]:
    """Valence and arousal of what is between brackets."""
    if (pair := _PAIR.fullmatch(tag)) is not None:
        try:
            return check_va(float(pair["v"]), float(pair["a"]), f"[{tag}]")
        except ValueError:
            raise InputError(f"[{tag[:40]}] is no emotion tag: write two numbers, such as [v=0.5,a=-0.2].") from None
    if tag.partition(":")[0].strip().lower() not in PRESETS:
        raise InputError(
            f"[{tag[:40]}] is no emotion tag: use one of {', '.join(PRESETS)}, with a strength as in [sad:0.6], "
            "or [v=0.5,a=-0.2]; \\[ is a bracket that is read."
        )
    value = EmotionTrack.from_text(tag).values[0]
    return float(value[0]), float(value[1])


def tagged_track(tags: Sequence[Tag], utterance: Utterance) -> EmotionTrack | None:
    """The emotion of tagged speech over time; neutral before the first tag. None without tags.

    Args:
        tags: of the text that ``utterance`` says.
        utterance: as in :func:`tag_times`.
    """
    if not tags:
        return None
    begins = tag_times(tags, utterance)
    keys = {0.0: (0.0, 0.0)}
    for before, begin, tag in zip([0.0, *begins], begins, tags, strict=False):
        keys[max(before, begin - GLIDE_S)] = list(keys.values())[-1]
        keys[begin] = (tag.valence, tag.arousal)
    return EmotionTrack(np.array(list(keys)), np.array(list(keys.values())))


def tag_times(tags: Sequence[Tag], utterance: Utterance) -> list[float]:
    """Seconds of the utterance at which each tag's emotion begins.

    Args:
        tags: of the text that ``utterance`` says.
        utterance: where the times of its words are not known, a tag is placed by its share of the text.
    """
    places = _word_places(utterance.text, utterance.words or ())
    begins: list[float] = []
    for tag in tags:
        if not utterance.text[: tag.place].strip():
            begin = 0.0  # the face has the first emotion before it speaks
        elif utterance.words is None:
            begin = utterance.seconds * tag.place / len(utterance.text)
        else:
            begin = next((word.start_s for place, word in places if place >= tag.place), utterance.seconds)
        begins.append(max(begin, *begins[-1:], 0.0))
    return begins


def _word_places(text: str, words: Sequence[TimedLabel]) -> list[tuple[int, TimedLabel]]:
    """Where the words stand in the text; those that it spells otherwise (numbers) are left out."""
    found: list[tuple[int, TimedLabel]] = []
    lower = text.lower().replace("’", "'")
    end = 0
    for word in words:
        place = lower.find(bare_word(word.label).lower(), end, end + _FAR + len(word.label))
        if word.label and place >= 0:
            found.append((place, word))
            end = place + len(bare_word(word.label))
    return found
