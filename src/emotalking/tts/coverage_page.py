"""A page that shows which sounds of a language some speech holds."""

from collections.abc import Sequence

from emotalking.report.page import Page
from emotalking.report.plots import Plot
from emotalking.tts.base import Utterance
from emotalking.tts.phonemes import Coverage


def coverage_page(covered: Coverage, utterances: Sequence[Utterance]) -> Page:
    """Bars of how often each sound occurs, what is missing, and the sounds of each sentence."""
    sounds, missing = covered.inventory, covered.missing
    page = Page(f"Sounds of {len(utterances)} sentences", sounds.name)
    page.verdict(summary(covered), "good" if not missing else "warn")
    for kind, group in (("Consonants", sounds.consonants), ("Vowels", sounds.vowels)):
        page.heading(kind)
        page.plot(_bars(group, covered), "how often each occurs; red: never")
    if covered.foreign:
        signs = ", ".join(f"{sign} ({count})" for sign, count in sorted(covered.foreign.items()))
        page.text(f"Signs of the speaker that are not sounds of the language: {signs}.")
    page.heading("Sentences")
    rows = [
        (each.text, each.voice, f"{each.rate:g}", f"{each.seconds:.2f}", " ".join(p.label for p in each.phonemes or ()))
        for each in utterances
    ]
    page.table(("text", "voice", "rate", "seconds", "sounds"), rows)
    return page


def summary(covered: Coverage) -> str:
    """One sentence: how many of the sounds occur, and which do not."""
    total, missing = len(covered.counts), covered.missing
    tail = f"missing: {' '.join(missing)}" if missing else "none is missing"
    return f"{total - len(missing)} of {total} sounds of {covered.inventory.name} ({covered.share:.0%}); {tail}."


def _bars(group: Sequence[str], covered: Coverage) -> Plot:
    counts = [covered.counts[sound] for sound in group]
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
