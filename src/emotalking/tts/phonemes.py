"""Phoneme inventories of languages, and how well speech covers them (paper S5, "sound coverage")."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from emotalking.errors import InputError
from emotalking.report.page import Page
from emotalking.report.plots import Plot
from emotalking.tts.base import Utterance, base_language


@dataclass(frozen=True)
class Inventory:
    """The phonemes of a language."""

    name: str
    consonants: tuple[str, ...]
    vowels: tuple[str, ...]
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other signs, as the phonemes that they stand for."""

    @property
    def phonemes(self) -> tuple[str, ...]:
        """All phonemes, consonants first."""
        return (*self.consonants, *self.vowels)

    def split(self, label: str) -> tuple[tuple[str, ...], str]:
        """The phonemes of a synthesizer's sign, and the part of it that the inventory does not know.

        Signs are matched longest first: "ɔːɹ" is "ɔː", "ɹ".
        """
        known = {phoneme: (phoneme,) for phoneme in self.phonemes} | dict(self.read)
        found: list[str] = []
        unknown, place = "", 0
        while place < len(label):
            for length in range(len(label) - place, 0, -1):
                if (sign := label[place : place + length]) in known:
                    found += known[sign]
                    place += length
                    break
            else:
                unknown += label[place]
                place += 1
        return tuple(found), unknown


@dataclass(frozen=True)
class Coverage:
    """Counts of the phonemes of an inventory."""

    inventory: Inventory
    counts: dict[str, int]
    """Every phoneme of the inventory, in its order."""
    unknown: dict[str, int]
    """Signs that the inventory does not know."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Phonemes that never occur."""
        return tuple(phoneme for phoneme, count in self.counts.items() if count == 0)

    @property
    def share(self) -> float:
        """Share of the phonemes that occur, 0..1."""
        return 1.0 - len(self.missing) / len(self.counts)


def inventory(language: str) -> Inventory:
    """The phonemes of a language of the curated sets ("en-gb" takes those of "en").

    Raises:
        InputError: there is none for it.
    """
    tables = tomllib.loads(resources.files("emotalking.tts.sentences").joinpath("phonemes.toml").read_text("utf-8"))
    base = base_language(language)
    if base not in tables:
        raise InputError(f"there is no phoneme inventory for '{language}': there are {', '.join(tables)}.")
    table = tables[base]
    return Inventory(
        table["name"],
        tuple(table["consonants"].split()),
        tuple(table["vowels"].split()),
        {sign: tuple(phonemes.split()) for sign, phonemes in table["read"].items()},
    )


def coverage(utterances: Iterable[Utterance], phonemes: Inventory) -> Coverage:
    """Count the phonemes of utterances.

    Raises:
        InputError: an utterance whose phonemes are not known.
    """
    counts, unknown = Counter[str](), Counter[str]()
    for utterance in utterances:
        if utterance.phonemes is None:
            raise InputError(f"the phonemes of {utterance.text[:40]!r} are not known: coverage needs hibari or espeak.")
        for each in utterance.phonemes:
            found, rest = phonemes.split(each.label)
            counts.update(found)
            unknown.update([rest] if rest else [])
    return Coverage(phonemes, {phoneme: counts[phoneme] for phoneme in phonemes.phonemes}, dict(unknown))


def coverage_page(covered: Coverage, utterances: Sequence[Utterance]) -> Page:
    """A page with the counts of the phonemes, those that are missing, and the phonemes of each sentence."""
    phonemes, missing = covered.inventory, covered.missing
    page = Page(f"Phonemes of {len(utterances)} sentences", phonemes.name)
    page.verdict(summary(covered), "good" if not missing else "warn")
    for kind, group in (("Consonants", phonemes.consonants), ("Vowels", phonemes.vowels)):
        page.heading(kind)
        page.plot(_bars(group, covered), "occurrences; red: none")
    if covered.unknown:
        signs = ", ".join(f"{sign} ({count})" for sign, count in sorted(covered.unknown.items()))
        page.text(f"Signs of the synthesizer that are not phonemes of the language: {signs}.")
    page.heading("Sentences")
    rows = [
        (each.text, each.voice, f"{each.rate:g}", f"{each.seconds:.2f}", " ".join(p.label for p in each.phonemes or ()))
        for each in utterances
    ]
    page.table(("text", "voice", "rate", "seconds", "phonemes"), rows)
    return page


def summary(covered: Coverage) -> str:
    """Summarise a coverage in one sentence."""
    total, missing = len(covered.counts), covered.missing
    tail = f"missing: {' '.join(missing)}" if missing else "none is missing"
    return f"{total - len(missing)} of {total} phonemes of {covered.inventory.name} ({covered.share:.0%}); {tail}."


def _bars(group: Sequence[str], covered: Coverage) -> Plot:
    counts = [covered.counts[phoneme] for phoneme in group]
    plot = Plot(width=9.0, height=2.0)
    axis = plot.axes[0]
    axis.bar(range(len(group)), counts, color="#4c72b0")
    none = [place for place, count in enumerate(counts) if count == 0]
    axis.plot(none, [0.0] * len(none), "x", color="#b3261e", clip_on=False)
    axis.set_xticks(range(len(group)), group)
    for place in none:
        axis.get_xticklabels()[place].set_color("#b3261e")
    axis.grid(axis="x", visible=False)
    axis.set_axisbelow(True)
    axis.set_ylabel("times")
    return plot
