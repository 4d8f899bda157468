"""Which sounds of a language some speech holds: inventories and coverage (paper S5, "sound coverage")."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from emotalking.errors import UserError
from emotalking.tts.base import Utterance


@dataclass(frozen=True)
class Inventory:
    """The distinctive sounds of a language."""

    name: str
    consonants: tuple[str, ...]
    vowels: tuple[str, ...]
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other signs, as the sounds that they stand for."""

    @property
    def phonemes(self) -> tuple[str, ...]:
        """All sounds, consonants first."""
        return (*self.consonants, *self.vowels)

    def split(self, label: str) -> tuple[tuple[str, ...], str]:
        """The sounds of a speaker's sign, and the part of it that the inventory does not know.

        Signs are matched longest first: "ɔːɹ" is "ɔː", "ɹ".
        """
        known = {sound: (sound,) for sound in self.phonemes} | dict(self.read)
        sounds: list[str] = []
        unknown, place = "", 0
        while place < len(label):
            for length in range(len(label) - place, 0, -1):
                if (sign := label[place : place + length]) in known:
                    sounds += known[sign]
                    place += length
                    break
            else:
                unknown += label[place]
                place += 1
        return tuple(sounds), unknown


@dataclass(frozen=True)
class Coverage:
    """How often each sound of an inventory occurs."""

    inventory: Inventory
    counts: dict[str, int]
    """Every sound of the inventory, in its order."""
    foreign: dict[str, int]
    """Signs that the inventory does not know."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Sounds that never occur."""
        return tuple(sound for sound, count in self.counts.items() if count == 0)

    @property
    def share(self) -> float:
        """Sounds that occur, over all; 0..1."""
        return 1.0 - len(self.missing) / len(self.counts)


def inventory(language: str) -> Inventory:
    """The sounds of a language of the curated sets ("en-gb" takes those of "en").

    Raises:
        UserError: there is none for it.
    """
    tables = tomllib.loads(resources.files("emotalking.tts.sentences").joinpath("phonemes.toml").read_text("utf-8"))
    base = language.lower().replace("_", "-").split("-")[0]
    if base not in tables:
        raise UserError(f"there is no phoneme inventory for '{language}': there are {', '.join(tables)}.")
    table = tables[base]
    return Inventory(
        table["name"],
        tuple(table["consonants"].split()),
        tuple(table["vowels"].split()),
        {sign: tuple(sounds.split()) for sign, sounds in table["read"].items()},
    )


def coverage(utterances: Iterable[Utterance], sounds: Inventory) -> Coverage:
    """Count the sounds of some utterances.

    Raises:
        UserError: an utterance whose sounds are not known.
    """
    counts, foreign = Counter[str](), Counter[str]()
    for utterance in utterances:
        if utterance.phonemes is None:
            raise UserError(f"the sounds of {utterance.text[:40]!r} are not known: coverage needs the speaker espeak.")
        for each in utterance.phonemes:
            found, unknown = sounds.split(each.label)
            counts.update(found)
            foreign.update([unknown] if unknown else [])
    return Coverage(sounds, {sound: counts[sound] for sound in sounds.phonemes}, dict(foreign))
